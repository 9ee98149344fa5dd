//! What a session needs of a load engine: compile, start, events, stop.
//!
//! The engine is std threads; all that crosses over to the session's tasks is one bounded channel of [`LoadEvent`]s. The traits
//! are here so that the driver's tests bring an engine of their own.

use tokio::sync::mpsc;
use volcanion_common::session::{Move, Report};
use volcanion_common::shard::Shard;
use volcanion_common::units::Micros;

use super::fence::Refusal;
pub use crate::engine::{Adjustment, EngineEvent as LoadEvent};

/// Why an agent cannot do its part, as the leader hears it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// A word for machines.
    pub code: String,
    /// A sentence for people: what, and the way out.
    pub message: String,
}

impl Fault {
    /// The report of it.
    pub fn report(&self) -> Report {
        Report::Fault { code: self.code.clone(), message: self.message.clone() }
    }
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code().to_owned(), message: refusal.to_string() }
    }
}

/// Compiles shards.
pub trait Loader: Send + Sync + 'static {
    /// Makes everything ready that can be, and refuses what cannot fit. Called where it may take its time.
    ///
    /// # Errors
    /// The shard cannot be carried by this agent.
    fn prepare(&self, shard: &Shard) -> Result<Box<dyn Load>, Fault>;
}

/// A compiled shard.
pub trait Load: Send {
    /// Load cores that it will use.
    fn cores(&self) -> u32;

    /// What its deltas are about.
    fn names(&self) -> Names;

    /// Starts it at an instant of CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// Its threads could not be made.
    fn start(self: Box<Self>, at_ns: u64) -> Result<Running, Fault>;
}

/// What the numbers in deltas stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Name and method of each step, by its global number.
    pub steps: Vec<(String, String)>,
    /// The scenarios', in the plan's order.
    pub scenarios: Vec<String>,
}

/// A load that goes, or waits for its instant.
pub struct Running {
    /// `Started`, one `Delta` an interval and `Moved` now and then, then `Finished` or `Failed`; closed after that.
    pub events: mpsc::Receiver<LoadEvent>,
    /// Steers it.
    pub control: Box<dyn Control>,
}

/// What a load can be told.
pub trait Control: Send {
    /// No new iterations; those in flight get so long. May be called again, with less.
    fn stop(&self, graceful: Micros);

    /// A scenario has another level from a moment of run time on. Told in the order of their numbers, each once.
    fn adjust(&self, adjustment: Adjustment);

    /// Lanes come and go from a moment of run time on; answered by [`LoadEvent::Moved`] once that holds. Each is told once.
    fn move_lanes(&self, order: &Move);

    /// Nothing is sent from this instant of CLOCK_MONOTONIC on, whatever becomes of this process until then, unless the instant was
    /// moved before.
    fn allow_until(&self, monotonic_ns: u64);
}

impl Drop for Running {
    /// Whatever ends a run's task, its load ends with it.
    fn drop(&mut self) {
        self.control.stop(Micros::ZERO);
    }
}
