//! Real processes for tests: start, await, end by id; what they said last is shown when a test fails.

pub mod certificates;
pub mod cluster;
pub mod etcd;
pub mod events;
pub mod kubernetes;
pub mod masters;
pub mod namespace;
pub mod noting;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod quota;
pub mod rest;
pub mod tools;
pub mod wire;

use std::future::Future;
use std::time::{Duration, Instant};

/// Looks again and again until there is an answer; fails the test when there is none in time.
///
/// # Panics
/// The time is over.
pub async fn await_some<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
