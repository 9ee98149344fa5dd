//! Agents that join an elastic run while it goes. Whoever joins is made durable first, then prepared without a lane and started on the run's own time; what it gets comes to it
//! as lanes that move: of `load: total` its part of everybody's, of `load: per_agent` a further copy of the plan, whose lanes are nobody else's.
//!
//! Invariants: the first agents' lanes are found again from the record, whoever joined; one that fails before it had a lane leaves no gap and fails nothing.

use std::sync::Arc;

use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::plan::{Load, Plan};
use volcanion_common::registry::Member;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::split::{Weight, split};
use volcanion_common::units::Micros;
use volcanion_common::validate::ValidPlan;

use super::action::SaveJoins;
use super::peer::Peer;
use super::saving::Pause;
use super::{Action, NewRun, Phase, RunMachine};

/// The most agents that ever take part in a run.
const PEERS_MAX: usize = 4_096;
/// A run that ends sooner takes nobody in.
const WORTHWHILE: Micros = Micros::from_secs(2);

/// A run's joiners.
pub(super) struct Joining {
    /// As written: before it was multiplied for `per_agent`.
    plan: Arc<ValidPlan>,
    first: Vec<Member>,
    /// Durable ones, in the order of their joining.
    joined: Vec<Member>,
    candidates: Vec<Member>,
    in_flight: Vec<Member>,
    batch: u64,
    pause: Pause,
}

/// What sets a joiner apart from the first agents.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    /// It has a copy of the plan to itself: its lanes are nobody else's.
    pub is_apart: bool,
    pub first_vu: u64,
    /// For each scenario, how many lanes it is to be ready for.
    pub ready_for: Vec<u32>,
    /// It has not got its part yet.
    pub wants_part: bool,
}

impl Joining {
    pub fn new(run: &NewRun) -> Self {
        Self {
            plan: Arc::clone(&run.plan),
            first: run.members.clone(),
            joined: Vec::new(),
            candidates: Vec::new(),
            in_flight: Vec::new(),
            batch: 0,
            pause: Pause::default(),
        }
    }

    pub fn wake_ns(&self) -> Option<u64> {
        self.pause.until_ns()
    }

    /// What joiners are told of the plan.
    pub fn plan(&self) -> &Plan {
        self.plan.plan()
    }
}

impl RunMachine {
    /// Who could join now.
    pub(super) fn candidates(&mut self, members: Vec<Member>) {
        if self.plan.elastic {
            self.joining.candidates = members;
        }
    }

    /// Goes on with the joiners that are durable.
    pub(super) fn resume_joined(&mut self, joined: Vec<Member>) {
        joined.iter().for_each(|member| self.take_in(member));
        self.joining.joined = joined;
    }

    pub(super) fn advance_joins(&mut self) {
        let now_ns = self.now.monotonic_ns;
        if !self.joining.in_flight.is_empty() || !self.joining.pause.is_over(now_ns) {
            return;
        }
        self.joining.pause.end();
        let is_worthwhile = self.run_now().plus(WORTHWHILE) < self.planned_end();
        if self.phase != Phase::Running
            || self.stop.is_some()
            || now_ns < self.hold_until_ns
            || !is_worthwhile
            || self.movable_scenarios(self.run_now()).is_empty()
        {
            return;
        }
        let going = self.peers.iter().filter(|peer| !peer.is_over() && !peer.is_draining).count();
        let wanted = self.plan.agents.count.map_or(PEERS_MAX, |count| count as usize).saturating_sub(going);
        let room = PEERS_MAX.saturating_sub(self.peers.len()).min(wanted);
        let new: Vec<Member> = self
            .joining
            .candidates
            .iter()
            .filter(|member| self.is_stranger(member))
            .take(room)
            .cloned()
            .collect();
        if new.is_empty() {
            return;
        }
        self.joining.batch += 1;
        let joined = self.joining.joined.iter().chain(&new).cloned().collect();
        self.joining.in_flight = new;
        let (batch, first) = (self.joining.batch, self.joining.first.clone());
        self.out.push(Action::SaveJoins(SaveJoins { batch, first, joined }));
    }

    pub(super) fn joins_saved(&mut self, batch: u64) {
        if batch != self.joining.batch {
            return;
        }
        self.joining.pause = Pause::default();
        for member in std::mem::take(&mut self.joining.in_flight) {
            // Nobody has heard of one that comes too late.
            if self.phase == Phase::Running && self.stop.is_none() {
                self.take_in(&member);
            }
            self.joining.joined.push(member);
        }
    }

    /// Nobody has heard of them: whoever is still there then is asked for anew.
    pub(super) fn joins_failed(&mut self, batch: u64, fenced: bool) {
        if fenced {
            return self.step_down();
        }
        if batch == self.joining.batch {
            self.joining.in_flight.clear();
            self.joining.pause.failed(self.now.monotonic_ns);
        }
    }

    /// A process takes part once, and a name has one process that is not over.
    fn is_stranger(&self, member: &Member) -> bool {
        let is_past = |i: &usize| {
            let peer = &self.peers[*i];
            peer.is_over() && peer.durable >= peer.state.seq && peer.link.stream().is_none()
        };
        self.by_name.get(&member.id).is_none_or(is_past)
            && self.peer_of(&member.id, member.incarnation).is_none()
    }

    /// The place of a process.
    pub(super) fn peer_of(&self, agent: &AgentId, incarnation: Incarnation) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id() == agent && peer.state.incarnation == incarnation)
    }

    /// Adds an agent without a lane; it is connected to next.
    fn take_in(&mut self, member: &Member) {
        let is_apart = self.plan.load == Load::PerAgent;
        let weight = Weight { cores: member.cores, capacity: member.capacity };
        // Of a copy of the plan all lanes are its own; else there are those that the first agents share.
        let of_copy = || split(&self.joining.plan, &[weight]).1.into_iter().next();
        let of_all = || self.peers.first().map(|first| first.shares.clone());
        let shares = if is_apart { of_copy() } else { of_all() }.unwrap_or_default();
        let going: f64 = self.peers.iter().filter(|peer| !peer.is_over()).map(|peer| peer.capacity).sum();
        let part = if is_apart || going <= 0.0 { 1.0 } else { member.capacity / (going + member.capacity) };
        let ready_for = shares.iter().map(|share| (f64::from(share.lanes) * part).ceil() as u32).collect();
        let shares =
            shares.into_iter().map(|share| ScenarioShare { lanes: share.lanes, owned: Vec::new() }).collect();
        let mut peer = Peer::new(member, shares, self.joining.plan());
        let copies = self.peers.iter().filter(|peer| peer.joiner.is_some()).count() as u64;
        let first_vu =
            || most_vus(&self.plan).saturating_add(copies.saturating_mul(most_vus(self.joining.plan())));
        peer.joiner = Some(Joiner {
            is_apart,
            first_vu: if is_apart { first_vu() } else { 0 },
            ready_for,
            wants_part: true,
        });
        peer.state.reported_to = self.run_now().max(self.collector.total().to);
        self.has_ordered(&mut peer);
        self.by_name.insert(member.id.clone(), self.peers.len());
        self.collector.add_agent();
        self.peers.push(peer);
    }

    /// After a take-over: of two processes of a name the first is past, though its end may not have become durable.
    pub(super) fn lose_replaced(&mut self) {
        for i in 0..self.peers.len() {
            if self.by_name.get(self.peers[i].id()) != Some(&i) {
                self.lose(i, "another process has its name");
            }
        }
    }

    /// Ends the part of a joiner that never had any: nothing is missing of it.
    pub(super) fn dismiss(&mut self, i: usize, reason: &str) {
        let peer = &mut self.peers[i];
        peer.state.last_seq = Some(peer.state.seq);
        peer.fault = None;
        self.collector.note(i, &peer.state);
        self.send(i, volcanion_common::session::Order::Release);
        self.hang_up(i);
        if self.phase == Phase::Running {
            self.warn(
                "join_failed",
                Some(i),
                format!("the agent was to join the run and could not: {reason}"),
            );
        }
    }

    /// Those that never had a part are not awaited at the end.
    pub(super) fn dismiss_idle(&mut self) {
        for i in 0..self.peers.len() {
            if self.peers[i].is_idle_joiner() && !self.peers[i].is_over() {
                self.dismiss(i, "the run is over");
            }
        }
    }
}

/// VUs that a plan numbers.
fn most_vus(plan: &Plan) -> u64 {
    plan.scenarios.iter().map(|scenario| scenario.executor.max_vus()).max().unwrap_or(0)
}
