//! The newest so many seconds of merged deltas.
//!
//! Kept in at most [`BUCKETS_MAX`] buckets of whole intervals, so that a long window costs no more than a short one; it covers its
//! length and at most one bucket more.

use std::collections::VecDeque;
use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::units::{Micros, RunTime};

/// The most buckets of a window.
const BUCKETS_MAX: u64 = 60;

/// The newest part of a run.
#[derive(Debug)]
pub struct Window {
    length: Micros,
    bucket: Micros,
    /// By their number: run time divided by the bucket's length. Ascending.
    buckets: VecDeque<(u64, Arc<Delta>)>,
}

impl Window {
    /// A window of a length over deltas of an interval.
    pub fn new(length: Micros, interval: Micros) -> Self {
        let interval_us = interval.0.max(1);
        let intervals = length.0.div_ceil(interval_us).max(1);
        let bucket = Micros(interval_us.saturating_mul(intervals.div_ceil(BUCKETS_MAX)));
        Self { length: Micros(intervals * interval_us), bucket, buckets: VecDeque::new() }
    }

    /// Takes in a merged delta; a late one too. What is older than the window leaves.
    pub fn add(&mut self, delta: &Arc<Delta>) {
        if delta.from >= delta.to {
            return;
        }
        let number = (delta.to.0 - 1) / self.bucket.0;
        let place = self.buckets.partition_point(|(other, _)| *other < number);
        match self.buckets.get_mut(place) {
            Some((same, merged)) if *same == number => Arc::make_mut(merged).add(delta),
            _ => self.buckets.insert(place, (number, Arc::clone(delta))),
        }
        let newest = self.buckets.back().map_or(0, |(number, _)| *number);
        let kept = self.length.0.div_ceil(self.bucket.0) + 1;
        while self.buckets.front().is_some_and(|(number, _)| number + kept <= newest) {
            self.buckets.pop_front();
        }
    }

    /// The deltas of the window that ends now, merged.
    pub fn merged(&self, now: RunTime) -> Delta {
        let first = now.0.saturating_sub(self.length.0) / self.bucket.0;
        let mut merged = Delta::default();
        for (_, delta) in self.buckets.iter().filter(|(number, _)| *number >= first) {
            merged.add(delta);
        }
        merged
    }

    /// How long the window is that ends now: shorter where the run is younger.
    pub fn span(&self, now: RunTime) -> Micros {
        now.since(self.begins_at(now))
    }

    /// The first moment of the window that ends now.
    pub fn begins_at(&self, now: RunTime) -> RunTime {
        RunTime(now.0.saturating_sub(self.length.0) / self.bucket.0 * self.bucket.0)
    }
}
