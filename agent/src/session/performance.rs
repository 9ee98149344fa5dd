//! The performance line of a run: every five seconds of its time, what the load was like.

use tracing::{debug, info};
use volcanion_common::delta::Delta;
use volcanion_common::ids::RunId;
use volcanion_common::series::Distribution;
use volcanion_common::units::Micros;

/// A line is written once so much of run time is together.
const WINDOW: Micros = Micros::from_secs(5);

/// Folds a run's deltas into lines.
pub struct Performance {
    run: RunId,
    window: Delta,
}

impl Performance {
    /// Of a run that has not begun.
    pub fn new(run: RunId) -> Self {
        Self { run, window: Delta::default() }
    }

    /// Takes a delta; writes a line when the window is full.
    pub fn add(&mut self, delta: &Delta) {
        for (index, scenario) in &delta.scenarios {
            debug!(
                run_id = %self.run,
                scenario = index,
                from_ms = delta.from.as_millis_f64(),
                started = scenario.started,
                completed = scenario.completed,
                dropped = scenario.dropped,
                interrupted = scenario.interrupted,
                vus = scenario.vus,
                lag_max_us = scenario.schedule_lag.max_us(),
                cpu_us = delta.process.cpu_us,
                "interval"
            );
        }
        self.window.add(delta);
        if self.window.to.since(self.window.from) >= WINDOW {
            self.flush();
        }
    }

    /// Writes what is there.
    pub fn flush(&mut self) {
        let window = std::mem::take(&mut self.window);
        let span_s = window.to.since(window.from).as_secs_f64();
        if span_s <= 0.0 {
            return;
        }
        let (mut response_time, mut lag) = (Distribution::default(), Distribution::default());
        window.series.values().for_each(|series| response_time.add(&series.response_time));
        window.scenarios.values().for_each(|scenario| lag.add(&scenario.schedule_lag));
        info!(
            run_id = %self.run,
            at_ms = window.to.as_millis_f64(),
            requests_per_sec = window.requests() as f64 / span_s,
            p95_ms = response_time.percentile_us(95.0) as f64 / 1e3,
            failed = window.series.values().map(|series| series.failed).sum::<u64>(),
            vus = window.scenarios.values().map(|scenario| scenario.vus).sum::<u64>(),
            dropped = window.scenarios.values().map(|scenario| scenario.dropped).sum::<u64>(),
            lag_p99_ms = lag.percentile_us(99.0) as f64 / 1e3,
            cpu_share = window.process.cpu_us as f64 / 1e6 / span_s,
            "performance"
        );
    }
}
