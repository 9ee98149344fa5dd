//! Whether the store works, as its users last saw it, and the looking again while it does not.
//!
//! Takes the outcome of every operation; gives what is wrong and since when. Invariant: only a write that was made durable ends a failure:
//! a full disk still reads well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Store, StoreError};

/// How often a store that fails is tried.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The most that a trial writes.
const PROBE_MAX: usize = 1 << 20;
/// The least.
const PROBE_MIN: usize = 16 << 10;

/// The store does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Since the first of the operations that failed with none succeeding in between.
    pub since: Instant,
    /// What the newest one said.
    pub error: String,
    /// The largest write that failed.
    bytes: usize,
}

/// What is known of the store's working.
#[derive(Debug, Default)]
pub(super) struct Health {
    failure: Mutex<Option<Failure>>,
    failures: AtomicU64,
}

impl Health {
    pub(super) fn failure(&self) -> Option<Failure> {
        self.lock().clone()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Notes how reading went.
    pub(super) fn read<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.failed(error, 0);
        }
        result
    }

    /// Notes how writing so many bytes went.
    pub(super) fn wrote<T>(&self, bytes: usize, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => self.works(),
            Err(error) => self.failed(error, bytes),
        }
        result
    }

    /// How much a trial is to write: as much as was refused, so that it does not succeed where that would fail again.
    pub(super) fn probe_bytes(&self) -> usize {
        self.lock().as_ref().map_or(0, |failure| failure.bytes).clamp(PROBE_MIN, PROBE_MAX)
    }

    fn works(&self) {
        if let Some(failure) = self.lock().take() {
            let seconds = failure.since.elapsed().as_secs_f64();
            tracing::info!(seconds, "the store works again");
        }
    }

    fn failed(&self, error: &StoreError, bytes: usize) {
        // Whatever else is refused, the store did its part.
        let StoreError::Unavailable(error) = error else { return };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut failure = self.lock();
        let (since, before) = failure.as_ref().map_or((Instant::now(), 0), |old| (old.since, old.bytes));
        *failure = Some(Failure { since, error: error.to_string(), bytes: bytes.max(before) });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        // Every change under the lock is whole.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While the store fails, tries it, so that it is known to work again although nobody writes; until the stop.
pub async fn keep_probing(store: Arc<dyn Store>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_some() {
        if store.failure().is_some()
            && let Some(Err(error)) = stop.run_until_cancelled(store.probe()).await
        {
            tracing::debug!(%error, "the store still does not work");
        }
    }
}
