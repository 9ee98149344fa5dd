//! One open connection, plain or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An open connection to an origin.
#[derive(Debug)]
pub enum Connection {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP; boxed, since a session is large and most loads have none.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether a kept connection can carry nothing more: the peer closed it, or sent what nobody asked for.
    ///
    /// Asks the runtime, not the kernel: unless something has happened on the socket since it was last read, this is no system call.
    pub fn is_spent(&mut self, buffer: &mut [u8]) -> bool {
        match self {
            Self::Plain(stream) => {
                !matches!(stream.try_read(&mut buffer[..1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // TLS may hold messages of its own (session tickets), which this takes in.
            Self::Tls(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(stream.as_mut()).poll_read(&mut cx, &mut ReadBuf::new(buffer)).is_ready()
            }
        }
    }

    /// As [`AsyncRead::poll_read`]: makes a system call only once the socket is known to be readable.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }

    /// As [`AsyncWrite::poll_write`].
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    /// As [`AsyncWrite::poll_flush`]; TCP itself holds nothing back.
    #[inline]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    /// Whether bytes that were taken for writing may have left the process already.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}
