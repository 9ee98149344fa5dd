//! What can happen to a run on this agent, and what is to be done about it.

use volcanion_common::ids::Epoch;
use volcanion_common::session::{Hello, Move, Order, Report};
use volcanion_common::shard::Shard;
use volcanion_common::units::Micros;

use crate::session::fence::{Refusal, Tombstone};
use crate::session::load::{Adjustment, Fault, LoadEvent};

/// A moment, by the two clocks that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// Milliseconds since 1970: an order's expiry only.
    pub unix_ms: u64,
}

/// A stream of this run; later ones have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// A stream began; the fence has admitted its Hello.
    Opened {
        /// Which.
        stream: StreamId,
        /// Its first order.
        hello: Hello,
    },
    /// An order came.
    Order {
        /// On which stream.
        stream: StreamId,
        /// The order.
        order: Order,
    },
    /// A stream ended or broke.
    Lost {
        /// Which.
        stream: StreamId,
    },
    /// A leader of this epoch was seen by the fence, for whatever run.
    EpochSeen(Epoch),
    /// A compilation is done: the load cores it will use.
    Compiled {
        /// The number that [`Action::Compile`] gave.
        attempt: u32,
        /// The cores, or why not.
        result: Result<u32, Fault>,
    },
    /// The engine said something.
    Load(LoadEvent),
    /// The agent was told to leave.
    Leave,
    /// The agent was told to drain: it takes no new run, hands over what is elastic, and stays.
    Drain,
    /// Load is to end at once, whatever the leader says.
    Kill,
    /// Time went by; comes several times a second.
    Tick {
        /// Until when the registry entry is sure to be there, in nanoseconds of CLOCK_MONOTONIC; 0: it is not.
        lease_until_ns: u64,
    },
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Action {
    /// End this stream with the reason; it never was the run's.
    Refuse {
        /// Which.
        stream: StreamId,
        /// Why.
        refusal: Refusal,
    },
    /// Note that an order of the run's stream was not obeyed; the leader is told apart from this.
    Refused {
        /// Its name.
        order: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// This stream is the run's from now on; the one before ends.
    Adopt {
        /// Which.
        stream: StreamId,
    },
    /// End the run's stream with the reason.
    Close {
        /// Why.
        reason: String,
    },
    /// Say this on the run's stream.
    Send(Report),
    /// Compile a shard; its seal and names are good.
    Compile {
        /// To tell this compilation from others.
        attempt: u32,
        /// What to compile.
        shard: Box<Shard>,
    },
    /// Start what was compiled.
    Start {
        /// Nanoseconds of CLOCK_MONOTONIC; in the past only where the agent joins a run that goes.
        at_ns: u64,
    },
    /// Tell the load that a level changes; only after its start was told.
    Adjust(Adjustment),
    /// Tell the load that lanes come and go, which it answers with [`LoadEvent::Moved`] once that holds; only after its start was told.
    Move(Move),
    /// No new iterations.
    Stop {
        /// How long requests in flight may go on.
        graceful: Micros,
        /// For the log.
        reason: String,
    },
    /// Nothing may be sent from this instant on, unless it is moved before.
    AllowUntil {
        /// Nanoseconds of CLOCK_MONOTONIC.
        monotonic_ns: u64,
    },
    /// Drop what was compiled, or what goes.
    Discard,
    /// The run is over here; nothing follows.
    Forget {
        /// What is remembered of it.
        tombstone: Option<Tombstone>,
    },
}
