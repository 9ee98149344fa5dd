//! A request on its way out: its head, the cookies of the VU, its place in a trace, its content from memory or from a file.
//!
//! The usual request is one slice that was rendered when the run was prepared, and nothing is copied. With cookies, or as part of a trace, the head is put
//! together anew. A file is read piece by piece into the core's buffer, and what the socket does not take is read again later: a
//! VU that waits for its socket holds no piece.

use std::cell::RefCell;
use std::task::{Context, Poll};

use volcanion_common::telemetry::trace::TRACEPARENT;

use crate::prepare::message::{BodyFile, Content, Message};
use crate::send::Outgoing;
use crate::send::connect::Connection;
use crate::send::file::FileReading;
use crate::send::sample::Failure;

/// Content up to this length goes out in one piece with a head that was put together; longer content is not copied.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// How many pieces of a file go out before others of the core have their turn.
const PIECES_A_TURN: u32 = 4;

/// What of a request is still to be written.
pub struct Sending<'a> {
    message: &'a Message,
    /// The head, and where it is short the content, with what this attempt says beside; absent: as rendered.
    own_front: Option<Box<[u8]>>,
    written: u64,
    file: Option<Box<FileReading>>,
}

/// How far it went.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// All is with the socket.
    All,
    /// The connection takes nothing more.
    Broken,
}

impl<'a> Sending<'a> {
    /// Of what goes out.
    #[inline]
    pub fn new(outgoing: &Outgoing<'a>) -> Self {
        let is_as_rendered = outgoing.cookie.is_empty() && outgoing.traceparent.is_empty();
        let own_front = (!is_as_rendered).then(|| splice(outgoing));
        Self { message: outgoing.message, own_front, written: 0, file: None }
    }

    /// Bytes that the connection took.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes until all is out, the connection takes no more for now, or others are to have their turn. `on_bytes` is told of what went out.
    ///
    /// # Errors
    /// A file that cannot be sent as it was announced.
    #[inline]
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        buffer: &RefCell<Box<[u8]>>,
        mut on_bytes: impl FnMut(u64),
    ) -> Poll<Result<Written, Failure>> {
        let mut taken = |sending: &mut Self, count: usize| {
            sending.written += count as u64;
            on_bytes(count as u64);
        };
        while let Some(bytes) = self.next_in_memory() {
            match connection.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) if count > 0 => taken(self, count),
                Poll::Ready(_) => return Poll::Ready(Ok(Written::Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Content::File(body) = &self.message.content else { return Poll::Ready(Ok(Written::All)) };
        self.poll_file(cx, connection, body, &mut buffer.borrow_mut(), taken)
    }

    /// The bytes in memory that are to go out next.
    #[inline]
    fn next_in_memory(&self) -> Option<&[u8]> {
        let written = self.written as usize;
        match &self.own_front {
            None => self.message.http1.get(written..),
            Some(front) if written < front.len() => front.get(written..),
            Some(front) => {
                let content = self.message.inline();
                // Short content went out with the head.
                let rest = if content.len() > COPIED_BYTES_MAX { content } else { &[] };
                rest.get(written - front.len()..)
            }
        }
        .filter(|bytes| !bytes.is_empty())
    }

    fn memory_bytes(&self) -> u64 {
        match &self.own_front {
            None => self.message.http1.len() as u64,
            Some(front) => front.len() as u64,
        }
    }

    #[cold]
    fn poll_file(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        body: &BodyFile,
        buffer: &mut [u8],
        mut taken: impl FnMut(&mut Self, usize),
    ) -> Poll<Result<Written, Failure>> {
        let begins_at = self.memory_bytes();
        for _ in 0..PIECES_A_TURN {
            let offset = self.written - begins_at;
            if offset >= body.length {
                return Poll::Ready(Ok(Written::All));
            }
            let reading = self.file.get_or_insert_default();
            let count = match reading.poll_read(cx, body, offset, buffer) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => return Poll::Pending,
            };
            match connection.poll_write(cx, &buffer[..count]) {
                Poll::Ready(Ok(count)) if count > 0 => taken(self, count),
                Poll::Ready(_) => return Poll::Ready(Ok(Written::Broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The message's head with this `cookie` line instead of its own, and a `traceparent` line after it; and its content where that is short.
fn splice(outgoing: &Outgoing<'_>) -> Box<[u8]> {
    let Outgoing { message, cookie, traceparent, .. } = outgoing;
    let (head, content) = message.http1.split_at(message.http1_head_bytes);
    let content = if content.len() > COPIED_BYTES_MAX { &[] } else { content };
    let place = message.http1_cookie.clone();
    let (before, own_cookie, after) = (&head[..place.start], &head[place.clone()], &head[place.end..]);
    let line = |name: &'static str, value| [name.as_bytes(), b": ", value, b"\r\n"];
    let [c0, c1, c2, c3] =
        if cookie.is_empty() { [own_cookie, b"", b"", b""] } else { line("cookie", cookie) };
    let [t0, t1, t2, t3] =
        if traceparent.is_empty() { [b"".as_slice(); 4] } else { line(TRACEPARENT, traceparent) };
    // All of it at once, so that it is one allocation.
    [before, c0, c1, c2, c3, t0, t1, t2, t3, after, content].concat().into()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::prepare::message::{Parts, Payload, SecretParts};

    fn message(own_cookie: Option<&str>, body: &'static [u8]) -> Message {
        let headers = own_cookie.map(|value| ("Cookie".to_owned(), value.to_owned())).into_iter().collect();
        let url = "http://h/".parse().unwrap();
        let (payload, secret) = (Payload::Bytes(body), SecretParts::default());
        let parts = Parts { method: Method::POST, url, headers, payload, secret };
        Message::new(0, parts, true)
    }

    /// All that goes out from memory, cut after each `piece` bytes.
    fn written(message: &Message, cookie: &[u8], piece: usize) -> String {
        written_as(&Outgoing { message, cookie, traceparent: b"", step: None }, piece)
    }

    fn written_as(outgoing: &Outgoing<'_>, piece: usize) -> String {
        let (mut sending, mut out) = (Sending::new(outgoing), Vec::new());
        while let Some(bytes) = sending.next_in_memory() {
            let taken = bytes.len().min(piece);
            out.extend_from_slice(&bytes[..taken]);
            sending.written += taken as u64;
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cookies_stand_where_the_plans_own_stood_and_the_content_is_whole_at_any_length() {
        let long: &'static [u8] = vec![b'x'; COPIED_BYTES_MAX + 1].leak();
        for body in [b"".as_slice(), b"short", long] {
            for piece in [1, 7, usize::MAX] {
                let plain = written(&message(None, body), b"", piece);
                let with = written(&message(None, body), b"a=b", piece);
                assert_eq!(with, plain.replacen("\r\n\r\n", "\r\ncookie: a=b\r\n\r\n", 1));
                let own = message(Some("own=1"), body);
                assert!(written(&own, b"", piece).contains("\r\nCookie: own=1\r\n"));
                let merged = written(&own, b"own=1; a=b", piece);
                assert_eq!(merged, written(&own, b"", piece).replace("Cookie: own=1", "cookie: own=1; a=b"));
            }
        }
    }

    #[test]
    fn a_place_in_a_trace_is_one_more_line_beside_whatever_cookies_there_are() {
        for piece in [1, usize::MAX] {
            for own in [None, Some("own=1")] {
                for cookie in [b"".as_slice(), b"a=b"] {
                    let message = message(own, b"body");
                    let plain = written(&message, cookie, piece);
                    let outgoing =
                        Outgoing { message: &message, cookie, traceparent: b"00-1-2-01", step: None };
                    let traced = written_as(&outgoing, piece);
                    assert_eq!(traced.replacen("traceparent: 00-1-2-01\r\n", "", 1), plain);
                    assert!(traced.contains("\r\ntraceparent: 00-1-2-01\r\n"), "{traced}");
                }
            }
        }
    }
}
