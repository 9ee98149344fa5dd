//! Thresholds → verdicts, on merged numbers only.
//!
//! Takes the plan's rules and merged deltas; gives what was observed and whether each rule holds. [`Judge`] does it while the run goes (with window and
//! grace, for `abort`) and at its end, on the total.
//!
//! Where a rule is about times or a share of requests and there was no request, nothing was observed. While the run goes the rule then counts as kept; at
//! the end it counts as **broken**: a plan always expects requests, and a service that was never reached must not pass.

pub mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::plan::Plan;
use volcanion_common::plan::threshold::{Metric, Threshold};
use volcanion_common::series::{Distribution, Series, SeriesKey};
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::metrics::ThresholdView;

use window::Window;

/// Judges one run.
#[derive(Debug)]
pub struct Judge {
    rules: Vec<Rule>,
    /// Windows hold nothing of before: then another master judged.
    begun_at: RunTime,
}

#[derive(Debug)]
struct Rule {
    threshold: Threshold,
    /// The step's global number and its scenario, where the rule names one.
    step: Option<(u32, u32)>,
    /// The newest numbers, where `abort` judges these.
    window: Option<Window>,
    /// What was observed when it ended the run.
    broken_at: Option<f64>,
}

impl Judge {
    /// The rules of a plan whose deltas span an interval.
    pub fn new(plan: &Plan) -> Self {
        let rules = plan.thresholds.iter().map(|threshold| Rule::new(threshold, plan)).collect();
        Self { rules, begun_at: RunTime::START }
    }

    /// Goes on at a moment of a run that another master has judged so far.
    pub fn begin_at(&mut self, time: RunTime) {
        self.begun_at = time;
    }

    /// Takes in merged deltas as they become parts.
    pub fn add(&mut self, delta: &Arc<Delta>) {
        for window in self.rules.iter_mut().filter_map(|rule| rule.window.as_mut()) {
            window.add(delta);
        }
    }

    /// Whether a rule with `abort` is broken at the end of an interval, and which (its text). Once one is, it stays broken. Where not
    /// every agent's numbers are in, or the window reaches back to before a take-over, rules about how many requests there were are not judged: they would
    /// blame the target for what is only late or not at hand.
    pub fn aborts(&mut self, total: &Delta, now: RunTime, is_complete: bool) -> Option<String> {
        for rule in self.rules.iter_mut().filter(|rule| rule.threshold.abort && rule.broken_at.is_none()) {
            let is_count = matches!(rule.threshold.metric, Metric::Rps | Metric::Requests);
            let is_covered = rule.window.as_ref().is_none_or(|window| window.begins_at(now) >= self.begun_at);
            if now.0 < rule.threshold.grace.0 || is_count && !(is_complete && is_covered) {
                continue;
            }
            let observed = match &rule.window {
                Some(window) => rule.observe(&window.merged(now), window.span(now)),
                None => rule.observe(total, total.to.since(RunTime::START)),
            };
            rule.broken_at = observed.filter(|value| !rule.holds(*value));
        }
        self.rules.iter().find(|rule| rule.broken_at.is_some()).map(|rule| rule.threshold.expr.clone())
    }

    /// Every rule as it stands while the run goes.
    pub fn live(&self, total: &Delta) -> Vec<ThresholdView> {
        self.rules.iter().map(|rule| rule.view(total, true)).collect()
    }

    /// Every rule on the final total.
    pub fn at_end(&self, total: &Delta) -> Vec<ThresholdView> {
        self.rules.iter().map(|rule| rule.view(total, false)).collect()
    }
}

impl Rule {
    fn new(threshold: &Threshold, plan: &Plan) -> Self {
        let step = threshold.step.as_ref().map(|name| {
            let found = plan.steps().find(|step| step.step.name == *name);
            // Validation refuses a step that is not there; a number that no step has observes nothing.
            found.map_or((u32::MAX, u32::MAX), |step| (step.index, step.scenario))
        });
        let window =
            threshold.window.filter(|_| threshold.abort).map(|length| Window::new(length, plan.interval));
        Self { threshold: threshold.clone(), step, window, broken_at: None }
    }

    fn view(&self, total: &Delta, if_unknown: bool) -> ThresholdView {
        let expr = self.threshold.expr.clone();
        if let Some(observed) = self.broken_at {
            return ThresholdView { expr, observed: Some(self.shown(observed)), ok: false };
        }
        let observed = self.observe(total, total.to.since(RunTime::START));
        let ok = observed.map_or(if_unknown, |value| self.holds(value));
        ThresholdView { expr, observed: observed.map(|value| self.shown(value)), ok }
    }

    fn holds(&self, value: f64) -> bool {
        self.threshold.comparison.holds(value, self.threshold.bound)
    }

    /// The measured value in the bound's unit; `None` where there is nothing to measure.
    fn observe(&self, delta: &Delta, span: Micros) -> Option<f64> {
        match self.threshold.metric {
            Metric::Percentile(percent) => self.times(delta).map(|times| times.percentile_us(percent) as f64),
            Metric::Min => self.times(delta).map(|times| times.min_us() as f64),
            Metric::Avg => self.times(delta).map(|times| times.mean_us()),
            Metric::Max => self.times(delta).map(|times| times.max_us() as f64),
            Metric::ErrorRate => {
                let (requests, failed) = self.counts(delta);
                (requests > 0).then(|| failed as f64 / requests as f64)
            }
            Metric::Rps => (span > Micros::ZERO).then(|| self.counts(delta).0 as f64 / span.as_secs_f64()),
            Metric::Failed => Some(self.counts(delta).1 as f64),
            Metric::Requests => Some(self.counts(delta).0 as f64),
            Metric::Dropped => Some(self.dropped(delta) as f64),
        }
    }

    /// Requests and failed ones. What failed by our own fault is neither: a rule judges the target.
    fn counts(&self, delta: &Delta) -> (u64, u64) {
        self.series(delta).fold((0, 0), |(requests, failed), (key, series)| {
            (requests + series.requests - series.own_faults(key.outcome), failed + series.failed)
        })
    }

    fn times(&self, delta: &Delta) -> Option<Distribution> {
        let mut times = Distribution::default();
        self.series(delta).for_each(|(_, series)| times.add(&series.response_time));
        (!times.is_empty()).then_some(times)
    }

    fn dropped(&self, delta: &Delta) -> u64 {
        let scenarios = delta.scenarios.iter();
        let wanted = scenarios.filter(|(index, _)| self.step.is_none_or(|(_, scenario)| scenario == **index));
        wanted.map(|(_, scenario)| scenario.dropped).sum()
    }

    fn series<'a>(&'a self, delta: &'a Delta) -> impl Iterator<Item = (&'a SeriesKey, &'a Series)> {
        delta.series.iter().filter(|(key, _)| self.step.is_none_or(|(step, _)| step == key.step))
    }

    /// In the unit that documents show: times in milliseconds.
    fn shown(&self, value: f64) -> f64 {
        match self.threshold.metric {
            Metric::Percentile(_) | Metric::Min | Metric::Avg | Metric::Max => value / 1e3,
            _ => value,
        }
    }
}
