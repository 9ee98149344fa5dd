//! One HTTP/2 exchange: a stream of a connection that others use at the same time.
//!
//! The protocol itself is the `h2` crate's; [`session`] is a connection of a core, [`meter`] counts what went over it for each stream, this file
//! joins a stream to an attempt. Bytes are those of the stream's own frames with their heads; frames of the connection are
//! nobody's. The times are those of the socket: the first byte of the request written, the first and last of the answer read.
//!
//! A request that is given up (its time is over, its VU is cut off) costs the stream alone: the peer is told, the connection lives on.

mod fault;
mod frames;
mod meter;
pub mod session;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::Request;
use http::header::{self, HeaderValue};
use volcanion_common::series::ErrorKind;
use volcanion_common::telemetry::trace::TRACEPARENT;

use super::attempt::Attempt;
use super::clock::now_ns;
use super::deadline::Deadline;
use super::file::FileReading;
use super::http1::Answer;
use super::kept::Kept;
use super::sample::{Failure, detail};
use super::{Outgoing, Resend};
use crate::prepare::message::{BodyFile, Content, Message};
use crate::prepare::render_h2::{add_cookies, http2_head};
use session::Seat;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A request in its HTTP/2 form. Each core has its own, so that none counts references with another.
#[derive(Clone, Debug)]
pub struct Form {
    head: Request<()>,
    body: Bytes,
}

impl Form {
    /// Of a message.
    ///
    /// # Errors
    /// It cannot be said in HTTP/2; steps were looked at when the run was prepared.
    pub fn of(message: &Message) -> Result<Self, Failure> {
        let head =
            http2_head(message).map_err(|_| Failure::new(ErrorKind::Protocol, detail::NOT_SENDABLE))?;
        Ok(Self { head, body: Bytes::copy_from_slice(message.inline()) })
    }
}

/// One exchange under way.
pub struct Exchange<'a> {
    seat: &'a Seat,
    attempt: &'a mut Attempt,
    state: State,
    /// Its number; 0: not opened.
    stream: u32,
    /// Boxed, since it is large and rare.
    upload: Option<Box<Upload<'a>>>,
    status: u16,
}

enum State {
    Unopened,
    Head(ResponseFuture),
    Body(RecvStream),
}

/// A file on its way.
struct Upload<'a> {
    stream: SendStream<Bytes>,
    file: &'a BodyFile,
    reading: FileReading,
    sent_bytes: u64,
}

/// What a failed exchange leaves: why, and whether the request may go out again.
pub type Verdict = Result<Answer, (Failure, Resend)>;

impl<'a> Exchange<'a> {
    /// Ready to send; nothing is sent yet.
    pub fn new(seat: &'a Seat, attempt: &'a mut Attempt) -> Self {
        Self { seat, attempt, state: State::Unopened, stream: 0, upload: None, status: 0 }
    }

    /// Drives the exchange. Reads while it sends, so that an answer before the request's end is taken. What went by is in the
    /// attempt once this is done or dropped.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &Outgoing<'a>,
        form: &Form,
        deadline: &mut Deadline,
        kept: &mut Kept,
    ) -> Poll<Verdict> {
        let poll = self.poll_stream(cx, outgoing, form, kept);
        match poll {
            Poll::Pending if deadline.has_passed(cx, self.attempt.deadline_ns) => {
                Poll::Ready(Err((self.run_out(), Resend::No)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.seat.session().answered();
                Poll::Ready(Ok(Answer { status: self.status, can_reuse: true }))
            }
            Poll::Ready(Err(verdict)) => Poll::Ready(Err(verdict)),
        }
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &Outgoing<'a>,
        form: &Form,
        kept: &mut Kept,
    ) -> Poll<Result<(), (Failure, Resend)>> {
        if matches!(self.state, State::Unopened) {
            if self.seat.session().poll_turn(cx).is_pending() {
                return Poll::Pending;
            }
            if let Err(error) = self.open(outgoing, form) {
                return Poll::Ready(Err(self.judge(&error, outgoing.message)));
            }
        }
        if let Err(failure) = self.send_file(cx) {
            self.settle();
            self.attempt.ended_ns = now_ns();
            return Poll::Ready(Err((failure, Resend::No)));
        }
        match self.poll_receive(cx, kept) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.attempt.ended_ns = self.settle();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                let traffic = self.seat.session().meter().borrow().of(self.stream);
                // A peer that has answered to the end may stop the rest of the request (RFC 9113 8.1).
                if self.status > 0 && traffic.has_ended && error.is_reset() && error.is_remote() {
                    self.attempt.ended_ns = self.settle();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(self.judge(&error, outgoing.message)))
            }
        }
    }

    /// Opens the stream: from here on the request is queued, and goes out with what else the connection has to write.
    fn open(&mut self, outgoing: &Outgoing<'a>, form: &Form) -> Result<(), h2::Error> {
        let session = self.seat.session();
        let message = outgoing.message;
        let mut head = form.head.clone();
        if !outgoing.cookie.is_empty() {
            head.headers_mut().remove(header::COOKIE);
            add_cookies(head.headers_mut(), outgoing.cookie);
        }
        if !outgoing.traceparent.is_empty()
            && let Ok(mut value) = HeaderValue::from_bytes(outgoing.traceparent)
        {
            // Said once and never again: it is to take no place in the peer's table.
            value.set_sensitive(true);
            head.headers_mut().insert(TRACEPARENT, value);
        }
        let has_body = message.length.is_some_and(|length| length > 0);
        let opened = session.requests().send(head, !has_body);
        let (response, mut stream) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // No more streams, for whatever reason; that the numbers are used up is one.
                session.close();
                return Err(error);
            }
        };
        self.stream = response.stream_id().as_u32();
        session.meter().borrow_mut().watch(self.stream);
        self.state = State::Head(response);
        match &message.content {
            Content::File(file) if has_body => {
                self.upload =
                    Some(Box::new(Upload { stream, file, reading: FileReading::default(), sent_bytes: 0 }));
            }
            // Goes out as far as the peer's windows let it. Why it does not is told by reading.
            _ if has_body => drop(stream.send_data(form.body.clone(), true)),
            _ => {}
        }
        Ok(())
    }

    /// Sends as much of the file as the peer's windows let it. Where the stream is closed, reading tells why.
    fn send_file(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while let Some(upload) = &mut self.upload {
            let Upload { stream, file, reading, sent_bytes } = &mut **upload;
            let left = file.length - *sent_bytes;
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            stream.reserve_capacity(wanted);
            if stream.capacity() == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => {
                        self.upload = None;
                        return Ok(());
                    }
                }
            }
            let mut piece = vec![0; stream.capacity().min(wanted)];
            let Poll::Ready(read) = reading.poll_read(cx, file, *sent_bytes, &mut piece) else {
                return Ok(());
            };
            piece.truncate(read?);
            *sent_bytes += piece.len() as u64;
            let is_last = *sent_bytes == file.length;
            if stream.send_data(piece.into(), is_last).is_err() || is_last {
                self.upload = None;
            }
        }
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, kept: &mut Kept) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.state {
                State::Unopened => return Poll::Pending,
                State::Head(response) => match Pin::new(response).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(answer)) => {
                        let (head, body) = answer.into_parts();
                        self.status = head.status.as_u16();
                        if kept.wants_any() {
                            for (name, value) in &head.headers {
                                kept.take(name.as_str().as_bytes(), value.as_bytes());
                            }
                        }
                        self.state = State::Body(body);
                    }
                },
                State::Body(body) => {
                    if body.is_end_stream() {
                        return Poll::Ready(Ok(()));
                    }
                    match body.poll_data(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Some(Ok(data))) => {
                            // Counted on the wire; what is left to do is to let more of it come.
                            let _ = body.flow_control().release_capacity(data.len());
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Ready(None) => return body.poll_trailers(cx).map(|end| end.map(drop)),
                    }
                }
            }
        }
    }

    /// Its time is over.
    fn run_out(&mut self) -> Failure {
        let session = self.seat.session();
        let traffic = session.meter().borrow().of(self.stream);
        if traffic.sent_ns > 0 {
            session.suspect(traffic.sent_ns);
        }
        self.settle();
        self.attempt.ended_ns = now_ns();
        let detail = match (traffic.sent_ns, traffic.first_byte_ns) {
            (0, _) => detail::QUEUED,
            (_, 0) => detail::WAITING,
            _ => detail::RECEIVING,
        };
        Failure::new(ErrorKind::Timeout, detail)
    }

    fn judge(&mut self, error: &h2::Error, message: &Message) -> (Failure, Resend) {
        let session = self.seat.session();
        let (traffic, broken) = {
            let meter = session.meter().borrow();
            (meter.of(self.stream), meter.broken())
        };
        let has_head = matches!(self.state, State::Body(_));
        let (failure, resend) = fault::of_stream(error, &traffic, has_head, broken);
        if error.is_go_away() || error.is_io() {
            session.close();
        }
        self.settle();
        self.attempt.ended_ns = now_ns();
        // What may have been processed goes out again only where doing it twice does no harm.
        let is_safe = resend != Resend::IfKept || message.is_idempotent;
        (failure, if is_safe { resend } else { Resend::No })
    }

    /// Puts what went by into the attempt, once; gives when the newest byte of the answer came.
    fn settle(&mut self) -> u64 {
        if self.stream == 0 {
            return 0;
        }
        let traffic = self.seat.session().meter().borrow_mut().forget(self.stream);
        self.stream = 0;
        let attempt = &mut *self.attempt;
        attempt.bytes_sent += traffic.bytes_sent;
        attempt.bytes_received += traffic.bytes_received;
        if traffic.sent_ns > 0 {
            attempt.sending(traffic.sent_ns);
        }
        attempt.first_byte_ns = traffic.first_byte_ns;
        traffic.last_byte_ns
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
