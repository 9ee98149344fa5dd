//! The closed-loop executors on one core: which VU is active from when to when.
//!
//! Takes the scenario's profile and the lanes that the core owns, gives changes in the order of their times. VU n of the
//! cluster is active while the profile's level stands above n; for all but ramping-vus that is from the start to the end. A level that is changed from
//! outside is told with the moment from which it holds. Lanes that go take their VUs with them, those that come bring theirs, as active as they are to be then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

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
    max_vus: u64,
    /// By place: the VU's number, and whether it is owned (still).
    vus: Vec<(u64, bool)>,
    /// Changes from outside: since when, the change's number, how many VUs of all. Ascending.
    levels: Vec<(u64, u64, u64)>,
    /// Changes to come: when, the number of the change from outside (so that of one moment the newest counts), the VU's place, and whether it is
    /// active then. Of the profile's there is one for each VU that has one.
    next: BinaryHeap<Reverse<(u64, u64, u32, bool)>>,
}

impl VuChanges {
    /// For the core's part of `max_vus` VUs.
    pub fn new(profile: Profile, share: &ScenarioShare, max_vus: u64) -> Self {
        let count = u64::from(u32::try_from(share.count_below(max_vus)).unwrap_or(u32::MAX));
        let vus: Vec<(u64, bool)> = (0..count).map(|i| (share.nth(i), true)).collect();
        let first = |(place, (number, _)): (usize, &(u64, bool))| {
            let (at_ns, is_active) = first_change(&profile, *number, 0)?;
            Some(Reverse((at_ns, 0, place as u32, is_active)))
        };
        let next = vus.iter().enumerate().filter_map(first).collect();
        Self { profile, share: share.clone(), max_vus, vus, levels: Vec::new(), next }
    }

    /// Another level of all VUs together from a moment of the scenario on, which is no earlier than the change before. For a profile that stays
    /// as it is.
    pub fn adjust(&mut self, number: u64, from_ns: u64, level: u64) {
        let before = self.levels.last().map_or_else(|| self.profile.level_at(u64::MAX), |(.., level)| *level);
        let changed = before.min(level)..before.max(level);
        for (place, (vu, is_owned)) in self.vus.iter().enumerate() {
            if *is_owned && changed.contains(vu) {
                self.next.push(Reverse((from_ns, number, place as u32, level > before)));
            }
        }
        self.levels.push((from_ns, number, level));
    }

    /// From this moment on, which is now, the core owns these lanes. Gives the places of VUs that are no longer its own: no change of them comes any more.
    pub fn moved(&mut self, now_ns: u64, share: &ScenarioShare) -> Vec<u32> {
        let mut released = Vec::new();
        for (place, (number, is_owned)) in self.vus.iter_mut().enumerate() {
            if *is_owned && !share.owns(*number) {
                *is_owned = false;
                released.push(place as u32);
            }
        }
        if !released.is_empty() {
            let vus = &self.vus;
            self.next.retain(|Reverse((_, _, place, _))| vus[*place as usize].1);
        }
        let comes = |lane: &&u32| self.share.owned.binary_search(lane).is_err();
        let new: Vec<u32> = share.owned.iter().filter(comes).copied().collect();
        if !new.is_empty() {
            let places = self.vus.iter().enumerate();
            let known: HashMap<u64, usize> = places.map(|(place, (number, _))| (*number, place)).collect();
            for lane in new {
                for number in (u64::from(lane)..self.max_vus).step_by(share.lanes.max(1) as usize) {
                    let place = known.get(&number).copied().unwrap_or(self.vus.len());
                    match self.vus.get_mut(place) {
                        Some((_, is_owned)) => *is_owned = true,
                        None => self.vus.push((number, true)),
                    }
                    self.take_over(now_ns, number, place as u32);
                }
            }
        }
        self.share = share.clone();
        released
    }

    /// The changes of a VU that comes.
    fn take_over(&mut self, now_ns: u64, number: u64, place: u32) {
        let past = self.levels.partition_point(|(from_ns, ..)| *from_ns <= now_ns);
        match past.checked_sub(1).map(|last| self.levels[last].2) {
            Some(level) if number < level => self.next.push(Reverse((now_ns, 0, place, true))),
            Some(_) => {}
            None => {
                if let Some((at_ns, is_active)) = first_change(&self.profile, number, now_ns) {
                    self.next.push(Reverse((at_ns, 0, place, is_active)));
                }
            }
        }
        for (from_ns, change, level) in &self.levels[past..] {
            self.next.push(Reverse((*from_ns, *change, place, number < *level)));
        }
    }

    /// The number of the VU at a place.
    pub fn number(&self, place: u32) -> u64 {
        self.vus.get(place as usize).map_or(u64::MAX, |(number, _)| *number)
    }

    /// When the next change is due, in nanoseconds from the scenario's start.
    pub fn next_ns(&self) -> Option<u64> {
        self.next.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// One change that is due; to be asked again until there is none.
    pub fn take(&mut self, now_ns: u64) -> Option<Change> {
        self.next_ns().filter(|at_ns| *at_ns <= now_ns)?;
        let Reverse((at_ns, _, vu, is_active)) = self.next.pop()?;
        if let Some((later_ns, is_active)) = self.profile.next_change_ns(self.number(vu), at_ns) {
            self.next.push(Reverse((later_ns, 0, vu, is_active)));
        }
        Some(Change { vu, is_active })
    }

    /// Ends it: nothing changes any more.
    pub fn close(&mut self) {
        self.next = BinaryHeap::new();
    }
}

/// The first change of a VU that is there from a moment on, where it has one: it is wanted then, or later.
fn first_change(profile: &Profile, number: u64, from_ns: u64) -> Option<(u64, bool)> {
    if profile.is_active(number, from_ns) {
        Some((from_ns, true))
    } else {
        profile.next_change_ns(number, from_ns)
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

    /// Two cores that hand lanes to and fro while the level ramps: a released VU is no longer wanted, a taken one is as wanted as the level says.
    #[test]
    fn vus_that_move_are_wanted_by_their_owner_alone_and_together_as_the_plan_says() {
        let (profile, max_vus) = ramp(2, &[(10, 50), (5, 50), (0, 20), (10, 0)]);
        let whole = ScenarioShare::whole(17);
        let mut shares = over_cores(&whole, 2);
        let mut cores: Vec<(VuChanges, Vec<bool>)> = shares
            .iter()
            .map(|share| (VuChanges::new(profile.clone(), share, max_vus), Vec::new()))
            .collect();
        for ms in (0..25_000u64).step_by(50) {
            if ms % 700 == 0 {
                let (giver, taker) = if ms % 1_400 == 0 { (0, 1) } else { (1, 0) };
                let gone: Vec<u32> = shares[giver].owned.iter().copied().step_by(3).collect();
                shares[giver] = shares[giver].after(&gone, &[]);
                shares[taker] = shares[taker].after(&[], &gone);
                for ((changes, wanted), share) in cores.iter_mut().zip(&shares) {
                    for place in changes.moved(ms * 1_000_000, share) {
                        if let Some(wanted) = wanted.get_mut(place as usize) {
                            *wanted = false;
                        }
                    }
                }
            }
            let mut numbers = Vec::new();
            for ((changes, wanted), share) in cores.iter_mut().zip(&shares) {
                while let Some(change) = changes.take(ms * 1_000_000) {
                    let place = change.vu as usize;
                    wanted.resize(wanted.len().max(place + 1), false);
                    wanted[place] = change.is_active;
                }
                for place in (0..wanted.len()).filter(|place| wanted[*place]) {
                    assert!(share.owns(changes.number(place as u32)));
                    numbers.push(changes.number(place as u32));
                }
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..profile.level_at(ms * 1_000)).collect::<Vec<_>>(), "after {ms} ms");
        }
    }

    #[test]
    fn a_taken_vu_knows_the_levels_that_were_told_before_and_those_to_come() {
        let executor = Executor::ExternallyControlled {
            control: Control::Vus { vus: 2, max_vus: 9 },
            duration: Micros::from_secs(60),
        };
        let mut changes = VuChanges::new(
            Profile::of_vus(&executor).unwrap(),
            &ScenarioShare { lanes: 9, owned: vec![] },
            9,
        );
        changes.adjust(1, 10, 6);
        changes.adjust(2, 100, 1);
        assert_eq!(changes.take(20), None);
        assert_eq!(changes.moved(20, &ScenarioShare { lanes: 9, owned: vec![0, 5, 8] }), [0u32; 0]);
        let taken: Vec<Change> = std::iter::from_fn(|| changes.take(20)).collect();
        let numbers: Vec<u64> = taken.into_iter().map(|change| changes.number(change.vu)).collect();
        assert_eq!(numbers, [0, 5]);
        let due: Vec<Change> = std::iter::from_fn(|| changes.take(100)).collect();
        let after: Vec<(u64, bool)> =
            due.into_iter().map(|change| (changes.number(change.vu), change.is_active)).collect();
        assert!(after.contains(&(5, false)) && after.contains(&(0, true)), "{after:?}");
        assert_eq!(changes.moved(110, &ScenarioShare { lanes: 9, owned: vec![5] }).len(), 2);
    }
}
