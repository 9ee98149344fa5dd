//! Who is to release which lanes, and who is to take them: the next round of moves, decided from what everybody has now.
//!
//! Free lanes go out again first, then those of lost agents and the copies of the plan that joiners begin; only where there are none of these do agents that drain release theirs, and
//! after them those that have more than their part of an elastic run that somebody joined.

use std::collections::{BTreeMap, BTreeSet};

use volcanion_common::plan::{Load, OnAgentLoss};
use volcanion_common::session::Move;
use volcanion_common::session::handover::MOVES_MAX;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::split::over_weights;
use volcanion_common::units::RunTime;

use super::RunMachine;
use super::deal::{Taker, deal, is_movable};
use super::moves::Draft;

/// What an agent needs at least between an order and its moment.
const AGENTS_LEAD_NS: u64 = 200_000_000;

impl RunMachine {
    /// What living agents have released goes to those that stay, from the moment of the release on.
    pub(super) fn grants_of_free(&mut self) -> Vec<Draft> {
        let ends: Vec<RunTime> =
            (0..self.plan.scenarios.len() as u32).map(|index| self.end_of(index)).collect();
        self.moving.free.retain(|free| ends.get(free.scenario as usize).is_some_and(|end| free.since < *end));
        let free = self.moving.free.iter().map(|free| (free.scenario, free.lanes.clone(), free.since));
        let mut given = BTreeMap::new();
        let mut drafts = Vec::new();
        for (scenario, lanes, since) in free.collect::<Vec<_>>() {
            drafts.extend(self.grants(scenario, lanes, since, true, &mut given));
        }
        drafts
    }

    /// What lost agents had, and such as ended early, goes to the others: not before what is already known of it.
    pub(super) fn grants_of_lost(&mut self) -> Vec<Draft> {
        let at = self.move_at();
        let is_left = |i: &usize| {
            let state = &self.peers[*i].state;
            let by_loss = self.plan.on_agent_loss == OnAgentLoss::Redistribute && state.is_lost();
            let by_leave =
                self.plan.elastic && self.plan.load == Load::Total && self.peers[*i].stopped_early();
            // A copy of the plan ends with its agent.
            (by_loss || by_leave) && !self.peers[*i].is_apart()
        };
        let left: Vec<usize> = (0..self.peers.len()).filter(is_left).collect();
        let mut given = BTreeMap::new();
        let mut drafts = Vec::new();
        for scenario in self.movable_scenarios(at) {
            let owned = |i: usize| &self.peers[i].lanes[scenario as usize].owned;
            let lanes: BTreeSet<u32> = left.iter().flat_map(|i| owned(*i).iter().copied()).collect();
            let holders = left.iter().filter(|i| !owned(**i).is_empty());
            // After a take-over our run time may be behind the agents': the start is known by a wall clock, and intervals close as soon as they are reported.
            let at = holders.map(|i| self.peers[*i].state.accounted_to()).fold(at, RunTime::max);
            if at < self.end_of(scenario) {
                drafts.extend(self.grants(scenario, lanes.into_iter().collect(), at, false, &mut given));
            }
        }
        drafts
    }

    fn grants(
        &self,
        scenario: u32,
        lanes: Vec<u32>,
        from: RunTime,
        is_fixed: bool,
        given: &mut BTreeMap<(usize, u32), usize>,
    ) -> Vec<Draft> {
        let takers = self.takers();
        let Some(first) = takers.first().filter(|_| !lanes.is_empty()) else { return Vec::new() };
        let of = |i: usize| {
            let more = given.get(&(i, scenario)).copied().unwrap_or(0);
            let held = self.peers[i].lanes[scenario as usize].owned.len() + more;
            Taker { held, capacity: self.peers[i].capacity }
        };
        let share = ScenarioShare { lanes: self.peers[*first].lanes[scenario as usize].lanes, owned: lanes };
        let parts = deal(&share, &takers.iter().map(|i| of(*i)).collect::<Vec<_>>());
        let mut drafts = Vec::new();
        for (i, part) in takers.into_iter().zip(parts).filter(|(_, part)| !part.is_empty()) {
            *given.entry((i, scenario)).or_default() += part.owned.len();
            let order = Move { number: 0, scenario, from, release: Vec::new(), take: part.owned };
            drafts.push(Draft { peer: i, order, is_fixed, is_in_gap: false });
        }
        drafts
    }

    /// What agents that drain are to release, where somebody can take it. Of `per_agent` each has a plan of its own, which ends with its part.
    pub(super) fn releases(&self) -> Vec<Draft> {
        if !self.plan.elastic || (self.plan.load == Load::Total && self.takers().is_empty()) {
            return Vec::new();
        }
        let at = self.release_at();
        let scenarios = self.movable_scenarios(at);
        let leaving = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_draining && !peer.is_over());
        let releases = leaving.flat_map(|(i, peer)| {
            let shares = scenarios.iter().map(|scenario| (*scenario, &peer.lanes[*scenario as usize]));
            let held = shares.filter(|(_, share)| !share.is_empty());
            held.map(move |(scenario, share)| Draft {
                peer: i,
                order: Move { number: 0, scenario, from: at, release: share.owned.clone(), take: Vec::new() },
                is_fixed: false,
                is_in_gap: false,
            })
        });
        releases.collect()
    }

    /// A joiner that has a copy of the plan begins with all of it.
    pub(super) fn grants_of_copies(&mut self) -> Vec<Draft> {
        let at = self.move_at();
        let scenarios = self.movable_scenarios(at);
        let mut drafts = Vec::new();
        for (i, peer) in self.peers.iter_mut().enumerate() {
            let is_going = !peer.is_over() && peer.state.start_late_us.is_some();
            let is_there = is_going && peer.fault.is_none() && !peer.is_draining && peer.link.is_up();
            let Some(joiner) = peer.joiner.as_mut().filter(|joiner| joiner.is_apart && is_there) else {
                continue;
            };
            if !std::mem::take(&mut joiner.wants_part) || peer.has_taken {
                continue;
            }
            for scenario in &scenarios {
                let take = (0..peer.lanes[*scenario as usize].lanes).collect();
                let order = Move { number: 0, scenario: *scenario, from: at, release: Vec::new(), take };
                drafts.push(Draft { peer: i, order, is_fixed: false, is_in_gap: false });
            }
        }
        drafts
    }

    /// Where agents joined, the others release what they have beyond their part by capacity; it is dealt to the joiners once that holds.
    pub(super) fn surpluses(&mut self) -> Vec<Draft> {
        let takers = self.takers();
        let wants = |i: &usize| self.peers[*i].joiner.as_ref().is_some_and(|joiner| joiner.wants_part);
        if self.plan.load != Load::Total || !takers.iter().any(wants) {
            return Vec::new();
        }
        let at = self.release_at();
        let capacity: f64 = takers.iter().map(|i| self.peers[*i].capacity).sum();
        let mut drafts = Vec::new();
        for scenario in self.movable_scenarios(at) {
            let share = |i: usize| &self.peers[i].lanes[scenario as usize];
            let all: usize = takers.iter().map(|i| share(*i).owned.len()).sum();
            for i in takers.iter().copied() {
                let part = if capacity > 0.0 {
                    self.peers[i].capacity / capacity
                } else {
                    1.0 / takers.len() as f64
                };
                let (held, ideal) = (share(i).owned.len() as f64, part * all as f64);
                let surplus = (held - ideal).floor();
                if surplus < 1.0 {
                    continue;
                }
                let release = over_weights(share(i), &[held - surplus, surplus])
                    .pop()
                    .unwrap_or_else(|| share(i).clone());
                if !release.is_empty() {
                    let order =
                        Move { number: 0, scenario, from: at, release: release.owned, take: Vec::new() };
                    drafts.push(Draft { peer: i, order, is_fixed: false, is_in_gap: false });
                }
            }
        }
        for i in takers {
            if let Some(joiner) = &mut self.peers[i].joiner {
                joiner.wants_part = false;
            }
        }
        drafts
    }

    /// Who can take lanes now.
    fn takers(&self) -> Vec<usize> {
        let can = |i: &usize| {
            let peer = &self.peers[*i];
            let has_room = self.moving.orders.len() < MOVES_MAX;
            let is_going = !peer.is_over() && peer.fault.is_none() && peer.state.start_late_us.is_some();
            let is_there = !peer.is_draining && !peer.is_gone && peer.link.is_up();
            has_room && is_going && is_there && !peer.is_apart()
        };
        (0..self.peers.len()).filter(can).collect()
    }

    pub(super) fn movable_scenarios(&self, at: RunTime) -> Vec<u32> {
        let scenarios = self.plan.scenarios.iter().zip(0u32..);
        let can =
            scenarios.filter(|(scenario, index)| is_movable(&scenario.executor) && at < self.end_of(*index));
        can.map(|(_, index)| index).collect()
    }

    /// A moment by which, after whoever releases has confirmed it, the takers can be told too.
    fn release_at(&self) -> RunTime {
        let ahead_ns = AGENTS_LEAD_NS.saturating_add(self.moving.save_margin_ns);
        RunTime(self.move_at().0.saturating_add(ahead_ns / 1_000))
    }
}
