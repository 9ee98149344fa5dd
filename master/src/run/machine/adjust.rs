//! Changes of level from outside: numbered, made durable, then ordered from every agent for one moment of run time that all of them can keep; an agent that was cut off hears
//! of them when it is back.
//!
//! One is made durable at a time. Where that takes so long that its moment comes too near, it gets a later one and is made durable again, as nobody has
//! heard of it. What is asked for before the start is fixed holds from the start on. Changes are kept as they were asked for; ordered is the level of all agents
//! together, which for `load: per_agent` is so many times as much.

use std::collections::VecDeque;
use std::sync::Arc;

use volcanion_common::plan::Level;
use volcanion_common::session::change::CHANGES_MAX;
use volcanion_common::session::{Change, Order};
use volcanion_common::units::RunTime;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::LevelView;

use super::action::{NotAdjusted, SaveChange};
use super::peer::Peer;
use super::saving::Pause;
use super::start::{SAVE_MARGIN_MAX_NS, SAVE_MARGIN_NS};
use super::{Action, Phase, RunMachine};
use crate::run::levels::levels;

/// Requests that wait for their turn.
const WANTED_MAX: usize = 64;

/// A run's changes of level.
pub(super) struct Adjusting {
    /// As written: before it was multiplied for `per_agent`.
    plan: Arc<ValidPlan>,
    /// Durable ones, in order.
    changes: Vec<Change>,
    in_flight: Option<(Change, u64)>,
    /// Whether the one in flight is to be sent to the store once more.
    is_due_again: bool,
    wanted: VecDeque<Wanted>,
    pause: Pause,
    save_margin_ns: u64,
}

/// A change that is asked for.
struct Wanted {
    request: u64,
    scenario: u32,
    level: Level,
}

impl Adjusting {
    pub fn new(plan: Arc<ValidPlan>) -> Self {
        Self {
            plan,
            changes: Vec::new(),
            in_flight: None,
            is_due_again: false,
            wanted: VecDeque::new(),
            pause: Pause::default(),
            save_margin_ns: SAVE_MARGIN_NS,
        }
    }

    pub fn wake_ns(&self) -> Option<u64> {
        self.pause.until_ns()
    }

    fn level_of(&self, scenario: u32) -> Option<Level> {
        let newest = self.changes.iter().rev().find(|change| change.scenario == scenario);
        let plans = || self.plan.scenarios.get(scenario as usize)?.executor.start_level();
        newest.map(|change| change.level).or_else(plans)
    }

    fn levels_with(&self, change: Option<Change>) -> Vec<LevelView> {
        let changes: Vec<Change> = self.changes.iter().copied().chain(change).collect();
        levels(&self.plan, &changes)
    }
}

impl RunMachine {
    /// Goes on with the changes that are durable.
    pub(super) fn resume_changes(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.keep_change(change));
    }

    pub(super) fn adjust_requested(&mut self, request: u64, scenario: u32, level: Level) {
        if self.adjusting.wanted.len() >= WANTED_MAX {
            return self.answer(request, Err(NotAdjusted::TooManyAtOnce));
        }
        self.adjusting.wanted.push_back(Wanted { request, scenario, level });
    }

    /// Begins the next change, once the one before is durable.
    pub(super) fn advance_changes(&mut self) {
        if !self.adjusting.pause.is_over(self.now.monotonic_ns) {
            return;
        }
        self.adjusting.pause.end();
        if std::mem::take(&mut self.adjusting.is_due_again) {
            self.save_change();
        }
        while self.adjusting.in_flight.is_none()
            && let Some(wanted) = self.adjusting.wanted.pop_front()
        {
            self.begin_change(wanted);
        }
    }

    fn begin_change(&mut self, Wanted { request, scenario, level }: Wanted) {
        if !self.may_change() {
            return self.answer(request, Err(NotAdjusted::NotGoing));
        }
        if self.adjusting.level_of(scenario) == Some(level) {
            // It is set to that: nothing begins anew.
            return self.answer(request, Ok(self.adjusting.levels_with(None)));
        }
        if self.adjusting.changes.len() >= CHANGES_MAX {
            return self.answer(request, Err(NotAdjusted::TooMany));
        }
        let at = self.change_at();
        if at >= self.end_of(scenario) {
            return self.answer(request, Err(NotAdjusted::ScenarioOver));
        }
        let number = self.adjusting.changes.len() as u64 + 1;
        self.adjusting.in_flight = Some((Change { number, scenario, at, level }, request));
        self.save_change();
    }

    pub(super) fn change_saved(&mut self, number: u64) {
        let Some((change, request)) = self.adjusting.in_flight.filter(|(c, _)| c.number == number) else {
            return;
        };
        self.adjusting.pause = Pause::default();
        let is_near = self.phase == Phase::Running
            && self.at_run_time(change.at) < self.now.monotonic_ns.saturating_add(self.lead_ns());
        if is_near {
            self.adjusting.save_margin_ns = (self.adjusting.save_margin_ns * 2).min(SAVE_MARGIN_MAX_NS);
            let at = self.change_at();
            // Where its scenario ends before that, it is ordered as it is; whoever hears of it late says so.
            if at < self.end_of(change.scenario) {
                self.adjusting.in_flight = Some((Change { at, ..change }, request));
                return self.save_change();
            }
        }
        self.adjusting.in_flight = None;
        self.keep_change(change);
        if self.phase == Phase::Running {
            for i in 0..self.peers.len() {
                // A joiner gets them with its start.
                if self.peers[i].link.is_up() && !self.peers[i].is_over() && !self.peers[i].is_joining() {
                    self.send(i, Order::Adjust(ordered(change, self.peers[i].factor)));
                }
            }
        }
        self.answer(request, Ok(self.adjusting.levels_with(None)));
    }

    pub(super) fn change_failed(&mut self, number: u64, fenced: bool) {
        if fenced {
            return self.step_down();
        }
        let Some((_, request)) = self.adjusting.in_flight.filter(|(c, _)| c.number == number) else { return };
        if self.may_change() {
            self.adjusting.is_due_again = true;
            self.adjusting.pause.failed(self.now.monotonic_ns);
            self.warn_of_the_store();
        } else {
            self.adjusting.in_flight = None;
            self.answer(request, Err(NotAdjusted::NotGoing));
        }
    }

    /// Sends an agent what it has not taken yet, in order.
    pub(super) fn send_changes(&mut self, i: usize) {
        let known = usize::try_from(self.peers[i].adjusted).unwrap_or(usize::MAX);
        let missing = self.adjusting.changes.get(known..).unwrap_or_default();
        let factor = self.peers[i].factor;
        let orders: Vec<_> = missing.iter().map(|c| Order::Adjust(ordered(*c, factor))).collect();
        for order in orders {
            self.send(i, order);
        }
    }

    /// One more agent is to be told every change there was.
    pub(super) fn has_ordered(&self, peer: &mut Peer) {
        self.adjusting.changes.iter().for_each(|change| peer.planned.ordered(ordered(*change, peer.factor)));
    }

    /// An agent has taken every change up to this one.
    pub(super) fn has_changes(&mut self, i: usize, number: u64) {
        let peer = &mut self.peers[i];
        peer.adjusted = peer.adjusted.max(number);
        peer.planned.confirmed_up_to(number);
    }

    pub(super) fn adjusted(&mut self, i: usize, number: u64, from: RunTime) {
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some(change) = index.and_then(|index| self.adjusting.changes.get(index)).copied() else { return };
        let peer = &mut self.peers[i];
        peer.adjusted = peer.adjusted.max(number);
        peer.planned.confirmed(number, from);
        if from > change.at {
            let message = format!(
                "change {number} (to {}) reached the agent too late and holds there since {:.3} s, {:.0} ms after the others'",
                change.level,
                from.as_millis_f64() / 1e3,
                from.since(change.at).as_millis_f64(),
            );
            self.warn("late_change", Some(i), message);
        }
    }

    fn keep_change(&mut self, change: Change) {
        self.peers.iter_mut().for_each(|peer| peer.planned.ordered(ordered(change, peer.factor)));
        self.adjusting.changes.push(change);
    }

    fn save_change(&mut self) {
        if let Some((change, _)) = self.adjusting.in_flight {
            let levels = self.adjusting.levels_with(Some(change));
            self.out.push(Action::SaveChange(SaveChange { change, levels }));
        }
    }

    fn may_change(&self) -> bool {
        matches!(self.phase, Phase::Preparing { .. } | Phase::Starting { .. } | Phase::Running)
    }

    /// The next moment that all agents can keep; the start where that is still to be fixed.
    fn change_at(&self) -> RunTime {
        let last = self.adjusting.changes.last().map_or(RunTime::START, |change| change.at);
        let (Phase::Running, Some(start)) = (self.phase, self.start) else { return last };
        let ahead_ns = self.lead_ns().saturating_add(self.adjusting.save_margin_ns);
        let at_ns = i128::from(self.now.monotonic_ns) + i128::from(ahead_ns) - i128::from(start.at_ns);
        last.max(RunTime(u64::try_from(at_ns).unwrap_or(0).div_ceil(1_000)))
    }

    /// When a scenario starts its last iteration at the latest.
    pub(super) fn end_of(&self, scenario: u32) -> RunTime {
        let scenario = self.plan.scenarios.get(scenario as usize);
        scenario.map_or(RunTime::START, |s| RunTime::START.plus(s.start_time).plus(s.executor.duration()))
    }

    fn answer(&mut self, request: u64, result: Result<Vec<LevelView>, NotAdjusted>) {
        self.out.push(Action::Adjusted { request, result });
    }
}

/// As it is sent to an agent.
fn ordered(change: Change, factor: u64) -> Change {
    Change { level: change.level.times(factor), ..change }
}
