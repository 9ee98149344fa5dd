//! Who owns which numbers: VUs, arrivals and iterations belong to the lane that they are modulo the number of lanes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ScenarioShare;

impl ScenarioShare {
    /// All lanes of a scenario.
    pub fn whole(lanes: u32) -> Self {
        Self { lanes, owned: (0..lanes).collect() }
    }

    /// Whether there is nothing to do: no lane, so neither VU nor arrival.
    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// The owned part of the whole, from 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.owned.len() as f64 / f64::from(self.lanes.max(1))
    }

    /// Whether the VU, arrival or iteration of this number is owned here.
    pub fn owns(&self, number: u64) -> bool {
        let lane = (number % u64::from(self.lanes.max(1))) as u32;
        self.owned.binary_search(&lane).is_ok()
    }

    /// How many numbers below `total` are owned here.
    pub fn count_below(&self, total: u64) -> u64 {
        let lanes = u64::from(self.lanes.max(1));
        let in_the_last_round = self.owned.partition_point(|lane| u64::from(*lane) < total % lanes);
        total / lanes * self.owned.len() as u64 + in_the_last_round as u64
    }

    /// The `i`-th owned number, from 0, ascending; `u64::MAX` where none is owned.
    pub fn nth(&self, i: u64) -> u64 {
        let owned = self.owned.len() as u64;
        if owned == 0 {
            return u64::MAX;
        }
        let lane = u64::from(self.owned[(i % owned) as usize]);
        (i / owned).saturating_mul(u64::from(self.lanes)).saturating_add(lane)
    }

    /// Without some lanes, and with others, both ascending; what was not owned cannot go, and what there is not cannot come.
    pub fn after(&self, release: &[u32], take: &[u32]) -> Self {
        let stays = |lane: &&u32| release.binary_search(lane).is_err();
        let mut owned: Vec<u32> = self.owned.iter().filter(stays).copied().collect();
        owned.extend(take.iter().filter(|lane| **lane < self.lanes));
        owned.sort_unstable();
        owned.dedup();
        Self { lanes: self.lanes, owned }
    }

    /// This share cut into as many as there are `counts`, which add up to the lanes owned here. Each part's lanes are
    /// spread evenly over this share's.
    pub(super) fn cut(&self, counts: &[u64]) -> Vec<Self> {
        let mut parts = vec![Self { lanes: self.lanes, owned: Vec::new() }; counts.len()];
        for (lane, owner) in self.owned.iter().zip(interleave(counts)) {
            parts[owner].owned.push(*lane);
        }
        parts
    }
}

/// Deals out places to owners so that each gets its count and, at every place t of n, has been dealt less than one more or
/// fewer than count × t / n (Tijdeman's chairman assignment). An owner's j-th turn may come from ⌊j·n/count⌋ on and has to before
/// ⌈(j+1)·n/count⌉; the earliest of these deadlines goes first, which meets them all, as each owner's
/// evenly divided time would.
fn interleave(counts: &[u64]) -> Vec<usize> {
    let places: u64 = counts.iter().sum();
    let window = |owner: usize, turn: u64| {
        let count = u128::from(counts[owner]);
        let from = u128::from(turn) * u128::from(places) / count;
        let until = (u128::from(turn + 1) * u128::from(places)).div_ceil(count);
        (from as u64, until as u64)
    };
    // Turns by the place from which they may come, and those that may come now by the place before which they have to.
    let mut later = BinaryHeap::new();
    let mut ready = BinaryHeap::new();
    for owner in (0..counts.len()).filter(|owner| counts[*owner] > 0) {
        later.push(Reverse((0, owner, 0u64)));
    }
    let mut dealt = Vec::with_capacity(places as usize);
    for place in 0..places {
        while let Some(Reverse((from, owner, turn))) = later.peek().copied() {
            if from > place {
                break;
            }
            later.pop();
            ready.push(Reverse((window(owner, turn).1, from, owner, turn)));
        }
        // One is always ready: until a place, all windows that began hold more turns than there were places.
        let Some(Reverse((until, _, owner, turn))) = ready.pop() else { break };
        debug_assert!(place < until, "every turn meets its deadline");
        dealt.push(owner);
        if turn + 1 < counts[owner] {
            later.push(Reverse((window(owner, turn + 1).0, owner, turn + 1)));
        }
    }
    debug_assert_eq!(dealt.len() as u64, places);
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn owners_take_turns() {
        assert_eq!(interleave(&[3, 3]), [0, 1, 0, 1, 0, 1]);
        assert_eq!(interleave(&[4, 2]), [0, 1, 0, 0, 1, 0]);
        assert_eq!(interleave(&[0, 3]), [1, 1, 1]);
        assert_eq!(interleave(&[]), [0usize; 0]);
    }

    #[test]
    fn a_share_without_lanes_owns_nothing() {
        let none = ScenarioShare { lanes: 3, owned: vec![] };
        assert!(none.is_empty() && !none.owns(1) && none.count_below(100) == 0 && none.nth(0) == u64::MAX);
    }

    proptest! {
        #[test]
        fn every_place_is_dealt_evenly(counts in prop::collection::vec(0u64..60, 1..9)) {
            let places: u64 = counts.iter().sum();
            let dealt = interleave(&counts);
            prop_assert_eq!(dealt.len() as u64, places);
            let mut had = vec![0u64; counts.len()];
            for (place, owner) in dealt.into_iter().enumerate() {
                had[owner] += 1;
                for (had, count) in had.iter().zip(&counts) {
                    prop_assert!((had * places).abs_diff(count * (place as u64 + 1)) < places);
                }
            }
            prop_assert_eq!(had, counts);
        }

        #[test]
        fn counting_and_listing_agree_with_owning(
            lanes in 1u32..40, owned in prop::collection::btree_set(0u32..40, 0..40), total in 0u64..200,
        ) {
            let owned = owned.into_iter().filter(|lane| *lane < lanes).collect();
            let share = ScenarioShare { lanes, owned };
            let listed: Vec<u64> = (0..total).filter(|number| share.owns(*number)).collect();
            prop_assert_eq!(share.count_below(total), listed.len() as u64);
            for (i, number) in listed.into_iter().enumerate() {
                prop_assert_eq!(share.nth(i as u64), number);
            }
        }
    }
}
