//! The closed-loop executors on one core: which VU is active from when to when.
//!
//! Takes the scenario's profile and the lanes that the core owns, gives changes in the order of their times. VU n of the
//! cluster is active while the profile's level stands above n; for all but ramping-vus that is from the start to the end. A level that is changed from
//! outside is told with the moment from which it holds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use volcanion_common::plan::profile::Profile;
use volcanion_common::shard::ScenarioShare;

/// A VU is wanted, or no longer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place among the core's own VUs, from 0.
    pub vu: u32,
    /// Whether it is wanted from now on.
    pub is_active: bool,
}

/// The closed-loop schedule of one core in one scenario.
#[derive(Debug)]
pub struct VuChanges {
    profile: Profile,
    share: ScenarioShare,
    /// Of its VUs, how many are active at the profile's end, or after the newest change from outside.
    active: u64,
    /// Changes to come: when, the number of the change from outside (so that of one moment the newest counts), the VU's place, and whether it is
    /// active then. Of the profile's there is one for each VU that has one.
    next: BinaryHeap<Reverse<(u64, u64, u32, bool)>>,
}

impl VuChanges {
    /// For the core's part of `max_vus` VUs.
    pub fn new(profile: Profile, share: &ScenarioShare, max_vus: u64) -> Self {
        let count = u32::try_from(share.count_below(max_vus)).unwrap_or(u32::MAX);
        let next = (0..count)
            .filter_map(|vu| {
                let number = share.nth(u64::from(vu));
                let (at_ns, is_active) = if profile.is_active(number, 0) {
                    (0, true)
                } else {
                    profile.next_change_ns(number, 0)?
                };
                Some(Reverse((at_ns, 0, vu, is_active)))
            })
            .collect();
        let active = share.count_below(profile.level_at(u64::MAX));
        Self { profile, share: share.clone(), active, next }
    }

    /// Another level of all VUs together from a moment of the scenario on, which is no earlier than the change before. For a profile that stays
    /// as it is.
    pub fn adjust(&mut self, number: u64, from_ns: u64, level: u64) {
        let active = self.share.count_below(level);
        let is_active = active > self.active;
        for vu in self.active.min(active)..self.active.max(active) {
            self.next.push(Reverse((from_ns, number, u32::try_from(vu).unwrap_or(u32::MAX), is_active)));
        }
        self.active = active;
    }

    /// When the next change is due, in nanoseconds from the scenario's start.
    pub fn next_ns(&self) -> Option<u64> {
        self.next.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// One change that is due; to be asked again until there is none.
    pub fn take(&mut self, now_ns: u64) -> Option<Change> {
        self.next_ns().filter(|at_ns| *at_ns <= now_ns)?;
        let Reverse((at_ns, _, vu, is_active)) = self.next.pop()?;
        let number = self.share.nth(u64::from(vu));
        if let Some((later_ns, is_active)) = self.profile.next_change_ns(number, at_ns) {
            self.next.push(Reverse((later_ns, 0, vu, is_active)));
        }
        Some(Change { vu, is_active })
    }

    /// Ends it: nothing changes any more.
    pub fn close(&mut self) {
        self.next = BinaryHeap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::plan::{Control, Executor, Stage};
    use volcanion_common::shard::split::over_cores;
    use volcanion_common::units::Micros;

    fn ramp(start_vus: u64, stages: &[(u64, u64)]) -> (Profile, u64) {
        let stages = stages
            .iter()
            .map(|(seconds, target)| Stage { duration: Micros::from_secs(*seconds), target: *target })
            .collect();
        let executor = Executor::RampingVus { start_vus, stages, graceful_ramp_down: Micros::ZERO };
        (Profile::of_vus(&executor).unwrap(), executor.max_vus())
    }

    #[test]
    fn the_cores_levels_together_are_the_plans() {
        let (profile, max_vus) = ramp(2, &[(10, 50), (5, 50), (0, 20), (10, 0)]);
        let share = ScenarioShare { lanes: 17, owned: (0..17).collect() };
        let mut cores: Vec<_> = over_cores(&share, 3)
            .iter()
            .map(|share| (VuChanges::new(profile.clone(), share, max_vus), 0i64))
            .collect();
        for ms in (0..25_000).step_by(50) {
            for (changes, level) in &mut cores {
                while let Some(change) = changes.take(ms * 1_000_000) {
                    *level += if change.is_active { 1 } else { -1 };
                }
            }
            let level: i64 = cores.iter().map(|(_, level)| level).sum();
            assert_eq!(level as u64, profile.level_at(ms * 1_000), "after {ms} ms");
        }
        assert!(cores.iter().all(|(changes, _)| changes.next_ns().is_none()));
    }

    #[test]
    fn constant_vus_start_at_once_and_stay() {
        let executor = Executor::ConstantVus { vus: 5, duration: Micros::from_secs(3) };
        let share = ScenarioShare { lanes: 5, owned: vec![1, 4] };
        let mut changes = VuChanges::new(Profile::of_vus(&executor).unwrap(), &share, 5);
        assert_eq!(changes.take(0), Some(Change { vu: 0, is_active: true }));
        assert_eq!(changes.take(0), Some(Change { vu: 1, is_active: true }));
        assert_eq!((changes.take(u64::MAX), changes.next_ns()), (None, None));
    }

    #[test]
    fn vus_follow_what_they_are_told() {
        let duration = Micros::from_secs(60);
        let executor =
            Executor::ExternallyControlled { control: Control::Vus { vus: 2, max_vus: 9 }, duration };
        let share = ScenarioShare { lanes: 9, owned: (0..9).collect() };
        let mut cores: Vec<_> = over_cores(&share, 2)
            .iter()
            .map(|share| {
                (VuChanges::new(Profile::of_vus(&executor).unwrap(), share, 9), [false; 9], share.clone())
            })
            .collect();
        let mut check = |now_ns, told: &[(u64, u64, u64)], expected: u64| {
            let mut active = 0;
            for (changes, vus, share) in &mut cores {
                told.iter().for_each(|(number, from_ns, level)| changes.adjust(*number, *from_ns, *level));
                while let Some(change) = changes.take(now_ns) {
                    vus[change.vu as usize] = change.is_active;
                }
                for vu in (0..9).filter(|vu| vus[*vu]) {
                    assert!(share.nth(vu as u64) < expected, "the lowest numbers are wanted");
                    active += 1;
                }
            }
            assert_eq!(active, expected, "at {now_ns}");
        };
        check(0, &[], 2);
        check(5, &[(1, 10, 8)], 2);
        check(10, &[], 8);
        check(20, &[(2, 15, 1), (3, 18, 9)], 9);
        // Of one moment the newest counts, up or down.
        check(30, &[(4, 30, 0), (5, 30, 5), (6, 30, 3)], 3);
        check(40, &[(7, 40, 9), (8, 40, 2), (9, 50, 9)], 2);
        check(50, &[], 9);
    }
}
