//! What one attempt was like: the record of a request.

use volcanion_common::series::{ErrorKind, Outcome};

/// One attempt at a step. All instants are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The step's global number.
    pub step: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// For an error, a word of the closed set in [`detail`]; else empty.
    pub detail: &'static str,
    /// A whole answer with a status of success.
    pub success: bool,
    /// When the step began, before any connecting.
    pub began_ns: u64,
    /// When its first byte was sent; 0: never.
    pub sent_ns: u64,
    /// When its last byte had been received, or it failed.
    pub ended_ns: u64,
    /// Before TLS.
    pub bytes_sent: u64,
    /// After TLS, heads included.
    pub bytes_received: u64,
    /// Where the time went.
    pub phases: PhaseTimes,
}

/// Where an attempt's time went, in microseconds; a phase that it did not have, or did not end, is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    /// Name resolution, where it was not known yet.
    pub dns_us: Option<u32>,
    /// TCP connect.
    pub connect_us: Option<u32>,
    /// TLS handshake.
    pub tls_us: Option<u32>,
    /// First byte sent to first byte received.
    pub wait_us: Option<u32>,
    /// First byte received to last.
    pub receive_us: Option<u32>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its type.
    pub kind: ErrorKind,
    /// A word of [`detail`].
    pub detail: &'static str,
}

impl Failure {
    /// A failure of this type.
    pub const fn new(kind: ErrorKind, detail: &'static str) -> Self {
        Self { kind, detail }
    }
}

/// The details of failures: a small closed set, so that results can count by them.
pub mod detail {
    /// dns: no such name, or no address of it.
    pub const NOT_FOUND: &str = "not found";
    /// dns: nobody answered for now.
    pub const NO_ANSWER: &str = "no answer";
    /// connect: nobody listens there.
    pub const REFUSED: &str = "refused";
    /// connect: the system gave up waiting. timeout: ours, while connecting.
    pub const TIMED_OUT: &str = "timed out";
    /// connect: no route.
    pub const UNREACHABLE: &str = "unreachable";
    /// connect: our own ports are used up.
    pub const NO_PORTS: &str = "no ports";
    /// connect: our own files are used up.
    pub const NO_FILES: &str = "no files";
    /// connect: anything else.
    pub const FAILED: &str = "failed";
    /// tls: the certificate is not to be trusted.
    pub const CERTIFICATE: &str = "certificate";
    /// tls: anything else that kept the session from being made.
    pub const HANDSHAKE: &str = "handshake";
    /// tls: broken after the handshake.
    pub const RECORD: &str = "record";
    /// timeout: while resolving, connecting or shaking hands.
    pub const CONNECTING: &str = "connecting";
    /// timeout: sent, and not a byte of an answer.
    pub const WAITING: &str = "waiting";
    /// timeout: the answer had begun.
    pub const RECEIVING: &str = "receiving";
    /// reset: not a byte of an answer came.
    pub const BEFORE_THE_ANSWER: &str = "before the answer";
    /// reset: part of an answer came.
    pub const IN_THE_ANSWER: &str = "in the answer";
    /// protocol: the head is not HTTP.
    pub const HEAD: &str = "head";
    /// protocol: the status is no status, or its line no status line.
    pub const STATUS: &str = "status";
    /// protocol: what the head says of the body contradicts itself or is no number.
    pub const FRAMING: &str = "framing";
    /// protocol: a head past its limits, or interim answers without end.
    pub const TOO_LARGE: &str = "too large";
    /// body: a chunk is not one.
    pub const CHUNK: &str = "chunk";
    /// body: it ended before its end.
    pub const TRUNCATED: &str = "truncated";
    /// blocked: the agent does not load this address.
    pub const TARGET: &str = "target";

    /// Whether a connect failure with this detail is the load machine's own fault, not the target's.
    pub fn is_own_exhaustion(detail: &str) -> bool {
        detail == NO_PORTS || detail == NO_FILES
    }
}
