//! What goes wrong between a process and its registry, counted for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::prometheus::Family;

/// Since the process began.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    failures: AtomicU64,
    leases_lost: AtomicU64,
    lists: AtomicU64,
}

impl RegistryCounts {
    /// A call came to nothing, or a stream broke.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A lease of this process's was gone before it gave it back.
    pub(super) fn lost_lease(&self) {
        self.leases_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The members were listed.
    pub(super) fn listed(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    /// As metrics, named by the process's prefix, such as `volcanion`.
    pub fn families(&self, prefix: &str, is_connected: bool) -> [Family; 4] {
        let counter = |name: &str, help: &str, value: &AtomicU64| {
            let mut family = Family::counter(&format!("{prefix}_registry_{name}_total"), help);
            family.add(&[], value.load(Ordering::Relaxed) as f64);
            family
        };
        let mut connected = Family::gauge(
            &format!("{prefix}_registry_connected"),
            "1 while the registry answers; 0 while what was last seen of it stands.",
        );
        connected.add(&[], f64::from(u8::from(is_connected)));
        [
            connected,
            counter("failures", "Calls to the registry that came to nothing.", &self.failures),
            counter(
                "leases_lost",
                "Leases of this process that were gone before it gave them back.",
                &self.leases_lost,
            ),
            counter(
                "lists",
                "Listings of all members: one at the start, one more after each watch that ended.",
                &self.lists,
            ),
        ]
    }
}
