//! What this agent saw of its runs, summed up for its metrics.
//!
//! Takes each run's deltas as they are cut (a few a second), gives the sums to a scrape. The lock is held for one addition
//! or one rendering, and never across an await. An ended run's sums leave after [`KEEP_ENDED`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use volcanion_common::delta::Delta;
use volcanion_common::ids::RunId;

use crate::session::load::Names;

/// How long the series of an ended run are shown.
pub const KEEP_ENDED: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<RunId, SeenRun>>);

/// The sums of one run.
#[derive(Debug)]
pub struct SeenRun {
    /// What the deltas are about.
    pub names: Names,
    /// All deltas so far.
    pub total: Delta,
    /// Sent and not acknowledged.
    pub unacked: usize,
    /// Whether the agent waits for others to take over its part.
    pub hands_over: bool,
    /// When it was forgotten.
    pub ended: Option<Instant>,
}

impl Seen {
    /// A run's shard was compiled.
    pub fn began(&self, run: RunId, names: Names) {
        let seen = SeenRun { names, total: Delta::default(), unacked: 0, hands_over: false, ended: None };
        self.lock().insert(run, seen);
    }

    /// A delta was cut.
    pub fn delta(&self, run: RunId, delta: &Delta) {
        if let Some(seen) = self.lock().get_mut(&run) {
            seen.total.add(delta);
            seen.total.warnings.clear();
        }
    }

    /// So many deltas wait for their acknowledgement.
    pub fn unacked(&self, run: RunId, count: usize) {
        if let Some(seen) = self.lock().get_mut(&run) {
            seen.unacked = count;
        }
    }

    /// Whether the run's part is about to be handed over.
    pub fn hands_over(&self, run: RunId, hands_over: bool) {
        if let Some(seen) = self.lock().get_mut(&run) {
            seen.hands_over = hands_over;
        }
    }

    /// Whether any run's is.
    pub fn any_hands_over(&self) -> bool {
        self.lock().values().any(|seen| seen.hands_over)
    }

    /// A run was forgotten.
    pub fn ended(&self, run: RunId) {
        if let Some(seen) = self.lock().get_mut(&run) {
            seen.ended = Some(Instant::now());
            seen.unacked = 0;
            seen.hands_over = false;
            seen.total.scenarios.values_mut().for_each(|scenario| scenario.vus = 0);
        }
    }

    /// Shows every run that is still shown at this moment.
    pub fn read(&self, now: Instant, mut show: impl FnMut(RunId, &SeenRun)) {
        let mut runs = self.lock();
        runs.retain(|_, seen| seen.ended.is_none_or(|ended| now.duration_since(ended) < KEEP_ENDED));
        runs.iter().for_each(|(run, seen)| show(*run, seen));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, SeenRun>> {
        // Sums of a thread that panicked are at worst one delta short, and the panic ends the agent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
