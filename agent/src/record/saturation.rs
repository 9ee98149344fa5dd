//! Saturation: what an agent notices about itself and owns up to, so that its own weakness is not taken for the target's.
//!
//! Takes the delta of each interval and the state of the cores, gives warnings: each code once a scenario and run, at the time when it was
//! first seen. How bad it was is in the numbers themselves (lag, dropped, CPU), which the deltas carry.

use std::collections::BTreeSet;

use volcanion_common::delta::{Delta, Warning};
use volcanion_common::series::ErrorKind;
use volcanion_common::units::{Micros, RunTime};

use crate::send::detail;

/// 99 of 100 iterations should start no later than this after they were due.
const LAG_MAX: Micros = Micros::from_millis(20);
/// Iterations in an interval below which its lag says nothing.
const LAG_COUNT_MIN: u64 = 20;
/// The share of a core that load may use before it is no longer free to answer at once.
const CORE_USE_MAX: f64 = 0.9;
/// The span below which a core's use says nothing.
const CORE_USE_SPAN_MIN: Micros = Micros::from_millis(200);
/// A core that looks at its schedule so late was not running.
const STALL_MAX: Micros = Micros::from_millis(500);

/// What the cores were like in an interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strain {
    /// CPU time of the busiest core.
    pub core_cpu_us_max: u64,
    /// The latest look at a schedule, after the moment for which it was meant.
    pub look_late_ns_max: u64,
    /// How often the process was throttled by its cgroup.
    pub throttled: u64,
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub struct Saturation {
    said: BTreeSet<(&'static str, u32)>,
    scenarios: Vec<String>,
}

impl Saturation {
    /// For scenarios of these names.
    pub fn new(scenarios: Vec<String>) -> Self {
        Self { said: BTreeSet::new(), scenarios }
    }

    /// Puts into the delta what is to be said about it.
    pub fn judge(&mut self, delta: &mut Delta, strain: &Strain) {
        let mut found: Vec<(&'static str, u32, String)> = Vec::new();
        for (index, scenario) in &delta.scenarios {
            let name = self.scenarios.get(*index as usize).map_or("", String::as_str);
            let lag = &scenario.schedule_lag;
            if lag.count() >= LAG_COUNT_MIN && lag.percentile_us(99.0) > LAG_MAX.0 {
                let text = format!(
                    "{name}: 1 of 100 iterations started more than {LAG_MAX} late; add cores or agents"
                );
                found.push(("schedule_lag", *index, text));
            }
            if scenario.dropped > 0 {
                let text =
                    format!("{name}: iterations were dropped because all VUs were busy; raise max_vus");
                found.push(("dropped_iterations", *index, text));
            }
        }
        let has = |word: &str| {
            delta
                .errors
                .iter()
                .any(|((_, kind, detail), count)| *kind == ErrorKind::Connect && detail == word && *count > 0)
        };
        if has(detail::NO_PORTS) {
            found.push((
                "no_ports",
                0,
                "this machine has no free port left; add agents or keep connections alive".into(),
            ));
        }
        if has(detail::NO_FILES) {
            found.push((
                "no_files",
                0,
                "this process may open no more files; raise its limit (ulimit -n)".into(),
            ));
        }
        let span = delta.to.since(delta.from);
        if span >= CORE_USE_SPAN_MIN && strain.core_cpu_us_max as f64 > span.0 as f64 * CORE_USE_MAX {
            let text = "a load core was busy for more than 90 % of the time; add cores or agents";
            found.push(("core_use", 0, text.into()));
        }
        if strain.look_late_ns_max > STALL_MAX.as_nanos() {
            let text =
                format!("a load core stood still for more than {STALL_MAX}; leave the machine to the agent");
            found.push(("stalled", 0, text));
        }
        if strain.throttled > 0 {
            let text = "the CPU quota of this agent's cgroup was used up; raise it";
            found.push(("throttled", 0, text.into()));
        }
        let since = delta.from;
        let new = found.into_iter().filter(|(code, scenario, _)| self.said.insert((code, *scenario)));
        delta.warnings.extend(new.map(|(code, _, message)| warning(code, message, since)));
    }
}

fn warning(code: &str, message: String, since: RunTime) -> Warning {
    Warning { code: code.to_owned(), message, since }
}
