//! One scenario on one core: joins its schedule with its VUs.
//!
//! [`Load::look`] does whatever is due and is called by the core at each wake; a VU that becomes free also looks, with the
//! instant that it just read, so that an arrival that fell due meanwhile starts at once. Everything is on one thread; no
//! borrow outlives a call. Lanes that come and go meanwhile: [`handover`].

mod handover;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::task::spawn_local;
use volcanion_common::plan::Executor;
use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::profile::Profile;
use volcanion_common::shard::ScenarioShare;

use super::core::Core;
use super::vu::{Vu, repeat, serve};
use crate::schedule::{ArrivalRate, Arrivals, Iterations, Room, Start, VuChanges};
use handover::Lanes;

/// VUs of a closed loop that have a task and did not come to run it yet. A core that is to have very many VUs at once makes them bit by
/// bit: what arrives or is answered meanwhile waits behind so many, not behind all.
const FRESH_MAX: usize = 64;

/// How far a scenario is. Instants are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its start is to come.
    Waiting,
    /// Iterations start.
    Open,
    /// None starts any more; those in flight go on until `cut_ns` at most.
    Closing { cut_ns: u64 },
    /// Those in flight were told to break off.
    Cut,
}

#[derive(Debug)]
enum Schedule {
    Open(RefCell<ArrivalRate>),
    Closed(RefCell<VuChanges>),
}

/// See the module.
#[derive(Debug)]
pub struct Load {
    pub core: Rc<Core>,
    /// The scenario's position in the program.
    pub index: u32,
    pub iterations: Iterations,
    schedule: Schedule,
    lanes: Lanes,
    /// Of the whole scenario.
    max_vus: u64,
    phase: Cell<Phase>,
    /// The scenario's start; 0 until it is known.
    origin_ns: Cell<u64>,
    vus: RefCell<Vec<Rc<Vu>>>,
    /// Open loop: those that wait, the newest last: it is the one whose memory is warm.
    free: RefCell<Vec<u32>>,
    /// Of the lanes that are owned.
    vus_max: Cell<usize>,
    /// Open loop: VUs of the lanes that are owned, and how many numbers were given since those changed.
    made: Cell<usize>,
    next_number: Cell<u64>,
    /// VUs whose task is there.
    live: Cell<u64>,
    /// Of a closed loop, those that did not run yet.
    fresh: Cell<usize>,
    /// Iterations of a closed loop that were started.
    started: Cell<u64>,
    /// VUs that are no longer wanted: when they are cut off, ascending, since when, and their places.
    ramp_down: RefCell<VecDeque<(u64, u64, u32)>>,
    /// Absent where they end their iterations in peace.
    ramp_down_ns: Option<u64>,
    duration_ns: u64,
    graceful_stop_ns: u64,
}

impl Load {
    /// The core's share of a scenario, with the VUs that are to be there from the start.
    pub fn new(core: Rc<Core>, index: u32, share: &ScenarioShare, iterations: Iterations) -> Rc<Self> {
        let program = core.program.clone();
        let scenario = &program.scenarios[index as usize];
        let executor = &scenario.executor;
        let vus_max = share.count_below(executor.max_vus());
        let (schedule, allocated) = schedule(executor, share, program.seed, index);
        let ramp_down_ns = match executor {
            Executor::RampingVus { graceful_ramp_down, .. } => Some(graceful_ramp_down.as_nanos()),
            _ => None,
        };
        let load = Rc::new(Self {
            core,
            index,
            iterations,
            schedule,
            lanes: Lanes::new(share),
            max_vus: executor.max_vus(),
            phase: Cell::new(Phase::Waiting),
            origin_ns: Cell::new(0),
            vus: RefCell::default(),
            free: RefCell::default(),
            vus_max: Cell::new(usize::try_from(vus_max).unwrap_or(usize::MAX)),
            made: Cell::new(0),
            next_number: Cell::new(0),
            live: Cell::new(0),
            fresh: Cell::new(0),
            started: Cell::new(0),
            ramp_down: RefCell::default(),
            ramp_down_ns,
            duration_ns: executor.duration().as_nanos(),
            graceful_stop_ns: scenario.graceful_stop.as_nanos(),
        });
        for _ in 0..allocated.min(vus_max) {
            let vu = load.grow();
            load.free.borrow_mut().push(vu.place);
        }
        load
    }

    /// Run time begins at this instant.
    pub fn begin(&self, start_ns: u64) {
        let start_time = self.core.program.scenarios[self.index as usize].start_time;
        self.origin_ns.set(start_ns.saturating_add(start_time.as_nanos()));
    }

    /// Does what is due.
    pub fn look(self: &Rc<Self>, now_ns: u64) {
        self.hear();
        if self.phase.get() == Phase::Waiting && now_ns >= self.origin_ns.get() {
            self.phase.set(Phase::Open);
        }
        if self.phase.get() == Phase::Open {
            self.make_turns(now_ns);
            match &self.schedule {
                Schedule::Open(schedule) => self.start_due(schedule, now_ns, None),
                Schedule::Closed(changes) => self.change_due(changes, now_ns),
            }
            let end_ns = self.end_ns();
            if now_ns >= end_ns {
                let vus = u64::try_from(self.vus_max.get()).unwrap_or(u64::MAX);
                let dropped = self.iterations.close(vus, self.started.get());
                self.core.recorder.borrow_mut().dropped(self.index, dropped);
                self.close(end_ns.saturating_add(self.graceful_stop_ns));
            } else if self.is_exhausted() {
                self.close(now_ns);
            }
        }
        self.cut_ramped_down(now_ns);
        self.see_vus_off(now_ns);
        if let Phase::Closing { cut_ns } = self.phase.get()
            && now_ns >= cut_ns
        {
            self.phase.set(Phase::Cut);
            self.vus.borrow().iter().filter(|vu| vu.is_running.get()).for_each(|vu| vu.cut());
        }
    }

    /// Starts nothing any more, after what is due now; iterations in flight go on until `cut_ns` at most.
    pub fn stop(self: &Rc<Self>, now_ns: u64, cut_ns: u64) {
        match self.phase.get() {
            Phase::Waiting => self.close(cut_ns),
            Phase::Open => {
                self.look(now_ns);
                if self.phase.get() == Phase::Open {
                    self.close(cut_ns);
                } else {
                    self.stop(now_ns, cut_ns);
                }
            }
            Phase::Closing { cut_ns: before_ns } => {
                self.phase.set(Phase::Closing { cut_ns: cut_ns.min(before_ns) });
            }
            Phase::Cut => {}
        }
    }

    /// When it is to be looked at next.
    pub fn next_ns(&self) -> Option<u64> {
        let origin_ns = self.origin_ns.get();
        let ramp_down_ns = || self.ramp_down.borrow().front().map(|(cut_ns, ..)| *cut_ns);
        match self.phase.get() {
            Phase::Waiting => Some(origin_ns),
            Phase::Open => {
                let next_ns = match &self.schedule {
                    Schedule::Open(schedule) => schedule.borrow().next_ns(),
                    Schedule::Closed(changes) => changes.borrow().next_ns(),
                };
                let next_ns = next_ns.map(|next_ns| origin_ns + next_ns);
                let others = ramp_down_ns().into_iter().chain(self.next_turn_ns()).chain([self.end_ns()]);
                next_ns.into_iter().chain(others).min()
            }
            Phase::Closing { cut_ns } => {
                ramp_down_ns().into_iter().chain(self.next_leave_ns()).chain([cut_ns]).min()
            }
            Phase::Cut => None,
        }
    }

    /// Whether no iteration starts any more.
    #[inline]
    pub fn is_closing(&self) -> bool {
        !matches!(self.phase.get(), Phase::Waiting | Phase::Open)
    }

    /// Whether all is over.
    pub fn is_done(&self) -> bool {
        self.is_closing() && self.live.get() == 0
    }

    /// VUs that are there now.
    pub fn vus(&self) -> u64 {
        self.live.get()
    }

    /// A VU of an open loop has ended its iteration at about this instant, and can have another one.
    #[inline]
    pub fn is_free(self: &Rc<Self>, vu: &Vu, now_ns: u64) {
        if let (Phase::Open, Schedule::Open(schedule)) = (self.phase.get(), &self.schedule)
            && vu.is_wanted.get()
        {
            self.free.borrow_mut().push(vu.place);
            self.start_due(schedule, now_ns, Some(vu.place));
        }
    }

    /// A VU of a closed loop runs for the first time.
    pub fn has_begun(&self) {
        self.fresh.set(self.fresh.get() - 1);
        if self.fresh.get() == 0 {
            // There may be more to make.
            self.core.poke();
        }
    }

    /// Whether a VU of a closed loop that has done so many may start another iteration now, which then counts as started.
    #[inline]
    pub fn may_start(&self, done: u64) -> bool {
        let may_start = !self.is_closing() && self.iterations.take(done);
        if may_start {
            self.started.set(self.started.get() + 1);
            self.core.recorder.borrow_mut().started(self.index);
        }
        may_start
    }

    /// A VU's task ends.
    pub fn left(&self, vu: &Vu) {
        vu.is_running.set(false);
        self.live.set(self.live.get() - 1);
        if matches!(self.schedule, Schedule::Open(_)) && !vu.is_wanted.get() {
            self.lanes.vacant.borrow_mut().push(vu.place);
        }
        if self.live.get() == 0 || self.lanes.are_leaving() {
            self.core.poke();
        }
    }

    /// Gives arrivals that are due to VUs. `current` is the VU whose task calls: it looks for itself.
    fn start_due(self: &Rc<Self>, schedule: &RefCell<ArrivalRate>, now_ns: u64, current: Option<u32>) {
        if !self.core.steering.may_send(now_ns) {
            // What has come due meanwhile may be others' by now: it is not for this core to count.
            return self.core.reach_fence();
        }
        self.hear();
        self.make_turns(now_ns);
        let origin_ns = self.origin_ns.get();
        let since_origin_ns = now_ns.saturating_sub(origin_ns);
        let pause = self.core.pause_since(origin_ns);
        loop {
            let room = if !self.free.borrow().is_empty() {
                Room::Free
            } else if self.made.get() < self.vus_max.get() {
                Room::Growable
            } else {
                Room::Full
            };
            let Some(start) = schedule.borrow_mut().take(since_origin_ns, room, pause) else { return };
            let (vu, intended_ns) = match start {
                Start::Dropped => {
                    self.core.recorder.borrow_mut().dropped(self.index, 1);
                    continue;
                }
                Start::Paused => {
                    self.core.recorder.borrow_mut().paused(self.index, 1);
                    continue;
                }
                Start::OnFree { intended_ns } => (self.pop_free(), intended_ns),
                Start::OnNew { intended_ns } => (None, intended_ns),
            };
            self.core.recorder.borrow_mut().started(self.index);
            let vu = vu.unwrap_or_else(|| self.grow());
            vu.assigned_ns.set(Some(origin_ns + intended_ns));
            if current != Some(vu.place) {
                vu.wake();
            }
        }
    }

    fn pop_free(&self) -> Option<Rc<Vu>> {
        let place = self.free.borrow_mut().pop()?;
        self.vus.borrow().get(place as usize).cloned()
    }

    /// One more VU, with its task.
    fn grow(self: &Rc<Self>) -> Rc<Vu> {
        let number = self.lanes.next_number(&self.next_number);
        self.made.set(self.made.get() + 1);
        let mut vus = self.vus.borrow_mut();
        let place = self.lanes.vacant.borrow_mut().pop().unwrap_or(vus.len() as u32);
        let vu = self.vu(place, number);
        match vus.get_mut(place as usize) {
            Some(left) => *left = vu.clone(),
            None => vus.push(vu.clone()),
        }
        drop(vus);
        self.spawn(&vu);
        vu
    }

    fn vu(&self, place: u32, number: u64) -> Rc<Vu> {
        Rc::new(Vu::new(place, number.saturating_add(self.core.program.first_vu)))
    }

    fn spawn(self: &Rc<Self>, vu: &Rc<Vu>) {
        vu.begin();
        self.live.set(self.live.get() + 1);
        // The task ends by itself, at the latest when it is cut; should it not, it dies with the core's runtime.
        match self.schedule {
            Schedule::Open(_) => drop(spawn_local(serve(self.clone(), vu.clone()))),
            Schedule::Closed(_) => {
                self.fresh.set(self.fresh.get() + 1);
                drop(spawn_local(repeat(self.clone(), vu.clone())));
            }
        }
    }

    fn change_due(self: &Rc<Self>, changes: &RefCell<VuChanges>, now_ns: u64) {
        let since_origin_ns = now_ns.saturating_sub(self.origin_ns.get());
        while self.fresh.get() < FRESH_MAX {
            let Some(change) = changes.borrow_mut().take(since_origin_ns) else { break };
            let number = changes.borrow().number(change.vu);
            let vu = self.vu_at(change.vu, number);
            vu.is_wanted.set(change.is_active);
            if change.is_active && !vu.is_running.get() {
                self.spawn(&vu);
            } else if change.is_active {
                vu.spare();
            } else {
                vu.unwanted_since_ns.set(now_ns);
                if let Some(ramp_down_ns) = self.ramp_down_ns {
                    let cut_ns = now_ns.saturating_add(ramp_down_ns);
                    self.ramp_down.borrow_mut().push_back((cut_ns, now_ns, change.vu));
                }
            }
        }
    }

    /// Cuts off iterations of VUs that are no longer wanted and had their time, after the scenario's end too.
    fn cut_ramped_down(&self, now_ns: u64) {
        loop {
            let due = self.ramp_down.borrow().front().copied().filter(|(cut_ns, ..)| *cut_ns <= now_ns);
            let Some((_, since_ns, place)) = due else { break };
            self.ramp_down.borrow_mut().pop_front();
            let Some(vu) = self.vus.borrow().get(place as usize).cloned() else { continue };
            // It may have been wanted again since.
            if vu.is_running.get() && !vu.is_wanted.get() && vu.unwanted_since_ns.get() == since_ns {
                vu.cut();
            }
        }
    }

    /// The VU of a closed loop at a place; places before it may stay without one that was ever wanted.
    fn vu_at(&self, place: u32, number: u64) -> Rc<Vu> {
        let mut vus = self.vus.borrow_mut();
        while vus.len() <= place as usize {
            let place = vus.len() as u32;
            vus.push(self.vu(place, u64::MAX));
        }
        let vu = &mut vus[place as usize];
        let number = number.saturating_add(self.core.program.first_vu);
        if vu.number != number {
            *vu = Rc::new(Vu::new(place, number));
        }
        vu.clone()
    }

    /// Whether it has no more to do before its time is over: a fixed number of iterations is done by VUs that were all there, or it
    /// owns nothing.
    fn is_exhausted(&self) -> bool {
        let may_get_some = self.core.program.may_get_lanes && !self.iterations.are_limited();
        let has_nothing = !may_get_some && self.lanes.share.borrow().owned.is_empty();
        let is_done = || match &self.schedule {
            Schedule::Closed(changes) => {
                self.iterations.are_limited() && changes.borrow().next_ns().is_none()
            }
            Schedule::Open(_) => false,
        };
        self.live.get() == 0 && (has_nothing || is_done())
    }

    fn close(&self, cut_ns: u64) {
        self.forget_turns();
        match &self.schedule {
            Schedule::Open(schedule) => {
                let dropped = schedule.borrow_mut().close();
                self.core.recorder.borrow_mut().dropped(self.index, dropped);
            }
            Schedule::Closed(changes) => changes.borrow_mut().close(),
        }
        self.phase.set(Phase::Closing { cut_ns });
        let vus = self.vus.borrow();
        self.free.borrow_mut().drain(..).filter_map(|place| vus.get(place as usize)).for_each(|vu| vu.wake());
    }

    fn end_ns(&self) -> u64 {
        self.origin_ns.get().saturating_add(self.duration_ns)
    }
}

/// The core's schedule, and how many VUs are to be there before it begins.
fn schedule(executor: &Executor, share: &ScenarioShare, seed: u64, index: u32) -> (Schedule, u64) {
    if let (Some(open), Some(profile)) = (executor.open_loop(), Profile::of_arrivals(executor)) {
        let OpenLoop { arrival, pre_allocated_vus, when_busy, .. } = *open;
        let arrivals = Arrivals::new(arrival, profile, share, seed, index);
        let schedule = RefCell::new(ArrivalRate::new(arrivals, when_busy));
        return (Schedule::Open(schedule), share.count_below(pre_allocated_vus));
    }
    let profile = Profile::of_vus(executor).expect("an executor is either an open or a closed loop");
    (Schedule::Closed(RefCell::new(VuChanges::new(profile, share, executor.max_vus()))), 0)
}
