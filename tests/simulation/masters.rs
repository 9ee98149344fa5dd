//! A master: its lives, its term of office, what it takes up, and what it sees of the registry.

use std::collections::BTreeMap;

use volcanion_common::ids::{AgentId, Epoch, RunId};
use volcanion_common::registry::{Member, MemberState};
use volcanion_master::run::machine::{Event, NewRun, Now, RunMachine, TakenUp};

use crate::chance::Chance;
use crate::drivers::Driver;
use crate::world::{Item, MS, SECOND, UNIX_MS, World, tell};

/// How long a master that takes runs up waits for their agents to show themselves.
const APPEAR_TIMEOUT: u64 = 3 * SECOND;
/// The pause after the store did not let it take office, or a run be taken up.
const AGAIN_AFTER: u64 = SECOND;
/// How often a master looks whether it still leads.
const LOOK_EVERY: u64 = 2 * SECOND;
/// What a master sees of the registry.
#[derive(Clone, Default)]
pub struct View {
    pub is_connected: bool,
    pub members: BTreeMap<AgentId, Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    Standby,
    Raising,
    Leading { epoch: u64 },
}

/// One master, through all its lives.
pub struct MasterNode {
    pub life: u32,
    pub is_alive: bool,
    pub asleep_until_ns: u64,
    pub office: Office,
    pub view: View,
    pub heard_by_etcd_ns: u64,
    pub has_resigned: bool,
    /// Its monotonic clock where the world's is 0, and its wall clock against the world's.
    monotonic_at_0: u64,
    pub wall_ahead_ms: i64,
    pub drivers: BTreeMap<RunId, Driver>,
}

impl MasterNode {
    pub fn new(number: usize, chance: &mut Chance) -> Self {
        Self {
            life: 0,
            is_alive: true,
            asleep_until_ns: 0,
            office: Office::Standby,
            view: View::default(),
            heard_by_etcd_ns: 0,
            has_resigned: false,
            monotonic_at_0: (1 + number as u64) * 100 * SECOND + chance.below(1_000 * SECOND),
            wall_ahead_ms: 0,
            drivers: BTreeMap::new(),
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

    pub fn runs(&self) -> impl Iterator<Item = RunId> {
        self.drivers.keys().copied()
    }
}

impl World {
    pub fn master_starts(&mut self, master: usize) {
        let node = &mut self.masters[master];
        if !node.is_alive {
            node.is_alive = true;
            node.life += 1;
            // Another process, perhaps on another machine.
            node.monotonic_at_0 = 5 * SECOND + self.chance.below(5_000 * SECOND);
            node.office = Office::Standby;
            node.view = View::default();
            node.asleep_until_ns = 0;
            tell!(self, "m{master} starts");
            self.tell_watch(master, 30 * MS);
        }
    }

    /// The process is gone, and all that it knew. Its agents learn of it soon, or where its machine is gone too, late.
    pub fn master_dies(&mut self, master: usize) {
        let node = &mut self.masters[master];
        if !node.is_alive {
            return;
        }
        node.is_alive = false;
        node.life += 1;
        node.office = Office::Standby;
        node.drivers.clear();
        tell!(self, "m{master} dies");
        let is_sudden = self.chance.percent(30);
        let open: Vec<usize> = self.network.open_streams().collect();
        for place in open {
            if self.key_of(place).master == master && self.network.streams[place].is_master_open {
                self.network.streams[place].is_master_open = false;
                let after_ns = if is_sudden {
                    self.chance.between(5_000, 15_000) * MS
                } else {
                    self.chance.between(1, 40) * MS
                };
                self.cut(place, 0, after_ns);
            }
        }
    }

    /// It leaves its runs to others.
    pub fn leave_all_runs(&mut self, master: usize) {
        let drivers = std::mem::take(&mut self.masters[master].drivers);
        for (_, driver) in drivers {
            driver.sessions.values().for_each(|(_, key)| self.close_at_master(*key));
        }
    }

    pub fn steps_down(&mut self, master: usize) {
        tell!(self, "m{master} steps down");
        self.leave_all_runs(master);
        let node = &mut self.masters[master];
        node.office = Office::Standby;
        node.has_resigned = true;
    }

    /// Takes office: the epoch first, in the store.
    pub fn raise(&mut self, master: usize, life: u32) {
        if self.masters[master].life != life || self.masters[master].office != Office::Raising {
            return;
        }
        if self.store_fails() {
            if self.chance.percent(30) {
                // Raised, and the answer was lost.
                self.store.raise_epoch();
            }
            return self.agenda.after(500 * MS, Item::Raise { master, life });
        }
        let epoch = self.store.raise_epoch();
        tell!(self, "m{master} raises the epoch to {epoch}");
        let pause_ns = self.chance.about_ms(8);
        self.agenda.after(pause_ns, Item::Read { master, life, epoch });
    }

    /// Reads what the last master left, and takes it up.
    pub fn read(&mut self, master: usize, life: u32, epoch: u64) {
        if self.masters[master].life != life || self.masters[master].office != Office::Raising {
            return;
        }
        if self.store_fails() {
            return self.agenda.after(500 * MS, Item::Read { master, life, epoch });
        }
        let unended = self.store.unended();
        if unended.iter().any(|_| self.store_fails()) {
            tell!(self, "m{master} cannot take a run up, and takes office anew");
            return self.agenda.after(AGAIN_AFTER, Item::Raise { master, life });
        }
        self.masters[master].office = Office::Leading { epoch };
        tell!(self, "m{master} leads");
        self.agenda.after(LOOK_EVERY, Item::WatchOffice { master, life });
        let until_ns = self.now_ns() + APPEAR_TIMEOUT;
        for run in unended {
            if let Some(taken) = self.store.taken_up(run, epoch, &self.key) {
                self.agenda.after(1, Item::TakeUp { master, life, taken: Box::new(taken), until_ns });
            }
        }
    }

    /// Takes a run up as soon as all its agents show themselves, and after a while in any case.
    pub fn take_up(&mut self, master: usize, life: u32, taken: Box<TakenUp>, until_ns: u64) {
        let epoch = taken.run.epoch.0;
        let node = &self.masters[master];
        if node.life != life || node.office != (Office::Leading { epoch }) {
            return;
        }
        let is_there = |member: &Member| {
            node.view.members.get(&member.id).is_some_and(|m| m.incarnation == member.incarnation)
        };
        if self.now_ns() < until_ns && !taken.run.members.iter().all(is_there) {
            return self.agenda.after(50 * MS, Item::TakeUp { master, life, taken, until_ns });
        }
        let (run, members) = (taken.run.run, taken.run.members.clone());
        let now = node.now(self.now_ns());
        tell!(
            self,
            "m{master} takes {run} up, {} {:?}",
            taken.status.name(),
            taken.start_at_unix_us.is_some()
        );
        if let Some(truth) = self.oracle.runs.get_mut(&run) {
            truth.take_overs += 1;
        }
        let (machine, actions) = RunMachine::resume(*taken, now);
        self.drive(master, run, epoch, machine, members, actions);
        self.look_at_fleet(master, run);
    }

    pub fn watch_office(&mut self, master: usize, life: u32) {
        let node = &self.masters[master];
        let Office::Leading { epoch } = node.office else { return };
        if node.life != life {
            return;
        }
        if !self.store_fails() && self.store.epoch > epoch {
            return self.steps_down(master);
        }
        self.agenda.after(LOOK_EVERY, Item::WatchOffice { master, life });
    }

    /// A run was accepted: its record is durable.
    pub fn begin_run(&mut self, master: usize, new: NewRun) {
        let (run, epoch, members) = (new.run, new.epoch.0, new.members.clone());
        let now = self.masters[master].now(self.now_ns());
        let (machine, actions) = RunMachine::new(new, now);
        self.drive(master, run, epoch, machine, members, actions);
    }

    pub fn viewed(&mut self, master: usize, life: u32, view: View) {
        if self.masters[master].life != life || !self.masters[master].is_alive {
            return;
        }
        // What was on its way when etcd was made anew is told of the new one.
        let is_connected = view.is_connected && self.now_ns() >= self.registry.doubted_until_ns;
        let members =
            if is_connected { self.members_now() } else { self.masters[master].view.members.clone() };
        self.masters[master].view = View { is_connected, members };
        let runs: Vec<RunId> = self.masters[master].runs().collect();
        runs.into_iter().for_each(|run| self.look_at_fleet(master, run));
    }

    /// Says of each of the run's agents whether it is in the registry, where that is known.
    fn look_at_fleet(&mut self, master: usize, run: RunId) {
        let node = &self.masters[master];
        let (Some(driver), true) = (node.drivers.get(&run), node.view.is_connected) else { return };
        let members = node.view.members.values().filter(|member| member.state != MemberState::Draining);
        let candidates = Event::Candidates { members: members.cloned().collect() };
        let events: Vec<Event> = driver
            .members
            .iter()
            .map(|Member { id, incarnation, .. }| {
                let is_there = node.view.members.get(id).is_some_and(|m| m.incarnation == *incarnation);
                let (agent, incarnation) = (id.clone(), *incarnation);
                if is_there {
                    Event::MemberBack { agent, incarnation }
                } else {
                    Event::MemberGone { agent, incarnation }
                }
            })
            .chain([candidates])
            .collect();
        events.into_iter().for_each(|event| self.run_event(master, run, event));
    }
}

/// The epoch of a term.
pub fn epoch_of(office: Office) -> Option<Epoch> {
    match office {
        Office::Leading { epoch } => Some(Epoch(epoch)),
        Office::Standby | Office::Raising => None,
    }
}
