//! etcd: agents' entries under leases, masters' watches, and who is elected. It may be gone, unreachable for some, slow to tell, or take a lease away.

use std::collections::BTreeMap;

use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::registry::Member;

use crate::masters::{Office, View};
use crate::world::{Item, MS, SECOND, World, tell};

const LEASE: u64 = 3 * SECOND;
const RENEW_EVERY: u64 = SECOND;
const ELECTION_EVERY: u64 = 400 * MS;
/// A watch that hears nothing for so long says that it is not connected.
const WATCH_SILENT: u64 = 2 * SECOND;

/// See the module.
#[derive(Default)]
pub struct Registry {
    /// By agent's name: its entry, and until when its lease holds.
    entries: BTreeMap<AgentId, (Member, u64)>,
    pub gone_until_ns: u64,
    /// It was made anew from nothing: until then a watch does not take whoever is not there for gone.
    pub doubted_until_ns: u64,
    /// For agents and masters, until when they do not reach it.
    pub agents_cut_until_ns: BTreeMap<usize, u64>,
    pub masters_cut_until_ns: BTreeMap<usize, u64>,
    /// Until when a master's watch tells nothing, though it counts as connected.
    pub watch_stuck_until_ns: BTreeMap<usize, u64>,
    elected: Option<(usize, u32)>,
}

impl Registry {
    pub fn entry(&self, name: &AgentId) -> Option<Incarnation> {
        self.entries.get(name).map(|(member, _)| member.incarnation)
    }

    fn is_gone(&self, now_ns: u64) -> bool {
        self.gone_until_ns > now_ns
    }

    fn reaches(&self, cut: &BTreeMap<usize, u64>, node: usize, now_ns: u64) -> bool {
        !self.is_gone(now_ns) && cut.get(&node).is_none_or(|until_ns| *until_ns <= now_ns)
    }

    pub fn heal(&mut self) {
        self.gone_until_ns = 0;
        self.agents_cut_until_ns.clear();
        self.masters_cut_until_ns.clear();
        self.watch_stuck_until_ns.clear();
    }
}

impl World {
    /// An agent renews its lease, or enters itself again.
    pub fn renew(&mut self, agent: usize, life: u32) {
        if self.agents[agent].life != life {
            return;
        }
        self.agenda.after(RENEW_EVERY, Item::Renew { agent, life });
        let sent_ns = self.now_ns();
        let delay = self.chance.between(100_000, 20 * MS);
        self.agenda.after(delay, Item::RenewArrived { agent, life, sent_ns });
    }

    pub fn renew_arrived(&mut self, agent: usize, life: u32, sent_ns: u64) {
        let now_ns = self.now_ns();
        let node = &self.agents[agent];
        if node.life != life || !self.registry.reaches(&self.registry.agents_cut_until_ns, agent, now_ns) {
            return;
        }
        let member = node.member();
        let (name, incarnation) = (member.id.clone(), member.incarnation);
        if self.registry.entry(&name).is_some_and(|there| there != incarnation) {
            // Another process has the name, until its lease ends.
            return;
        }
        // One whose lease is no more is told so, and enters itself anew.
        let before = self.registry.entries.insert(name, (member.clone(), now_ns + LEASE));
        self.agenda.at(now_ns + LEASE, Item::LeaseEnds { agent, incarnation });
        if before.is_none_or(|(before, _)| before != member) {
            self.tell_watches();
        }
        let delay = self.chance.between(100_000, 20 * MS);
        self.agenda.after(delay, Item::RenewAnswered { agent, life, sent_ns });
    }

    pub fn renew_answered(&mut self, agent: usize, life: u32, sent_ns: u64) {
        if self.agents[agent].life == life {
            let until_ns = self.agents[agent].monotonic_ns(sent_ns) + LEASE;
            self.agents[agent].lease_until_ns = self.agents[agent].lease_until_ns.max(until_ns);
        }
    }

    pub fn lease_ends(&mut self, agent: usize, incarnation: Incarnation) {
        let now_ns = self.now_ns();
        let name = self.agents[agent].name.clone();
        let Some((member, until_ns)) = self.registry.entries.get_mut(&name) else { return };
        if member.incarnation != incarnation || *until_ns > now_ns {
            return;
        }
        if self.registry.gone_until_ns > now_ns {
            // Whoever leads an etcd that is back gives every lease its whole time again.
            let until = self.registry.gone_until_ns + LEASE;
            *until_ns = until;
            return self.agenda.at(until, Item::LeaseEnds { agent, incarnation });
        }
        self.registry.entries.remove(&name);
        tell!(self, "etcd: the lease of {name} ends");
        self.tell_watches();
    }

    /// A lease ends before its time, as after a revocation: the agent learns of it at its next renewal only, but its own count is never beyond the lease.
    pub fn leave_registry(&mut self, agent: usize) {
        let (name, incarnation) = (self.agents[agent].name.clone(), self.agents[agent].incarnation());
        if self.registry.entry(&name) == Some(incarnation) {
            self.registry.entries.remove(&name);
            self.tell_watches();
        }
    }

    /// Nothing is left of it, leases and election included. Who counts on its lease learns of that at its next renewal.
    pub fn wipe_registry(&mut self) {
        let now_ns = self.now_ns();
        tell!(self, "etcd is another one, without a past");
        self.registry.entries.clear();
        self.registry.elected = None;
        self.registry.doubted_until_ns = now_ns + LEASE;
        self.tell_watches();
    }

    /// Something has changed: each master hears of it, sooner or later.
    pub fn tell_watches(&mut self) {
        for master in 0..self.masters.len() {
            let delay = self.chance.between(MS, 60 * MS);
            self.tell_watch(master, delay);
        }
    }

    pub fn tell_watch(&mut self, master: usize, delay_ns: u64) {
        let now_ns = self.now_ns();
        let stuck_ns = self.registry.watch_stuck_until_ns.get(&master).copied().unwrap_or(0);
        let cut_ns = self.registry.masters_cut_until_ns.get(&master).copied().unwrap_or(0);
        let at_ns = (now_ns + delay_ns).max(stuck_ns).max(cut_ns).max(self.registry.gone_until_ns);
        let life = self.masters[master].life;
        let doubted_ns = self.registry.doubted_until_ns;
        if doubted_ns > at_ns {
            let view = View { is_connected: false, members: self.masters[master].view.members.clone() };
            self.agenda.at(at_ns, Item::Viewed { master, life, view });
        }
        let at_ns = at_ns.max(doubted_ns);
        if cut_ns.max(self.registry.gone_until_ns) > now_ns + WATCH_SILENT {
            let view = View { is_connected: false, members: self.masters[master].view.members.clone() };
            self.agenda.after(WATCH_SILENT, Item::Viewed { master, life, view });
        }
        // What is told then is what is there then.
        let view = View { is_connected: true, members: BTreeMap::new() };
        self.agenda.at(at_ns, Item::Viewed { master, life, view });
    }

    pub fn members_now(&self) -> BTreeMap<AgentId, Member> {
        self.registry.entries.iter().map(|(name, (member, _))| (name.clone(), member.clone())).collect()
    }

    /// Who is elected now; an elected master that etcd has not heard for a while is replaced.
    pub fn election(&mut self) {
        self.agenda.after(ELECTION_EVERY, Item::Election);
        let now_ns = self.now_ns();
        if self.registry.is_gone(now_ns) {
            return;
        }
        let is_heard = |master: usize| {
            let node = &self.masters[master];
            node.is_alive
                && node.asleep_until_ns <= now_ns
                && self.registry.reaches(&self.registry.masters_cut_until_ns, master, now_ns)
        };
        let elected = self.registry.elected;
        let stands = elected.is_some_and(|(master, life)| {
            let node = &self.masters[master];
            let is_there = node.life == life && node.is_alive && !node.has_resigned;
            is_there && (is_heard(master) || now_ns < node.heard_by_etcd_ns + LEASE)
        });
        let heard: Vec<usize> = (0..self.masters.len()).filter(|master| is_heard(*master)).collect();
        heard.iter().for_each(|master| self.masters[*master].heard_by_etcd_ns = now_ns);
        if stands || heard.is_empty() {
            return;
        }
        let master = self.chance.pick(&heard);
        let node = &mut self.masters[master];
        node.has_resigned = false;
        self.registry.elected = Some((master, node.life));
        // One that leads still, as it has never heard of its loss, begins a new term.
        if !matches!(node.office, Office::Raising) {
            let life = node.life;
            node.office = Office::Raising;
            tell!(self, "m{master} is elected");
            self.leave_all_runs(master);
            self.agenda.after(self.now_ns() % 7 * MS + MS, Item::Raise { master, life });
        }
    }
}
