//! Moves of lanes: each is taken once, whatever the order of their numbers, and confirmed when it holds; one that comes again is confirmed with the same moment.
//!
//! When it holds is the engine's to say ([`LoadEvent::Moved`]), since it depends on what was started already. What comes before the start is kept and told to the load together
//! with it. A load that is over takes no part any more: a move holds then from its moment on, or from the end of what was done, and the leader counts what was due since as missed.
//!
//! [`LoadEvent::Moved`]: crate::session::load::LoadEvent::Moved

use serde_json::Value;
use volcanion_common::session::handover::MOVES_MAX;
use volcanion_common::session::{Move, Moved, Report};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::units::RunTime;

use super::{Action, Machine, Phase};
use crate::session::fence::Refusal;
use crate::session::load::Fault;

/// The lanes of this agent's shard, by what was ordered.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Of each scenario, once all moves hold.
    owned: Vec<ScenarioShare>,
    /// Whether its lanes may move: those of a fixed number of iterations may not.
    movable: Vec<bool>,
    /// Whether agents may join and leave while the run goes.
    pub(super) is_elastic: bool,
    /// Whether none was owned at first: run time may have begun before this agent had a part in it.
    pub(super) joins: bool,
    /// In the order in which they came.
    moves: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    order: Move,
    /// Since when it holds, or from when on it will.
    from: Option<RunTime>,
}

impl Lanes {
    /// Those of a shard that was not started.
    pub(super) fn of(shard: &Shard) -> Self {
        let is_elastic = shard.plan.get("elastic").and_then(Value::as_bool).unwrap_or(false);
        // In the plan's order, as everywhere.
        let scenarios = shard.plan.get("scenarios").and_then(Value::as_object);
        let executors = scenarios.into_iter().flat_map(|scenarios| scenarios.values().map(executor_of));
        let movable = executors.map(|executor| !executor.ends_with("-iterations"));
        let is_empty = shard.scenarios.iter().all(ScenarioShare::is_empty);
        Self {
            owned: shard.scenarios.clone(),
            movable: movable.collect(),
            is_elastic,
            joins: is_elastic && is_empty && !shard.scenarios.is_empty(),
            moves: Vec::new(),
        }
    }

    /// Whether at this moment no lane that may move is left: all were moved away, and what was due before is started.
    pub(super) fn are_gone(&self, now: RunTime) -> bool {
        let movable = self.owned.iter().zip(&self.movable).filter(|(_, is_movable)| **is_movable);
        let is_empty = movable.into_iter().all(|(share, _)| share.is_empty());
        is_empty && self.moves.iter().all(|known| known.from.is_some_and(|from| from <= now))
    }

    /// Whether a move was ordered and does not hold yet.
    pub(super) fn are_moving(&self) -> bool {
        self.moves.iter().any(|known| known.from.is_none())
    }

    /// The moves that hold, by their numbers.
    pub(super) fn held(&self) -> Vec<Moved> {
        let mut held: Vec<Moved> = self.moves.iter().filter_map(Known::held).collect();
        held.sort_unstable_by_key(|moved| moved.number);
        held
    }

    fn known(&self, number: u64) -> Option<&Known> {
        self.moves.iter().find(|known| known.order.number == number)
    }

    fn refuse(&self, order: &Move) -> Option<Fault> {
        let fault = |code: &str, message: String| Some(Fault { code: code.to_owned(), message });
        match self.movable.get(order.scenario as usize) {
            None => fault("no_scenario", format!("a move of lanes names scenario {}", order.scenario)),
            Some(false) => {
                fault("not_movable", format!("scenario {} has a fixed number of iterations", order.scenario))
            }
            Some(true) if self.moves.len() >= MOVES_MAX => {
                fault("too_many_moves", format!("a run's lanes move {MOVES_MAX} times at most on one agent"))
            }
            Some(true) => None,
        }
    }
}

fn executor_of(scenario: &Value) -> &str {
    scenario.get("executor").and_then(Value::as_str).unwrap_or_default()
}

impl Known {
    fn held(&self) -> Option<Moved> {
        self.from.map(|from| Moved { number: self.order.number, from })
    }
}

impl Machine {
    pub(super) fn on_move(&mut self, order: Move, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::New | Phase::Compiling) {
            return self.refuse("Move", Refusal::NotPrepared { order: "Move" }, actions);
        }
        if let Some(known) = self.lanes.known(order.number) {
            // One that does not hold yet is answered when it does.
            if let Some(moved) = known.held() {
                self.send(Report::Moved(moved), actions);
            }
            return;
        }
        if let Some(fault) = self.lanes.refuse(&order) {
            return self.send(fault.report(), actions);
        }
        if let Some(share) = self.lanes.owned.get_mut(order.scenario as usize) {
            *share = share.after(&order.release, &order.take);
        }
        if matches!(self.phase, Phase::Running { .. }) {
            actions.push(Action::Move(order.clone()));
        }
        self.lanes.moves.push(Known { order, from: None });
        if matches!(self.phase, Phase::Finished) {
            self.hold_all_moves(actions);
        }
    }

    /// The engine says that a move holds.
    pub(super) fn on_moved(&mut self, number: u64, from: RunTime, actions: &mut Vec<Action>) {
        let known = self.lanes.moves.iter_mut().find(|known| known.order.number == number);
        let Some(known) = known.filter(|known| known.from.is_none()) else { return };
        known.from = Some(from.max(known.order.from));
        if let Some(moved) = known.held() {
            self.send(Report::Moved(moved), actions);
        }
    }

    /// Tells a load that was just started what was ordered before.
    pub(super) fn tell_moves(&self, actions: &mut Vec<Action>) {
        actions.extend(self.lanes.moves.iter().map(|known| Action::Move(known.order.clone())));
    }

    /// The load is over: what does not hold yet does.
    pub(super) fn hold_all_moves(&mut self, actions: &mut Vec<Action>) {
        let open = self.lanes.moves.iter().filter(|known| known.from.is_none());
        for (number, from) in open.map(|known| (known.order.number, known.order.from)).collect::<Vec<_>>() {
            self.on_moved(number, from.max(self.reported), actions);
        }
    }
}
