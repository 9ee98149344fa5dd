//! Lanes that come and go while a scenario runs on a core.
//!
//! [`Load::hear`] takes what was told; a move is carried out once its moment has come ([`Load::make_turns`]), and is said to hold:
//! - **open loop**: as soon as it was heard, since the schedule itself knows from when on which arrivals are its own. VUs of lanes that went end their iteration and leave;
//! - **closed loop**: when every VU of the lanes that went is at rest. Those that are not by the scenario's graceful stop are cut off.
//!
//! Nothing here is on the request path but for two comparisons.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use volcanion_common::plan::Level;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::RunTime;

use super::{Load, Phase, Schedule};
use crate::engine::steering::{Adjustment, CoreMoves, Told};
use crate::schedule::{NewLanes, NewRate};

/// The lanes of a scenario on a core, and what becomes of them.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Those that are owned now.
    pub(super) share: RefCell<ScenarioShare>,
    /// Those that will be once every turn that was heard of has come.
    coming: RefCell<ScenarioShare>,
    /// How much of what was told is known.
    known: Cell<usize>,
    turns: RefCell<VecDeque<Turn>>,
    /// When the first of them comes, from the scenario's start; the greatest value: none.
    next_turn_ns: Cell<u64>,
    leaving: RefCell<Vec<Leaving>>,
    /// Open loop: the numbers of VUs that stayed when lanes moved, which are not to be given again.
    stayed: RefCell<HashSet<u64>>,
    /// Open loop: places of VUs that have left.
    pub(super) vacant: RefCell<Vec<u32>>,
}

/// A move whose moment is to come.
#[derive(Debug)]
struct Turn {
    number: u64,
    at_ns: u64,
    from: RunTime,
    share: ScenarioShare,
    /// Whether lanes go.
    releases: bool,
}

/// VUs of a closed loop that end their iteration because their lanes went.
#[derive(Debug)]
struct Leaving {
    number: u64,
    from: RunTime,
    cut_ns: u64,
    is_cut: bool,
    places: Vec<u32>,
}

impl Lanes {
    pub(super) fn new(share: &ScenarioShare) -> Self {
        Self {
            share: RefCell::new(share.clone()),
            coming: RefCell::new(share.clone()),
            known: Cell::new(0),
            turns: RefCell::default(),
            next_turn_ns: Cell::new(u64::MAX),
            leaving: RefCell::default(),
            stayed: RefCell::default(),
            vacant: RefCell::default(),
        }
    }

    /// Whether VUs are about to leave: the core is to look when one has.
    pub(super) fn are_leaving(&self) -> bool {
        !self.leaving.borrow().is_empty()
    }

    /// The number of the next VU of an open loop, of which `made` were made since lanes moved last; numbers of those that stayed are passed over.
    pub(super) fn next_number(&self, next: &Cell<u64>) -> u64 {
        let (share, stayed) = (self.share.borrow(), self.stayed.borrow());
        loop {
            let number = share.nth(next.replace(next.get() + 1));
            if number == u64::MAX || !stayed.contains(&number) {
                return number;
            }
        }
    }
}

impl Load {
    /// Takes what was told since, before anything more is started: so nothing is started that an order forbids.
    #[inline]
    pub fn hear(&self) {
        if self.core.steering.told() != self.lanes.known.get() {
            self.take_told();
        }
    }

    #[cold]
    fn take_told(&self) {
        let new = self.core.steering.told_after(self.lanes.known.get());
        self.lanes.known.set(self.lanes.known.get() + new.len());
        for told in new {
            match told {
                Told::Adjust(adjustment)
                    if adjustment.change.scenario == self.index && !self.is_closing() =>
                {
                    self.take_adjustment(adjustment);
                }
                Told::Move(moves) if moves.scenario == self.index => self.take_move(&moves),
                _ => {}
            }
        }
    }

    fn take_adjustment(&self, Adjustment { change, from }: Adjustment) {
        let start = self.start_time();
        let (origin, from) = (change.at.since(start), from.since(start));
        match (&self.schedule, change.level) {
            (Schedule::Open(schedule), Level::Rate(rate)) => {
                schedule.borrow_mut().adjust(NewRate { number: change.number, origin, from, rate });
            }
            (Schedule::Closed(changes), Level::Vus(vus)) => {
                changes.borrow_mut().adjust(change.number, from.as_nanos(), vus);
            }
            // No master asks for that.
            _ => {
                tracing::warn!(change.number, to = %change.level, "a change of level that the scenario cannot take")
            }
        }
    }

    fn take_move(&self, moves: &CoreMoves) {
        let CoreMoves { number, from, .. } = *moves;
        let of_core = |lanes: &[Vec<u32>]| lanes.get(self.core.number).cloned().unwrap_or_default();
        let (release, take) = (of_core(&moves.release), of_core(&moves.take));
        let has_part = !release.is_empty() || !take.is_empty();
        if self.is_closing() || !has_part {
            return self.core.say_moved(number, from);
        }
        let share = self.lanes.coming.borrow().after(&release, &take);
        self.lanes.coming.replace(share.clone());
        let at = from.since(self.start_time());
        let releases = match &self.schedule {
            Schedule::Open(schedule) => {
                schedule.borrow_mut().moved(NewLanes { number, from: at, share: share.clone() });
                false
            }
            // Before the scenario's start there is no VU.
            Schedule::Closed(_) => !release.is_empty() && at.0 > 0,
        };
        if !releases {
            self.core.say_moved(number, from);
        }
        let turn = Turn { number, at_ns: at.as_nanos(), from, share, releases };
        self.lanes.next_turn_ns.set(self.lanes.next_turn_ns.get().min(turn.at_ns));
        self.lanes.turns.borrow_mut().push_back(turn);
    }

    /// Carries out moves whose moment has come.
    #[inline]
    pub(super) fn make_turns(self: &Rc<Self>, now_ns: u64) {
        if now_ns.saturating_sub(self.origin_ns.get()) >= self.lanes.next_turn_ns.get() {
            self.make_turns_that_are_due(now_ns);
        }
    }

    #[cold]
    fn make_turns_that_are_due(self: &Rc<Self>, now_ns: u64) {
        let since_origin_ns = now_ns.saturating_sub(self.origin_ns.get());
        loop {
            let due = self.lanes.turns.borrow_mut().pop_front_if(|turn| turn.at_ns <= since_origin_ns);
            let Some(turn) = due else { break };
            let vus_max = turn.share.count_below(self.max_vus);
            self.vus_max.set(usize::try_from(vus_max).unwrap_or(usize::MAX));
            match &self.schedule {
                Schedule::Open(_) => self.retire(&turn.share),
                Schedule::Closed(changes) => {
                    let places = changes.borrow_mut().moved(since_origin_ns, &turn.share);
                    self.lanes.share.replace(turn.share.clone());
                    self.let_go(&turn, places, now_ns);
                }
            }
        }
        let next_ns = self.lanes.turns.borrow().front().map_or(u64::MAX, |turn| turn.at_ns);
        self.lanes.next_turn_ns.set(next_ns);
    }

    /// VUs of an open loop whose lanes are no longer owned take no arrival more.
    fn retire(&self, share: &ScenarioShare) {
        self.lanes.share.replace(share.clone());
        let first_vu = self.core.program.first_vu;
        let (mut stayed, mut kept) = (HashSet::new(), 0);
        let vus = self.vus.borrow();
        for vu in vus.iter().filter(|vu| vu.is_running.get() && vu.is_wanted.get()) {
            let number = vu.number - first_vu;
            if share.owns(number) {
                stayed.insert(number);
                kept += 1;
            } else {
                vu.is_wanted.set(false);
                vu.wake();
            }
        }
        let is_kept = |place: &u32| vus.get(*place as usize).is_some_and(|vu| vu.is_wanted.get());
        self.free.borrow_mut().retain(is_kept);
        self.lanes.stayed.replace(stayed);
        self.made.set(kept);
        self.next_number.set(0);
    }

    /// VUs of a closed loop whose lanes went end their iteration.
    fn let_go(&self, turn: &Turn, mut places: Vec<u32>, now_ns: u64) {
        let vus = self.vus.borrow();
        let running = |place: &u32| vus.get(*place as usize).filter(|vu| vu.is_running.get());
        for vu in places.iter().filter_map(running) {
            if vu.is_wanted.replace(false) {
                vu.unwanted_since_ns.set(now_ns);
            }
        }
        if turn.releases {
            places.retain(|place| running(place).is_some());
            let cut_ns = now_ns.saturating_add(self.graceful_stop_ns);
            let leaving = Leaving { number: turn.number, from: turn.from, cut_ns, is_cut: false, places };
            self.lanes.leaving.borrow_mut().push(leaving);
        }
    }

    /// Says which moves hold because their VUs are at rest, and cuts off those that had their time.
    pub(super) fn see_vus_off(&self, now_ns: u64) {
        if !self.lanes.are_leaving() {
            return;
        }
        let vus = self.vus.borrow();
        let is_running = |place: &u32| vus.get(*place as usize).is_some_and(|vu| vu.is_running.get());
        let is_over = self.phase.get() == Phase::Cut;
        self.lanes.leaving.borrow_mut().retain_mut(|leaving| {
            let had_any = !leaving.places.is_empty();
            leaving.places.retain(is_running);
            if leaving.places.is_empty() || is_over {
                let rest = if had_any { self.core.run_time(now_ns) } else { RunTime::START };
                self.core.say_moved(leaving.number, leaving.from.max(rest));
                return false;
            }
            if now_ns >= leaving.cut_ns && !leaving.is_cut {
                leaving.is_cut = true;
                leaving.places.iter().filter_map(|place| vus.get(*place as usize)).for_each(|vu| vu.cut());
            }
            true
        });
    }

    /// The scenario takes part in no move any more: what was not said is said.
    pub(super) fn forget_turns(&self) {
        for turn in self.lanes.turns.borrow_mut().drain(..).filter(|turn| turn.releases) {
            self.core.say_moved(turn.number, turn.from);
        }
        self.lanes.next_turn_ns.set(u64::MAX);
    }

    /// When the next move or cut of this kind is due, as an instant.
    pub(super) fn next_turn_ns(&self) -> Option<u64> {
        let turn_ns = Some(self.lanes.next_turn_ns.get()).filter(|at_ns| *at_ns < u64::MAX);
        let turn_ns = turn_ns.map(|at_ns| self.origin_ns.get().saturating_add(at_ns));
        turn_ns.into_iter().chain(self.next_leave_ns()).min()
    }

    /// When VUs that leave are to be cut off.
    pub(super) fn next_leave_ns(&self) -> Option<u64> {
        self.lanes
            .leaving
            .borrow()
            .iter()
            .filter(|leaving| !leaving.is_cut)
            .map(|leaving| leaving.cut_ns)
            .min()
    }

    fn start_time(&self) -> RunTime {
        RunTime::START.plus(self.core.program.scenarios[self.index as usize].start_time)
    }
}
