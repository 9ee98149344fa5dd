//! The connections that a VU keeps for itself: one to each server that it talks to, and not many servers.

use super::Connection;
use crate::prepare::CONNECTIONS_PER_VU_MAX;
use crate::send::http2::session::Seat;

/// What a request goes out over.
#[derive(Debug)]
pub enum Link {
    /// A connection of HTTP/1.1, alone on it.
    Http1(Connection),
    /// A stream of one of HTTP/2.
    Http2(Seat),
}

/// A VU's idle connections; the one that was used last is the last.
#[derive(Debug, Default)]
pub struct Pool {
    kept: Vec<(u32, Link)>,
}

impl Pool {
    /// Takes the connection to an origin out, where there is one.
    #[inline]
    pub fn take(&mut self, origin: u32) -> Option<Link> {
        let at = self.kept.iter().rposition(|(kept, _)| *kept == origin)?;
        Some(self.kept.remove(at).1)
    }

    /// Keeps a connection; where there are too many, the one that was idle longest is closed.
    #[inline]
    pub fn put(&mut self, origin: u32, link: Link) {
        if self.kept.len() >= CONNECTIONS_PER_VU_MAX {
            self.kept.remove(0);
        }
        if self.kept.capacity() == 0 {
            // Most VUs talk to one server: the usual first capacity of four would be three too many.
            self.kept.reserve_exact(1);
        }
        self.kept.push((origin, link));
    }

    /// Closes all.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}
