//! Lanes that change hands: what a lost agent leaves goes to the others where the plan says so, one that drains out of an elastic run hands over what it has, and one that joined
//! gets its part.
//!
//! An order to release or to take is made durable before anybody hears of it. Takers of what a living agent releases are told once it has said from when on it starts
//! nothing more of it, and take from that very moment; what a lost agent had is taken from a moment ahead that the takers can keep. One round goes at a time: all its
//! releases are confirmed, or their agents are lost, before anything else moves.
//!
//! Accounts: a taker's plan holds its lanes from the ordered moment on, and what it says to have taken too late is counted as missed. A lost agent's plan holds its lanes until they are
//! taken from it, so what was due meanwhile is missed too. After a take-over the durable orders tell who has what, and the agents' Welcomes since when.

use std::collections::BTreeMap;

use volcanion_common::delta::ScenarioDelta;
use volcanion_common::plan::Load;
use volcanion_common::session::{Move, Moved, Order, Welcome};
use volcanion_common::units::RunTime;

use super::action::{PeerMove, SaveMoves};
use super::saving::Pause;
use super::start::{SAVE_MARGIN_MAX_NS, SAVE_MARGIN_NS};
use super::{Action, Phase, RunMachine};

/// A run's moves of lanes.
pub(super) struct Moving {
    last_number: u64,
    /// The latest moment of any move: later ones do not come before it.
    last_from: RunTime,
    /// Durable ones, by number.
    pub orders: BTreeMap<u64, Ordered>,
    /// How many of them hold.
    settled: u64,
    /// Those that are being made durable.
    in_flight: Vec<Draft>,
    /// The earliest moment that any of these was ever written with.
    in_flight_from: RunTime,
    batch: u64,
    is_due_again: bool,
    pause: Pause,
    pub save_margin_ns: u64,
    /// Released and not taken.
    pub free: Vec<Free>,
    late: Vec<Late>,
}

#[derive(Clone, Debug)]
pub(super) struct Ordered {
    peer: usize,
    order: Move,
    is_confirmed: bool,
}

/// A move that is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub peer: usize,
    pub order: Move,
    /// Its moment is not ours to choose: somebody has released the lanes from then on.
    pub is_fixed: bool,
    /// Its agent was lost meanwhile, and its gap holds the lanes already.
    pub is_in_gap: bool,
}

/// Lanes that nobody has since a moment.
#[derive(Clone, Debug)]
pub(super) struct Free {
    pub owner: usize,
    pub scenario: u32,
    pub lanes: Vec<u32>,
    pub since: RunTime,
}

/// Lanes that nobody had for a while.
#[derive(Clone, Debug)]
struct Late {
    /// In whose account it is; by which move, if by one.
    peer: usize,
    number: Option<u64>,
    scenario: u32,
    lanes: Vec<u32>,
    from: RunTime,
    to: RunTime,
}

impl Default for Moving {
    fn default() -> Self {
        Self {
            last_number: 0,
            last_from: RunTime::START,
            orders: BTreeMap::new(),
            settled: 0,
            in_flight: Vec::new(),
            in_flight_from: RunTime::START,
            batch: 0,
            is_due_again: false,
            pause: Pause::default(),
            save_margin_ns: SAVE_MARGIN_NS,
            free: Vec::new(),
            late: Vec::new(),
        }
    }
}

impl Moving {
    pub fn wake_ns(&self) -> Option<u64> {
        self.pause.until_ns()
    }

    /// How many are durable, and how many of them hold.
    pub fn counts(&self) -> (u64, u64) {
        (self.orders.len() as u64, self.settled)
    }

    /// Whether orders may be durable of which nobody knows yet: the run does not end before that is known.
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Up to when it is sure that lost lanes go to nobody else.
    pub fn settled_until(&self, until: RunTime) -> RunTime {
        if self.is_writing() { until.min(self.in_flight_from) } else { until }
    }
}

impl RunMachine {
    /// Goes on with the moves that are durable, in the order of their numbers.
    pub(super) fn resume_moves(&mut self, moves: Vec<PeerMove>) {
        for PeerMove { agent, incarnation, order } in moves {
            self.moving.last_number = self.moving.last_number.max(order.number);
            let Some(i) = self.peer_of(&agent, incarnation) else { continue };
            self.keep_move(Draft { peer: i, order, is_fixed: true, is_in_gap: false });
        }
    }

    /// What an agent says of its moves when its stream comes up; it is told again what it has not heard.
    pub(super) fn welcome_moves(&mut self, i: usize, welcome: &Welcome) {
        welcome.moved.iter().for_each(|moved| self.moved(i, *moved));
        if self.phase != Phase::Running || self.peers[i].is_over() {
            return;
        }
        let unheard = self.moving.orders.values().filter(|known| known.peer == i && !known.is_confirmed);
        let orders: Vec<Order> = unheard.map(|known| Order::Move(known.order.clone())).collect();
        for order in orders {
            self.send(i, order);
        }
    }

    /// A move holds.
    pub(super) fn moved(&mut self, i: usize, Moved { number, from }: Moved) {
        let Some(known) = self.moving.orders.get_mut(&number) else { return };
        if known.peer != i || known.is_confirmed || self.peers[i].state.is_lost() {
            return;
        }
        known.is_confirmed = true;
        self.moving.settled += 1;
        let order = known.order.clone();
        let from = from.max(order.from);
        self.moving.last_from = self.moving.last_from.max(from);
        if !order.release.is_empty() {
            // What one that ended early did not start is counted up to there already.
            let from = from.max(self.peers[i].state.missed_to);
            self.released(i, order.scenario, from, order.release);
        }
        if !order.take.is_empty() && from > order.from {
            let message = format!(
                "lanes were taken over {:.0} ms after the moment that was ordered; what was due meanwhile was missed",
                from.since(order.from).as_millis_f64(),
            );
            self.warn("late_move", Some(i), message);
            if !self.peers[i].state.late_moves.contains(&number) {
                let Move { scenario, take: lanes, from: since, .. } = order;
                self.moving.late.push(Late {
                    peer: i,
                    number: Some(number),
                    scenario,
                    lanes,
                    from: since,
                    to: from,
                });
            }
        }
    }

    /// Begins what is to move next.
    pub(super) fn advance_moves(&mut self) {
        let now_ns = self.now.monotonic_ns;
        if !self.moving.pause.is_over(now_ns) {
            return;
        }
        self.moving.pause.end();
        // Whatever becomes of the run: what may be durable has to be known.
        if std::mem::take(&mut self.moving.is_due_again) {
            return self.save_moves();
        }
        if !self.may_move() || now_ns < self.hold_until_ns {
            return;
        }
        let is_releasing = self.moving.orders.values().any(|known| {
            !known.is_confirmed && !known.order.release.is_empty() && !self.peers[known.peer].is_over()
        });
        if !self.moving.in_flight.is_empty() || is_releasing {
            return;
        }
        let mut drafts = self.grants_of_free();
        drafts.extend(self.grants_of_lost());
        drafts.extend(self.grants_of_copies());
        if drafts.is_empty() {
            drafts = self.releases();
        }
        if drafts.is_empty() {
            drafts = self.surpluses();
        }
        if !drafts.is_empty() {
            drafts.sort_by_key(|draft| draft.order.from);
            let earliest = drafts.iter().filter(|draft| !draft.is_fixed).map(|draft| draft.order.from).min();
            self.moving.in_flight_from = earliest.unwrap_or(RunTime(u64::MAX));
            for draft in &mut drafts {
                self.moving.last_number += 1;
                draft.order.number = self.moving.last_number;
            }
            self.moving.in_flight = drafts;
            self.save_moves();
        }
    }

    pub(super) fn moves_saved(&mut self, batch: u64) {
        if batch != self.moving.batch || self.moving.in_flight.is_empty() {
            return;
        }
        self.moving.pause = Pause::default();
        let may_move = self.may_move();
        let earliest_ns = self.now.monotonic_ns.saturating_add(self.lead_ns());
        let is_near = |draft: &Draft| !draft.is_fixed && self.at_run_time(draft.order.from) < earliest_ns;
        if may_move && self.moving.in_flight.iter().any(is_near) {
            self.moving.save_margin_ns = (self.moving.save_margin_ns * 2).min(SAVE_MARGIN_MAX_NS);
            let at = self.move_at();
            let is_in_time = |draft: &Draft| draft.is_fixed || at < self.end_of(draft.order.scenario);
            if self.moving.in_flight.iter().all(is_in_time) {
                let later = self.moving.in_flight.iter_mut().filter(|draft| !draft.is_fixed);
                later.for_each(|draft| draft.order.from = draft.order.from.max(at));
                return self.save_moves();
            }
        }
        for draft in std::mem::take(&mut self.moving.in_flight) {
            let (i, order) = (draft.peer, draft.order.clone());
            self.keep_move(draft);
            // At the load's end there is nothing left to move: it holds for the accounts alone.
            if may_move && !self.peers[i].is_over() {
                self.send(i, Order::Move(order));
            }
        }
    }

    pub(super) fn moves_failed(&mut self, batch: u64, fenced: bool) {
        if fenced {
            return self.step_down();
        }
        if batch == self.moving.batch && !self.moving.in_flight.is_empty() {
            self.moving.is_due_again = true;
            self.moving.pause.failed(self.now.monotonic_ns);
            self.warn_of_the_store();
        }
    }

    /// An agent is lost: what may be durable for it lies in its gap, from the moment that is being written on.
    pub(super) fn hold_what_is_written(&mut self, i: usize) {
        if !self.moving.in_flight.iter().any(|draft| draft.peer == i && !draft.order.take.is_empty()) {
            return;
        }
        for draft in &mut self.moving.in_flight {
            draft.is_fixed = true;
            if draft.peer == i && !std::mem::replace(&mut draft.is_in_gap, true) {
                let Move { scenario, from, take, .. } = &draft.order;
                self.peers[i].planned.moved(*scenario, *from, &[], take);
            }
        }
    }

    /// Lanes that were released and never taken go back into the account of whoever had them.
    pub(super) fn settle_free(&mut self) {
        let end = self.load_end();
        for Free { owner, scenario, lanes, since } in std::mem::take(&mut self.moving.free) {
            if self.peers[owner].state.gap.is_none() {
                self.peers[owner].planned.moved(scenario, since, &[], &lanes);
            }
            if since < end {
                self.moving.late.push(Late {
                    peer: owner,
                    number: None,
                    scenario,
                    lanes,
                    from: since,
                    to: end,
                });
            }
        }
    }

    /// Counts as missed what was due while nobody had the lanes, where that is over before a moment.
    pub(super) fn account_late(&mut self, until: RunTime, is_end: bool) {
        let (due, rest) =
            std::mem::take(&mut self.moving.late).into_iter().partition(|late| is_end || late.to <= until);
        self.moving.late = rest;
        let opened_at = self.collector.opened_at();
        for Late { peer: i, number, scenario, lanes, from, to } in due {
            let peer = &mut self.peers[i];
            // What a lost taker did not take lies in its gap.
            if number.is_some() && peer.state.gap.is_some() {
                continue;
            }
            peer.state.late_moves.extend(number);
            // All that one which ended early did not start is counted together.
            if number.is_some() && peer.stopped_early() {
                continue;
            }
            let to = to.min(until);
            let missed = if from < to { peer.planned.arrivals_of(scenario, &lanes, from, to) } else { 0 };
            if let Some(counts) = peer.state.scenarios.get_mut(scenario as usize).filter(|_| missed > 0) {
                counts.missed += missed;
                let scenarios = [(scenario, ScenarioDelta { missed, ..ScenarioDelta::default() })].into();
                // In one part, so that no next master finds the move accounted for by half; where that is the open interval's, within its time.
                let from = if to > opened_at { from.max(opened_at) } else { from };
                self.collector.add_missed(i, from, to, scenarios, &peer.state);
            }
        }
    }

    fn may_move(&self) -> bool {
        self.phase == Phase::Running && self.stop.is_none()
    }

    /// A moment that whoever is told then can keep, and not before any earlier move's.
    pub(super) fn move_at(&self) -> RunTime {
        let ahead_ns = self.lead_ns().saturating_add(self.moving.save_margin_ns);
        self.run_now().plus(volcanion_common::units::Micros(ahead_ns / 1_000)).max(self.moving.last_from)
    }

    fn save_moves(&mut self) {
        self.moving.batch += 1;
        let moves = self.moving.in_flight.iter().map(|draft| {
            let state = &self.peers[draft.peer].state;
            PeerMove {
                agent: state.agent.clone(),
                incarnation: state.incarnation,
                order: draft.order.clone(),
            }
        });
        let moves = moves.collect();
        self.out.push(Action::SaveMoves(SaveMoves { batch: self.moving.batch, moves }));
    }

    /// A move is durable: from now on it is told to its agent until that confirms it.
    fn keep_move(&mut self, Draft { peer: i, order, is_in_gap, .. }: Draft) {
        self.moving.last_from = self.moving.last_from.max(order.from);
        if !order.take.is_empty() {
            self.peers[i].has_taken = true;
            if !self.peers[i].is_apart() {
                self.take_from_others(i, &order);
            }
            if !is_in_gap {
                self.peers[i].planned.moved(order.scenario, order.from, &[], &order.take);
            }
            self.move_lanes(i, order.scenario, &[], &order.take);
        }
        self.moving.orders.insert(order.number, Ordered { peer: i, order, is_confirmed: false });
    }

    /// Lanes that are taken are no longer those of whoever had them: free ones, such as their owner (it may be the taker itself) released though it was not heard to say so, and a
    /// lost agent's.
    fn take_from_others(&mut self, i: usize, order: &Move) {
        let taken = |lane: &u32| order.take.binary_search(lane).is_ok();
        let peers = &self.peers;
        let is_of_all = |known: &Ordered| !peers[known.peer].is_apart();
        let orders = self.moving.orders.values_mut();
        let releases = orders.filter(|known| !known.is_confirmed && is_of_all(known));
        let confirmed = releases
            .filter(|known| known.order.scenario == order.scenario && known.order.release.iter().any(taken));
        let confirmed: Vec<(usize, Vec<u32>)> = confirmed
            .map(|known| {
                known.is_confirmed = true;
                (known.peer, known.order.release.clone())
            })
            .collect();
        for (owner, lanes) in confirmed {
            self.released(owner, order.scenario, order.from, lanes);
        }
        for free in self.moving.free.iter_mut().filter(|free| free.scenario == order.scenario) {
            let (gone, left): (Vec<u32>, Vec<u32>) = free.lanes.iter().partition(|lane| taken(lane));
            free.lanes = left;
            // Its release was heard of while this order was written: until then they stay in the owner's account.
            if !gone.is_empty() && free.since < order.from {
                let planned = &mut self.peers[free.owner].planned;
                planned.moved(order.scenario, free.since, &[], &gone);
                planned.moved(order.scenario, order.from, &gone, &[]);
            }
        }
        self.moving.free.retain(|free| !free.lanes.is_empty());
        let is_other = |owner: &usize| *owner != i && !self.peers[*owner].is_apart();
        let others: Vec<usize> = (0..self.peers.len()).filter(is_other).collect();
        for owner in others {
            let lost: Vec<u32> = self.peers[owner].lanes[order.scenario as usize]
                .owned
                .iter()
                .copied()
                .filter(taken)
                .collect();
            if !lost.is_empty() {
                self.peers[owner].planned.moved(order.scenario, order.from, &lost, &[]);
                self.move_lanes(owner, order.scenario, &lost, &[]);
            }
        }
    }

    /// An agent starts nothing more of these lanes from a moment on.
    fn released(&mut self, i: usize, scenario: u32, from: RunTime, lanes: Vec<u32>) {
        self.peers[i].planned.moved(scenario, from, &lanes, &[]);
        self.move_lanes(i, scenario, &lanes, &[]);
        if self.plan.load == Load::Total {
            self.moving.free.push(Free { owner: i, scenario, lanes, since: from });
        }
    }

    fn move_lanes(&mut self, i: usize, scenario: u32, release: &[u32], take: &[u32]) {
        if let Some(share) = self.peers[i].lanes.get_mut(scenario as usize) {
            *share = share.after(release, take);
        }
    }
}
