//! Intervals on their way to a remote receiver: what is durable of a run becomes rows, which wait in one bounded queue of the master's.
//!
//! Nobody who puts a row in ever waits. A full queue drops its oldest rows and counts them, so a receiver that is slow or away costs intervals and never a run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use volcanion_common::ids::RunId;
use volcanion_common::telemetry::counted::{Counts, Durations};
use volcanion_common::telemetry::queue::Filling;
use volcanion_common::units::RunTime;
use volcanion_common::validate::ValidPlan;

use super::live::Live;
use super::rows::{Cut, Row};
use crate::merge::Part;

/// Samples that wait at most; some 10 MB.
pub const SAMPLES_MAX: usize = 200_000;
/// What became of samples.
pub const OUTCOMES: [&str; 3] = ["sent", "refused", "dropped"];

/// What is to be sent next.
#[derive(Clone, Debug)]
pub enum Item {
    /// An interval.
    Row(Row),
    /// The newest stored parts of a run that was taken up: its last master may not have sent all of them.
    Again {
        /// The run.
        run: RunId,
        /// Its plan.
        plan: Arc<ValidPlan>,
        /// When its load began, in microseconds since 1970.
        start_unix_us: i64,
        /// The number of the first part that its new master makes.
        before: u64,
    },
}

/// See the module.
pub struct Outgoing {
    waiting: Mutex<Waiting>,
    has_more: Notify,
    samples: Counts,
    retries: AtomicU64,
    took: Durations,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    samples: usize,
}

impl Item {
    fn samples(&self) -> usize {
        match self {
            Self::Row(row) => row.samples.len(),
            Self::Again { .. } => 1,
        }
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            has_more: Notify::new(),
            samples: Counts::of(&OUTCOMES),
            retries: AtomicU64::new(0),
            took: Durations::default(),
        }
    }
}

impl Outgoing {
    /// Puts an item in at the end.
    pub fn push(&self, item: Item) {
        let mut dropped = 0;
        {
            let mut waiting = self.waiting();
            waiting.samples += item.samples();
            waiting.items.push_back(item);
            while waiting.samples > SAMPLES_MAX && waiting.items.len() > 1 {
                let samples = waiting.items.pop_front().map_or(0, |oldest| oldest.samples());
                waiting.samples -= samples;
                dropped += samples;
            }
        }
        if dropped > 0 {
            self.samples.count_many("dropped", dropped as u64);
        }
        self.has_more.notify_one();
    }

    /// Takes the oldest item, as soon as there is one. May be dropped half-way: then nothing was taken.
    pub async fn next(&self) -> Item {
        loop {
            if let Some(item) = self.try_next() {
                return item;
            }
            self.has_more.notified().await;
        }
    }

    /// Takes the oldest item, where there is one.
    pub fn try_next(&self) -> Option<Item> {
        let mut waiting = self.waiting();
        let item = waiting.items.pop_front()?;
        waiting.samples -= item.samples();
        Some(item)
    }

    /// Notes what became of so many samples, one of [`OUTCOMES`].
    pub fn ended(&self, outcome: &'static str, samples: usize) {
        self.samples.count_many(outcome, samples as u64);
    }

    /// Notes that a receiver did not take a row now.
    pub fn again(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// How long a receiver takes for a row.
    pub fn took(&self) -> &Durations {
        &self.took
    }

    /// What became of all samples.
    pub fn samples(&self) -> &Counts {
        &self.samples
    }

    /// How often a row was not taken at once.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Samples that wait.
    pub fn filling(&self) -> Filling {
        Filling { depth: self.waiting().samples, bound: SAMPLES_MAX }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every change under the lock is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a new master begins with a run that it takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TakenUpAt {
    /// Up to where its parts reach.
    pub to: RunTime,
    /// The number of the next one.
    pub next_part: u64,
}

/// One run's way into the queue, for whoever makes its parts durable.
pub(super) struct Feed {
    outgoing: Arc<Outgoing>,
    live: Arc<Live>,
    cut: Cut,
}

impl Feed {
    /// Of a run from its beginning, or from where another master left it.
    pub(super) fn new(
        outgoing: Arc<Outgoing>,
        run: RunId,
        live: Arc<Live>,
        taken_up: Option<TakenUpAt>,
    ) -> Self {
        let plan = Arc::clone(live.plan());
        let sent_to = taken_up.map_or(RunTime::START, |at| at.to);
        let feed = Self { outgoing, live, cut: Cut::new(run, Arc::clone(&plan), sent_to) };
        if let (Some(at), Some(start_unix_us)) = (taken_up, feed.start_unix_us()) {
            feed.outgoing.push(Item::Again { run, plan, start_unix_us, before: at.next_part });
        }
        feed
    }

    /// A part is durable.
    pub(super) fn part(&mut self, part: &Part) {
        // Nothing is measured before the start is fixed.
        let Some(start_unix_us) = self.start_unix_us() else { return };
        if let Some(row) = self.cut.part(&part.delta, start_unix_us) {
            self.outgoing.push(Item::Row(row));
        }
    }

    /// The run's end is durable: what was late has no further row to go with.
    pub(super) fn end(&mut self) {
        let Some(start_unix_us) = self.start_unix_us() else { return };
        if let Some(row) = self.cut.rest(start_unix_us) {
            self.outgoing.push(Item::Row(row));
        }
    }

    fn start_unix_us(&self) -> Option<i64> {
        let start_at: Timestamp = self.live.view().start_at?.parse().ok()?;
        Some(start_at.as_microsecond())
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::delta::{Delta, ScenarioDelta};
    use volcanion_common::series::{Outcome, Series, SeriesKey};
    use volcanion_common::units::Micros;
    use volcanion_common::view::RunStatus;

    use super::*;
    use crate::run::rows::row;
    use crate::run::tests::{any_plan, any_view};

    fn part(number: u64, from_s: u64, to_s: u64, requests: u64) -> Part {
        let mut series = Series { requests, failed: requests / 2, ..Series::default() };
        series.response_time.record(Micros::from_millis(20));
        let key = SeriesKey { step: 0, outcome: Outcome::Status(200) };
        let scenario = ScenarioDelta { started: requests, vus: 3, ..ScenarioDelta::default() };
        let (from, to) = (RunTime(from_s * 1_000_000), RunTime(to_s * 1_000_000));
        let delta = Delta {
            from,
            to,
            series: [(key, series)].into(),
            scenarios: [(0, scenario)].into(),
            ..Delta::default()
        };
        Part { number, delta: Arc::new(delta), agents: Vec::new(), checkpoint: None, warnings: None }
    }

    #[test]
    fn a_sliver_that_ends_in_the_same_millisecond_goes_with_what_is_late() {
        let outgoing = Arc::new(Outgoing::default());
        let mut feed = feed(&outgoing, None);
        feed.part(&part(1, 0, 1, 10));
        let whole = part(2, 1, 2, 3);
        let sliver = Delta { to: RunTime(1_000_300), ..(*whole.delta).clone() };
        feed.part(&Part { delta: Arc::new(sliver), ..whole });
        feed.end();
        let rows: Vec<_> = rows(&outgoing)
            .into_iter()
            .map(|row| (row.at_unix_ms, value(&row, "volcanion_interval_requests", None)))
            .collect();
        assert_eq!(rows, [(1_704_164_646_500, 10.0), (1_704_164_646_501, 3.0)]);
    }

    fn feed(outgoing: &Arc<Outgoing>, taken_up: Option<TakenUpAt>) -> Feed {
        let mut view = any_view(RunStatus::Running);
        view.start_at = Some("2024-01-02T03:04:05.5Z".to_owned());
        let run = RunId(view.id);
        Feed::new(Arc::clone(outgoing), run, Live::new(view, Arc::new(any_plan())), taken_up)
    }

    fn rows(outgoing: &Outgoing) -> Vec<Row> {
        let next = || match outgoing.try_next()? {
            Item::Row(row) => Some(row),
            Item::Again { .. } => panic!("nothing was taken up"),
        };
        std::iter::from_fn(next).collect()
    }

    fn value(row: &Row, name: &str, quantile: Option<&str>) -> f64 {
        row.samples.iter().find(|sample| sample.name == name && sample.quantile == quantile).unwrap().value
    }

    #[test]
    fn a_late_part_goes_with_the_next_row_and_instants_ascend() {
        let outgoing = Arc::new(Outgoing::default());
        let mut feed = feed(&outgoing, None);
        for part in [part(1, 0, 1, 10), part(2, 0, 1, 4), part(3, 1, 2, 20), part(4, 0, 2, 6)] {
            feed.part(&part);
        }
        feed.end();
        let rows = rows(&outgoing);
        let start_ms = 1_704_164_645_500;
        assert_eq!(
            rows.iter().map(|row| row.at_unix_ms - start_ms).collect::<Vec<_>>(),
            [1_000, 2_000, 2_001]
        );
        let of = |name| rows.iter().map(|row| value(row, name, None)).collect::<Vec<_>>();
        assert_eq!(of("volcanion_interval_requests"), [10.0, 24.0, 6.0]);
        assert_eq!(of("volcanion_interval_failed"), [5.0, 12.0, 3.0]);
        assert_eq!(of("volcanion_interval_rate"), [10.0, 20.0, 0.0], "what is late is no rate of now");
        assert_eq!(of("volcanion_interval_vus"), [3.0, 3.0, 0.0]);
        assert_eq!(of("volcanion_interval_error_ratio"), [0.5, 0.5, 0.5]);
        let p99 = value(&rows[0], "volcanion_interval_response_time_seconds", Some("0.99"));
        assert!((p99 - 0.02).abs() < 0.000_1, "{p99}");
        assert_eq!(outgoing.filling().depth, 0);
    }

    #[test]
    fn a_next_master_makes_the_same_rows_of_the_same_parts() {
        let parts = [part(1, 0, 1, 10), part(2, 0, 1, 4), part(3, 1, 2, 20), part(4, 1, 2, 6)];
        let cut = |parts: &[Part]| {
            let mut cut = Cut::new(RunId::new(), Arc::new(any_plan()), RunTime::START);
            let mut rows: Vec<Row> = parts.iter().filter_map(|part| cut.part(&part.delta, 0)).collect();
            rows.extend(cut.rest(0));
            rows
        };
        let requests = |rows: &[Row]| -> Vec<(i64, f64)> {
            rows.iter().map(|row| (row.at_unix_ms, value(row, "volcanion_interval_requests", None))).collect()
        };
        assert_eq!(requests(&cut(&parts)), [(1_000, 10.0), (2_000, 24.0), (2_001, 6.0)]);
        let all = cut(&parts);
        assert!(cut(&parts[..3]).iter().zip(&all).all(|(early, late)| early.samples == late.samples));
    }

    #[test]
    fn a_full_queue_drops_its_oldest_and_counts_them() {
        let outgoing = Outgoing::default();
        let mut row = {
            let plan = Arc::new(any_plan());
            row(RunId::new(), &plan, 0, &Delta::default(), &Delta::default(), RunTime(1))
        };
        let each = row.samples.len();
        let many = SAMPLES_MAX / each + 10;
        for number in 0..many {
            row.at_unix_ms = number as i64;
            outgoing.push(Item::Row(row.clone()));
        }
        assert!(outgoing.filling().depth <= SAMPLES_MAX);
        let left = rows(&outgoing);
        assert_eq!(left.last().unwrap().at_unix_ms, many as i64 - 1);
        assert_eq!(left[0].at_unix_ms, 10, "the oldest left");
        assert_eq!(outgoing.samples().of_name("dropped"), Some(10 * each as u64));
    }

    #[test]
    fn a_run_that_is_taken_up_is_sent_again_first() {
        let outgoing = Arc::new(Outgoing::default());
        let mut feed = feed(&outgoing, Some(TakenUpAt { to: RunTime(5_000_000), next_part: 9 }));
        feed.part(&part(9, 5, 6, 1));
        let Some(Item::Again { before, start_unix_us, .. }) = outgoing.try_next() else {
            panic!("it begins with what is stored")
        };
        assert_eq!((before, start_unix_us), (9, 1_704_164_645_500_000));
        assert_eq!(rows(&outgoing).len(), 1);
    }
}
