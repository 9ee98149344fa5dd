//! One agent's part of a run: its plan, what it has reported, and how it is reached.

use volcanion_common::ids::{AgentId, Seq};
use volcanion_common::plan::Plan;
use volcanion_common::registry::Member;
use volcanion_common::shard::ScenarioShare;

use super::joins::Joiner;
use super::link::Link;
use crate::merge::AgentState;
use crate::merge::inbox::Inbox;
use crate::merge::lag::AgentLag;
use crate::merge::planned::Planned;

/// One agent's part.
pub(super) struct Peer {
    pub link: Link,
    pub shares: Vec<ScenarioShare>,
    /// The lanes that it has once every move holds.
    pub lanes: Vec<ScenarioShare>,
    pub capacity: f64,
    /// Levels that are ordered of it are so many times those that were asked for.
    pub factor: u64,
    /// Where it came while the run went.
    pub joiner: Option<Joiner>,
    /// Lanes were ever moved to it.
    pub has_taken: bool,
    /// It is about to leave.
    pub is_draining: bool,
    pub planned: Planned,
    pub is_prepared: bool,
    /// The registry says that its entry is not there.
    pub is_gone: bool,
    /// It was given up and is there again: it is to be told so.
    pub is_release_due: bool,
    /// It was given up and is heard again: it tells what it did.
    pub is_returning: bool,
    pub clock: Option<Clock>,
    /// When its clock was last asked for.
    pub clock_asked_ns: Option<u64>,
    /// What it could not do; its part ends with that.
    pub fault: Option<Fault>,
    pub inbox: Inbox,
    /// As received; the durable part of it is `durable`.
    pub state: AgentState,
    pub durable: Seq,
    /// The newest change of level that it has taken.
    pub adjusted: u64,
    /// Of all its scenarios.
    pub lag: AgentLag,
}

/// An agent's monotonic clock against ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub offset_ns: i64,
    pub round_trip_ns: u64,
}

/// An agent's word that it could not do its part.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub message: String,
    /// Until then its last deltas are awaited.
    pub deadline_ns: u64,
}

impl Peer {
    pub fn new(member: &Member, shares: Vec<ScenarioShare>, plan: &Plan) -> Self {
        Self {
            link: Link::default(),
            planned: Planned::new(plan, &shares),
            lanes: shares.clone(),
            shares,
            capacity: member.capacity,
            factor: 1,
            joiner: None,
            has_taken: false,
            is_draining: false,
            is_prepared: false,
            is_gone: false,
            is_release_due: false,
            is_returning: false,
            clock: None,
            clock_asked_ns: None,
            fault: None,
            inbox: Inbox::default(),
            state: AgentState::new(member.id.clone(), member.incarnation, plan.scenarios.len()),
            durable: Seq(0),
            adjusted: 0,
            lag: AgentLag::default(),
        }
    }

    pub fn id(&self) -> &AgentId {
        &self.state.agent
    }

    /// Whether it joined, and has not been heard to load yet.
    pub fn is_joining(&self) -> bool {
        self.joiner.is_some() && self.state.start_late_us.is_none() && self.state.seq.0 == 0
    }

    /// Whether it joined, and never had anything to do.
    pub fn is_idle_joiner(&self) -> bool {
        self.joiner.is_some() && !self.has_taken
    }

    /// Whether its lanes are nobody else's.
    pub fn is_apart(&self) -> bool {
        self.joiner.as_ref().is_some_and(|joiner| joiner.is_apart)
    }

    /// Whether nothing more is awaited of it.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Whether it is to be reached, though nothing is awaited of it.
    pub fn is_wanted_back(&self) -> bool {
        self.is_release_due || self.is_returning
    }

    /// Whether it may still take itself for led by us, though it is reached no more.
    pub fn is_awaited_dead(&self, now_ns: u64) -> bool {
        self.link.trusted_until_ns().is_some_and(|until_ns| now_ns < until_ns)
    }

    /// Whether its load ended early for reasons of its own, or never began, though all its numbers are in.
    pub fn stopped_early(&self) -> bool {
        let has_said =
            || self.state.warnings.iter().any(|said| said.code == "draining" || said.code == "orphaned");
        self.state.is_whole() && (self.state.seq.0 == 0 || self.state.was_unheard || has_said())
    }
}
