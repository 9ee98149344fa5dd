//! What the machine is told: how a run begins, and what happens to it.

use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::plan::Level;
use volcanion_common::registry::Member;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Change, Report, Welcome};
use volcanion_common::shard::ShardTrace;
use volcanion_common::units::Micros;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{RunStatus, StopReason};

use super::action::PeerMove;
use crate::merge::AgentState;

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC of this process, in nanoseconds: all of the run's time goes by it.
    pub monotonic_ns: u64,
    /// The wall clock in milliseconds since 1970: for what people read, and to find a run's start again after a take-over.
    pub unix_ms: u64,
}

/// What the machine needs to know of a run from its beginning.
///
/// Before [`RunMachine::new`](super::RunMachine::new) the run's record must be durable with status `preparing`, its plan, its seed and `members` in this order: the shards are
/// found again from them.
#[derive(Clone)]
pub struct NewRun {
    /// The run.
    pub run: RunId,
    /// This leader's term.
    pub epoch: Epoch,
    /// What to do.
    pub plan: Arc<ValidPlan>,
    /// The chosen agents, at least one. Their order decides who owns which lanes.
    pub members: Vec<Member>,
    /// Seals the shards; the machine does it, sealing is pure.
    pub key: ClusterKey,
    /// Seeds whatever is drawn by chance.
    pub seed: u64,
    /// How long its agents may load without any master; absent: as long as each was told itself.
    pub orphan_timeout: Option<Micros>,
    /// What its agents are told of its place in a trace.
    pub trace: Option<ShardTrace>,
}

/// A run that another master, or this one before its restart, left.
#[derive(Clone)]
pub struct TakenUp {
    /// As it was begun, under the new epoch. Members as then (their entries as stored; they may be gone).
    pub run: NewRun,
    /// As stored; not an ended one.
    pub status: RunStatus,
    /// As in the newest [`Save`](super::Save) that was stored, for a run in `stopping`.
    pub stop_reason: Option<StopReason>,
    /// As in the newest [`Save`](super::Save) that was stored.
    pub start_at_unix_us: Option<u64>,
    /// The sum of the stored parts.
    pub total: Delta,
    /// The newest stored state of each agent; an agent without one has committed nothing.
    pub agents: Vec<AgentState>,
    /// The number after the highest stored part's.
    pub next_part: u64,
    /// Every stored change of level, in the order of their numbers.
    pub changes: Vec<Change>,
    /// Every stored move of lanes, in the order of their numbers.
    pub moves: Vec<PeerMove>,
    /// Everybody who joined since, in the order of their joining.
    pub joined: Vec<Member>,
    /// What its masters had to say, as of the newest stored part.
    pub warnings: Vec<WarningView>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream is up, and the agent answered the Hello.
    Opened {
        /// Who.
        agent: AgentId,
        /// On which stream.
        stream: u64,
        /// What it said.
        welcome: Welcome,
    },
    /// The stream did not come up.
    Refused {
        /// Who.
        agent: AgentId,
        /// Which stream.
        stream: u64,
        /// For people.
        reason: String,
        /// The agent itself refused (its status was FAILED_PRECONDITION or the like), so asking the same again is no use; `false`: it was not reached.
        fatal: bool,
    },
    /// The stream ended, however it ended.
    StreamLost {
        /// Who.
        agent: AgentId,
        /// Which stream.
        stream: u64,
    },
    /// Something came up the stream.
    Report {
        /// Who.
        agent: AgentId,
        /// On which stream.
        stream: u64,
        /// What.
        report: Report,
    },
    /// The registry answers, and this process's entry is not there (any more): its lease ran out, it left, or another process has its name.
    MemberGone {
        /// Who.
        agent: AgentId,
        /// Which process.
        incarnation: Incarnation,
    },
    /// The registry answers, and the entry is there.
    MemberBack {
        /// Who.
        agent: AgentId,
        /// Which process.
        incarnation: Incarnation,
    },
    /// A clock was measured.
    ClockMeasured {
        /// Whose.
        agent: AgentId,
        /// The agent's monotonic clock minus ours.
        offset_ns: i64,
        /// The round trip of the best exchange; half of it bounds the error.
        round_trip_ns: u64,
    },
    /// A part is durable.
    Committed {
        /// Its number.
        part: u64,
    },
    /// A part is not durable, or it is not known whether it is: it will be sent again under its number.
    CommitFailed {
        /// Its number.
        part: u64,
        /// Another master has taken office: this one may not write any more.
        fenced: bool,
    },
    /// A [`Save`](super::Save) or an [`Ending`](super::Ending) is durable.
    Saved {
        /// Its number.
        save: u64,
    },
    /// It is not; it will be sent again.
    SaveFailed {
        /// Its number.
        save: u64,
        /// Another master has taken office.
        fenced: bool,
    },
    /// A change of level is durable.
    ChangeSaved {
        /// Its number.
        change: u64,
    },
    /// It is not; it will be sent again.
    ChangeFailed {
        /// Its number.
        change: u64,
        /// Another master has taken office.
        fenced: bool,
    },
    /// Moves of lanes are durable.
    MovesSaved {
        /// As in [`SaveMoves`](super::SaveMoves).
        batch: u64,
    },
    /// They are not; they will be sent again.
    MovesFailed {
        /// As in [`SaveMoves`](super::SaveMoves).
        batch: u64,
        /// Another master has taken office.
        fenced: bool,
    },
    /// The agents that could join the run now: registered, as its plan chooses, free for it. Replaces the list before; the run's own ones among them do no harm.
    Candidates {
        /// Who.
        members: Vec<Member>,
    },
    /// Joiners are durable.
    JoinsSaved {
        /// As in [`SaveJoins`](super::SaveJoins).
        batch: u64,
    },
    /// They are not, or have taken another run meanwhile; whoever can join is asked for anew.
    JoinsFailed {
        /// As in [`SaveJoins`](super::SaveJoins).
        batch: u64,
        /// Another master has taken office.
        fenced: bool,
    },
    /// Somebody asked for the run's end.
    StopRequested,
    /// Somebody asked for another level, one that the scenario can take; answered by [`Action::Adjusted`](super::Action::Adjusted) once it is durable.
    AdjustRequested {
        /// Names the request in the answer.
        request: u64,
        /// The scenario's position in the plan.
        scenario: u32,
        /// In the plan's own measure: of each agent, for `load: per_agent`.
        level: Level,
    },
    /// The time of the newest [`Action::WakeAt`](super::Action::WakeAt) has come. Coming early, late or often does no harm.
    Tick,
}
