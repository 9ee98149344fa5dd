//! What a session says: orders from the master down to an agent, reports from the agent up.
//!
//! Both state machines work on these types; [`wire`] turns them into protobuf and back, [`seal`] signs a Prepare, [`hello`] a Hello.
//! [`command`] has the orders outside of a session.

pub mod change;
pub mod command;
pub mod handover;
pub mod hello;
pub mod seal;
pub mod wire;

use bytes::Bytes;
pub use change::Change;
pub use handover::{Move, Moved};
pub use hello::{Hello, SealedHello};

use crate::ids::{Incarnation, Seq};
use crate::units::{Micros, RunTime};

/// Master to agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Opens the stream.
    Hello(SealedHello),
    /// A sealed [`crate::shard::Shard`].
    Prepare {
        /// The shard's JSON, exactly as sealed.
        sealed_shard: Bytes,
        /// See [`seal`].
        seal: Bytes,
    },
    /// Start at this instant of the agent's own monotonic clock.
    StartAt {
        /// Nanoseconds of CLOCK_MONOTONIC.
        monotonic_ns: u64,
    },
    /// No new iterations.
    Stop {
        /// The reason.
        why: StopWhy,
        /// How long requests in flight may go on.
        graceful: Micros,
    },
    /// A scenario has another level from a moment on. Durable before it is sent.
    Adjust(Change),
    /// Lanes change hands. Durable before it is sent.
    Move(Move),
    /// Every delta up to this one is durable.
    Ack(Seq),
    /// The leader is there.
    Alive {
        /// What the agent's CLOCK_MONOTONIC showed when this was said, or earlier.
        monotonic_ns: u64,
    },
    /// Everything is durable: forget the run.
    Release,
}

/// Why a run is stopped before its planned end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWhy {
    /// Somebody asked for it.
    Cancelled,
    /// A threshold with `abort` was broken.
    Threshold,
    /// The run cannot go on.
    Failed,
}

/// Agent to master.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The first report of a stream.
    Welcome(Welcome),
    /// The shard is compiled, and fits.
    Prepared {
        /// Load cores that it uses.
        cores: u32,
    },
    /// Load has begun.
    Started {
        /// Nanoseconds of CLOCK_MONOTONIC; later than ordered where the order came late.
        monotonic_ns: u64,
    },
    /// A change of level was taken.
    Adjusted {
        /// The change's number.
        number: u64,
        /// Since when it holds, or will hold, on this agent; after the ordered moment where the order came late.
        from: RunTime,
    },
    /// A move of lanes holds, or will from a moment to come on.
    Moved(Moved),
    /// A piece of a delta.
    Delta(DeltaFrame),
    /// The last delta was cut: the shard is done.
    Finished {
        /// Its number.
        last_seq: Seq,
    },
    /// The agent could not do its part.
    Fault {
        /// A word for machines.
        code: String,
        /// A sentence for people: what, and the way out.
        message: String,
    },
    /// The agent was told to leave.
    Draining,
}

/// What the agent knows of the run when a stream begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// The process that answers.
    pub incarnation: Incarnation,
    /// How far its shard is.
    pub state: ShardState,
    /// Since the shard's start.
    pub run_time: RunTime,
    /// The oldest delta that it still keeps; 0: none.
    pub first_unacked: Seq,
    /// The newest change of level that it has taken; 0: none.
    pub adjusted: u64,
    /// The moves of lanes that hold, or will, ascending by number.
    pub moved: Vec<Moved>,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
}

/// How far an agent's shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// Nothing is known of the run.
    New,
    /// Compiled, waiting for its start.
    Prepared,
    /// Load goes.
    Running,
    /// Load is over; deltas may still wait for their acknowledgement.
    Finished,
}

/// A piece of an encoded delta.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaFrame {
    /// The delta's number.
    pub seq: Seq,
    /// From 0.
    pub index: u32,
    /// Pieces of this delta.
    pub count: u32,
    /// The bytes.
    pub body: Bytes,
}

/// The most bytes of a delta in one frame.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The most deltas that are sent and not acknowledged; what comes meanwhile is folded into one.
pub const UNACKED_MAX: usize = 8;

impl DeltaFrame {
    /// Cuts a delta's bytes into frames of at most [`FRAME_BYTES_MAX`].
    pub fn cut(seq: Seq, body: Bytes) -> Vec<Self> {
        let count = body.len().div_ceil(FRAME_BYTES_MAX).max(1) as u32;
        (0..count)
            .map(|index| {
                let from = index as usize * FRAME_BYTES_MAX;
                Self { seq, index, count, body: body.slice(from..body.len().min(from + FRAME_BYTES_MAX)) }
            })
            .collect()
    }
}
