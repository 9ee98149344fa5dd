//! One attempt while it goes: what is known of it at any moment, so that it can be told whole even if it is cut off.

use volcanion_common::series::{ErrorKind, Outcome};
use volcanion_common::telemetry::trace::SpanId;

use super::clock::span_us;
use super::sample::{Failure, PhaseTimes, Sample};
use super::traced::Traced;

/// An attempt under way; instants as in [`Sample`], 0 where it has not come so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt {
    /// The step's global number.
    pub step: u32,
    /// It follows a redirect.
    pub is_redirect: bool,
    /// When it began.
    pub began_ns: u64,
    /// When it is cut.
    pub deadline_ns: u64,
    /// First byte sent; where it was sent twice, the first time.
    pub sent_ns: u64,
    /// First byte sent of the sending that counts for the phases.
    pub resent_ns: u64,
    /// First byte received.
    pub first_byte_ns: u64,
    /// Last byte received, or the failure.
    pub ended_ns: u64,
    /// Before TLS.
    pub bytes_sent: u64,
    /// After TLS.
    pub bytes_received: u64,
    /// Of connecting.
    pub phases: PhaseTimes,
    /// Which span of a trace it is, where it is one.
    pub span: Option<SpanId>,
}

impl Attempt {
    /// Draws whether it is part of a trace; gives what it then says to the target, else nothing.
    #[inline]
    pub fn drawn(&mut self, traced: &Traced) -> Vec<u8> {
        self.span = traced.draw();
        self.span.map_or_else(Vec::new, |span| traced.traceparent(span))
    }

    /// A request is going out at this instant.
    pub fn sending(&mut self, now_ns: u64) {
        self.resent_ns = now_ns;
        if self.sent_ns == 0 {
            self.sent_ns = now_ns;
        }
    }

    /// The record of a whole answer.
    #[inline]
    pub fn answered(mut self, status: u16, success: bool) -> Sample {
        self.phases.wait_us = Some(span_us(self.resent_ns, self.first_byte_ns));
        self.phases.receive_us = Some(span_us(self.first_byte_ns, self.ended_ns));
        self.sample(Outcome::Status(status), "", success)
    }

    /// The record of a failure.
    pub fn failed(mut self, failure: Failure) -> Sample {
        if self.first_byte_ns > 0 {
            self.phases.wait_us = Some(span_us(self.resent_ns, self.first_byte_ns));
        }
        self.sample(Outcome::Error(failure.kind), failure.detail, false)
    }

    /// The record of one that was cut off by the end of the run.
    pub fn interrupted(mut self, now_ns: u64) -> Sample {
        self.ended_ns = now_ns;
        self.failed(Failure::new(ErrorKind::Interrupted, ""))
    }

    fn sample(self, outcome: Outcome, detail: &'static str, success: bool) -> Sample {
        Sample {
            step: self.step,
            outcome,
            detail,
            success,
            is_redirect: self.is_redirect,
            leads_on: false,
            began_ns: self.began_ns,
            sent_ns: if self.bytes_sent > 0 { self.sent_ns } else { 0 },
            ended_ns: self.ended_ns,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            phases: self.phases,
        }
    }
}
