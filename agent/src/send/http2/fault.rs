//! Why a stream failed → a typed failure, and whether its request may go out again.
//!
//! A request that the peer provably did not process may always (RFC 9113 8.7): it refused the stream, or said in its GOAWAY that it
//! looked at none so high. Of any other one nobody knows, as with HTTP/1.1.

use h2::{Error, Reason};
use volcanion_common::series::ErrorKind;

use super::meter::Traffic;
use crate::send::Resend;
use crate::send::sample::{Failure, detail};

/// The verdict on a stream of which this went by; `broken`: what the socket itself said.
pub fn of_stream(
    error: &Error,
    traffic: &Traffic,
    has_head: bool,
    broken: Option<Failure>,
) -> (Failure, Resend) {
    let has_begun = traffic.first_byte_ns > 0;
    let lost = if has_begun { detail::IN_THE_ANSWER } else { detail::BEFORE_THE_ANSWER };
    if error.is_remote() {
        return match error.reason() {
            _ if error.is_go_away() => (reset(detail::GOING_AWAY), Resend::Unprocessed),
            Some(Reason::REFUSED_STREAM) => (reset(detail::STREAM_REFUSED), Resend::Unprocessed),
            Some(Reason::HTTP_1_1_REQUIRED) => (protocol(detail::VERSION), Resend::No),
            _ => (reset(detail::STREAM), Resend::No),
        };
    }
    if error.is_library() {
        let detail = match error.reason() {
            Some(Reason::COMPRESSION_ERROR) => detail::HEAD,
            Some(Reason::FLOW_CONTROL_ERROR) => detail::FLOW_CONTROL,
            Some(Reason::ENHANCE_YOUR_CALM) => detail::TOO_LARGE,
            // After the head a stream goes wrong by itself only where its body is not as long as the head said.
            Some(Reason::PROTOCOL_ERROR) if has_head && error.is_reset() => {
                return (Failure::new(ErrorKind::Body, detail::TRUNCATED), Resend::No);
            }
            Some(Reason::PROTOCOL_ERROR) if error.is_reset() => detail::HEAD,
            _ => detail::FRAMING,
        };
        return (protocol(detail), Resend::No);
    }
    if error.is_io() {
        let failure = match broken {
            Some(failure) if failure.kind == ErrorKind::Tls => failure,
            _ => reset(lost),
        };
        let resend = match (traffic.bytes_sent, has_begun) {
            (0, _) => Resend::Unprocessed,
            (_, false) if failure.kind == ErrorKind::Reset => Resend::IfKept,
            _ => Resend::No,
        };
        return (failure, resend);
    }
    // Ours: the connection takes no more streams, since its numbers are used up.
    (reset(detail::GOING_AWAY), Resend::Unprocessed)
}

const fn reset(detail: &'static str) -> Failure {
    Failure::new(ErrorKind::Reset, detail)
}

const fn protocol(detail: &'static str) -> Failure {
    Failure::new(ErrorKind::Protocol, detail)
}
