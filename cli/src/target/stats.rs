//! What the target answered, to the one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// Paths that are told apart; further ones are counted together under [`OTHER_PATHS`].
const PATHS_MAX: usize = 1_000;
const OTHER_PATHS: &str = "(others)";
/// Seconds that are told apart: a day; later ones are counted in the last.
const SECONDS_MAX: usize = 86_400;

/// The counts of one target.
#[derive(Default)]
pub struct Stats(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    first: Option<Instant>,
    snapshot: Snapshot,
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Answers in all.
    pub requests: u64,
    pub by_path: BTreeMap<String, u64>,
    pub by_status: BTreeMap<u16, u64>,
    /// Answers in each second since the first one.
    pub by_second: Vec<u64>,
}

impl Stats {
    /// Counts one answer.
    pub fn count(&self, path: &str, status: u16) {
        let now = Instant::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *counts.first.get_or_insert(now);
        let second = (now.saturating_duration_since(first).as_secs() as usize).min(SECONDS_MAX - 1);
        let snapshot = &mut counts.snapshot;
        snapshot.requests += 1;
        *snapshot.by_status.entry(status).or_default() += 1;
        if snapshot.by_second.len() <= second {
            snapshot.by_second.resize(second + 1, 0);
        }
        snapshot.by_second[second] += 1;
        if let Some(count) = snapshot.by_path.get_mut(path) {
            *count += 1;
        } else {
            let path = if snapshot.by_path.len() < PATHS_MAX { path } else { OTHER_PATHS };
            *snapshot.by_path.entry(path.to_owned()).or_default() += 1;
        }
    }

    /// The counts now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).snapshot.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_adds_up_and_paths_are_bounded() {
        let stats = Stats::default();
        for n in 0..PATHS_MAX + 5 {
            stats.count(&format!("/{n}"), if n % 2 == 0 { 200 } else { 500 });
        }
        let snapshot = stats.snapshot();
        let all = (PATHS_MAX + 5) as u64;
        assert_eq!(snapshot.requests, all);
        assert_eq!(snapshot.by_path.values().sum::<u64>(), all);
        assert_eq!(snapshot.by_path[OTHER_PATHS], 5);
        assert_eq!(snapshot.by_status.values().sum::<u64>(), all);
        assert_eq!(snapshot.by_second.iter().sum::<u64>(), all);
    }
}
