//! A run in the hands of a master: what its driver does for the coordinator. It carries out actions in order, brings what comes of them back as events, and writes one thing
//! after the other. The coordinators are the real ones.

use std::collections::{BTreeMap, VecDeque};

use volcanion_common::ids::{AgentId, RunId};
use volcanion_common::registry::Member;
use volcanion_common::session::Order;
use volcanion_master::run::machine::{Action, Event, RunMachine};

use crate::lanes;
use crate::network::StreamKey;
use crate::sabotage::Sabotage;
use crate::store::Write;
use crate::world::{Item, World, tell};

/// Writes of one run that may wait.
const WRITES_MAX: usize = 8;

/// One run in the hands of a master.
pub struct Driver {
    pub machine: RunMachine,
    pub epoch: u64,
    pub wake: u64,
    pub sessions: BTreeMap<AgentId, (u64, StreamKey)>,
    pub writes: VecDeque<Write>,
    pub is_writing: bool,
    /// Requests for another level that were not answered.
    pub asked: u64,
    pub members: Vec<Member>,
    /// The newest delta of each agent that came.
    pub taken: BTreeMap<AgentId, u64>,
}

/// What a writer hears of a write that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Said,
    /// The answer is lost.
    Lost,
    /// It was answered before.
    Already,
}

impl World {
    pub fn drive(
        &mut self,
        master: usize,
        run: RunId,
        epoch: u64,
        machine: RunMachine,
        members: Vec<Member>,
        actions: Vec<Action>,
    ) {
        let driver = Driver {
            machine,
            epoch,
            wake: 0,
            sessions: BTreeMap::new(),
            writes: VecDeque::new(),
            is_writing: false,
            asked: 0,
            members,
            taken: BTreeMap::new(),
        };
        self.masters[master].drivers.insert(run, driver);
        self.act_all(master, run, actions);
    }

    /// An event for a life of a master.
    pub fn run_event_of(&mut self, master: usize, life: u32, run: RunId, event: Event) {
        if self.masters[master].life == life && self.masters[master].is_alive {
            self.run_event(master, run, event);
        }
    }

    pub fn run_event(&mut self, master: usize, run: RunId, event: Event) {
        let now_ns = self.now_ns();
        let node = &mut self.masters[master];
        let now = node.now(now_ns);
        let Some(driver) = node.drivers.get_mut(&run) else { return };
        let event = self.sabotage.heard(event, &mut driver.taken);
        let actions = driver.machine.handle(event, now);
        self.act_all(master, run, actions);
    }

    pub fn wake(&mut self, master: usize, life: u32, run: RunId, number: u64) {
        let node = &self.masters[master];
        let is_newest = node.drivers.get(&run).is_some_and(|driver| driver.wake == number);
        if node.life == life && is_newest {
            self.run_event(master, run, Event::Tick);
        }
    }

    fn act_all(&mut self, master: usize, run: RunId, actions: Vec<Action>) {
        for action in actions {
            self.act(master, run, action);
        }
    }

    fn act(&mut self, master: usize, run: RunId, action: Action) {
        let now_ns = self.now_ns();
        let node = &mut self.masters[master];
        let life = node.life;
        let Some(driver) = node.drivers.get_mut(&run) else {
            return self.violate("an action follows the end".to_owned());
        };
        match action {
            Action::Connect { agent, stream, hello } => {
                let Some(to) = self.agents.iter().position(|node| node.name == agent) else { return };
                let durable = self.store.runs.get(&run).and_then(|stored| {
                    stored.agents.get(&(agent.clone(), hello.incarnation)).map(|state| state.seq)
                });
                if hello.last_seq > durable.unwrap_or_default() {
                    self.violate(format!("a Hello to {agent} says {} is durable", hello.last_seq));
                }
                let key = self.open_stream(master, to, stream, hello);
                if let Some(driver) = self.masters[master].drivers.get_mut(&run) {
                    driver.sessions.insert(agent, (stream, key));
                }
            }
            Action::Disconnect { agent, stream } => {
                let newest = driver.sessions.get(&agent).copied().filter(|(newest, _)| *newest == stream);
                if let Some((_, key)) = newest {
                    driver.sessions.remove(&agent);
                    self.close_at_master(key);
                }
            }
            Action::Send { agent, stream, order } => {
                let newest = driver.sessions.get(&agent).copied().filter(|(newest, _)| *newest == stream);
                self.check_order(run, &agent, &order);
                if let Some((_, key)) =
                    newest.filter(|(_, key)| self.network.streams[key.place].is_master_open)
                {
                    self.say_down(key, order);
                }
            }
            Action::MeasureClock { agent } => self.measure(master, run, &agent),
            Action::Save(save) => self.write(master, run, Write::Save(save)),
            Action::SaveChange(save) => self.write(master, run, Write::Change(save)),
            Action::SaveMoves(save) => self.write(master, run, Write::Moves(save)),
            Action::SaveJoins(save) => {
                for member in &save.joined {
                    let is_same = |m: &Member| (&m.id, m.incarnation) == (&member.id, member.incarnation);
                    if !driver.members.iter().any(is_same) {
                        driver.members.push(member.clone());
                    }
                }
                self.write(master, run, Write::Joins(save));
            }
            Action::Commit(part) => self.write(master, run, Write::Part(part)),
            Action::End(ending) => self.write(master, run, Write::End(ending)),
            Action::Adjusted { .. } => {
                driver.asked = driver.asked.saturating_sub(1);
            }
            Action::Publish { .. } => {}
            Action::Warn(warning) => {
                tell!(self, "m{master} warns: {} {}", warning.code, warning.message);
                self.faults.returned += u64::from(warning.code == "agent_returned");
            }
            Action::WakeAt { monotonic_ns } => {
                driver.wake += 1;
                let number = driver.wake;
                let at_ns = self.masters[master].world_ns(monotonic_ns).max(now_ns);
                self.agenda.at(at_ns, Item::Wake { master, life, run, number });
            }
            Action::StepDown => self.steps_down(master),
            Action::Done => {
                tell!(self, "m{master} is done with {run}");
                if let Some(driver) = self.masters[master].drivers.remove(&run) {
                    driver.sessions.values().for_each(|(_, key)| self.close_at_master(*key));
                }
            }
        }
    }

    /// An acknowledgement is of what is durable, a change that is ordered is too.
    fn check_order(&mut self, run: RunId, agent: &AgentId, order: &Order) {
        let Some(stored) = self.store.runs.get(&run) else { return };
        match order {
            Order::Move(order) if stored.moves.get(&order.number).map(|kept| &kept.order) != Some(order) => {
                self.violate(format!("{order:?} was told to {agent} before it was durable"));
            }
            Order::Ack(seq) => {
                let mut members = stored.members.iter().chain(&stored.joined).rev();
                let member = members.find(|member| member.id == *agent);
                let state = member.and_then(|m| stored.agents.get(&(m.id.clone(), m.incarnation)));
                if state.map(|state| state.seq).unwrap_or_default() < *seq {
                    self.violate(format!("{seq} of {agent} was acknowledged before it was durable"));
                }
            }
            Order::Adjust(change)
                if stored.changes.get(&change.number).map(|kept| kept.at) != Some(change.at) =>
            {
                self.violate(format!("change {} was ordered before it was durable", change.number));
            }
            Order::StartAt { .. } if stored.start_at_unix_us.is_none() => {
                self.violate("a start was ordered before it was durable".to_owned());
            }
            _ => {}
        }
    }

    fn measure(&mut self, master: usize, run: RunId, agent: &AgentId) {
        let Some(at) = self.agent_of(agent) else { return };
        let now_ns = self.now_ns();
        if self.network.is_black(master, at, now_ns) || !self.agents[at].is_alive {
            return;
        }
        let (there, back) = (self.delay(master, at), self.delay(master, at));
        // Halfway is what the four stamps take for it; the error is half the difference of the ways.
        let error_ns = (there as i64 - back as i64) / 2;
        let ours = self.masters[master].monotonic_ns(now_ns) as i64;
        let theirs = self.agents[at].monotonic_ns(now_ns) as i64;
        let round_trip_ns = there + back;
        if let Some(truth) = self.oracle.runs.get_mut(&run) {
            truth.round_trip_ns_max = truth.round_trip_ns_max.max(round_trip_ns);
        }
        let event =
            Event::ClockMeasured { agent: agent.clone(), offset_ns: theirs - ours + error_ns, round_trip_ns };
        let life = self.masters[master].life;
        self.agenda.after(round_trip_ns * 2, Item::Measured { master, life, run, event });
    }

    /// One after the other, in the order in which they were asked for.
    fn write(&mut self, master: usize, run: RunId, write: Write) {
        let Some(driver) = self.masters[master].drivers.get_mut(&run) else { return };
        driver.writes.push_back(write);
        if driver.writes.len() > WRITES_MAX {
            self.violate(format!("more than {WRITES_MAX} writes of a run wait"));
        }
        self.write_next(master, run);
    }

    fn write_next(&mut self, master: usize, run: RunId) {
        let Some(driver) = self.masters[master].drivers.get_mut(&run) else { return };
        if driver.is_writing {
            return;
        }
        let Some(write) = driver.writes.pop_front() else { return };
        driver.is_writing = true;
        let epoch = driver.epoch;
        self.submit(master, epoch, run, write);
    }

    /// A write goes to the store. It may be slow, it may be lost before or after it was done, and its writer may be gone by then.
    pub fn submit(&mut self, master: usize, epoch: u64, run: RunId, write: Write) {
        let write = self.sabotage.written(write);
        let life = self.masters[master].life;
        let slow_ns = self.faults.store_slow_ns(self.now_ns(), &mut self.chance);
        let done_ns = self.now_ns() + self.chance.about_ms(4) + slow_ns;
        let fails = self.store_fails();
        let is_lost = fails && (matches!(write, Write::Insert(_)) || self.chance.percent(50));
        if is_lost {
            let answer = Item::Answer { master, life, run, write, result: Err(false) };
            return self.agenda.at(done_ns, answer);
        }
        let mut reply = if fails { Reply::Lost } else { Reply::Said };
        if self.sabotage == Sabotage::AcknowledgesBeforeTheCommit && matches!(write, Write::Part(_)) {
            let answer = Item::Answer { master, life, run, write: write.clone(), result: Ok(()) };
            self.agenda.after(1, answer);
            reply = Reply::Already;
        }
        self.agenda.at(done_ns, Item::Apply { master, life, epoch, run, write, reply });
    }

    pub fn store_fails(&mut self) -> bool {
        self.faults.store_fails(self.agenda.now_ns(), &mut self.chance)
    }

    pub fn apply(&mut self, master: usize, life: u32, epoch: u64, run: RunId, write: Write, reply: Reply) {
        let is_fenced = self.sabotage != Sabotage::NoFenceInTheStore;
        let result = self.store.apply(epoch, is_fenced, run, &write);
        let is_done = result.is_ok();
        tell!(self, "store: {} of epoch {epoch}: {}", write.name(), if is_done { "done" } else { "refused" });
        let is_of_lanes = matches!(write, Write::Insert(_) | Write::Moves(_) | Write::Joins(_));
        let is_end = matches!(write, Write::End(_));
        let answer = match reply {
            Reply::Said => Some(result.map_err(|()| true)),
            Reply::Lost => Some(Err(false)),
            Reply::Already => None,
        };
        if let Some(result) = answer {
            let pause_ns = self.chance.about_ms(1);
            self.agenda.after(pause_ns, Item::Answer { master, life, run, write, result });
        }
        if !is_done {
            return;
        }
        let now_ns = self.now_ns();
        let truth = self.oracle.runs.entry(run).or_default();
        if truth.accepted_ns == 0 {
            truth.accepted_ns = now_ns;
        }
        if is_end && self.sabotage == Sabotage::ChangesAnEndedRun {
            self.store.append_again(run);
        }
        let checked = match self.store.runs.get(&run) {
            Some(stored) if stored.writer > epoch => {
                Err(format!("epoch {epoch} wrote after {}", stored.writer))
            }
            Some(stored) if is_of_lanes => lanes::follow(stored).map(|_| ()),
            Some(stored) => truth.stored(stored),
            None => Ok(()),
        };
        self.check(checked);
    }

    pub fn answered(&mut self, master: usize, life: u32, run: RunId, write: Write, result: Result<(), bool>) {
        if self.masters[master].life != life || !self.masters[master].is_alive {
            return;
        }
        if let Write::Insert(new) = write {
            return self.inserted(master, *new, result.is_ok());
        }
        let Some(driver) = self.masters[master].drivers.get_mut(&run) else { return };
        driver.is_writing = false;
        let (is_ok, is_fenced) = (result.is_ok(), result == Err(true));
        let event = match &write {
            Write::Part(part) if is_ok => Event::Committed { part: part.number },
            Write::Part(part) => Event::CommitFailed { part: part.number, fenced: is_fenced },
            Write::Change(save) if is_ok => Event::ChangeSaved { change: save.change.number },
            Write::Change(save) => Event::ChangeFailed { change: save.change.number, fenced: is_fenced },
            Write::Moves(save) if is_ok => Event::MovesSaved { batch: save.batch },
            Write::Moves(save) => Event::MovesFailed { batch: save.batch, fenced: is_fenced },
            Write::Joins(save) if is_ok => Event::JoinsSaved { batch: save.batch },
            Write::Joins(save) => Event::JoinsFailed { batch: save.batch, fenced: is_fenced },
            Write::Save(save) if is_ok => Event::Saved { save: save.number },
            Write::Save(save) => Event::SaveFailed { save: save.number, fenced: is_fenced },
            Write::End(ending) if is_ok => Event::Saved { save: ending.number },
            Write::End(ending) => Event::SaveFailed { save: ending.number, fenced: is_fenced },
            Write::Insert(_) => return,
        };
        self.run_event(master, run, event);
        self.write_next(master, run);
    }
}
