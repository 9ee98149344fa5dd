//! The series of one step on one core: an entry for each outcome that was seen, and the failures by detail.

use volcanion_common::delta::Delta;
use volcanion_common::series::{ErrorKind, Outcome, Series, SeriesKey};
use volcanion_common::units::Micros;

use super::has_times;
use crate::send::Sample;

/// Outcomes of one step that have histograms of their own. A target that answers with more different statuses than this has the times of
/// the further ones in the last of these, so that it cannot make an agent grow; counters are kept for every status.
const WITH_HISTOGRAMS_MAX: usize = 24;

#[derive(Clone, Debug, Default)]
pub struct StepSeries {
    /// In the order in which they were first seen.
    outcomes: Vec<(Outcome, Series)>,
    /// Where the newest sample went.
    newest: usize,
    /// A few: details are a closed set.
    errors: Vec<(ErrorKind, &'static str, u64)>,
}

impl StepSeries {
    #[inline]
    pub fn record(&mut self, sample: &Sample, intended_ns: Option<u64>) {
        if self.outcomes.get(self.newest).is_none_or(|(outcome, _)| *outcome != sample.outcome) {
            self.newest = self.place_of(sample.outcome);
        }
        let series = &mut self.outcomes[self.newest].1;
        series.requests += 1;
        series.redirects += u64::from(sample.is_redirect);
        series.failed += u64::from(!sample.success && !sample.is_own_fault());
        series.bytes_sent += sample.bytes_sent;
        series.bytes_received += sample.bytes_received;
        if has_times(sample.outcome) {
            let place = self.newest.min(WITH_HISTOGRAMS_MAX - 1);
            let series = &mut self.outcomes[place].1;
            let since = |from_ns: u64| Micros(sample.ended_ns.saturating_sub(from_ns) / 1_000);
            series.response_time.record(since(intended_ns.unwrap_or(sample.began_ns)));
            let sent_ns = if sample.sent_ns > 0 { sample.sent_ns } else { sample.began_ns };
            series.service_time.record(since(sent_ns));
        }
        if let Outcome::Error(kind) = sample.outcome {
            self.failed(kind, sample.detail);
        }
    }

    #[cold]
    fn place_of(&mut self, outcome: Outcome) -> usize {
        self.outcomes.iter().position(|(seen, _)| *seen == outcome).unwrap_or_else(|| {
            self.outcomes.push((outcome, Series::default()));
            self.outcomes.len() - 1
        })
    }

    fn failed(&mut self, kind: ErrorKind, detail: &'static str) {
        match self.errors.iter_mut().find(|(k, d, _)| *k == kind && *d == detail) {
            Some((.., count)) => *count += 1,
            None => self.errors.push((kind, detail, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.outcomes.iter().all(|(_, series)| series.requests == 0)
    }

    pub fn add_to(&self, step: u32, delta: &mut Delta) {
        for (outcome, series) in &self.outcomes {
            // A series without requests of its own may hold the times of further statuses.
            if series.requests > 0 || !series.response_time.is_empty() {
                delta.series.entry(SeriesKey { step, outcome: *outcome }).or_default().add(series);
            }
        }
        for (kind, detail, count) in self.errors.iter().filter(|(.., count)| *count > 0) {
            *delta.errors.entry((step, *kind, (*detail).to_owned())).or_default() += count;
        }
    }

    pub fn clear(&mut self) {
        for (_, series) in &mut self.outcomes {
            (series.requests, series.redirects, series.failed) = (0, 0, 0);
            (series.bytes_sent, series.bytes_received) = (0, 0);
            series.response_time.clear();
            series.service_time.clear();
        }
        self.errors.iter_mut().for_each(|(.., count)| *count = 0);
    }
}
