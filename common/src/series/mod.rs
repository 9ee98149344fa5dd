//! What is measured: one series for each step × outcome, with its counters and its two histograms.

pub mod error_kind;
pub mod histogram;

pub use error_kind::ErrorKind;
pub use histogram::Distribution;

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// A whole response of this status.
    Status(u16),
    /// No whole response.
    Error(ErrorKind),
}

/// Which series: a step of the plan under its global number, and an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The step's global number, see `Plan::steps`.
    pub step: u32,
    /// How its requests ended.
    pub outcome: Outcome,
}

/// What a series has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Attempts that ended this way.
    pub requests: u64,
    /// Of them those that followed a redirect: all others are a step's first.
    pub redirects: u64,
    /// Of them those that the target is to blame for. What a series of errors has beyond them is our own fault: no free port, no free file, a
    /// target that a guard rail of ours refuses. Of answers, the others are successes.
    pub failed: u64,
    /// Bytes written to the sockets (before TLS).
    pub bytes_sent: u64,
    /// Bytes read from the sockets (after TLS), heads included.
    pub bytes_received: u64,
    /// From the intended start, see design: empty for failures without an answer, other than timeouts.
    pub response_time: Distribution,
    /// From the first byte sent to the last byte received; as many values as `response_time`.
    pub service_time: Distribution,
}

impl Series {
    /// Attempts that failed on our own side, where they ended this way.
    pub fn own_faults(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Status(_) => 0,
            Outcome::Error(_) => self.requests.saturating_sub(self.failed),
        }
    }

    /// Adds another span of the same series.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.redirects += other.redirects;
        self.failed += other.failed;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.response_time.add(&other.response_time);
        self.service_time.add(&other.service_time);
    }
}
