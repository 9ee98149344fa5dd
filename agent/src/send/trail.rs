//! What answers leave to a VU's later requests: its cookies, and the redirect that is to be followed next.
//!
//! There is one only once an answer has left something, and it goes with the iteration: a VU that is given nothing, or is idle, has none.

use super::cookies::Jar;
use super::kept::Kept;
use super::sample::{Failure, detail};
use super::server::Servers;
use super::{clock::now_ns, follow};
use crate::prepare::Message;
use volcanion_common::series::ErrorKind;

/// What answers of an iteration left.
#[derive(Debug, Default)]
pub struct Trail {
    jar: Jar,
    hop: Option<Box<Hop>>,
}

/// A redirect that is to be followed.
#[derive(Debug)]
pub struct Hop {
    /// The step whose redirect it is.
    pub step: u32,
    /// Which of its redirects: from 1.
    pub number: u32,
    /// What is to go out, or why it is not sent.
    pub message: Result<Message, Failure>,
}

impl Trail {
    /// What `cookie` is to say in a request; empty: what the message has.
    pub fn cookie(&self, message: &Message) -> Vec<u8> {
        if self.jar.is_empty() {
            return Vec::new();
        }
        self.jar.header(&message.url, message.header("cookie").unwrap_or_default(), now_ns())
    }

    /// Takes the cookies of an answer to a message.
    pub fn keep_cookies(&mut self, message: &Message, kept: &Kept) {
        for line in kept.cookies() {
            self.jar.store(&message.url, line, now_ns());
        }
    }

    /// Notes the redirect to be followed.
    pub fn lead_on(&mut self, hop: Hop) {
        self.hop = Some(Box::new(hop));
    }

    /// Takes the redirect that is to be followed.
    pub fn take_hop(&mut self) -> Option<Box<Hop>> {
        self.hop.take()
    }
}

/// The request that an answer leads to, if it does.
pub fn led_to(
    servers: &Servers,
    sent: &Message,
    status: u16,
    kept: &Kept,
    keep_alive: bool,
) -> Option<Result<Message, Failure>> {
    let parts = follow::next(sent, status, kept.location())?;
    // What is no server's name leads nowhere.
    let origin = crate::prepare::Origin::of(&parts.url).ok()?;
    Some(match servers.find_or_add(&origin) {
        Some(origin) => Ok(Message::new(origin, parts, keep_alive)),
        None => Err(Failure::new(ErrorKind::Blocked, detail::TOO_MANY_HOSTS)),
    })
}
