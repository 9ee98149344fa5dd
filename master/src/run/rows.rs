//! Parts of a run as rows of numbers, for a receiver that knows names, labels and instants. The same parts give the same rows.
//!
//! Invariants: the instants of a run's rows ascend; what is counted in its rows is what its parts count, each part once.

use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::ids::RunId;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::metrics::TimesView;

use super::interval::interval_view;

/// A number of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: &'static str,
    /// The scenario's position in the plan; `None`: the whole run.
    pub scenario: Option<u32>,
    /// The step's.
    pub step: Option<u32>,
    /// Of the response times, as a fraction of 1 in text.
    pub quantile: Option<&'static str>,
    /// The number.
    pub value: f64,
}

/// An interval of a run at its last instant.
#[derive(Clone, Debug)]
pub struct Row {
    /// The run.
    pub run: RunId,
    /// Its plan.
    pub plan: Arc<ValidPlan>,
    /// In milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Each name and labels once.
    pub samples: Vec<Sample>,
}

/// Takes a run's parts in the order of their numbers.
pub struct Cut {
    run: RunId,
    plan: Arc<ValidPlan>,
    /// Up to where rows were made.
    sent_to: RunTime,
    /// What came too late for its own row; it goes with the next one.
    late: Option<Delta>,
}

impl Cut {
    /// Of a run whose rows were made up to an instant.
    pub fn new(run: RunId, plan: Arc<ValidPlan>, sent_to: RunTime) -> Self {
        Self { run, plan, sent_to, late: None }
    }

    /// The row that a part makes, with what was late before it; a late part makes none, nor does one that ends in the last row's millisecond: a
    /// receiver knows no finer instants.
    pub fn part(&mut self, delta: &Delta, start_unix_us: i64) -> Option<Row> {
        if instant_ms(start_unix_us, delta.to) <= instant_ms(start_unix_us, self.sent_to) {
            if !delta.series.is_empty() || !delta.scenarios.is_empty() {
                self.late.get_or_insert_default().add(delta);
            }
            return None;
        }
        self.sent_to = delta.to;
        Some(match self.late.take() {
            None => row(self.run, &self.plan, start_unix_us, delta, delta, delta.to),
            Some(mut counted) => {
                counted.add(delta);
                row(self.run, &self.plan, start_unix_us, &counted, delta, delta.to)
            }
        })
    }

    /// A row of what was late, where no further part comes.
    pub fn rest(&mut self, start_unix_us: i64) -> Option<Row> {
        let counted = self.late.take()?;
        let present = Delta { from: self.sent_to, to: self.sent_to, ..Delta::default() };
        let at = self.sent_to.plus(Micros::from_millis(1));
        Some(row(self.run, &self.plan, start_unix_us, &counted, &present, at))
    }
}

/// A row: counts and percentiles of what was counted, rates and VUs of what is present.
pub fn row(
    run: RunId,
    plan: &Arc<ValidPlan>,
    start_unix_us: i64,
    counted: &Delta,
    present: &Delta,
    at: RunTime,
) -> Row {
    let mut samples = Vec::new();
    let mut add = |name, scenario, step, value| {
        samples.push(Sample { name, scenario, step, quantile: None, value });
    };
    let seconds = present.to.since(present.from).as_secs_f64();
    for step in plan.steps() {
        let view = interval_view(plan, counted, Some(step.index));
        let (scenario, index) = (Some(step.scenario), Some(step.index));
        let now: u64 =
            present.series.iter().filter(|(key, _)| key.step == step.index).map(|(_, s)| s.requests).sum();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let ratio = if view.requests > 0 { view.failed as f64 / view.requests as f64 } else { 0.0 };
        add("volcanion_interval_requests", scenario, index, view.requests as f64);
        add("volcanion_interval_failed", scenario, index, view.failed as f64);
        add("volcanion_interval_error_ratio", scenario, index, ratio);
        add("volcanion_interval_rate", scenario, index, per_second(now));
    }
    for index in 0..plan.scenarios.len() as u32 {
        let of = |delta: &Delta| delta.scenarios.get(&index).cloned().unwrap_or_default();
        let (counted, present) = (of(counted), of(present));
        add("volcanion_interval_vus", Some(index), None, present.vus as f64);
        add("volcanion_interval_iterations", Some(index), None, counted.started as f64);
        add("volcanion_interval_dropped_iterations", Some(index), None, counted.dropped as f64);
        add("volcanion_interval_missed_iterations", Some(index), None, counted.missed as f64);
    }
    for step in plan.steps() {
        let view = interval_view(plan, counted, Some(step.index));
        let name = "volcanion_interval_response_time_seconds";
        quantiles(&mut samples, name, Some(step.scenario), Some(step.index), &view.response_time_ms);
    }
    let view = interval_view(plan, counted, None);
    quantiles(
        &mut samples,
        "volcanion_interval_run_response_time_seconds",
        None,
        None,
        &view.response_time_ms,
    );
    Row { run, plan: Arc::clone(plan), at_unix_ms: instant_ms(start_unix_us, at), samples }
}

/// An instant of run time, in milliseconds since 1970.
fn instant_ms(start_unix_us: i64, at: RunTime) -> i64 {
    start_unix_us.saturating_add(i64::try_from(at.0).unwrap_or(i64::MAX)).div_euclid(1_000)
}

fn quantiles(
    samples: &mut Vec<Sample>,
    name: &'static str,
    scenario: Option<u32>,
    step: Option<u32>,
    times: &TimesView,
) {
    // An interval without an answer has no percentile, rather than one of 0.
    if times.count == 0 {
        return;
    }
    for (quantile, ms) in
        [("0.5", times.p50), ("0.9", times.p90), ("0.95", times.p95), ("0.99", times.p99), ("1", times.max)]
    {
        samples.push(Sample { name, scenario, step, quantile: Some(quantile), value: ms / 1e3 });
    }
}
