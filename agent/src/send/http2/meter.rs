//! What went over a connection for each of its streams, and when: the socket of an HTTP/2 connection, with a look at the frames.
//!
//! The protocol's implementation says what a stream's message is; how many bytes that took on the wire, and when the first and the last of
//! them went by, is known here only. Frames of the connection itself (settings, pings, its window) belong to no request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, PREFACE_BYTES};
use crate::send::clock::now_ns;
use crate::send::connect::{Connection, of_exchange};
use crate::send::sample::Failure;

/// What went by for one stream; instants are 0 where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// When the first byte of its request was written.
    pub sent_ns: u64,
    /// When the first byte of an answer came, interim ones too.
    pub first_byte_ns: u64,
    /// When the newest byte of an answer came.
    pub last_byte_ns: u64,
    /// Its frames, heads included, before TLS.
    pub bytes_sent: u64,
    /// Its frames, heads included, after TLS.
    pub bytes_received: u64,
    /// Whether the peer said that its answer is at its end.
    pub has_ended: bool,
}

/// The streams of one connection, as far as they are watched.
#[derive(Debug)]
pub struct Meter {
    streams: HashMap<u32, Traffic, BuildHasherDefault<StreamHasher>>,
    sent: Frames,
    received: Frames,
    /// When anything came at all.
    heard_ns: u64,
    /// Why the socket broke.
    broken: Option<Failure>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            streams: HashMap::default(),
            sent: Frames::after(PREFACE_BYTES),
            received: Frames::default(),
            heard_ns: 0,
            broken: None,
        }
    }
}

impl Meter {
    /// Watches a stream from now on; nothing of it has gone by.
    #[inline]
    pub fn watch(&mut self, stream: u32) {
        self.streams.insert(stream, Traffic::default());
    }

    /// What went by for a stream until now.
    #[inline]
    pub fn of(&self, stream: u32) -> Traffic {
        self.streams.get(&stream).copied().unwrap_or_default()
    }

    /// Watches a stream no longer.
    #[inline]
    pub fn forget(&mut self, stream: u32) -> Traffic {
        self.streams.remove(&stream).unwrap_or_default()
    }

    /// When anything came from the peer last; 0: never.
    pub fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Why the socket broke, where it did.
    pub fn broken(&self) -> Option<Failure> {
        self.broken
    }

    #[inline]
    fn wrote(&mut self, bytes: &[u8], at_ns: u64) {
        let Self { streams, sent, .. } = self;
        sent.feed(bytes, |piece| {
            if let Some(traffic) = streams.get_mut(&piece.stream) {
                traffic.bytes_sent += piece.bytes;
                if traffic.sent_ns == 0 {
                    traffic.sent_ns = at_ns;
                }
            }
        });
    }

    #[inline]
    fn read(&mut self, bytes: &[u8], at_ns: u64) {
        let Self { streams, received, .. } = self;
        received.feed(bytes, |piece| {
            if let Some(traffic) = streams.get_mut(&piece.stream) {
                traffic.bytes_received += piece.bytes;
                if piece.is_message {
                    traffic.last_byte_ns = at_ns;
                    if traffic.first_byte_ns == 0 {
                        traffic.first_byte_ns = at_ns;
                    }
                }
                traffic.has_ended |= piece.ends_stream;
            }
        });
        self.heard_ns = at_ns;
    }
}

/// A connection whose frames are metered. One clock read stands for all that one system call takes or gives.
#[derive(Debug)]
pub struct Metered {
    connection: Connection,
    meter: Rc<RefCell<Meter>>,
}

impl Metered {
    /// Before anything went over it.
    pub fn new(connection: Connection, meter: Rc<RefCell<Meter>>) -> Self {
        Self { connection, meter }
    }

    fn broke(&self, error: io::Error) -> io::Error {
        self.meter.borrow_mut().broken.get_or_insert(of_exchange(&error, false));
        error
    }
}

impl AsyncRead for Metered {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = self.connection.poll_read(cx, buffer);
        if let Poll::Ready(result) = poll {
            let bytes = &buffer.filled()[before..];
            if !bytes.is_empty() {
                self.meter.borrow_mut().read(bytes, now_ns());
            }
            return Poll::Ready(result.map_err(|error| self.broke(error)));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Metered {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Before the call: its own time is part of what the request takes.
        let at_ns = now_ns();
        match self.connection.poll_write(cx, bytes) {
            Poll::Ready(Ok(taken)) => {
                self.meter.borrow_mut().wrote(&bytes[..taken], at_ns);
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broke(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let at_ns = now_ns();
        match Pin::new(&mut self.connection).poll_write_vectored(cx, pieces) {
            Poll::Ready(Ok(taken)) => {
                let (mut meter, mut left) = (self.meter.borrow_mut(), taken);
                for piece in pieces {
                    let length = piece.len().min(left);
                    meter.wrote(&piece[..length], at_ns);
                    left -= length;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broke(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

/// Spreads stream numbers, which are odd and go up; nobody else chooses them, so nothing can be made to collide (Knuth's multiplier).
#[derive(Debug, Default)]
pub struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
