//! A run on an agent: the desk that lets a leader in, and what the run's driver does for its machine. Fence, machine and outbox are the real ones, the engine is a model.

use volcanion_agent::session::fence::Tombstone;
use volcanion_agent::session::load::{Fault, LoadEvent};
use volcanion_agent::session::machine::{Action, Event, Machine, StreamId};
use volcanion_common::ids::RunId;
use volcanion_common::session::{Hello, Order, Report, SealedHello, ShardState, UNACKED_MAX};
use volcanion_common::shard::Shard;

use crate::agents::{AgentNode, TICK};
use crate::engine::{Begun, Engine};
use crate::network::StreamKey;
use crate::oracle::Who;
use crate::sabotage::Sabotage;
use crate::world::{Item, MS, SECOND, World, tell};

/// How long a stream counts as live after its leader's last word was said: as the protocol says, not as the machine does.
const STREAM_TRUST: u64 = 4 * SECOND;

/// A run on an agent.
pub struct Carried {
    pub machine: Machine,
    streams: u64,
    candidate: Option<(StreamId, StreamKey)>,
    stream: Option<(StreamId, StreamKey)>,
    attempt: u32,
    compiled: Option<Box<Shard>>,
    pub engine: Option<Engine>,
    /// The newest look that is to come.
    look: u64,
    /// When an order or a Hello of a leader last came, in world time; and when the newest of them was said.
    heard_ns: u64,
    spoken_ns: u64,
    /// When its stream was last seen to be there, in world time.
    streamed_ns: u64,
    /// The highest epoch that was followed.
    epoch: u64,
}

impl World {
    /// An order has come, on whatever stream.
    pub fn order_arrives(&mut self, key: StreamKey, order: Order, said_ns: u64) {
        let node = &self.agents[key.agent];
        let stream = &self.network.streams[key.place];
        if let Order::Hello(hello) = order {
            if !node.is_alive {
                let delay = self.delay(key.master, key.agent);
                let reason = "connection refused".to_owned();
                return self.agenda.after(delay, Item::Refused { stream: key, reason, fatal: false });
            }
            return self.hello_arrives(key, hello, said_ns);
        }
        let run = stream.run;
        if let (true, Some(id), true) =
            (stream.is_agent_open, stream.id, stream.agent_life == Some(node.life))
        {
            let now_ns = self.now_ns();
            let Some(carried) = self.agents[key.agent].runs.get_mut(&run) else { return };
            if carried.stream.is_some_and(|(ours, _)| ours == id) {
                carried.heard_ns = now_ns;
                carried.spoken_ns = carried.spoken_ns.max(said_ns);
            }
            self.session_event(key.agent, run, Event::Order { stream: id, order });
        }
    }

    fn hello_arrives(&mut self, key: StreamKey, sealed: SealedHello, said_ns: u64) {
        let now_ns = self.now_ns();
        let sabotage = self.sabotage;
        let node = &mut self.agents[key.agent];
        let now = node.now(now_ns);
        let before = node.fence.highest();
        let (said, _) = sealed.read().expect("masters of this world write Hellos");
        let (run, epoch) = (said.run, said.epoch.0);
        let sealed = if sabotage == Sabotage::AgentIgnoresEpochs {
            let follows = Hello { epoch: said.epoch.max(before), ..said };
            follows.sealed(&node.identity.key, u64::MAX).expect("a Hello can be written")
        } else {
            sealed
        };
        let hello = match admit(node, &sealed, now.unix_ms) {
            Ok(hello) => hello,
            Err(reason) => {
                let delay = self.delay(key.master, key.agent);
                return self.agenda.after(delay, Item::Refused { stream: key, reason, fatal: true });
            }
        };
        let highest = node.fence.highest();
        if highest > before {
            let runs: Vec<RunId> = node.runs.keys().copied().collect();
            runs.into_iter().for_each(|run| self.session_event(key.agent, run, Event::EpochSeen(highest)));
        }
        let node = &mut self.agents[key.agent];
        if !node.runs.contains_key(&run) {
            let carried = Carried::new(node, run, now_ns);
            node.runs.insert(run, carried);
        }
        let life = self.agents[key.agent].life;
        let Some(carried) = self.agents[key.agent].runs.get_mut(&run) else { return };
        carried.streams += 1;
        let id = StreamId(carried.streams);
        carried.candidate = Some((id, key));
        let stream = &mut self.network.streams[key.place];
        (stream.id, stream.agent_life, stream.is_agent_open) = (Some(id), Some(life), true);
        self.session_event(key.agent, run, Event::Opened { stream: id, hello });
        let Some(carried) = self.agents[key.agent].runs.get_mut(&run) else { return };
        if carried.stream.is_some_and(|(ours, _)| ours == id) {
            carried.spoken_ns = carried.spoken_ns.max(said_ns);
            let highest = carried.epoch;
            carried.epoch = highest.max(epoch);
            if epoch < highest {
                self.violate(format!("a{} followed epoch {epoch} after {highest}", key.agent));
            }
        }
    }

    pub fn down_closed(&mut self, key: StreamKey) {
        let now_ns = self.now_ns();
        let life = self.agents[key.agent].life;
        let stream = &mut self.network.streams[key.place];
        if !std::mem::take(&mut stream.is_agent_open) || stream.agent_life != Some(life) {
            return;
        }
        let (run, Some(id)) = (stream.run, stream.id) else { return };
        let Some(carried) = self.agents[key.agent].runs.get_mut(&run) else { return };
        if carried.stream.take_if(|(ours, _)| *ours == id).is_some() {
            carried.streamed_ns = now_ns;
        }
        self.session_event(key.agent, run, Event::Lost { stream: id });
    }

    pub fn compiled(
        &mut self,
        agent: usize,
        life: u32,
        run: RunId,
        attempt: u32,
        result: Result<u32, Fault>,
    ) {
        if self.agents[agent].life == life {
            self.session_event(agent, run, Event::Compiled { attempt, result });
        }
    }

    /// A load looks what is due.
    pub fn look(&mut self, agent: usize, life: u32, run: RunId, engine: u32, number: u64) {
        let now_ns = self.now_ns();
        let node = &mut self.agents[agent];
        if node.life != life {
            return;
        }
        let (monotonic_ns, who) = (node.monotonic_ns(now_ns), node.who());
        let Some(carried) = node.runs.get_mut(&run).filter(|carried| carried.look == number) else { return };
        let Some(load) = carried.engine.as_mut().filter(|load| load.number == engine) else { return };
        let looked = load.look(monotonic_ns, &mut self.chance);
        if carried.stream.is_some() {
            carried.streamed_ns = now_ns;
        }
        let (heard_ns, spoken_ns) = (carried.heard_ns, carried.spoken_ns);
        if !looked.begun.is_empty() && !self.may_send(agent, run) {
            self.violate(format!(
                "a{agent} sends and may not: a leader was heard {} ms ago, and spoke {} ms ago",
                (now_ns - heard_ns) / MS,
                (now_ns - spoken_ns) / MS
            ));
        }
        let has_begun_vu = looked.begun.iter().any(|begun| matches!(begun, Begun::Vu { .. }));
        let fenced = if has_begun_vu { self.fenced(run) } else { Vec::new() };
        let truth = self.oracle.runs.entry(run).or_default();
        looked.ended.iter().for_each(|(scenario, vu)| truth.ended(&who, *scenario, *vu));
        fenced.iter().for_each(|other| truth.let_go(other));
        let begun = looked.begun.iter().try_for_each(|begun| truth.begun(&who, *begun, now_ns));
        self.check(begun);
        if let Some(next_ns) = looked.next_ns {
            self.plan_look(agent, run, next_ns);
        }
        for event in looked.events {
            if matches!(event, LoadEvent::Finished)
                && let Some(carried) = self.agents[agent].runs.get_mut(&run)
            {
                carried.engine = None;
            }
            self.session_event(agent, run, Event::Load(event));
        }
    }

    /// Whether an agent may send for a run now: as the protocol says, not as the machine does.
    fn may_send(&self, agent: usize, run: RunId) -> bool {
        let (now_ns, node) = (self.now_ns(), &self.agents[agent]);
        let Some(carried) = node.runs.get(&run) else { return false };
        // That a stream is gone, the load hears at the next tick; after a pause of the process it may look before that.
        let awake_ns = carried.streamed_ns.max(node.asleep_until_ns.min(now_ns));
        let is_trusted = now_ns < carried.spoken_ns + STREAM_TRUST && now_ns <= awake_ns + TICK;
        let is_heard = now_ns < carried.heard_ns + node.orphan_timeout.as_nanos();
        is_heard && (is_trusted || node.monotonic_ns(now_ns) < node.lease_until_ns)
    }

    /// Who may not send for a run, though it carries it: one that sleeps, it may be, with iterations going.
    fn fenced(&self, run: RunId) -> Vec<Who> {
        let carries = (0..self.agents.len()).filter(|agent| self.agents[*agent].runs.contains_key(&run));
        carries.filter(|agent| !self.may_send(*agent, run)).map(|agent| self.agents[agent].who()).collect()
    }

    fn plan_look(&mut self, agent: usize, run: RunId, next_ns: u64) {
        let node = &mut self.agents[agent];
        node.looks += 1;
        let (life, number, at_ns) = (node.life, node.looks, node.world_ns(next_ns));
        let Some(carried) = node.runs.get_mut(&run) else { return };
        let Some(engine) = carried.engine.as_ref().map(|engine| engine.number) else { return };
        carried.look = number;
        self.agenda.at(at_ns, Item::Look { agent, life, run, engine, number });
    }

    /// Hands an event to a run's machine and does what it says.
    pub fn session_event(&mut self, agent: usize, run: RunId, event: Event) {
        let now_ns = self.now_ns();
        let node = &mut self.agents[agent];
        let now = node.now(now_ns);
        let Some(carried) = node.runs.get_mut(&run) else { return };
        let actions = carried.machine.handle(event, now);
        if carried.machine.outbox().unacked_count() > UNACKED_MAX {
            self.violate(format!("more than {UNACKED_MAX} deltas of a{agent} are unacknowledged"));
        }
        for action in actions {
            self.session_action(agent, run, action);
        }
    }

    fn session_action(&mut self, agent: usize, run: RunId, action: Action) {
        let now_ns = self.now_ns();
        let sabotage = self.sabotage;
        let node = &mut self.agents[agent];
        let (life, monotonic_ns, who) = (node.life, node.monotonic_ns(now_ns), node.who());
        let Some(carried) = node.runs.get_mut(&run) else { return };
        match action {
            Action::Send(report) => {
                let Some((_, key)) = carried.stream else { return };
                if let Report::Delta(frame) = &report {
                    let checked = self.oracle.runs.entry(run).or_default().sent(&who, frame);
                    self.check(checked);
                }
                self.say_up(key, report);
            }
            Action::Refused { order, refusal } => tell!(self, "a{agent} refuses {order}: {refusal}"),
            Action::Refuse { stream, refusal } => {
                if let Some((_, key)) = carried.candidate.take_if(|(id, _)| *id == stream) {
                    self.network.streams[key.place].is_agent_open = false;
                    let delay = self.delay(key.master, key.agent);
                    let reason = refusal.to_string();
                    self.agenda.after(delay, Item::Refused { stream: key, reason, fatal: true });
                }
            }
            Action::Adopt { stream } => {
                let before = carried.stream.take();
                carried.stream = carried.candidate.take_if(|(id, _)| *id == stream);
                carried.heard_ns = now_ns;
                if let Some((_, key)) = before {
                    self.close_at_agent(key);
                }
            }
            Action::Close { .. } => {
                carried.streamed_ns = now_ns;
                if let Some((_, key)) = carried.stream.take() {
                    self.close_at_agent(key);
                }
            }
            Action::Compile { attempt, shard } => {
                carried.attempt = attempt;
                let cores = 1;
                carried.compiled = Some(shard);
                let takes_ns = self.chance.about_ms(40);
                let result = Ok(cores);
                self.agenda.after(takes_ns, Item::Compiled { agent, life, run, attempt, result });
            }
            Action::Start { at_ns } => self.start(agent, run, at_ns),
            Action::Adjust(adjustment) => {
                let truth = self.oracle.runs.entry(run).or_default();
                *truth.changes_heard.entry(who).or_default() += 1;
                truth.was_level_late |= adjustment.from > adjustment.change.at;
                if let Some(engine) = &mut carried.engine {
                    engine.adjust(adjustment);
                }
            }
            Action::Move(order) => {
                tell!(self, "a{agent} moves {order:?}");
                let order = sabotage.moved(order);
                let Some(carried) = self.agents[agent].runs.get_mut(&run) else { return };
                let told = carried.engine.as_mut().map(|engine| engine.move_lanes(&order, monotonic_ns));
                for event in told.into_iter().flatten() {
                    self.session_event(agent, run, Event::Load(event));
                }
            }
            Action::Stop { graceful, reason } => {
                if let Some(engine) = &mut carried.engine {
                    engine.stop(monotonic_ns.saturating_add(graceful.as_nanos()));
                    tell!(self, "a{agent} stops its load: {reason}");
                    self.plan_look(agent, run, monotonic_ns);
                }
            }
            Action::AllowUntil { monotonic_ns } => {
                if let Some(engine) =
                    carried.engine.as_mut().filter(|_| sabotage != Sabotage::EngineIgnoresItsFence)
                {
                    engine.allowed_until_ns = monotonic_ns;
                }
            }
            Action::Discard => {
                carried.compiled = None;
                if let Some(engine) = &mut carried.engine {
                    engine.stop(monotonic_ns);
                    self.plan_look(agent, run, monotonic_ns);
                }
            }
            Action::Forget { tombstone } => self.forget(agent, run, tombstone),
        }
    }

    fn start(&mut self, agent: usize, run: RunId, at_ns: u64) {
        let now_ns = self.now_ns();
        let node = &mut self.agents[agent];
        let (monotonic_ns, who) = (node.monotonic_ns(now_ns), node.who());
        node.engines += 1;
        let (number, at_world_ns) = (node.engines, node.world_ns(at_ns));
        let Some(carried) = node.runs.get_mut(&run) else { return };
        let Some(shard) = carried.compiled.take() else {
            return self.violate(format!("a{agent} starts what was not compiled"));
        };
        carried.engine = Some(Engine::new(&shard, number, at_ns, monotonic_ns));
        let epoch = carried.epoch;
        let truth = self.oracle.runs.entry(run).or_default();
        if at_ns > monotonic_ns {
            truth.starts_ns.push(at_world_ns);
        }
        truth.start_epochs.push(epoch);
        truth.shards.entry(who).or_default().began_ns = at_world_ns;
        tell!(self, "a{agent} starts its load at {:.4} s", at_world_ns as f64 / 1e9);
        self.plan_look(agent, run, monotonic_ns);
    }

    fn forget(&mut self, agent: usize, run: RunId, tombstone: Option<Tombstone>) {
        let node = &mut self.agents[agent];
        let who = node.who();
        let Some(carried) = node.runs.remove(&run) else { return };
        if let Some(tombstone) = tombstone {
            node.fence.bury(run, tombstone);
        }
        tell!(self, "a{agent} forgets {run}: {tombstone:?}");
        // Its load ends with it.
        if let Some(truth) = self.oracle.runs.get_mut(&run) {
            truth.let_go(&who);
        }
        for (_, key) in carried.stream.into_iter().chain(carried.candidate) {
            self.close_at_agent(key);
        }
        self.end_if_left(agent);
    }
}

/// Who is let in to the desk.
fn admit(node: &mut AgentNode, sealed: &SealedHello, now_unix_ms: u64) -> Result<Hello, String> {
    let hello = node.fence.admit(sealed, now_unix_ms).map_err(|refusal| refusal.to_string())?;
    if node.runs.contains_key(&hello.run) {
        return Ok(hello);
    }
    match node.fence.tombstone(hello.run) {
        Some(Tombstone::GivenUp) => Err("the run is over".to_owned()),
        Some(Tombstone::Durable { .. }) => Ok(hello),
        None if node.is_leaving || node.is_draining => Err("the agent is leaving".to_owned()),
        None => Ok(hello),
    }
}

impl Carried {
    fn new(node: &AgentNode, run: RunId, now_ns: u64) -> Self {
        let identity = node.identity.clone();
        let machine = match node.fence.tombstone(run) {
            Some(Tombstone::Durable { last_seq }) => {
                Machine::ended(identity, run, node.orphan_timeout, last_seq)
            }
            _ => Machine::new(identity, run, node.orphan_timeout),
        };
        Self {
            machine,
            streams: 0,
            candidate: None,
            stream: None,
            attempt: 0,
            compiled: None,
            engine: None,
            look: 0,
            heard_ns: now_ns,
            spoken_ns: 0,
            streamed_ns: now_ns,
            epoch: 0,
        }
    }

    pub fn is_loading(&self) -> bool {
        self.engine.is_some() && self.machine.state() == ShardState::Running
    }
}
