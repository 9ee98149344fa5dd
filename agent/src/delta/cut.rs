//! Cuts: what the cores recorded in an interval → one delta, aligned to run time.
//!
//! Takes a [`Part`] from each core at each boundary of run time, gives the agent's deltas in order. Pure: no thread, no clock.
//! - Spans are gapless from 0 (or from where the load joined a run that goes), and each ends at a boundary but the last, which ends with the last core.
//! - A delta comes when every core has handed over what belongs to it, empty ones too: they carry the levels.
//! - What a core hands over late, or for several intervals at once, is in the delta of its end: no count is lost.

use std::collections::BTreeMap;

use volcanion_common::delta::Delta;
use volcanion_common::units::{Micros, RunTime};

use crate::record::Recorder;
use crate::record::saturation::Strain;

/// What one core did up to a moment of run time.
#[derive(Debug)]
pub struct Part {
    /// Which core.
    pub core: usize,
    /// Up to when, in run time: a boundary, or the core's end.
    pub to: RunTime,
    /// What happened since its last part.
    pub recorder: Box<Recorder>,
    /// CPU time since its last part.
    pub cpu_us: u64,
    /// Of it, what a core that polls busily spent on waiting; at most `cpu_us`, but for rounding.
    pub idle_us: u64,
    /// How long since then it could have run and had no processor.
    pub wait_us: u64,
    /// The latest look at its schedules since then.
    pub look_late_ns_max: u64,
}

/// A delta of the agent that has its counts, and what the cores were like.
#[derive(Debug, Default)]
pub struct Cut {
    /// Its `process` holds the CPU time only.
    pub delta: Delta,
    /// The cores' state.
    pub strain: Strain,
}

/// Puts parts together.
#[derive(Debug)]
pub struct Cutter {
    interval: Micros,
    /// Up to where each core has handed over; the end of time for one that has ended.
    reached: Vec<RunTime>,
    /// By the boundary at which their span ends.
    open: BTreeMap<RunTime, Cut>,
    /// Where the next delta begins.
    from: RunTime,
    /// The latest end of a part.
    end: RunTime,
}

impl Cutter {
    /// For so many cores. An interval of nothing is taken for a microsecond.
    pub fn new(interval: Micros, cores: usize) -> Self {
        Self {
            interval: Micros(interval.0.max(1)),
            reached: vec![RunTime::START; cores],
            open: BTreeMap::new(),
            from: RunTime::START,
            end: RunTime::START,
        }
    }

    /// Run time had gone up to this boundary before the cores had any part in it. Without effect once a part is there.
    pub fn begin_at(&mut self, from: RunTime) {
        if self.end == RunTime::START {
            (self.from, self.end) = (from, from);
        }
    }

    /// The boundary at which the interval ends that ends at or holds this moment.
    pub fn boundary(&self, moment: RunTime) -> RunTime {
        RunTime(moment.0.div_ceil(self.interval.0).max(1) * self.interval.0)
    }

    /// Takes a part, and leaves its recorder to be cleared and used again.
    pub fn add(&mut self, part: &Part) {
        let boundary = self.boundary(part.to).max(self.boundary(RunTime(self.from.0 + 1)));
        let cut = self.open.entry(boundary).or_default();
        part.recorder.add_to(&mut cut.delta);
        cut.delta.process.cpu_us += part.cpu_us;
        cut.strain.core_cpu_us_max = cut.strain.core_cpu_us_max.max(part.cpu_us.saturating_sub(part.idle_us));
        cut.strain.core_wait_us_max = cut.strain.core_wait_us_max.max(part.wait_us);
        cut.strain.paused += part.recorder.paused_count();
        cut.strain.look_late_ns_max = cut.strain.look_late_ns_max.max(part.look_late_ns_max);
        self.end = self.end.max(part.to);
        self.reached[part.core] = self.reached[part.core].max(part.to);
    }

    /// A core hands over nothing more.
    pub fn core_ended(&mut self, core: usize) {
        self.reached[core] = RunTime(u64::MAX);
    }

    /// The next delta that is whole, in order.
    pub fn next_whole(&mut self) -> Option<Cut> {
        let first = self.open.first_entry()?;
        let reached = self.reached.iter().min().copied().unwrap_or_default();
        if *first.key() > reached {
            return None;
        }
        let (boundary, mut cut) = first.remove_entry();
        let is_last = reached == RunTime(u64::MAX) && self.open.is_empty();
        cut.delta.from = self.from;
        // A span of nothing is not a span.
        cut.delta.to = if is_last { self.end.min(boundary).max(RunTime(self.from.0 + 1)) } else { boundary };
        self.from = cut.delta.to;
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing;
    use proptest::prelude::*;

    fn part(core: usize, to_ms: u64, started: u64) -> Part {
        let mut recorder = Box::new(Recorder::new(&testing::two_steps()));
        (0..started).for_each(|_| recorder.started(0));
        recorder.set_vus(0, 3);
        Part {
            core,
            to: RunTime(to_ms * 1_000),
            recorder,
            cpu_us: 10,
            idle_us: 0,
            wait_us: 0,
            look_late_ns_max: core as u64,
        }
    }

    fn next(cutter: &mut Cutter) -> Option<(u64, u64, u64, u64)> {
        cutter.next_whole().map(|Cut { delta, .. }| {
            (delta.from.0 / 1_000, delta.to.0 / 1_000, delta.scenarios[&0].started, delta.scenarios[&0].vus)
        })
    }

    #[test]
    fn a_delta_comes_when_all_cores_are_in_and_the_last_ends_with_the_last_core() {
        let mut cutter = Cutter::new(Micros::from_secs(1), 2);
        cutter.add(&part(0, 1_000, 5));
        cutter.add(&part(0, 2_000, 5));
        assert_eq!(next(&mut cutter), None);
        cutter.add(&part(1, 1_000, 7));
        assert_eq!(next(&mut cutter), Some((0, 1_000, 12, 6)));
        assert_eq!(next(&mut cutter), None);
        cutter.add(&part(0, 2_200, 1));
        cutter.core_ended(0);
        // The other core stood still over two boundaries and is in with both at once.
        cutter.add(&part(1, 3_000, 9));
        assert_eq!(next(&mut cutter), Some((1_000, 2_000, 5, 3)));
        assert_eq!(next(&mut cutter), Some((2_000, 3_000, 10, 6)));
        cutter.add(&part(1, 3_400, 2));
        assert_eq!(next(&mut cutter), None);
        cutter.core_ended(1);
        assert_eq!(next(&mut cutter), Some((3_000, 3_400, 2, 3)));
        assert_eq!(next(&mut cutter), None);
    }

    #[test]
    fn a_load_that_joins_begins_its_first_delta_there() {
        let mut cutter = Cutter::new(Micros::from_secs(1), 1);
        cutter.begin_at(RunTime(20_000_000));
        cutter.add(&part(0, 21_000, 4));
        cutter.begin_at(RunTime(1));
        assert_eq!(next(&mut cutter), Some((20_000, 21_000, 4, 3)));
    }

    proptest! {
        #[test]
        fn spans_are_gapless_and_counts_add_up_in_whatever_order_cores_are_in(
            parts in prop::collection::vec((0usize..3, 1u64..900, 0u64..20), 1..60),
        ) {
            let mut cutter = Cutter::new(Micros::from_millis(250), 3);
            let mut reached_ms = [0; 3];
            let (mut expected, mut counted, mut from_ms) = (0, 0, 0);
            let mut drain = |cutter: &mut Cutter| -> Result<(), TestCaseError> {
                while let Some((from, to, started, _)) = next(cutter) {
                    prop_assert!(from == from_ms && to > from);
                    counted += started;
                    from_ms = to;
                }
                Ok(())
            };
            for (core, later_ms, started) in parts {
                reached_ms[core] = (reached_ms[core] + later_ms).next_multiple_of(250);
                cutter.add(&part(core, reached_ms[core], started));
                expected += started;
                drain(&mut cutter)?;
            }
            for (core, reached_ms) in reached_ms.into_iter().enumerate() {
                cutter.add(&part(core, reached_ms + 70, 1));
                cutter.core_ended(core);
                expected += 1;
            }
            drain(&mut cutter)?;
            prop_assert_eq!((counted, from_ms), (expected, reached_ms.into_iter().max().unwrap_or(0) + 70));
        }
    }
}
