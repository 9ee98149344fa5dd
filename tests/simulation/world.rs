//! The world: masters, agents, the wires between them, the registry, the store, a user, and faults; one clock, one seed, one thread.
//!
//! Takes a seed, gives an [`Outcome`]. Each turn takes the next item of the agenda, lets it happen, and holds what came of it against what must be true.
//! The same seed is the same world, to the last event: nothing here reads a clock, a thread or a hash's order.

use std::collections::VecDeque;

use volcanion_agent::session::load::Fault;
use volcanion_common::ids::{AgentId, Incarnation, RunId};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Order, Report};
use volcanion_master::run::machine::{Event, TakenUp};

use crate::agenda::Agenda;
use crate::agents::AgentNode;
use crate::chance::Chance;
use crate::drivers::Reply;
use crate::faults::{FaultKind, Faults};
use crate::masters::{MasterNode, View};
use crate::network::{Network, StreamKey};
use crate::oracle::Oracle;
use crate::registry::Registry;
use crate::sabotage::Sabotage;
use crate::store::{Store, Write};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
/// The wall clock of the world at its beginning.
pub const UNIX_MS: u64 = 1_800_000_000_000;
/// Lines that are kept of a world that is told in words.
const TRACE_MAX: usize = 400;
/// No world needs more; one that does goes round in circles.
const TURNS_MAX: u64 = 2_000_000;

/// What can happen.
pub enum Item {
    AgentTick { agent: usize, life: u32 },
    Renew { agent: usize, life: u32 },
    RenewArrived { agent: usize, life: u32, sent_ns: u64 },
    RenewAnswered { agent: usize, life: u32, sent_ns: u64 },
    LeaseEnds { agent: usize, incarnation: Incarnation },
    Compiled { agent: usize, life: u32, run: RunId, attempt: u32, result: Result<u32, Fault> },
    Look { agent: usize, life: u32, run: RunId, engine: u32, number: u64 },
    AgentStarts { agent: usize },
    AgentEnds { agent: usize, life: u32 },
    Down { stream: StreamKey, order: Order, said_ns: u64 },
    DownClosed { stream: StreamKey },
    Up { stream: StreamKey, report: Report },
    UpClosed { stream: StreamKey },
    Refused { stream: StreamKey, reason: String, fatal: bool },
    OpenTimeout { stream: StreamKey },
    Wake { master: usize, life: u32, run: RunId, number: u64 },
    Measured { master: usize, life: u32, run: RunId, event: Event },
    Apply { master: usize, life: u32, epoch: u64, run: RunId, write: Write, reply: Reply },
    Answer { master: usize, life: u32, run: RunId, write: Write, result: Result<(), bool> },
    Viewed { master: usize, life: u32, view: View },
    Election,
    Raise { master: usize, life: u32 },
    Read { master: usize, life: u32, epoch: u64 },
    TakeUp { master: usize, life: u32, taken: Box<TakenUp>, until_ns: u64 },
    WatchOffice { master: usize, life: u32 },
    MasterStarts { master: usize },
    UserStarts { left: u32 },
    UserStops { run: RunId },
    UserAdjusts { run: RunId, left: u32 },
    Fault(FaultKind),
    Calm,
    Review,
}

/// Who has to be awake for an item to happen.
pub enum Node {
    Agent(usize),
    Master(usize),
}

/// See the module.
pub struct World {
    pub chance: Chance,
    pub agenda: Agenda<Item>,
    pub sabotage: Sabotage,
    pub key: ClusterKey,
    pub network: Network,
    pub registry: Registry,
    pub store: Store,
    pub masters: Vec<MasterNode>,
    pub agents: Vec<AgentNode>,
    pub oracle: Oracle,
    pub faults: Faults,
    pub is_done: bool,
    turns: u64,
    violation: Option<String>,
    trace: Option<VecDeque<String>>,
    digest: u64,
}

/// How a world ended.
pub struct Outcome {
    /// The first thing that may not be.
    pub violation: Option<String>,
    /// The last events, where they were asked for.
    pub trace: Vec<String>,
    /// Of everything that happened: the same seed gives the same.
    pub digest: u64,
    pub turns: u64,
    /// What was lived through, by name.
    pub lived: Vec<(&'static str, u64)>,
}

/// Says something of the world, where somebody listens.
macro_rules! tell {
    ($world:expr, $($word:tt)*) => {
        if $world.is_told() {
            $world.tell(format!($($word)*));
        }
    };
}
pub(crate) use tell;

impl World {
    pub fn new(seed: u64, sabotage: Sabotage, is_told: bool) -> Self {
        let mut chance = Chance::new(seed);
        let (masters, agents) = (2, chance.between(1, 5) as usize);
        let mut world = Self {
            agenda: Agenda::new(),
            sabotage,
            key: ClusterKey::open(),
            network: Network::new(masters, agents),
            registry: Registry::default(),
            store: Store::default(),
            masters: (0..masters).map(|number| MasterNode::new(number, &mut chance)).collect(),
            agents: (0..agents).map(|number| AgentNode::new(number, &mut chance)).collect(),
            oracle: Oracle::default(),
            faults: Faults::draw(&mut chance),
            is_done: false,
            turns: 0,
            violation: None,
            trace: is_told.then(VecDeque::new),
            digest: 0,
            chance,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for agent in 0..self.agents.len() {
            let after = self.chance.about_ms(100);
            self.agenda.after(after, Item::AgentStarts { agent });
        }
        self.agenda.at(50 * MS, Item::Election);
        let runs = if self.chance.percent(20) { 2 } else { 1 };
        let at_ns = self.chance.between(800, 2_500) * MS;
        self.agenda.at(at_ns, Item::UserStarts { left: runs });
        self.begin_faults();
        self.agenda.at(self.faults.until_ns, Item::Calm);
        self.agenda.at(self.faults.until_ns + SECOND, Item::Review);
    }

    pub fn run(mut self) -> Outcome {
        while self.violation.is_none() && !self.is_done {
            let Some(item) = self.agenda.next() else { break };
            self.turns += 1;
            if self.turns > TURNS_MAX {
                self.violate("the world does not come to its end".to_owned());
            }
            self.digest = (self.digest ^ self.agenda.now_ns()).wrapping_mul(0x0000_0100_0000_01B3);
            match item.node().and_then(|node| self.asleep_until(&node)) {
                Some(until_ns) => self.put_off(until_ns, item),
                None => self.happen(item),
            }
        }
        Outcome {
            violation: self.violation,
            trace: self.trace.unwrap_or_default().into(),
            digest: self.digest ^ self.chance.next(),
            turns: self.turns,
            lived: self.faults.lived(),
        }
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::AgentTick { agent, life } => self.agent_tick(agent, life),
            Item::Renew { agent, life } => self.renew(agent, life),
            Item::RenewArrived { agent, life, sent_ns } => self.renew_arrived(agent, life, sent_ns),
            Item::RenewAnswered { agent, life, sent_ns } => self.renew_answered(agent, life, sent_ns),
            Item::LeaseEnds { agent, incarnation } => self.lease_ends(agent, incarnation),
            Item::Compiled { agent, life, run, attempt, result } => {
                self.compiled(agent, life, run, attempt, result);
            }
            Item::Look { agent, life, run, engine, number } => self.look(agent, life, run, engine, number),
            Item::AgentStarts { agent } => self.agent_starts(agent),
            Item::AgentEnds { agent, life } => self.agent_ends(agent, life),
            Item::Down { stream, order, said_ns } => self.order_arrives(stream, order, said_ns),
            Item::DownClosed { stream } => self.down_closed(stream),
            Item::Up { stream, report } => self.report_arrives(stream, report),
            Item::UpClosed { stream } => self.up_closed(stream),
            Item::Refused { stream, reason, fatal } => self.refused(stream, reason, fatal),
            Item::OpenTimeout { stream } => self.open_timeout(stream),
            Item::Wake { master, life, run, number } => self.wake(master, life, run, number),
            Item::Measured { master, life, run, event } => self.run_event_of(master, life, run, event),
            Item::Apply { master, life, epoch, run, write, reply } => {
                self.apply(master, life, epoch, run, write, reply);
            }
            Item::Answer { master, life, run, write, result } => {
                self.answered(master, life, run, write, result);
            }
            Item::Viewed { master, life, view } => self.viewed(master, life, view),
            Item::Election => self.election(),
            Item::Raise { master, life } => self.raise(master, life),
            Item::Read { master, life, epoch } => self.read(master, life, epoch),
            Item::TakeUp { master, life, taken, until_ns } => self.take_up(master, life, taken, until_ns),
            Item::WatchOffice { master, life } => self.watch_office(master, life),
            Item::MasterStarts { master } => self.master_starts(master),
            Item::UserStarts { left } => self.user_starts(left),
            Item::UserStops { run } => self.user_stops(run),
            Item::UserAdjusts { run, left } => self.user_adjusts(run, left),
            Item::Fault(kind) => self.fault(kind),
            Item::Calm => self.calm(),
            Item::Review => self.review(),
        }
    }

    /// Who wakes does what waited: what came, in its order; and threads and timers of its own, in any.
    fn put_off(&mut self, until_ns: u64, item: Item) {
        let is_own = matches!(item, Item::AgentTick { .. } | Item::Look { .. } | Item::Renew { .. });
        let later_ns = if is_own { self.chance.below(40 * MS) } else { 0 };
        self.agenda.at(until_ns + later_ns, item);
    }

    fn asleep_until(&self, node: &Node) -> Option<u64> {
        let until_ns = match node {
            Node::Agent(agent) => self.agents[*agent].asleep_until_ns,
            Node::Master(master) => self.masters[*master].asleep_until_ns,
        };
        (until_ns > self.now_ns()).then_some(until_ns)
    }

    pub fn now_ns(&self) -> u64 {
        self.agenda.now_ns()
    }

    /// The first thing that may not be stands.
    pub fn violate(&mut self, what: String) {
        tell!(self, "VIOLATION: {what}");
        self.violation.get_or_insert(what);
    }

    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.violate(what);
        }
    }

    pub fn is_told(&self) -> bool {
        self.trace.is_some()
    }

    pub fn tell(&mut self, line: String) {
        let now_ns = self.agenda.now_ns();
        if let Some(trace) = &mut self.trace {
            if trace.len() >= TRACE_MAX {
                trace.pop_front();
            }
            trace.push_back(format!("{:>10.4} s  {line}", now_ns as f64 / 1e9));
        }
    }

    pub fn agent_of(&self, name: &AgentId) -> Option<usize> {
        self.agents.iter().position(|agent| agent.name == *name)
    }
}

impl Item {
    fn node(&self) -> Option<Node> {
        match self {
            Self::AgentTick { agent, .. }
            | Self::Renew { agent, .. }
            | Self::RenewAnswered { agent, .. }
            | Self::Compiled { agent, .. }
            | Self::Look { agent, .. }
            | Self::AgentEnds { agent, .. } => Some(Node::Agent(*agent)),
            Self::Down { stream, .. } | Self::DownClosed { stream } => Some(Node::Agent(stream.agent)),
            Self::Up { stream, .. }
            | Self::UpClosed { stream }
            | Self::Refused { stream, .. }
            | Self::OpenTimeout { stream } => Some(Node::Master(stream.master)),
            Self::Wake { master, .. }
            | Self::Measured { master, .. }
            | Self::Answer { master, .. }
            | Self::Viewed { master, .. }
            | Self::Raise { master, .. }
            | Self::Read { master, .. }
            | Self::TakeUp { master, .. }
            | Self::WatchOffice { master, .. } => Some(Node::Master(*master)),
            _ => None,
        }
    }
}
