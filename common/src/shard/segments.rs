//! The arrivals of one owner in a scenario whose rate is changed from outside.
//!
//! Each rate begins a **segment** at a moment T of the scenario's time, the same for all owners. Its arrivals are numbered anew: number k = 0, 1, 2 … is due at
//! T + k / rate and belongs to lane k modulo the lanes, so all owners' arrivals together are evenly spaced in every segment. An owner that hears of
//! T too late goes over at a moment of its own after it: until then it has the old segment's arrivals, from then on those of the new one that are not past.
//!
//! Invariant: for every moment t, `count_before(t)` of owners that share the lanes, and went over at the same moments, add up to that of the whole.

use super::ScenarioShare;
use crate::plan::profile::Profile;
use crate::units::{Micros, Rate};

/// See the module. All times count from the scenario's start.
#[derive(Clone, Debug)]
pub struct Segments {
    share: ScenarioShare,
    duration: Micros,
    /// Ascending by `from`; at least one.
    list: Vec<Segment>,
}

#[derive(Clone, Debug)]
struct Segment {
    /// When its first arrival is due, for whoever goes over in time.
    origin: Micros,
    /// Since when it holds here; not before `origin`.
    from: Micros,
    profile: Profile,
    /// Owned arrivals before `from`: of this segment, which are not to be started, and of all earlier ones, which are.
    skipped: u64,
    before: u64,
}

impl Segments {
    /// The rate at the scenario's start.
    pub fn new(rate: Rate, duration: Micros, share: &ScenarioShare) -> Self {
        let profile = Profile::of_rate(rate, duration);
        let first = Segment { origin: Micros::ZERO, from: Micros::ZERO, profile, skipped: 0, before: 0 };
        Self { share: share.clone(), duration, list: vec![first] }
    }

    /// Another rate, whose segment begins at `origin` and holds here from `from` on; held at the end of the segment before where it is earlier.
    pub fn push(&mut self, origin: Micros, from: Micros, rate: Rate) {
        let last = self.list.last().map_or(Micros::ZERO, |last| last.from);
        let from = from.max(origin).max(last);
        let profile = Profile::of_rate(rate, Micros(self.duration.0.saturating_sub(origin.0)));
        let skipped = self.share.count_below(profile.count_before(from.as_nanos() - origin.as_nanos()));
        let before = self.count_before(from.as_nanos());
        self.list.push(Segment { origin, from, profile, skipped, before });
    }

    /// How many owned arrivals are due before `time_ns`.
    pub fn count_before(&self, time_ns: u64) -> u64 {
        let time_ns = time_ns.min(self.duration.as_nanos());
        let after = self.list.partition_point(|segment| segment.from.as_nanos() <= time_ns);
        // The first segment holds from 0 on.
        let Some(segment) = after.checked_sub(1).and_then(|i| self.list.get(i)) else { return 0 };
        let numbered = segment.profile.count_before(time_ns.saturating_sub(segment.origin.as_nanos()));
        segment.before + self.share.count_below(numbered).saturating_sub(segment.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::split::over_cores;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn ms(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    #[test]
    fn each_rate_counts_from_its_own_moment() {
        let mut whole = Segments::new(Rate::per_second(100), ms(10_000), &ScenarioShare::whole(7));
        assert_eq!((whole.count_before(0), whole.count_before(1), whole.count_before(10 * MS)), (0, 1, 1));
        assert_eq!(whole.count_before(u64::MAX), 1_000);
        // 1.005 s at 100/s: the arrival at 1.000 s is the 101st.
        whole.push(ms(1_005), ms(1_005), Rate::per_second(300));
        whole.push(ms(3_005), ms(3_005), Rate::ZERO);
        whole.push(ms(9_000), ms(9_000), Rate::per_second(50));
        assert_eq!(whole.count_before(1_005 * MS), 101);
        assert_eq!(whole.count_before(1_005 * MS + 1), 102, "a segment begins with an arrival");
        assert_eq!((whole.count_before(3_005 * MS), whole.count_before(9_000 * MS)), (701, 701));
        assert_eq!(whole.count_before(u64::MAX), 751);
    }

    #[test]
    fn whoever_goes_over_late_keeps_the_old_rate_until_then_and_the_new_spacing_after() {
        let mut late = Segments::new(Rate::per_second(10), ms(3_000), &ScenarioShare::whole(1));
        late.push(ms(1_000), ms(1_250), Rate::per_second(100));
        // 0, 100 … 1200 of the old one, then 1250, 1260 … of the new one.
        assert_eq!((late.count_before(1_250 * MS), late.count_before(1_251 * MS)), (13, 14));
        assert_eq!(late.count_before(u64::MAX), 13 + 175);
        // Two at once: the first never holds.
        late.push(ms(1_500), ms(2_000), Rate::per_second(1_000));
        late.push(ms(1_600), ms(2_000), Rate::ZERO);
        assert_eq!(late.count_before(u64::MAX), 13 + 75);
    }

    proptest! {
        #[test]
        fn owners_add_up_to_the_whole_at_every_moment(
            lanes in 1u32..60,
            owners in 1usize..6,
            start in 0u64..500,
            changes in prop::collection::vec((0u64..3_000, 0u64..2_000), 0..8),
            at in 0u64..12_000,
        ) {
            let whole = ScenarioShare::whole(lanes);
            let parts = over_cores(&whole, owners);
            let mut all: Vec<Segments> = std::iter::once(&whole)
                .chain(&parts)
                .map(|share| Segments::new(Rate::per_second(start), ms(10_000), share))
                .collect();
            let mut time = 0;
            for (later, rate) in changes {
                time += later;
                all.iter_mut().for_each(|s| s.push(ms(time), ms(time), Rate::per_second(rate)));
            }
            let counts: Vec<u64> = all.iter().map(|s| s.count_before(at * MS)).collect();
            prop_assert_eq!(counts[0], counts[1..].iter().sum::<u64>());
        }
    }
}
