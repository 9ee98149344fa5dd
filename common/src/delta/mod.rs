//! A delta: what happened in the span [from, to) of run time — on a core, an agent, or (merged) in the cluster.
//!
//! [`Delta::add`] is the one fold: cores into an agent's delta, agents into an interval, intervals into a total. It knows no order
//! and no grouping. Bytes on the wire and in the store are the same, see [`wire`].

pub mod wire;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::series::{Distribution, ErrorKind, Series, SeriesKey};
use crate::units::RunTime;

/// What happened in a span of run time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// The span's first moment.
    pub from: RunTime,
    /// The moment after its last.
    pub to: RunTime,
    /// By step and outcome.
    pub series: BTreeMap<SeriesKey, Series>,
    /// By the scenario's position in the plan.
    pub scenarios: BTreeMap<u32, ScenarioDelta>,
    /// Failures by step, type and detail (a word of a small closed set, or nothing).
    pub errors: BTreeMap<(u32, ErrorKind, String), u64>,
    /// What the measuring itself used; folded: time is added up, sizes too (agents side by side), see [`Process::add`].
    pub process: Process,
    /// What the agent noticed about itself.
    pub warnings: Vec<Warning>,
}

/// What a scenario's schedule did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScenarioDelta {
    /// Iterations that were started.
    pub started: u64,
    /// Iterations that ran to their end.
    pub completed: u64,
    /// Arrivals that found no VU.
    pub dropped: u64,
    /// Arrivals that nobody owned.
    pub missed: u64,
    /// Iterations that were cut off by the end.
    pub interrupted: u64,
    /// VUs that were there at the end of the span: a level. Folding cores or agents adds levels, see [`Delta::add`].
    pub vus: u64,
    /// Actual minus intended start.
    pub schedule_lag: Distribution,
    /// Where the time of requests went.
    pub phases: Phases,
}

/// Where the time of requests went; a phase that a request did not have is not counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phases {
    /// Name resolution.
    pub dns: Distribution,
    /// TCP connect.
    pub connect: Distribution,
    /// TLS handshake.
    pub tls: Distribution,
    /// First byte sent to first byte received.
    pub wait: Distribution,
    /// First byte received to last.
    pub receive: Distribution,
}

/// What a measuring process used in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// CPU time of its load cores.
    pub cpu_us: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_files: u32,
    /// Load cores.
    pub cores: u32,
}

/// Something that an agent noticed about itself: said for each span in which it was so, and folded to one for each code and message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A word for machines, such as `schedule_lag`.
    pub code: String,
    /// A sentence for people, without numbers that change.
    pub message: String,
    /// The scenario that it is about, by its position in the plan; absent: the agent as a whole.
    #[serde(default)]
    pub scenario: Option<u32>,
    /// When it began.
    pub since: RunTime,
    /// The end of the last span in which it was so.
    #[serde(default)]
    pub until: RunTime,
    /// How much of it there was, in the code's own unit: microseconds, or a count. Folded, it adds up.
    #[serde(default)]
    pub amount: u64,
    /// The most of it in one span, in the code's own unit.
    #[serde(default)]
    pub worst: u64,
}

impl Warning {
    /// Whether the two are the same weakness at different times.
    pub fn is_like(&self, other: &Self) -> bool {
        self.code == other.code && self.scenario == other.scenario && self.message == other.message
    }

    /// Adds what was said of it for another span.
    pub fn add(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.amount += other.amount;
        self.worst = self.worst.max(other.worst);
    }
}

impl Delta {
    /// Whether nothing happened in it.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
            && self.scenarios.is_empty()
            && self.errors.is_empty()
            && self.warnings.is_empty()
    }

    /// Adds what happened elsewhere at the same time or at another time; the span becomes the least that holds both.
    ///
    /// Levels (`vus`, memory) of the same span are added up; of different spans the later one's stands.
    pub fn add(&mut self, other: &Self) {
        let later = other.to > self.to || self.is_unset();
        let same = other.to == self.to && !self.is_unset();
        for (key, series) in &other.series {
            self.series.entry(*key).or_default().add(series);
        }
        for (index, scenario) in &other.scenarios {
            let ours = self.scenarios.entry(*index).or_default();
            ours.vus = level(ours.vus, scenario.vus, same, later);
            ours.add_counts(scenario);
        }
        for (key, count) in &other.errors {
            *self.errors.entry(key.clone()).or_default() += count;
        }
        self.process.add(&other.process, same, later);
        for warning in &other.warnings {
            match self.warnings.iter_mut().find(|ours| ours.is_like(warning)) {
                Some(ours) => ours.add(warning),
                None => self.warnings.push(warning.clone()),
            }
        }
        (self.from, self.to) = if self.is_unset() {
            (other.from, other.to)
        } else {
            (self.from.min(other.from), self.to.max(other.to))
        };
    }

    /// Requests of all series.
    pub fn requests(&self) -> u64 {
        self.series.values().map(|series| series.requests).sum()
    }

    /// Attempts that failed on our own side: no error of the target, see [`Series::failed`].
    pub fn own_faults(&self) -> u64 {
        self.series.iter().map(|(key, series)| series.own_faults(key.outcome)).sum()
    }

    fn is_unset(&self) -> bool {
        self.from == self.to
    }
}

fn level(ours: u64, theirs: u64, same: bool, later: bool) -> u64 {
    match (same, later) {
        (true, _) => ours + theirs,
        (_, true) => theirs,
        _ => ours,
    }
}

impl ScenarioDelta {
    fn add_counts(&mut self, other: &Self) {
        self.started += other.started;
        self.completed += other.completed;
        self.dropped += other.dropped;
        self.missed += other.missed;
        self.interrupted += other.interrupted;
        self.schedule_lag.add(&other.schedule_lag);
        self.phases.add(&other.phases);
    }
}

impl Phases {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.dns.add(&other.dns);
        self.connect.add(&other.connect);
        self.tls.add(&other.tls);
        self.wait.add(&other.wait);
        self.receive.add(&other.receive);
    }
}

impl Process {
    fn add(&mut self, other: &Self, same: bool, later: bool) {
        self.cpu_us += other.cpu_us;
        self.resident_bytes = level(self.resident_bytes, other.resident_bytes, same, later);
        self.open_files = level(self.open_files.into(), other.open_files.into(), same, later) as u32;
        self.cores = level(self.cores.into(), other.cores.into(), same, later) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, since: u64, amount: u64) -> Delta {
        let warning = Warning {
            code: "throttled".to_owned(),
            message: message.to_owned(),
            scenario: Some(3),
            since: RunTime(since),
            until: RunTime(since + 10),
            amount,
            worst: amount,
        };
        Delta { from: RunTime(since), to: RunTime(since + 10), warnings: vec![warning], ..Delta::default() }
    }

    #[test]
    fn the_same_weakness_at_several_times_is_one_whatever_the_order() {
        let parts = [said("a", 20, 5), said("b", 0, 1), said("a", 0, 7), said("a", 40, 2)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut sum = Delta::default();
            order.iter().for_each(|i| sum.add(&parts[*i]));
            assert_eq!(sum.warnings.len(), 2);
            let a = sum.warnings.iter().find(|warning| warning.message == "a").unwrap();
            assert_eq!((a.since, a.until, a.amount, a.worst), (RunTime(0), RunTime(50), 14, 7));
        }
    }

    #[test]
    fn a_warning_keeps_all_of_itself_on_the_wire() {
        let delta = said("a", 20, 5);
        assert_eq!(Delta::from_bytes(&delta.to_bytes()).unwrap(), delta);
    }
}
