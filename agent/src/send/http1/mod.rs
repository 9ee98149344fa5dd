//! One HTTP/1.1 exchange over an open connection: the request's bytes out, one answer in.
//!
//! The request was rendered when the run was prepared (`prepare::render`); [`head`], [`body`] and [`response`] read answers without
//! I/O; this file joins them to a socket. A small exchange is one write, one wait, one read.

pub mod body;
#[cfg(test)]
mod fuzz;
pub mod head;
pub mod response;
mod sending;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use volcanion_common::series::ErrorKind;

use super::Outgoing;
use super::attempt::Attempt;
use super::clock::now_ns;
use super::connect::{Connection, of_exchange};
use super::deadline::Deadline;
use super::kept::Kept;
use super::sample::{Failure, detail};
use response::{Progress, Response};
use sending::{Sending, Written};

/// One exchange under way.
pub struct Exchange<'a> {
    connection: &'a mut Connection,
    sending: Sending<'a>,
    /// Shared by all connections of the core; nothing in it outlives a poll.
    buffer: &'a RefCell<Box<[u8]>>,
    response: Response,
    /// What is wanted of the answer's head.
    kept: &'a mut Kept,
    is_flushed: bool,
    /// Writing failed or the whole request is out: only reading is left.
    is_sent: bool,
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the connection may carry another request.
    pub can_reuse: bool,
}

impl<'a> Exchange<'a> {
    /// Ready to send; nothing is sent yet.
    pub fn new(
        connection: &'a mut Connection,
        outgoing: &Outgoing<'a>,
        kept: &'a mut Kept,
        buffer: &'a RefCell<Box<[u8]>>,
    ) -> Self {
        let (sending, response) = (Sending::new(outgoing), Response::new(outgoing.message.is_head));
        Self { connection, sending, buffer, response, kept, is_flushed: false, is_sent: false }
    }

    /// Whether none of the request's bytes can have left.
    pub fn nothing_sent(&self) -> bool {
        self.sending.written() == 0 && self.connection.is_plain()
    }

    /// Drives the exchange. Reads while it writes, so that an answer before the request's end is taken; such a connection is
    /// not used again. Counts bytes and instants into the attempt as they come, so that a cut loses none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
        deadline: &mut Deadline,
    ) -> Poll<Result<Answer, Failure>> {
        if !self.is_sent
            && let Err(failure) = self.poll_send(cx, attempt)
        {
            attempt.ended_ns = now_ns();
            return Poll::Ready(Err(failure));
        }
        match self.poll_receive(cx, attempt) {
            Poll::Pending if deadline.has_passed(cx, attempt.deadline_ns) => {
                let has_begun = attempt.first_byte_ns > 0;
                let detail = if has_begun { detail::RECEIVING } else { detail::WAITING };
                Poll::Ready(Err(Failure::new(ErrorKind::Timeout, detail)))
            }
            poll => poll,
        }
    }

    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>, attempt: &mut Attempt) -> Result<(), Failure> {
        let Self { connection, sending, buffer, .. } = self;
        match sending.poll(cx, connection, buffer, |count| attempt.bytes_sent += count) {
            Poll::Pending => {}
            Poll::Ready(Ok(Written::All)) => {
                self.is_flushed = self.connection.poll_flush(cx).is_ready();
                self.is_sent = self.is_flushed;
            }
            // Why is told by reading: an answer that came before the break counts, and so does the reset behind it.
            Poll::Ready(Ok(Written::Broken)) => self.is_sent = true,
            Poll::Ready(Err(failure)) => return Err(failure),
        }
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, attempt: &mut Attempt) -> Poll<Result<Answer, Failure>> {
        let mut buffer = self.buffer.borrow_mut();
        loop {
            let mut piece = ReadBuf::new(&mut buffer);
            let ended = match self.connection.poll_read(cx, &mut piece) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if piece.filled().is_empty() => self.end(None, attempt),
                Poll::Ready(Ok(())) => match self.take(piece.filled(), attempt) {
                    Ok(Progress::More) => continue,
                    Ok(Progress::Whole) => Ok(()),
                    Err(failure) => Err(failure),
                },
                Poll::Ready(Err(error)) => self.end(Some(&error), attempt),
            };
            return Poll::Ready(ended.map(|()| Answer {
                status: self.response.status(),
                can_reuse: self.response.keeps_alive() && self.is_flushed,
            }));
        }
    }

    /// Bytes came: one clock read stands for first and last byte alike where both came together.
    #[inline]
    fn take(&mut self, bytes: &[u8], attempt: &mut Attempt) -> Result<Progress, Failure> {
        attempt.bytes_received += bytes.len() as u64;
        let is_first = attempt.first_byte_ns == 0;
        if is_first {
            attempt.first_byte_ns = now_ns();
        }
        let progress = self.response.feed(bytes, self.kept);
        if progress != Ok(Progress::More) {
            attempt.ended_ns = if is_first { attempt.first_byte_ns } else { now_ns() };
        }
        progress
    }

    /// The connection ended, or broke with an error.
    fn end(&mut self, error: Option<&io::Error>, attempt: &mut Attempt) -> Result<(), Failure> {
        attempt.ended_ns = now_ns();
        let has_begun = attempt.first_byte_ns > 0;
        if let Some(error) = error {
            // A TLS peer that goes without a word is taken like one that closes; except where the close is all that ends a body.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(of_exchange(error, has_begun));
            }
            if self.response.is_until_close() {
                return Err(Failure::new(ErrorKind::Body, detail::TRUNCATED));
            }
        }
        if !has_begun {
            return Err(Failure::new(ErrorKind::Reset, detail::BEFORE_THE_ANSWER));
        }
        self.response.end()
    }
}
