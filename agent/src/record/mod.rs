//! Records: samples and what became of iterations → counters and histograms, on one core.
//!
//! A [`Recorder`] belongs to one core for one interval; then it is handed over, added to a delta, cleared and used again. Recording a
//! sample is a look at the step's newest outcome and two histogram records: no lock, no formatting, and no allocation once
//! an outcome was seen.
//!
//! Invariant: every sample is in exactly one series, and every iteration that was started ends as completed or interrupted.

pub mod cgroup;
pub mod process;
pub mod saturation;
mod steps;
#[cfg(test)]
mod tests;

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{Distribution, ErrorKind, Outcome};
use volcanion_common::units::Micros;

use crate::prepare::{Item, Program};
use crate::send::{PhaseTimes, Sample};
use steps::StepSeries;

/// What happened on one core in one interval.
#[derive(Debug)]
pub struct Recorder {
    /// By the steps' global numbers.
    steps: Vec<StepSeries>,
    scenarios: Vec<ScenarioDelta>,
    /// The scenario of each step.
    scenario_of: Vec<u32>,
    /// Of the dropped arrivals, those that fell into a pause of the process.
    paused: u64,
}

impl Recorder {
    /// An empty one for this program.
    pub fn new(program: &Program) -> Self {
        let mut scenario_of = vec![0; program.steps.len()];
        for (index, scenario) in program.scenarios.iter().enumerate() {
            for item in &scenario.items {
                if let Item::Request(step) = item {
                    scenario_of[*step as usize] = index as u32;
                }
            }
        }
        Self {
            steps: vec![StepSeries::default(); program.steps.len()],
            scenarios: vec![ScenarioDelta::default(); program.scenarios.len()],
            scenario_of,
            paused: 0,
        }
    }

    /// Records an attempt. `intended_ns` is when its iteration should have started, for the first step of one of an open loop.
    #[inline]
    pub fn sample(&mut self, sample: &Sample, intended_ns: Option<u64>) {
        let phases = &mut self.scenarios[self.scenario_of[sample.step as usize] as usize].phases;
        let PhaseTimes { dns_us, connect_us, tls_us, wait_us, receive_us } = sample.phases;
        phase(&mut phases.wait, wait_us);
        phase(&mut phases.receive, receive_us);
        if connect_us.is_some() || dns_us.is_some() {
            phase(&mut phases.dns, dns_us);
            phase(&mut phases.connect, connect_us);
            phase(&mut phases.tls, tls_us);
        }
        self.steps[sample.step as usize].record(sample, intended_ns);
    }

    /// An iteration was started.
    #[inline]
    pub fn started(&mut self, scenario: u32) {
        self.scenarios[scenario as usize].started += 1;
    }

    /// An iteration of an open loop really started so long after it should have.
    #[inline]
    pub fn lag(&mut self, scenario: u32, lag_ns: u64) {
        self.scenarios[scenario as usize].schedule_lag.record(Micros(lag_ns / 1_000));
    }

    /// An iteration ran to its end.
    #[inline]
    pub fn completed(&mut self, scenario: u32) {
        self.scenarios[scenario as usize].completed += 1;
    }

    /// An iteration was cut off.
    pub fn interrupted(&mut self, scenario: u32) {
        self.scenarios[scenario as usize].interrupted += 1;
    }

    /// Arrivals found no VU.
    pub fn dropped(&mut self, scenario: u32, count: u64) {
        self.scenarios[scenario as usize].dropped += count;
    }

    /// Arrivals were dropped because the process did not run when they were due.
    pub fn paused(&mut self, scenario: u32, count: u64) {
        self.dropped(scenario, count);
        self.paused += count;
    }

    /// Of the dropped arrivals, those that fell into a pause of the process, not among busy VUs.
    pub fn paused_count(&self) -> u64 {
        self.paused
    }

    /// How many VUs a scenario has now.
    pub fn set_vus(&mut self, scenario: u32, vus: u64) {
        self.scenarios[scenario as usize].vus = vus;
    }

    /// Whether nothing happened; levels of VUs do not count.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(StepSeries::is_empty)
            && self.scenarios.iter().all(|s| s.started + s.completed + s.dropped + s.interrupted == 0)
    }

    /// Adds everything to a delta of the same span: counts and levels.
    pub fn add_to(&self, delta: &mut Delta) {
        for (step, series) in self.steps.iter().enumerate() {
            series.add_to(step as u32, delta);
        }
        for (index, ours) in self.scenarios.iter().enumerate() {
            let theirs = delta.scenarios.entry(index as u32).or_default();
            theirs.started += ours.started;
            theirs.completed += ours.completed;
            theirs.dropped += ours.dropped;
            theirs.interrupted += ours.interrupted;
            theirs.vus += ours.vus;
            theirs.schedule_lag.add(&ours.schedule_lag);
            theirs.phases.add(&ours.phases);
        }
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.steps.iter_mut().for_each(StepSeries::clear);
        self.paused = 0;
        for s in &mut self.scenarios {
            let phases = &mut s.phases;
            [
                &mut s.schedule_lag,
                &mut phases.dns,
                &mut phases.connect,
                &mut phases.tls,
                &mut phases.wait,
                &mut phases.receive,
            ]
            .into_iter()
            .for_each(Distribution::clear);
            (s.started, s.completed, s.dropped, s.interrupted, s.vus) = (0, 0, 0, 0, 0);
        }
    }
}

#[inline]
fn phase(distribution: &mut Distribution, us: Option<u32>) {
    if let Some(us) = us {
        distribution.record(Micros(us.into()));
    }
}

/// Whether the times of such an attempt are in the histograms: those of answers, and the time that a timeout was waited for.
fn has_times(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Status(_) | Outcome::Error(ErrorKind::Timeout))
}
