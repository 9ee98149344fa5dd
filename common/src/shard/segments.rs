//! The arrivals of one owner in a scenario whose rate is changed from outside, and whose lanes are moved.
//!
//! Each rate begins a **segment** at a moment T of the scenario's time, the same for all owners. Its arrivals are numbered anew: number k = 0, 1, 2 … is due at
//! T + k / rate and belongs to lane k modulo the lanes, so all owners' arrivals together are evenly spaced in every segment. An owner that hears of
//! T too late goes over at a moment of its own after it: until then it has the old segment's arrivals, from then on those of the new one that are not past.
//! A move of lanes begins no segment: numbers go on, and what is due from its moment on has another owner.
//!
//! Invariant: for every moment t, `count_before(t)` of owners that share the lanes, and went over at the same moments, add up to that of the whole.

use super::ScenarioShare;
use super::holding::Holding;
use crate::plan::profile::Profile;
use crate::units::{Micros, Rate};

/// See the module. All times count from the scenario's start.
#[derive(Clone, Debug)]
pub struct Segments {
    holding: Holding,
    duration: Micros,
    /// Ascending by `from`; at least one.
    list: Vec<Segment>,
    /// Where neither segment nor lanes change; ascending, the first from 0 on.
    spans: Vec<Span>,
}

#[derive(Clone, Debug)]
struct Segment {
    /// When its first arrival is due, for whoever goes over in time.
    origin: Micros,
    /// Since when it holds here; not before `origin`.
    from: Micros,
    profile: Profile,
}

#[derive(Clone, Debug)]
struct Span {
    from: Micros,
    /// Places of the segment and of the lanes.
    segment: usize,
    piece: usize,
    /// Owned arrivals before `from`: of this segment by these lanes, which are not to be started, and of all earlier spans, which are.
    skipped: u64,
    before: u64,
}

impl Segments {
    /// The rate at the scenario's start.
    pub fn new(rate: Rate, duration: Micros, share: &ScenarioShare) -> Self {
        Self::of(Profile::of_rate(rate, duration), share)
    }

    /// Arrivals that the plan alone leads.
    pub fn of(profile: Profile, share: &ScenarioShare) -> Self {
        let duration = Micros(profile.duration_ns() / 1_000);
        let first = Segment { origin: Micros::ZERO, from: Micros::ZERO, profile };
        let span = Span { from: Micros::ZERO, segment: 0, piece: 0, skipped: 0, before: 0 };
        Self { holding: Holding::new(share), duration, list: vec![first], spans: vec![span] }
    }

    /// Another rate, whose segment begins at `origin` and holds here from `from` on; held at the end of the segment before where it is earlier.
    pub fn push(&mut self, origin: Micros, from: Micros, rate: Rate) {
        let last = self.list.last().map_or(Micros::ZERO, |last| last.from);
        let from = from.max(origin).max(last);
        let profile = Profile::of_rate(rate, Micros(self.duration.0.saturating_sub(origin.0)));
        self.list.push(Segment { origin, from, profile });
        self.cut_anew(from);
    }

    /// Lanes go and come from a moment on; from that of the move before where it is earlier. Gives the moment.
    pub fn moved(&mut self, from: Micros, release: &[u32], take: &[u32]) -> Micros {
        let from = self.holding.moved(from, release, take);
        self.cut_anew(from);
        from
    }

    /// The arrivals at the start.
    pub fn first(&self) -> &Profile {
        // There is at least one.
        &self.list[0].profile
    }

    /// What is owned when.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// How many owned arrivals are due before `time_ns`.
    pub fn count_before(&self, time_ns: u64) -> u64 {
        let time_ns = time_ns.min(self.duration.as_nanos());
        let after = self.spans.partition_point(|span| span.from.as_nanos() <= time_ns);
        // The first span holds from 0 on.
        after.checked_sub(1).and_then(|i| self.spans.get(i)).map_or(0, |span| self.count_in(span, time_ns))
    }

    /// How many arrivals of any lanes are due in [`from_ns`, `to_ns`), by the rates as they hold here.
    pub fn count_of(&self, share: &ScenarioShare, from_ns: u64, to_ns: u64) -> u64 {
        let to_ns = to_ns.min(self.duration.as_nanos());
        let ends = self.list.iter().skip(1).map(|next| next.from.as_nanos()).chain([u64::MAX]);
        let counts = self.list.iter().zip(ends).map(|(segment, end_ns)| {
            let (first_ns, last_ns) = (segment.from.as_nanos().max(from_ns), end_ns.min(to_ns));
            let before = |time_ns: u64| {
                let count = segment.profile.count_before(time_ns.saturating_sub(segment.origin.as_nanos()));
                share.count_below(count)
            };
            if first_ns < last_ns { before(last_ns).saturating_sub(before(first_ns)) } else { 0 }
        });
        counts.sum()
    }

    /// Owned arrivals that are due before a moment of this span, those of earlier spans included.
    fn count_in(&self, span: &Span, time_ns: u64) -> u64 {
        span.before + self.numbered(span.segment, span.piece, time_ns).saturating_sub(span.skipped)
    }

    /// Arrivals of a segment before a moment that belong to a piece's lanes.
    fn numbered(&self, segment: usize, piece: usize, time_ns: u64) -> u64 {
        let segment = &self.list[segment];
        let count = segment.profile.count_before(time_ns.saturating_sub(segment.origin.as_nanos()));
        self.holding.pieces()[piece].1.count_below(count)
    }

    /// Cuts the spans from a moment on anew; what lies before it stays.
    fn cut_anew(&mut self, from: Micros) {
        while self.spans.len() > 1 && self.spans.last().is_some_and(|last| last.from >= from) {
            self.spans.pop();
        }
        let is_new = |time: &Micros| *time >= from;
        let segments = self.list.iter().rev().map(|segment| segment.from).take_while(is_new);
        let pieces = self.holding.pieces().iter().rev().map(|(from, _)| *from).take_while(is_new);
        let mut joints: Vec<Micros> = segments.chain(pieces).collect();
        joints.sort_unstable();
        joints.dedup();
        for from in joints {
            let segment = self.list.partition_point(|segment| segment.from <= from).saturating_sub(1);
            let piece = self.holding.place(from);
            let skipped = self.numbered(segment, piece, from.as_nanos());
            let before = self.spans.last().map_or(0, |span| self.count_in(span, from.as_nanos()));
            self.spans.push(Span { from, segment, piece, skipped, before });
        }
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

    #[test]
    fn a_move_hands_over_what_is_due_from_its_moment_on() {
        let share = |owned: &[u32]| ScenarioShare { lanes: 4, owned: owned.to_vec() };
        let mut a = Segments::new(Rate::per_second(100), ms(10_000), &share(&[0, 1, 2, 3]));
        let mut b = Segments::new(Rate::per_second(100), ms(10_000), &share(&[]));
        // A change that is known already, and comes after the move.
        for owner in [&mut a, &mut b] {
            owner.push(ms(4_000), ms(4_000), Rate::per_second(200));
        }
        a.moved(ms(2_000), &[1, 3], &[]);
        b.moved(ms(2_000), &[], &[1, 3]);
        assert_eq!((a.count_before(2_000 * MS), b.count_before(2_000 * MS)), (200, 0));
        assert_eq!((a.count_before(4_000 * MS), b.count_before(4_000 * MS)), (300, 100));
        assert_eq!((a.count_before(u64::MAX), b.count_before(u64::MAX)), (900, 700));
        assert_eq!(a.count_of(&share(&[1, 3]), 2_000 * MS, 10_000 * MS), 700, "what went");
        // A taker that comes late leaves a hole of the moved lanes only.
        b.moved(ms(8_000), &[1, 3], &[]);
        a.moved(ms(9_000), &[], &[1, 3]);
        assert_eq!(a.count_before(u64::MAX) + b.count_before(u64::MAX), 1_600 - 100);
    }

    proptest! {
        /// Lanes go from owner to owner while rates change.
        #[test]
        fn owners_that_hand_lanes_over_add_up_to_the_whole_at_every_moment(
            lanes in 1u32..60,
            owners in 2usize..6,
            turns in prop::collection::vec((0u64..1_500, any::<bool>(), 0u64..2_000, any::<u64>()), 0..12),
            at in 0u64..12_000,
        ) {
            let whole = ScenarioShare::whole(lanes);
            let rate = Rate::per_second(300);
            let mut all = Segments::new(rate, ms(10_000), &whole);
            let mut parts: Vec<Segments> =
                over_cores(&whole, owners).iter().map(|share| Segments::new(rate, ms(10_000), share)).collect();
            let (mut rates_ms, mut moves_ms) = (0, 0);
            for (later, is_move, rate, chosen) in turns {
                if is_move {
                    moves_ms += later;
                    let (from, to) = (chosen as usize % owners, (chosen >> 20) as usize % owners);
                    let owned = parts[from].holding().last().owned.clone();
                    let gone: Vec<u32> = owned.into_iter().filter(|lane| chosen >> (lane % 40) & 1 == 0).collect();
                    let moment = parts[from].moved(ms(moves_ms), &gone, &[]);
                    parts[to].moved(moment, &[], &gone);
                } else {
                    rates_ms += later;
                    let rate = Rate::per_second(rate);
                    parts.iter_mut().chain([&mut all]).for_each(|s| s.push(ms(rates_ms), ms(rates_ms), rate));
                }
            }
            let sum: u64 = parts.iter().map(|s| s.count_before(at * MS)).sum();
            prop_assert_eq!(sum, all.count_before(at * MS));
        }

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
