//! What is known of a run while it goes.

use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{Metrics, RunStatus, RunView};

use crate::cluster::Update;

/// What is known of a run.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    pub run: Option<RunView>,
    pub metrics: Metrics,
    pub warnings: Vec<WarningView>,
    pub ended: bool,
}

impl RunState {
    /// Takes what was heard.
    pub fn take(&mut self, update: Update) {
        match update {
            Update::Snapshot(metrics) => self.metrics = *metrics,
            Update::State(run) => self.run = Some(*run),
            Update::Warning(warning) => {
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
            }
            Update::End(metrics) => {
                self.metrics = *metrics;
                self.ended = true;
            }
        }
    }

    /// How far the run is, by its own state.
    pub fn status(&self) -> RunStatus {
        self.metrics.status.or(self.run.as_ref().map(|run| run.status)).unwrap_or(RunStatus::Queued)
    }

    /// The planned length of the load in milliseconds; 0 while it is not known.
    pub fn planned_ms(&self) -> u64 {
        self.run.as_ref().map_or(0, |run| run.planned_duration_ms)
    }

    /// The share of the planned time that has passed, 0 to 1.
    pub fn progress(&self) -> f64 {
        match self.planned_ms() {
            0 => 0.0,
            planned => (self.metrics.total_duration_ms / planned as f64).clamp(0.0, 1.0),
        }
    }
}
