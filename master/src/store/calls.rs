//! How long the store's operations take, and which of them fail: counted as they end, for metrics.
//!
//! What is not awaited to its end, because its time was over, counts as failed. Refusals, such as those of a higher epoch, do not: the store did its part.

use std::time::Instant;

use volcanion_common::telemetry::counted::{Counts, Durations};
use volcanion_common::telemetry::prometheus::Family;

use super::StoreError;

/// Every operation, by its name in [`Store`](super::Store).
const OPERATIONS: [&str; 33] = [
    "raise_epoch",
    "epoch",
    "insert_plan",
    "plan",
    "plans",
    "replace_plan",
    "delete_plan",
    "insert_run",
    "idempotency_key",
    "update_run",
    "change_run",
    "join_run",
    "move_run",
    "commit",
    "end_run",
    "run",
    "runs",
    "run_record",
    "unended_runs",
    "metrics",
    "history",
    "newest_parts",
    "total",
    "insert_audit",
    "audits",
    "forget_audits",
    "insert_key",
    "keys",
    "key",
    "revoke_key",
    "use_key",
    "forget_runs",
    "probe",
];

/// Of one store, in this process.
pub struct Calls {
    took: Vec<Durations>,
    failed: Counts,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            took: OPERATIONS.iter().map(|_| Durations::default()).collect(),
            failed: Counts::of(&OPERATIONS),
        }
    }
}

impl Calls {
    /// Awaits an operation and notes how long it took.
    pub(super) async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut call_of = Call { calls: self, operation, began: Instant::now(), has_failed: true };
        let result = call.await;
        call_of.has_failed = matches!(
            result,
            Err(StoreError::Unavailable(_) | StoreError::Open(_) | StoreError::Unreadable(_))
        );
        result
    }

    /// As metrics. An operation that was never called has no durations.
    pub fn families(&self) -> [Family; 2] {
        let mut seconds =
            Family::histogram("volcanion_store_call_seconds", "How long operations of the store take.");
        for (operation, took) in OPERATIONS.iter().zip(&self.took).filter(|(_, took)| took.count() > 0) {
            took.show(&mut seconds, &[("operation", operation)]);
        }
        let mut failed = Family::counter(
            "volcanion_store_call_failures_total",
            "Operations of the store that failed, or were given up.",
        );
        self.failed.show(&mut failed, "operation");
        [seconds, failed]
    }
}

/// An operation that goes on; dropped, it is over.
struct Call<'a> {
    calls: &'a Calls,
    operation: &'static str,
    began: Instant,
    has_failed: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let place = OPERATIONS.iter().position(|operation| *operation == self.operation);
        debug_assert!(place.is_some(), "{} is not among the operations", self.operation);
        if let Some(took) = place.and_then(|place| self.calls.took.get(place)) {
            took.record(self.began.elapsed());
        }
        if self.has_failed {
            self.calls.failed.count(self.operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use volcanion_common::ids::Epoch;
    use volcanion_common::telemetry::prometheus::encode;

    use super::*;

    #[tokio::test]
    async fn each_end_of_an_operation_is_counted_once() {
        let calls = Calls::default();
        calls.timed("plan", async { Ok(()) }).await.unwrap();
        let fenced = async { Err::<(), _>(StoreError::Fenced { store: Epoch(2), ours: Epoch(1) }) };
        calls.timed("commit", fenced).await.unwrap_err();
        let away = async { Err::<(), _>(StoreError::Unavailable(sqlx::Error::PoolTimedOut)) };
        calls.timed("commit", away).await.unwrap_err();
        assert!(calls.timed("commit", std::future::pending::<Result<(), _>>()).now_or_never().is_none());
        let text = String::from_utf8(encode(calls.families().into())).unwrap();
        for line in [
            "volcanion_store_call_seconds_count{operation=\"plan\"} 1",
            "volcanion_store_call_seconds_count{operation=\"commit\"} 3",
            "volcanion_store_call_failures_total{operation=\"plan\"} 0",
            "volcanion_store_call_failures_total{operation=\"commit\"} 2",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
        }
        assert!(!text.contains("seconds_count{operation=\"runs\"}"));
    }
}
