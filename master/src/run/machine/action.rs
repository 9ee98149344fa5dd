//! What the machine says is to be done.

use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::registry::Member;
use volcanion_common::session::{Change, Hello, Move, Order};
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{LevelView, Metrics, RunStatus, StopReason};

use crate::merge::Part;

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a stream and send the Hello.
    Connect {
        /// To whom.
        agent: AgentId,
        /// The new stream's number.
        stream: u64,
        /// The first order.
        hello: Hello,
    },
    /// Close a stream once its orders went out; no event of it is awaited any more.
    Disconnect {
        /// Whose.
        agent: AgentId,
        /// Which.
        stream: u64,
    },
    /// Send an order.
    Send {
        /// To whom.
        agent: AgentId,
        /// On which stream.
        stream: u64,
        /// What.
        order: Order,
    },
    /// Measure the agent's clock (best of several), and say [`Event::ClockMeasured`](super::Event::ClockMeasured); where that fails, nothing: it is asked for again.
    MeasureClock {
        /// Whose.
        agent: AgentId,
    },
    /// Make durable how far the run is, then say [`Event::Saved`](super::Event::Saved); show it as the run's state.
    Save(Save),
    /// Make a change of level durable, then say [`Event::ChangeSaved`](super::Event::ChangeSaved). One of a number that was stored before replaces it.
    SaveChange(SaveChange),
    /// Make moves of lanes durable in one transaction, then say [`Event::MovesSaved`](super::Event::MovesSaved). One of a number that was stored before replaces it.
    SaveMoves(SaveMoves),
    /// Hold these agents for the run and make durable that they take part, then say [`Event::JoinsSaved`](super::Event::JoinsSaved).
    SaveJoins(SaveJoins),
    /// What became of a request for another level: the levels as they are now, to be shown before the answer.
    Adjusted {
        /// As in [`Event::AdjustRequested`](super::Event::AdjustRequested).
        request: u64,
        /// Why not, where it was not done.
        result: Result<Vec<LevelView>, NotAdjusted>,
    },
    /// Make a part durable in one transaction, then say [`Event::Committed`](super::Event::Committed).
    Commit(Arc<Part>),
    /// New figures.
    Publish {
        /// The document.
        metrics: Arc<Metrics>,
        /// The total that it was made from.
        totals: Arc<Delta>,
    },
    /// Something is to be known; it is in the document's `warnings` too.
    Warn(WarningView),
    /// Say [`Event::Tick`](super::Event::Tick) at this time of our monotonic clock. Replaces the one before.
    WakeAt {
        /// When, in nanoseconds.
        monotonic_ns: u64,
    },
    /// The run is over: make its end durable, then say [`Event::Saved`](super::Event::Saved); the agents are released after that.
    End(Box<Ending>),
    /// Another master has this run. Nothing more is to be written or sent; the streams are closed already.
    StepDown,
    /// Nothing is left to do: the end is durable, the agents are released.
    Done,
}

/// How far a run is, to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// Names the write in [`Event::Saved`](super::Event::Saved).
    pub number: u64,
    /// Not an ended one.
    pub status: RunStatus,
    /// When the load begins or began, in microseconds since 1970.
    pub start_at_unix_us: Option<u64>,
    /// Why it is being stopped, for status `stopping`: what it will end with.
    pub stop_reason: Option<StopReason>,
}

/// A change of level, to be made durable with what it comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveChange {
    /// The change, its level as it was asked for.
    pub change: Change,
    /// All levels of the run after it.
    pub levels: Vec<LevelView>,
}

/// Moves of lanes, to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveMoves {
    /// Names the write in [`Event::MovesSaved`](super::Event::MovesSaved).
    pub batch: u64,
    /// Not empty.
    pub moves: Vec<PeerMove>,
}

/// Who takes part, to be made durable.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveJoins {
    /// Names the write in [`Event::JoinsSaved`](super::Event::JoinsSaved).
    pub batch: u64,
    /// Who the run began with, in their order.
    pub first: Vec<Member>,
    /// Everybody who joined since, in the order of their joining.
    pub joined: Vec<Member>,
}

/// A move of lanes, and the process that is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMove {
    /// Who.
    pub agent: AgentId,
    /// Which process.
    pub incarnation: Incarnation,
    /// What it is told.
    pub order: Move,
}

/// Why a level was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdjusted {
    /// The run has ended, or is about to.
    #[error("the run is not going any more")]
    NotGoing,
    /// The scenario's own time is over before the change could begin.
    #[error("the scenario ends before the change could begin")]
    ScenarioOver,
    /// There is a bound on a run's changes.
    #[error(
        "the run's levels were changed {} times, which is the most",
        volcanion_common::session::change::CHANGES_MAX
    )]
    TooMany,
    /// More were asked for at once than wait.
    #[error("too many changes wait for their turn; try again in a moment")]
    TooManyAtOnce,
}

/// A run's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Names the write in [`Event::Saved`](super::Event::Saved).
    pub number: u64,
    /// An ended one.
    pub status: RunStatus,
    /// Why.
    pub stop_reason: StopReason,
    /// What there is to say about it.
    pub message: Option<String>,
    /// When, in milliseconds since 1970.
    pub ended_at_unix_ms: u64,
    /// The final document.
    pub metrics: Arc<Metrics>,
    /// The final total.
    pub totals: Arc<Delta>,
}
