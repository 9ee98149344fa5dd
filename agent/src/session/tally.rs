//! What the agent counts of its leaders' streams and orders, and how full its queues are, for its metrics.
//!
//! Nothing of it lies on a request's way: the desk and the runs' tasks count here a few times a run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use volcanion_common::ids::RunId;
use volcanion_common::telemetry::counted::Counts;
use volcanion_common::telemetry::prometheus::Family;
use volcanion_common::telemetry::queue::{Filling, Queue};

use super::fence::Refusal;

/// See the module.
pub struct Tally {
    refused: Counts,
    opened: AtomicU64,
    runs: Mutex<HashMap<RunId, RunQueues>>,
}

/// The queues of a run's task.
struct RunQueues {
    inbox: Queue,
    /// Those of its stream, while it has one.
    reports: Option<Queue>,
}

/// All queues of runs at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fillings {
    /// The runs' inboxes.
    pub inboxes: Vec<Filling>,
    /// Reports that wait for streams: as many as there are open streams.
    pub reports: Vec<Filling>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { refused: Counts::of(&Refusal::CODES), opened: AtomicU64::new(0), runs: Mutex::default() }
    }
}

impl Tally {
    /// A stream or an order was refused.
    pub(super) fn refused(&self, code: &str) {
        self.refused.count(code);
    }

    /// A run's task begins.
    pub(super) fn began(&self, run: RunId, inbox: Queue) {
        self.runs().insert(run, RunQueues { inbox, reports: None });
    }

    /// A run's task has a stream; it replaces an older one.
    pub(super) fn opened(&self, run: RunId, reports: Queue) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if let Some(queues) = self.runs().get_mut(&run) {
            queues.reports = Some(reports);
        }
    }

    /// A run's stream is gone.
    pub(super) fn closed(&self, run: RunId) {
        if let Some(queues) = self.runs().get_mut(&run) {
            queues.reports = None;
        }
    }

    /// A run's task is over.
    pub(super) fn ended(&self, run: RunId) {
        self.runs().remove(&run);
    }

    /// How full the runs' queues are.
    pub fn fillings(&self) -> Fillings {
        let runs = self.runs();
        Fillings {
            inboxes: runs.values().filter_map(|queues| queues.inbox.filling()).collect(),
            reports: runs.values().filter_map(|queues| queues.reports.as_ref()?.filling()).collect(),
        }
    }

    /// What was counted, as metrics.
    pub fn families(&self) -> [Family; 2] {
        let mut refused = Family::counter(
            "volcanion_agent_refused_orders_total",
            "Streams and orders that were refused, by the reason's code.",
        );
        self.refused.show(&mut refused, "code");
        let mut opened =
            Family::counter("volcanion_agent_streams_total", "Streams that leaders opened for runs.");
        opened.add(&[], self.opened.load(Ordering::Relaxed) as f64);
        [refused, opened]
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, RunQueues>> {
        // Every change under the lock is whole.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use volcanion_common::telemetry::prometheus::encode;

    use super::*;

    #[test]
    fn queues_are_those_of_the_runs_that_are_there() {
        let (tally, run) = (Tally::default(), RunId::new());
        let (inbox, _keeps_inbox) = mpsc::channel(8);
        let (reports, _keeps_reports) = mpsc::channel(4);
        tally.began(run, Queue::of(&inbox));
        inbox.try_send(1).unwrap();
        tally.opened(run, Queue::of(&reports));
        reports.try_send(1).unwrap();
        let filling = |depth, bound| vec![Filling { depth, bound }];
        assert_eq!(tally.fillings(), Fillings { inboxes: filling(1, 8), reports: filling(1, 4) });
        tally.closed(run);
        assert_eq!(tally.fillings(), Fillings { inboxes: filling(1, 8), reports: Vec::new() });
        tally.ended(run);
        assert_eq!(tally.fillings(), Fillings::default());
        let text = String::from_utf8(encode(tally.families().into())).unwrap();
        assert!(text.contains("volcanion_agent_streams_total 1\n"), "{text}");
    }

    #[test]
    fn a_refusal_is_counted_under_its_code() {
        let tally = Tally::default();
        tally.refused(Refusal::BadSeal.code());
        let text = String::from_utf8(encode(tally.families().into())).unwrap();
        assert!(text.contains("volcanion_agent_refused_orders_total{code=\"bad_seal\"} 1\n"), "{text}");
        assert!(text.contains("volcanion_agent_refused_orders_total{code=\"replayed\"} 0\n"), "{text}");
    }
}
