//! Why there was no whole response.

/// The type of a failure. Never the target's fault alone: `blocked` and `interrupted` are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The host's name was not resolved.
    Dns,
    /// No connection.
    Connect,
    /// No TLS session.
    Tls,
    /// The time limit ran out; counted in the histograms at the time waited.
    Timeout,
    /// The connection broke before the response was whole.
    Reset,
    /// What came was not HTTP as it should be.
    Protocol,
    /// The body was not what its framing said.
    Body,
    /// A check of the plan did not hold.
    Check,
    /// A guard rail of ours refused the target.
    Blocked,
    /// Cut off by the end of the run.
    Interrupted,
}

impl ErrorKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Body,
        Self::Check,
        Self::Blocked,
        Self::Interrupted,
    ];

    /// The name in results and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Check => "check",
            Self::Blocked => "blocked",
            Self::Interrupted => "interrupted",
        }
    }
}
