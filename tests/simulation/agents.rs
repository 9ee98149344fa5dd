//! An agent: its lives, its clocks, its lease, and what all of its runs hear at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use volcanion_agent::session::fence::{Fence, Identity};
use volcanion_agent::session::machine::{Event, Now};
use volcanion_common::ids::{AgentId, Incarnation, RunId};
use volcanion_common::registry::{Member, MemberState};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::units::Micros;

use crate::chance::Chance;
use crate::oracle::Who;
use crate::sessions::Carried;
use crate::world::{Item, MS, SECOND, UNIX_MS, World, tell};

/// How often a run looks whether it may still load.
pub const TICK: u64 = 200 * MS;
/// How long an agent that leaves waits until its last deltas are durable.
const LEAVE_WAIT: u64 = 10 * SECOND;

/// One agent, through all its lives.
pub struct AgentNode {
    pub name: AgentId,
    pub life: u32,
    pub is_alive: bool,
    pub asleep_until_ns: u64,
    /// Until when its registry entry is sure to be there, on its own clock.
    pub lease_until_ns: u64,
    pub is_leaving: bool,
    pub is_draining: bool,
    pub identity: Arc<Identity>,
    pub fence: Fence,
    pub runs: BTreeMap<RunId, Carried>,
    monotonic_at_0: u64,
    pub wall_ahead_ms: i64,
    capacity: f64,
    cores: u32,
    pub orphan_timeout: Micros,
    pub engines: u32,
    pub looks: u64,
}

impl AgentNode {
    pub fn new(number: usize, chance: &mut Chance) -> Self {
        let name = AgentId(format!("a{number}"));
        let identity = identity(&name, number, 0);
        Self {
            name,
            life: 0,
            is_alive: false,
            asleep_until_ns: 0,
            lease_until_ns: 0,
            is_leaving: false,
            is_draining: false,
            fence: Fence::new((*identity).clone()),
            identity,
            runs: BTreeMap::new(),
            monotonic_at_0: (7 + number as u64) * 1_000 * SECOND + chance.below(2_000 * SECOND),
            wall_ahead_ms: chance.between(0, 4_000) as i64 - 2_000,
            capacity: chance.pick(&[1.0, 1.0, 2.0, 4.0]),
            cores: chance.pick(&[1, 2, 4]),
            orphan_timeout: Micros::from_secs(chance.pick(&[2, 6, 10, 30, 30])),
            engines: 0,
            looks: 0,
        }
    }

    pub fn monotonic_ns(&self, world_ns: u64) -> u64 {
        self.monotonic_at_0 + world_ns
    }

    pub fn world_ns(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.monotonic_at_0)
    }

    pub fn now(&self, world_ns: u64) -> Now {
        let unix_ms = (UNIX_MS + world_ns / MS).saturating_add_signed(self.wall_ahead_ms);
        Now { monotonic_ns: self.monotonic_ns(world_ns), unix_ms }
    }

    pub fn incarnation(&self) -> Incarnation {
        self.identity.incarnation
    }

    pub fn who(&self) -> Who {
        (self.name.clone(), self.incarnation())
    }

    pub fn member(&self) -> Member {
        let state = match (self.is_leaving || self.is_draining, self.runs.is_empty()) {
            (true, _) => MemberState::Draining,
            (false, true) => MemberState::Ready,
            (false, false) => MemberState::Busy,
        };
        Member {
            id: self.name.clone(),
            incarnation: self.incarnation(),
            address: "127.0.0.1:1".to_owned(),
            metrics_address: None,
            version: "0".to_owned(),
            labels: BTreeMap::new(),
            cores: self.cores,
            capacity: self.capacity,
            requests_per_s: None,
            state,
        }
    }
}

fn identity(name: &AgentId, number: usize, life: u32) -> Arc<Identity> {
    let incarnation = Incarnation((number as u64 + 1) * 1_000 + u64::from(life));
    Arc::new(Identity::new(name.clone(), incarnation, ClusterKey::open()))
}

impl World {
    pub fn agent_starts(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        if node.is_alive {
            return;
        }
        node.is_alive = true;
        node.life += 1;
        node.identity = identity(&node.name, agent, node.life);
        node.fence = Fence::new((*node.identity).clone());
        node.lease_until_ns = 0;
        node.asleep_until_ns = 0;
        (node.is_leaving, node.is_draining) = (false, false);
        let life = node.life;
        tell!(self, "a{agent} starts as {}", self.agents[agent].incarnation());
        self.renew(agent, life);
        let first = self.chance.below(TICK);
        self.agenda.after(first, Item::AgentTick { agent, life });
    }

    /// The process is gone, and all that it knew.
    pub fn agent_dies(&mut self, agent: usize, is_sudden: bool) {
        let node = &mut self.agents[agent];
        if !node.is_alive {
            return;
        }
        node.is_alive = false;
        node.life += 1;
        node.asleep_until_ns = 0;
        let runs = std::mem::take(&mut node.runs);
        let who = node.who();
        tell!(self, "a{agent} dies");
        for run in runs.keys() {
            if let Some(truth) = self.oracle.runs.get_mut(run) {
                truth.let_go(&who);
            }
        }
        let open: Vec<usize> = self.network.open_streams().collect();
        for place in open {
            if self.key_of(place).agent == agent {
                self.network.streams[place].is_agent_open = false;
                let after_ns =
                    if is_sudden { self.chance.between(2_000, 4_000) } else { self.chance.between(1, 40) }
                        * MS;
                self.cut(place, after_ns, 0);
            }
        }
    }

    /// It is told to leave: it ends its runs, waits until all is durable, and goes.
    pub fn agent_leaves(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        if !node.is_alive || node.is_leaving {
            return;
        }
        tell!(self, "a{agent} is told to leave");
        let node = &mut self.agents[agent];
        node.is_leaving = true;
        let life = node.life;
        let runs: Vec<RunId> = node.runs.keys().copied().collect();
        runs.into_iter().for_each(|run| self.session_event(agent, run, Event::Leave));
        self.agenda.after(LEAVE_WAIT, Item::AgentEnds { agent, life });
        self.end_if_left(agent);
    }

    /// It is told to drain: it hands over what is elastic, takes no new run, and stays.
    pub fn agent_drains(&mut self, agent: usize) {
        let node = &mut self.agents[agent];
        if !node.is_alive || node.is_leaving || std::mem::replace(&mut node.is_draining, true) {
            return;
        }
        tell!(self, "a{agent} drains");
        let runs: Vec<RunId> = self.agents[agent].runs.keys().copied().collect();
        runs.into_iter().for_each(|run| self.session_event(agent, run, Event::Drain));
    }

    pub fn end_if_left(&mut self, agent: usize) {
        let node = &self.agents[agent];
        if node.is_alive && node.is_leaving && node.runs.is_empty() {
            self.agent_ends(agent, node.life);
        }
    }

    pub fn agent_ends(&mut self, agent: usize, life: u32) {
        if self.agents[agent].life == life && self.agents[agent].is_alive {
            self.leave_registry(agent);
            self.agent_dies(agent, false);
        }
    }

    pub fn agent_tick(&mut self, agent: usize, life: u32) {
        let node = &self.agents[agent];
        if node.life != life {
            return;
        }
        self.agenda.after(TICK, Item::AgentTick { agent, life });
        let lease_until_ns = node.lease_until_ns;
        let now_ns = node.monotonic_ns(self.now_ns());
        let lease_until_ns = if lease_until_ns > now_ns { lease_until_ns } else { 0 };
        let runs: Vec<RunId> = node.runs.keys().copied().collect();
        runs.into_iter().for_each(|run| self.session_event(agent, run, Event::Tick { lease_until_ns }));
    }
}
