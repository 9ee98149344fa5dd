//! What the owner of a load tells its cores: when to start, when to end, until when they may send.
//!
//! The orders are a value of which only the newest counts, so there is nothing to queue. The fence is an atomic beside
//! it, because it is looked at before each request.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The orders in force. Instants are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// When run time begins.
    pub start_ns: Option<u64>,
    /// No new iterations; at this instant those in flight are cut off.
    pub cut_ns: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Steering {
    orders: watch::Sender<Orders>,
    may_send_until_ns: AtomicU64,
}

impl Default for Steering {
    fn default() -> Self {
        Self { orders: watch::Sender::new(Orders::default()), may_send_until_ns: AtomicU64::new(u64::MAX) }
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

    /// Follows the orders.
    pub fn subscribe(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }
}
