//! One agent's part of a run in small numbers: what a next master must know of it, and its row in the result.
//!
//! Cumulative, so that the newest one says all: it is stored with each part that moves it, as JSON.

use serde::{Deserialize, Serialize};
use volcanion_common::delta::{Delta, ScenarioDelta, Warning};
use volcanion_common::ids::{AgentId, Incarnation, Seq};
use volcanion_common::units::{Micros, RunTime};

/// A shorter span says nothing about the use of a core.
const CPU_SPAN_MIN: Micros = Micros::from_millis(200);
/// The most different warnings that are kept of one agent.
const WARNINGS_MAX: usize = 64;

/// What an agent has reported, up to and with the delta `seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    /// The agent.
    pub agent: AgentId,
    /// Which process.
    pub incarnation: Incarnation,
    /// The newest delta that is in; 0: none.
    pub seq: Seq,
    /// Everything before this moment is in.
    pub reported_to: RunTime,
    /// Requests of all deltas.
    pub requests: u64,
    /// Of them those that failed by the target's fault.
    pub failed: u64,
    /// Of them those that failed by its own fault.
    #[serde(default)]
    pub own_faults: u64,
    /// For each scenario of the plan, in order.
    pub scenarios: Vec<ScenarioCounts>,
    /// Requests a second of its closed loops in its busiest delta: what an estimate of a gap goes by.
    pub closed_rate_max: f64,
    /// CPU use of its load cores in the newest delta that is long enough, 0 to 1 a core.
    pub cpu: f64,
    /// Its resident memory in bytes, in the newest delta.
    pub memory_bytes: u64,
    /// Its actual start minus the ordered one, by the master's clock; absent until it started.
    pub start_late_us: Option<i64>,
    /// It reported its end, with this as its last delta.
    pub last_seq: Option<Seq>,
    /// What is missing of it; an agent with a gap is lost for this run.
    pub gap: Option<Gap>,
    /// It was given up because it was not heard any more. Its part is others', whatever it says later; but what it says closes its gap.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_unheard: bool,
    /// Of a lost agent: its arrivals up to this moment are counted as missed.
    pub missed_to: RunTime,
    /// Moves of lanes to it that held too late, and whose arrivals of that time are counted as missed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_moves: Vec<u64>,
    /// What it noticed about itself, folded.
    pub warnings: Vec<Warning>,
    /// Its schedule lag up to here, where that is to be kept with this state; what was kept before stands where it is empty.
    #[serde(skip)]
    pub lag: Vec<u8>,
}

/// What one agent's scenario did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ScenarioCounts {
    pub started: u64,
    pub completed: u64,
    pub dropped: u64,
    pub missed: u64,
    pub interrupted: u64,
    /// VUs at the end of the newest delta.
    pub vus: u64,
}

/// A hole in the numbers of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Everything before this moment is in.
    pub from: RunTime,
    /// After this moment it sent nothing any more.
    pub to: RunTime,
    /// No more requests than this are missing.
    pub at_most_requests: u64,
    /// Whether that is an estimate.
    pub estimate: bool,
}

impl AgentState {
    /// An agent that reported nothing yet, of a plan with so many scenarios.
    pub fn new(agent: AgentId, incarnation: Incarnation, scenarios: usize) -> Self {
        Self {
            agent,
            incarnation,
            seq: Seq(0),
            reported_to: RunTime::START,
            requests: 0,
            failed: 0,
            own_faults: 0,
            scenarios: vec![ScenarioCounts::default(); scenarios],
            closed_rate_max: 0.0,
            cpu: 0.0,
            memory_bytes: 0,
            start_late_us: None,
            last_seq: None,
            gap: None,
            was_unheard: false,
            missed_to: RunTime::START,
            late_moves: Vec::new(),
            warnings: Vec::new(),
            lag: Vec::new(),
        }
    }

    /// Takes in the delta after `seq`; its warnings move here, because merged deltas do not say whose they are. `closed_steps` says of each
    /// step whether its scenario is a closed loop.
    pub fn add(&mut self, seq: Seq, delta: &mut Delta, closed_steps: &[bool]) {
        debug_assert_eq!(seq, self.seq.next(), "deltas come in order");
        self.seq = seq;
        self.reported_to = self.reported_to.max(delta.to);
        let span = delta.to.since(delta.from);
        let mut closed_requests = 0;
        for (key, series) in &delta.series {
            self.requests += series.requests;
            self.failed += series.failed;
            self.own_faults += series.own_faults(key.outcome);
            if closed_steps.get(key.step as usize).copied().unwrap_or(false) {
                closed_requests += series.requests;
            }
        }
        if span > Micros::ZERO {
            self.closed_rate_max = self.closed_rate_max.max(closed_requests as f64 / span.as_secs_f64());
        }
        for (index, scenario) in &delta.scenarios {
            if let Some(counts) = self.scenarios.get_mut(*index as usize) {
                counts.add(scenario);
            }
        }
        let process = delta.process;
        // The last delta may be a moment long, in which some microseconds are a lot.
        if process.cores > 0 && span > Micros::ZERO && (span >= CPU_SPAN_MIN || self.cpu == 0.0) {
            self.cpu = process.cpu_us as f64 / (span.0 as f64 * f64::from(process.cores));
        }
        self.memory_bytes = process.resident_bytes;
        for warning in delta.warnings.drain(..) {
            if let Some(ours) = self.warnings.iter_mut().find(|ours| ours.is_like(&warning)) {
                ours.add(&warning);
            } else if self.warnings.len() < WARNINGS_MAX {
                self.warnings.push(warning);
            }
        }
    }

    /// Whether it reported its end, and every delta up to it is in.
    pub fn is_whole(&self) -> bool {
        self.last_seq.is_some_and(|last| self.seq >= last)
    }

    /// Whether nothing more is awaited of it.
    pub fn is_over(&self) -> bool {
        self.gap.is_some() || self.is_whole()
    }

    /// Whether it was given up; its gap may have been closed since.
    pub fn is_lost(&self) -> bool {
        self.gap.is_some() || self.was_unheard
    }

    /// Up to when it is known what became of its arrivals: it told of them, or they are counted as missed.
    pub fn accounted_to(&self) -> RunTime {
        self.reported_to.max(self.missed_to)
    }

    /// Iterations that it started.
    pub fn iterations(&self) -> u64 {
        self.scenarios.iter().map(|counts| counts.started).sum()
    }

    /// VUs at the end of its newest delta.
    pub fn vus(&self) -> u64 {
        self.scenarios.iter().map(|counts| counts.vus).sum()
    }
}

impl ScenarioCounts {
    /// Arrivals of which is known what became of them.
    pub fn accounted(&self) -> u64 {
        self.started + self.dropped + self.missed
    }

    fn add(&mut self, delta: &ScenarioDelta) {
        self.started += delta.started;
        self.completed += delta.completed;
        self.dropped += delta.dropped;
        self.missed += delta.missed;
        self.interrupted += delta.interrupted;
        self.vus = delta.vus;
    }
}
