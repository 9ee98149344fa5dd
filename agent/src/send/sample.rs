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
    /// It followed a redirect; counted apart, too.
    pub is_redirect: bool,
    /// Its answer is a redirect that is to be followed next.
    pub leads_on: bool,
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

impl Sample {
    /// Whether it failed for a reason of ours, so that it says nothing about the target: ports or files used up, a body's file
    /// that changed, or a guard rail.
    pub fn is_own_fault(&self) -> bool {
        match self.outcome {
            Outcome::Status(_) => false,
            Outcome::Error(kind) => {
                kind == ErrorKind::Blocked
                    || detail::is_own_exhaustion(self.detail)
                    || [detail::FILE_CHANGED, detail::FILE_UNREADABLE].contains(&self.detail)
            }
        }
    }
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
    /// connect, dns: our own files are used up.
    pub const NO_FILES: &str = "no files";
    /// connect: a source address that this machine no longer has.
    pub const NO_SOURCE: &str = "no source address";
    /// connect: anything else.
    pub const FAILED: &str = "failed";
    /// tls: the certificate is not to be trusted.
    pub const CERTIFICATE: &str = "certificate";
    /// tls: the target wants a certificate of ours, or another.
    pub const CLIENT_CERTIFICATE: &str = "client certificate";
    /// tls: HTTP/2 is asked for, and the target does not speak it.
    pub const NO_H2: &str = "no h2";
    /// tls: anything else that kept the session from being made.
    pub const HANDSHAKE: &str = "handshake";
    /// tls: broken after the handshake.
    pub const RECORD: &str = "record";
    /// timeout: while resolving, connecting or shaking hands.
    pub const CONNECTING: &str = "connecting";
    /// timeout: all shared connections, or all streams that the target allows, were in use: nothing was sent.
    pub const QUEUED: &str = "waiting for a connection";
    /// timeout: sent, and not a byte of an answer.
    pub const WAITING: &str = "waiting";
    /// timeout: the answer had begun.
    pub const RECEIVING: &str = "receiving";
    /// reset: not a byte of an answer came.
    pub const BEFORE_THE_ANSWER: &str = "before the answer";
    /// reset: part of an answer came.
    pub const IN_THE_ANSWER: &str = "in the answer";
    /// reset: the target ended this stream of HTTP/2 and no other.
    pub const STREAM: &str = "stream";
    /// reset: the target refused this stream of HTTP/2, again and again.
    pub const STREAM_REFUSED: &str = "stream refused";
    /// reset: the target said that it goes away before it looked at the request, again and again.
    pub const GOING_AWAY: &str = "going away";
    /// protocol: the target wants HTTP/1.1 for this request.
    pub const VERSION: &str = "version";
    /// protocol: more came than HTTP/2's windows allow, or a window past its bound.
    pub const FLOW_CONTROL: &str = "flow control";
    /// protocol: a redirect led to a request that HTTP/2 cannot say.
    pub const NOT_SENDABLE: &str = "not sendable";
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
    /// body: the file that is sent is shorter than it was when the run was prepared. Our own fault.
    pub const FILE_CHANGED: &str = "file changed";
    /// body: the file that is sent cannot be read. Our own fault.
    pub const FILE_UNREADABLE: &str = "file unreadable";
    /// blocked: the agent does not load this address.
    pub const TARGET: &str = "target";
    /// blocked: redirects lead to more servers than an agent goes to unasked.
    pub const TOO_MANY_HOSTS: &str = "too many hosts";

    /// Whether a failure with this detail is the load machine's own fault, not the target's.
    pub fn is_own_exhaustion(detail: &str) -> bool {
        [NO_PORTS, NO_FILES, NO_SOURCE].contains(&detail)
    }
}
