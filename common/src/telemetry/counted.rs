//! What a part of the program counts of its own work, beside the state that is merged: numbers by name, durations in fixed buckets.
//!
//! Whoever counts owns these and hands them to whoever shows them. Counting takes no lock and allocates nothing; a name that is not among those
//! given at the beginning is not counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::prometheus::{BOUNDS_US, Family};

/// Numbers by names that are known from the beginning, so that each is shown before it was ever counted.
#[derive(Debug)]
pub struct Counts(Vec<(&'static str, AtomicU64)>);

impl Counts {
    /// Noughts under these names.
    pub fn of(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| (*name, AtomicU64::new(0))).collect())
    }

    /// One more of this name.
    pub fn count(&self, name: &str) {
        self.count_many(name, 1);
    }

    /// So many more of this name.
    pub fn count_many(&self, name: &str, more: u64) {
        let known = self.0.iter().find(|(known, _)| *known == name);
        debug_assert!(known.is_some(), "{name} is not among the names");
        if let Some((_, count)) = known {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// How many of this name.
    pub fn of_name(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, count)| count.load(Ordering::Relaxed))
    }

    /// Adds each number to a family under this label.
    pub fn show(&self, family: &mut Family, label: &str) {
        for (name, count) in &self.0 {
            family.add(&[(label, name)], count.load(Ordering::Relaxed) as f64);
        }
    }
}

/// Durations in the buckets of [`BOUNDS_US`].
#[derive(Debug, Default)]
pub struct Durations {
    /// How many fell into each bucket; the last one has no bound.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    /// One more.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Adds them to a histogram under these labels.
    pub fn show(&self, family: &mut Family, labels: &[(&str, &str)]) {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        family.add_buckets(labels, &counts, self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::prometheus::encode;

    #[test]
    fn durations_fall_into_the_bucket_that_holds_them() {
        let durations = Durations::default();
        for us in [0, 250, 251, 1_000, 60_000_000, 60_000_001] {
            durations.record(Duration::from_micros(us));
        }
        let mut family = Family::histogram("a_seconds", "A.");
        durations.show(&mut family, &[("x", "y")]);
        let text = String::from_utf8(encode(vec![family])).unwrap();
        for line in [
            "a_seconds_bucket{x=\"y\",le=\"0.00025\"} 2",
            "a_seconds_bucket{x=\"y\",le=\"0.0005\"} 3",
            "a_seconds_bucket{x=\"y\",le=\"0.001\"} 4",
            "a_seconds_bucket{x=\"y\",le=\"60\"} 5",
            "a_seconds_bucket{x=\"y\",le=\"+Inf\"} 6",
            "a_seconds_sum{x=\"y\"} 120.001502",
            "a_seconds_count{x=\"y\"} 6",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
        }
        assert_eq!(durations.count(), 6);
    }

    #[test]
    fn what_was_never_counted_is_shown_as_nought() {
        let counts = Counts::of(&["a", "b"]);
        counts.count("b");
        counts.count("b");
        let mut family = Family::counter("c_total", "C.");
        counts.show(&mut family, "code");
        let text = String::from_utf8(encode(vec![family])).unwrap();
        assert!(text.ends_with("c_total{code=\"a\"} 0\nc_total{code=\"b\"} 2\n"), "{text}");
    }
}
