//! Any window of a run's history, exactly: parts → disjoint rows, each the sum of the parts that begin in it.
//!
//! Rows begin at multiples of the asked width from the window's beginning. A part that reaches beyond its row (deltas that were folded while an agent was cut
//! off) makes the row longer instead of being cut: what is in a histogram cannot be divided truthfully.

use volcanion_common::delta::Delta;
use volcanion_common::units::{Micros, RunTime};

/// Adds up parts in rows of a width, one after the other, so that no more than one row is held. Rows are disjoint and ascending; each
/// is the span that holds what is in it.
#[derive(Debug)]
pub struct Rows {
    width_us: u64,
    /// Where the first row begins.
    origin: RunTime,
    open: Option<Delta>,
    /// Where the open row ends at the earliest.
    open_to: RunTime,
}

impl Rows {
    /// Rows of `every`, the first from `origin` on, before which no part begins; the parts' own spans where there is no width.
    pub fn new(every: Option<Micros>, origin: RunTime) -> Self {
        Self { width_us: every.map_or(1, |every| every.0.max(1)), origin, open: None, open_to: origin }
    }

    /// Takes the next part, in the order of their beginnings; gives the row that is whole now.
    pub fn add(&mut self, part: Delta) -> Option<Delta> {
        let (from, to) = (part.from, part.to);
        if let Some(row) = self.open.as_mut().filter(|_| from < self.open_to) {
            row.add(&part);
            self.open_to = self.open_to.max(to);
            return None;
        }
        let rows_before = from.0.saturating_sub(self.origin.0) / self.width_us;
        let width = (rows_before + 1).saturating_mul(self.width_us);
        self.open_to = RunTime(self.origin.0.saturating_add(width)).max(to);
        self.open.replace(part)
    }

    /// The last row.
    pub fn finish(self) -> Option<Delta> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use volcanion_common::series::{Outcome, Series, SeriesKey};

    use super::*;

    fn rows(parts: Vec<Delta>, every: Option<Micros>) -> Vec<Delta> {
        rows_from(0, parts, every)
    }

    fn rows_from(origin_s: u64, mut parts: Vec<Delta>, every: Option<Micros>) -> Vec<Delta> {
        parts.sort_by_key(|part| part.from);
        let mut rows = Rows::new(every, RunTime(origin_s * 1_000_000));
        let mut whole: Vec<Delta> = parts.into_iter().filter_map(|part| rows.add(part)).collect();
        whole.extend(rows.finish());
        whole
    }

    fn part(from_s: u64, to_s: u64, requests: u64) -> Delta {
        let key = SeriesKey { step: 0, outcome: Outcome::Status(200) };
        let series = Series { requests, ..Series::default() };
        let (from, to) = (RunTime(from_s * 1_000_000), RunTime(to_s * 1_000_000));
        Delta { from, to, series: [(key, series)].into(), ..Delta::default() }
    }

    fn check(parts: Vec<Delta>, every_s: Option<u64>, expected: &[(u64, u64, u64)]) {
        let rows = rows(parts, every_s.map(Micros::from_secs));
        let seen: Vec<_> =
            rows.iter().map(|row| (row.from.0 / 1_000_000, row.to.0 / 1_000_000, row.requests())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn each_interval_is_a_row_and_a_late_part_joins_its_own() {
        let parts = vec![part(0, 1, 10), part(1, 2, 20), part(0, 1, 5)];
        check(parts, None, &[(0, 1, 15), (1, 2, 20)]);
    }

    #[test]
    fn a_folded_part_makes_one_long_row() {
        let parts = vec![part(0, 1, 1), part(1, 2, 1), part(2, 3, 1), part(1, 3, 7), part(3, 4, 1)];
        check(parts, None, &[(0, 1, 1), (1, 3, 9), (3, 4, 1)]);
    }

    #[test]
    fn rows_of_a_width_begin_at_its_multiples() {
        let parts = (0..10).map(|s| part(s, s + 1, 1)).collect();
        check(parts, Some(4), &[(0, 4, 4), (4, 8, 4), (8, 10, 2)]);
    }

    #[test]
    fn a_window_as_wide_as_its_rows_is_one_row() {
        let parts: Vec<_> = (7..23).map(|s| part(s, s + 1, 1)).collect();
        let spans = |every_s| -> Vec<_> {
            let rows = rows_from(7, parts.clone(), Some(Micros::from_secs(every_s)));
            rows.iter().map(|row| (row.from.0 / 1_000_000, row.to.0 / 1_000_000, row.requests())).collect()
        };
        assert_eq!(spans(16), [(7, 23, 16)]);
        assert_eq!(spans(10), [(7, 17, 10), (17, 23, 6)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_rows_are_disjoint(
            spans in prop::collection::vec((0..50u64, 1..6u64, 0..9u64), 0..40), every in prop::option::of(1..20u64)
        ) {
            let parts: Vec<_> =
                spans.iter().map(|(from, length, count)| part(*from, from + length, *count)).collect();
            let all: u64 = spans.iter().map(|(_, _, count)| count).sum();
            let rows = rows(parts, every.map(Micros::from_secs));
            prop_assert_eq!(rows.iter().map(Delta::requests).sum::<u64>(), all);
            prop_assert!(rows.windows(2).all(|pair| pair[0].to <= pair[1].from));
        }
    }
}
