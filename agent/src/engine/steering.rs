//! What the owner of a load tells its cores: when to start, when to end, until when they may send, and which levels hold from when on.
//!
//! The orders are a value of which only the newest counts, so there is nothing to queue. The fence is an atomic beside
//! it, because it is looked at before each request. Changes of level all count: they are a list that only grows, and its length is an atomic, so that a core
//! sees a new one before whatever it does next.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use volcanion_common::session::Change;
use volcanion_common::units::RunTime;

/// The orders in force. Instants are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// When run time begins.
    pub start_ns: Option<u64>,
    /// No new iterations; at this instant those in flight are cut off.
    pub cut_ns: Option<u64>,
    /// How many changes of level were told: the next one may be due before anything that a core waits for.
    changes: usize,
}

/// A change of level, and since when it holds on this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// As ordered.
    pub change: Change,
    /// Later than the ordered moment where the order came late; never before that of an earlier adjustment.
    pub from: RunTime,
}

/// See the module.
#[derive(Debug)]
pub struct Steering {
    orders: watch::Sender<Orders>,
    may_send_until_ns: AtomicU64,
    adjustments: Mutex<Vec<Adjustment>>,
    adjustments_count: AtomicUsize,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            orders: watch::Sender::new(Orders::default()),
            may_send_until_ns: AtomicU64::new(u64::MAX),
            adjustments: Mutex::default(),
            adjustments_count: AtomicUsize::new(0),
        }
    }
}

impl Steering {
    /// Gives the start; the first one holds.
    pub fn start(&self, start_ns: u64) {
        self.orders.send_if_modified(|orders| {
            let is_first = orders.start_ns.is_none();
            orders.start_ns.get_or_insert(start_ns);
            is_first
        });
    }

    /// Ends the load; the earliest cut holds.
    pub fn stop(&self, cut_ns: u64) {
        self.orders.send_if_modified(|orders| {
            let is_earlier = orders.cut_ns.is_none_or(|before_ns| cut_ns < before_ns);
            if is_earlier {
                orders.cut_ns = Some(cut_ns);
            }
            is_earlier
        });
    }

    /// Moves the fence.
    pub fn allow_until(&self, fence_ns: u64) {
        self.may_send_until_ns.store(fence_ns, Ordering::Relaxed);
    }

    /// Whether the fence lies after this instant.
    #[inline]
    pub fn may_send(&self, now_ns: u64) -> bool {
        now_ns < self.may_send_until_ns.load(Ordering::Relaxed)
    }

    /// Changes a level.
    pub fn adjust(&self, adjustment: Adjustment) {
        let mut list = self.adjustments.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(adjustment);
        self.adjustments_count.store(list.len(), Ordering::Release);
        let changes = list.len();
        drop(list);
        self.orders.send_modify(|orders| orders.changes = changes);
    }

    /// How many changes of level there are.
    #[inline]
    pub fn adjustments(&self) -> usize {
        self.adjustments_count.load(Ordering::Acquire)
    }

    /// Those after the first `known` ones.
    pub fn adjustments_after(&self, known: usize) -> Vec<Adjustment> {
        let list = self.adjustments.lock().unwrap_or_else(PoisonError::into_inner);
        list.get(known..).unwrap_or_default().to_vec()
    }

    /// Follows the orders.
    pub fn subscribe(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }
}
