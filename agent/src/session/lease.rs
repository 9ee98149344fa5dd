//! Whether the agent's registry entry is sure to be there: without a leader's stream it may load only while it is.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use volcanion_common::registry::Membership;

use crate::send::clock::now_ns;

/// The agent's own entry, once it has one. Clones are of the same entry.
#[derive(Clone, Default)]
pub struct Lease(Arc<OnceLock<Arc<dyn Membership>>>);

impl Lease {
    /// The agent has joined. Once is enough: a membership enters its entry again by itself.
    pub fn begin(&self, membership: Arc<dyn Membership>) {
        let _ = self.0.set(membership);
    }

    /// Not before the agent has joined, and not past the moment until which the registry is sure to keep its entry.
    pub fn is_alive(&self) -> bool {
        let membership = self.0.get();
        membership.is_some_and(|m| m.alive_until().is_none_or(|until| Instant::now() < until))
    }

    /// The moment until which it is sure to be there, in nanoseconds of CLOCK_MONOTONIC: 0 before the agent has joined, the greatest
    /// value where the entry cannot run out.
    pub fn alive_until_ns(&self) -> u64 {
        let Some(membership) = self.0.get() else { return 0 };
        membership.alive_until().map_or(u64::MAX, |until| {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() { 0 } else { now_ns().saturating_add(left.as_nanos() as u64) }
        })
    }

    /// Whether the agent has ever joined.
    pub fn has_joined(&self) -> bool {
        self.0.get().is_some()
    }
}
