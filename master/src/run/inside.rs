//! What a run's driver shows of itself: how full its queues are, its streams to agents, what it merged and what came late.
//!
//! The driver and its tasks count here as they go; whoever shows metrics reads. The one lock is held for a change of a stream, or one look over them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use volcanion_common::ids::AgentId;
use volcanion_common::telemetry::queue::{Filling, Queue};

use super::machine::Tally;

/// Events that wait for a driver at most; whoever has more waits.
pub const INBOX_MAX: usize = 64;
/// Writes that wait at most: the machine asks for two at once at most.
pub const WRITES_MAX: usize = 8;

/// See the module.
#[derive(Default)]
pub struct Inside {
    queues: OnceLock<DriverQueues>,
    adjusts: OnceLock<Queue>,
    streams: Mutex<Streams>,
    reconnects: AtomicU64,
    merge_us: AtomicU64,
    frames: AtomicU64,
    intervals_late: AtomicU64,
    moves_ordered: AtomicU64,
    moves_settled: AtomicU64,
}

/// The queues of a run's driver.
pub struct DriverQueues {
    /// Its inbox.
    pub inbox: Queue,
    /// Writes that wait for the store.
    pub writes: Queue,
}

#[derive(Default)]
struct Streams {
    /// The newest one of each agent.
    newest: HashMap<AgentId, Stream>,
    /// Whoever was reached before.
    known: HashSet<AgentId>,
}

/// A stream to an agent.
struct Stream {
    number: u64,
    orders: Queue,
    is_open: bool,
}

/// All of it at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The inbox, where somebody drives the run.
    pub inbox: Option<Filling>,
    /// Its writes.
    pub writes: Option<Filling>,
    /// Its changes of level.
    pub adjusts: Option<Filling>,
    /// The fullest queue of orders of all its streams.
    pub orders: Option<Filling>,
    /// Streams on which the agent has said hello.
    pub streams_open: u64,
    /// Streams that came up for agents that had one before.
    pub reconnects: u64,
    /// What the machine took for frames of deltas, intervals that they closed included.
    pub merge_seconds: f64,
    /// How many of them.
    pub frames: u64,
    /// Intervals that were closed before every agent was in.
    pub intervals_late: u64,
    /// Moves of lanes that were made durable, to be told.
    pub moves_ordered: u64,
    /// Those of them that agents have confirmed.
    pub moves_settled: u64,
}

impl Inside {
    /// A driver begins.
    pub(super) fn driven(&self, queues: DriverQueues) {
        // A run has one driver in a process's term, and one of these for each.
        let _ = self.queues.set(queues);
    }

    /// Changes of level may be asked for.
    pub(super) fn adjustable(&self, adjusts: Queue) {
        // As above.
        let _ = self.adjusts.set(adjusts);
    }

    /// A stream is being opened; it replaces the agent's older one.
    pub(super) fn opening(&self, agent: AgentId, number: u64, orders: Queue) {
        self.streams().newest.insert(agent, Stream { number, orders, is_open: false });
    }

    /// It came up.
    pub(super) fn opened(&self, agent: &AgentId, number: u64) {
        let mut streams = self.streams();
        let Some(stream) = streams.newest.get_mut(agent).filter(|stream| stream.number == number) else {
            return;
        };
        stream.is_open = true;
        if !streams.known.insert(agent.clone()) {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is gone.
    pub(super) fn closed(&self, agent: &AgentId, number: u64) {
        let mut streams = self.streams();
        if streams.newest.get(agent).is_some_and(|stream| stream.number == number) {
            streams.newest.remove(agent);
        }
    }

    /// The run is over, or left to another master.
    pub(super) fn all_closed(&self) {
        self.streams().newest.clear();
    }

    /// A frame of a delta was taken in.
    pub(super) fn merged(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.merge_us.fetch_add(us, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// What the machine has counted since its beginning.
    pub(super) fn counted(&self, tally: Tally) {
        let Tally { intervals_late, moves_ordered, moves_settled } = tally;
        self.intervals_late.store(intervals_late, Ordering::Relaxed);
        self.moves_ordered.store(moves_ordered, Ordering::Relaxed);
        self.moves_settled.store(moves_settled, Ordering::Relaxed);
    }

    /// All of it now.
    pub fn seen(&self) -> Seen {
        let of = |queue: fn(&DriverQueues) -> &Queue| queue(self.queues.get()?).filling();
        let (orders, streams_open) = {
            let streams = self.streams();
            let fullest = streams.newest.values().filter_map(|stream| stream.orders.filling());
            let open = streams.newest.values().filter(|stream| stream.is_open).count() as u64;
            (fullest.max_by_key(|filling| filling.depth), open)
        };
        Seen {
            inbox: of(|queues| &queues.inbox),
            writes: of(|queues| &queues.writes),
            adjusts: self.adjusts.get().and_then(Queue::filling),
            orders,
            streams_open,
            reconnects: self.reconnects.load(Ordering::Relaxed),
            merge_seconds: self.merge_us.load(Ordering::Relaxed) as f64 / 1e6,
            frames: self.frames.load(Ordering::Relaxed),
            intervals_late: self.intervals_late.load(Ordering::Relaxed),
            moves_ordered: self.moves_ordered.load(Ordering::Relaxed),
            moves_settled: self.moves_settled.load(Ordering::Relaxed),
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // Every change under the lock is whole.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn the_fullest_stream_counts_and_an_older_ones_end_changes_nothing() {
        let inside = Inside::default();
        let (a, _keeps_a) = mpsc::channel(4);
        let (b, _keeps_b) = mpsc::channel(4);
        inside.opening("a".into(), 1, Queue::of(&a));
        inside.opening("b".into(), 2, Queue::of(&b));
        inside.opened(&"a".into(), 1);
        inside.opened(&"b".into(), 2);
        (0..3).for_each(|order| b.try_send(order).unwrap());
        a.try_send(0).unwrap();
        let seen = inside.seen();
        assert_eq!(seen.orders, Some(Filling { depth: 3, bound: 4 }));
        assert_eq!((seen.streams_open, seen.reconnects, seen.inbox), (2, 0, None));

        let (again, _keeps_again) = mpsc::channel::<u8>(4);
        inside.opening("b".into(), 3, Queue::of(&again));
        inside.closed(&"b".into(), 2);
        inside.opened(&"b".into(), 3);
        let seen = inside.seen();
        assert_eq!((seen.orders, seen.streams_open), (Some(Filling { depth: 1, bound: 4 }), 2));
        inside.all_closed();
        assert_eq!(inside.seen(), Seen { reconnects: 1, ..Seen::default() });
    }
}
