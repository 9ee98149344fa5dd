//! What goes wrong, and when. Each world draws some kinds of faults and how often they come (so that rare ones meet each other in some worlds, undisturbed by the rest);
//! after a while all of them cease, and everything is whole again.

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::seeds::RETURNED;
use crate::world::{Item, MS, SECOND, World, tell};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    StreamCut,
    WireBlack,
    WireSlow,
    MasterDies,
    MasterSleeps,
    AgentDies,
    AgentSleeps,
    AgentLeaves,
    AgentDrains,
    EtcdGone,
    EtcdWiped,
    AgentCutFromEtcd,
    MasterCutFromEtcd,
    WatchStuck,
    StoreFails,
    StoreSlow,
    WallSteps,
}

const KINDS: [(FaultKind, &str); 17] = [
    (FaultKind::StreamCut, "streams cut"),
    (FaultKind::WireBlack, "wires black"),
    (FaultKind::WireSlow, "wires slow"),
    (FaultKind::MasterDies, "masters died"),
    (FaultKind::MasterSleeps, "masters slept"),
    (FaultKind::AgentDies, "agents died"),
    (FaultKind::AgentSleeps, "agents slept"),
    (FaultKind::AgentLeaves, "agents left"),
    (FaultKind::AgentDrains, "agents drained"),
    (FaultKind::EtcdGone, "etcd gone"),
    (FaultKind::EtcdWiped, "etcd wiped"),
    (FaultKind::AgentCutFromEtcd, "agents cut from etcd"),
    (FaultKind::MasterCutFromEtcd, "masters cut from etcd"),
    (FaultKind::WatchStuck, "watches stuck"),
    (FaultKind::StoreFails, "stores failing"),
    (FaultKind::StoreSlow, "stores slow"),
    (FaultKind::WallSteps, "wall clocks set"),
];

/// See the module.
pub struct Faults {
    /// After it nothing goes wrong any more.
    pub until_ns: u64,
    /// Which, and how often on average.
    drawn: Vec<(FaultKind, u64)>,
    store_fails: (u64, u64),
    store_slow: (u64, u64),
    /// How far masters' wall clocks are apart at most.
    pub wall_apart_ms: u64,
    count: BTreeMap<FaultKind, u64>,
    /// Agents that were given up and told later what they had done.
    pub returned: u64,
}

impl Faults {
    pub fn draw(chance: &mut Chance) -> Self {
        let drawn = KINDS
            .iter()
            .filter_map(|(kind, _)| {
                let is_drawn = chance.percent(28);
                if is_drawn { Some((*kind, chance.pick(&[500, 1_500, 3_000, 6_000, 12_000]))) } else { None }
            })
            .collect();
        Self {
            until_ns: chance.between(2_000, 20_000) * MS,
            drawn,
            store_fails: (0, 0),
            store_slow: (0, 0),
            wall_apart_ms: chance.pick(&[0, 0, 5, 5, 2_000]),
            count: BTreeMap::new(),
            returned: 0,
        }
    }

    pub fn store_fails(&self, now_ns: u64, chance: &mut Chance) -> bool {
        now_ns < self.store_fails.0 && chance.percent(self.store_fails.1)
    }

    pub fn store_slow_ns(&self, now_ns: u64, chance: &mut Chance) -> u64 {
        if now_ns < self.store_slow.0 { chance.below(self.store_slow.1 * MS) } else { 0 }
    }

    pub fn lived(&self) -> Vec<(&'static str, u64)> {
        let kinds = KINDS.iter().map(|(kind, name)| (*name, self.count.get(kind).copied().unwrap_or(0)));
        kinds.chain([(RETURNED, self.returned)]).collect()
    }
}

impl World {
    pub fn begin_faults(&mut self) {
        let apart_ms = self.faults.wall_apart_ms;
        for master in &mut self.masters {
            master.wall_ahead_ms = self.chance.between(0, 2 * apart_ms) as i64 - apart_ms as i64;
        }
        for (kind, every_ms) in self.faults.drawn.clone() {
            let at_ns = 500 * MS + self.chance.about_ms(every_ms);
            self.agenda.at(at_ns, Item::Fault(kind));
        }
    }

    /// A time of about this length that ends before the faults cease.
    fn while_it_lasts(&mut self, least_ms: u64, most_ms: u64) -> u64 {
        let for_ns = self.chance.between(least_ms, most_ms) * MS;
        for_ns.min(self.faults.until_ns.saturating_sub(self.now_ns()))
    }

    pub fn fault(&mut self, kind: FaultKind) {
        let now_ns = self.now_ns();
        if now_ns >= self.faults.until_ns {
            return;
        }
        let every_ms =
            self.faults.drawn.iter().find(|(drawn, _)| *drawn == kind).map_or(1_000, |(_, ms)| *ms);
        let next_ns = self.chance.about_ms(every_ms);
        self.agenda.after(next_ns, Item::Fault(kind));
        *self.faults.count.entry(kind).or_default() += 1;
        let agent = self.chance.below(self.agents.len() as u64) as usize;
        let master = self.chance.below(self.masters.len() as u64) as usize;
        match kind {
            FaultKind::StreamCut => self.cut_a_stream(),
            FaultKind::WireBlack => {
                let for_ns = self.while_it_lasts(100, 9_000);
                let is_for_all = self.chance.percent(30);
                for one in 0..self.masters.len() {
                    if one == master || is_for_all {
                        self.black_out(one, agent, for_ns);
                    }
                }
            }
            FaultKind::WireSlow => {
                let (for_ns, slow_ms) = (self.while_it_lasts(500, 6_000), self.chance.between(20, 400));
                self.slow_down(master, agent, for_ns, slow_ms);
            }
            FaultKind::MasterDies => {
                self.master_dies(master);
                let again_ns = self.while_it_lasts(100, 5_000);
                self.agenda.after(again_ns, Item::MasterStarts { master });
            }
            FaultKind::MasterSleeps => {
                let for_ns = self.while_it_lasts(200, 9_000);
                tell!(self, "m{master} sleeps for {} ms", for_ns / MS);
                let node = &mut self.masters[master];
                node.asleep_until_ns = node.asleep_until_ns.max(now_ns + for_ns);
                self.lose_patience(for_ns, |key| key.master == master);
            }
            FaultKind::AgentDies => {
                let is_sudden = self.chance.percent(30);
                self.agent_dies(agent, is_sudden);
                self.perhaps_starts_again(agent);
            }
            FaultKind::AgentSleeps => {
                // Some for as long as it takes to be given up, and back while the run goes.
                let is_long = self.chance.percent(40);
                let for_ns = self.while_it_lasts(if is_long { 5_500 } else { 200 }, 9_000);
                tell!(self, "a{agent} sleeps for {} ms", for_ns / MS);
                let node = &mut self.agents[agent];
                node.asleep_until_ns = node.asleep_until_ns.max(now_ns + for_ns);
                self.lose_patience(for_ns, |key| key.agent == agent);
            }
            FaultKind::AgentLeaves => {
                self.agent_leaves(agent);
                self.perhaps_starts_again(agent);
            }
            FaultKind::AgentDrains => self.agent_drains(agent),
            FaultKind::EtcdWiped => self.wipe_registry(),
            FaultKind::EtcdGone => {
                let for_ns = self.while_it_lasts(300, 12_000);
                tell!(self, "etcd is gone for {} ms", for_ns / MS);
                self.registry.gone_until_ns = self.registry.gone_until_ns.max(now_ns + for_ns);
                self.tell_watches();
            }
            FaultKind::AgentCutFromEtcd => {
                let for_ns = self.while_it_lasts(500, 9_000);
                tell!(self, "a{agent} does not reach etcd for {} ms", for_ns / MS);
                self.registry.agents_cut_until_ns.insert(agent, now_ns + for_ns);
            }
            FaultKind::MasterCutFromEtcd => {
                let for_ns = self.while_it_lasts(500, 9_000);
                tell!(self, "m{master} does not reach etcd for {} ms", for_ns / MS);
                self.registry.masters_cut_until_ns.insert(master, now_ns + for_ns);
                self.tell_watch(master, MS);
            }
            FaultKind::WatchStuck => {
                let for_ns = self.while_it_lasts(500, 6_000);
                tell!(self, "m{master}'s watch is stuck for {} ms", for_ns / MS);
                self.registry.watch_stuck_until_ns.insert(master, now_ns + for_ns);
                self.tell_watch(master, MS);
            }
            FaultKind::StoreFails => {
                let for_ns = self.while_it_lasts(100, 4_000);
                self.faults.store_fails = (now_ns + for_ns, self.chance.pick(&[30, 60, 100]));
                tell!(self, "the store fails for {} ms", for_ns / MS);
            }
            FaultKind::StoreSlow => {
                let for_ns = self.while_it_lasts(500, 6_000);
                self.faults.store_slow = (now_ns + for_ns, self.chance.between(50, 2_500));
                tell!(self, "the store is slow for {} ms", for_ns / MS);
            }
            FaultKind::WallSteps => {
                let apart_ms = self.faults.wall_apart_ms;
                let ahead_ms = self.chance.between(0, 2 * apart_ms) as i64 - apart_ms as i64;
                self.masters[master].wall_ahead_ms = ahead_ms;
                self.agents[agent].wall_ahead_ms = self.chance.between(0, 4_000) as i64 - 2_000;
            }
        }
    }

    fn perhaps_starts_again(&mut self, agent: usize) {
        if self.chance.percent(70) {
            let again_ns = self.chance.between(100, 5_000) * MS;
            self.agenda.after(again_ns, Item::AgentStarts { agent });
        }
    }

    /// Its ends learn of it soon, or one of them as late as its own looking after the connection takes.
    fn cut_a_stream(&mut self) {
        let open: Vec<usize> = self.network.open_streams().collect();
        if open.is_empty() {
            return;
        }
        let place = self.chance.pick(&open);
        let soon_ns = |chance: &mut Chance| chance.below(30 * MS);
        let (master_ns, agent_ns) = match self.chance.below(4) {
            0 => (soon_ns(&mut self.chance), self.chance.below(15 * SECOND)),
            1 => (self.chance.below(4 * SECOND), soon_ns(&mut self.chance)),
            2 => (self.chance.below(4 * SECOND), self.chance.below(15 * SECOND)),
            _ => (soon_ns(&mut self.chance), soon_ns(&mut self.chance)),
        };
        self.cut(place, master_ns, agent_ns);
    }

    /// From now on everything works.
    pub fn calm(&mut self) {
        tell!(self, "all faults cease");
        let now_ns = self.now_ns();
        self.network.heal();
        self.registry.heal();
        (self.faults.store_fails, self.faults.store_slow) = ((0, 0), (0, 0));
        for master in 0..self.masters.len() {
            self.masters[master].asleep_until_ns = self.masters[master].asleep_until_ns.min(now_ns);
            self.master_starts(master);
        }
        for agent in 0..self.agents.len() {
            self.agents[agent].asleep_until_ns = self.agents[agent].asleep_until_ns.min(now_ns);
        }
        self.tell_watches();
    }
}
