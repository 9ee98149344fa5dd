//! Saturation: what an agent notices about itself and owns up to, so that its own weakness is not taken for the target's.
//!
//! Takes the delta of each interval and the state of the cores, gives a warning for each weakness that there was in it, with how much of it
//! there was. What follows from them is judged where they are all together, over the whole run; `docs/validity.md` has every code,
//! its bound and its way out. A bound here says from when on something is worth a word at all.

use volcanion_common::delta::{Delta, ScenarioDelta, Warning};
use volcanion_common::plan::WhenBusy;
use volcanion_common::series::ErrorKind;
use volcanion_common::units::Micros;

use crate::prepare::{Scenario, TargetPolicy};
use crate::send::detail;

use super::cgroup::Throttled;

/// 99 of 100 iterations should start no later than this after they were due.
const LAG_MAX: Micros = Micros::from_millis(20);
/// Iterations in an interval below which its lag says nothing.
const LAG_COUNT_MIN: u64 = 20;
/// Thousandths of a core that load may use before it is no longer free to answer at once.
const CORE_USE_MAX: u64 = 900;
/// Thousandths of an interval that a core may wait for a processor.
const CPU_WAIT_MAX: u64 = 100;
/// Thousandths of the machine's processor time that its hypervisor may give to others.
const CPU_STEAL_MAX: u64 = 50;
/// The span below which a share of it says nothing.
const SPAN_MIN: Micros = Micros::from_millis(200);
/// A core that looks at its schedule so late was not running: it looks ten times a second at least.
const STALL_MAX: Micros = Micros::from_millis(500);

/// What the cores were like in an interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strain {
    /// CPU time of the busiest core, without what it spent on polling busily.
    pub core_cpu_us_max: u64,
    /// The longest that a core could have run and had no processor.
    pub core_wait_us_max: u64,
    /// The latest look at a schedule, after the moment for which it was meant.
    pub look_late_ns_max: u64,
    /// Arrivals that were dropped because the process did not run at all.
    pub paused: u64,
    /// What the cgroup withheld.
    pub throttled: Throttled,
    /// What the hypervisor withheld, in thousandths of the machine's processor time.
    pub stolen: u64,
}

/// Watches an agent's part of a run.
#[derive(Debug, Default)]
pub struct Saturation {
    scenarios: Vec<Watched>,
    /// What may be loaded, in words.
    targets: String,
}

#[derive(Debug)]
struct Watched {
    name: String,
    /// Its iterations wait for a VU rather than be dropped: then their lag is the target's doing.
    queues: bool,
    /// It is an open loop: what it drops found no VU. Else its time was over before its iterations were.
    is_open: bool,
}

impl Saturation {
    /// For these scenarios, on an agent that may load these targets.
    pub fn new(scenarios: &[Scenario], targets: &TargetPolicy) -> Self {
        let watched = scenarios.iter().map(|scenario| {
            let open = scenario.executor.open_loop();
            Watched {
                name: scenario.name.clone(),
                queues: open.is_some_and(|open| open.when_busy == WhenBusy::Queue),
                is_open: open.is_some(),
            }
        });
        Self { scenarios: watched.collect(), targets: targets.to_string() }
    }

    /// Puts into the delta what is to be said about it. Its `process` is to be filled by then.
    pub fn judge(&self, delta: &mut Delta, strain: &Strain) {
        let mut found = Vec::new();
        for (index, scenario) in &delta.scenarios {
            if let Some(watched) = self.scenarios.get(*index as usize) {
                let warnings = [late(watched, scenario), dropped(watched, scenario, strain.paused)];
                found.extend(warnings.into_iter().flatten().map(|w| Warning { scenario: Some(*index), ..w }));
            }
        }
        found.extend(used_up(delta, &self.targets));
        found.extend(held_back(delta, strain));
        let (since, until) = (delta.from, delta.to);
        delta.warnings.extend(found.into_iter().map(|warning| Warning { since, until, ..warning }));
    }
}

/// `amount`: iterations that started too late; `worst`: the 99th percentile in microseconds.
fn late(watched: &Watched, scenario: &ScenarioDelta) -> Option<Warning> {
    let lag = &scenario.schedule_lag;
    let worst = lag.percentile_us(99.0);
    (!watched.queues && lag.count() >= LAG_COUNT_MIN && worst > LAG_MAX.0).then(|| {
        let text = format!(
            "{}: 1 of 100 iterations started more than {LAG_MAX} late; add cores or agents",
            watched.name
        );
        warning("schedule_lag", text, lag.count() - lag.count_at_most(LAG_MAX), worst)
    })
}

/// Both in iterations.
fn dropped(watched: &Watched, scenario: &ScenarioDelta, paused: u64) -> Option<Warning> {
    let count = if watched.is_open { scenario.dropped.saturating_sub(paused) } else { scenario.dropped };
    (count > 0).then(|| {
        let why = if watched.is_open {
            "iterations were dropped because all VUs were busy; raise max_vus"
        } else {
            "iterations were not started before the time was over; raise max_duration"
        };
        warning("dropped_iterations", format!("{}: {why}", watched.name), count, count)
    })
}

/// Both in attempts.
fn used_up(delta: &Delta, targets: &str) -> Vec<Warning> {
    let (mut ports, mut sources, mut files, mut blocked, mut far) = (0, 0, 0, 0, 0);
    for ((_, kind, word), count) in &delta.errors {
        match word.as_str() {
            detail::NO_PORTS => ports += count,
            detail::NO_SOURCE => sources += count,
            detail::NO_FILES => files += count,
            detail::TOO_MANY_HOSTS => far += count,
            _ if *kind == ErrorKind::Blocked => blocked += count,
            _ => {}
        }
    }
    let say = |code, count, text: &str| (count > 0).then(|| warning(code, text.to_owned(), count, count));
    let all = [
        say(
            "no_ports",
            ports,
            "this machine has no free port left; add agents or source addresses (local_ips), or keep connections alive",
        ),
        say(
            "no_source_address",
            sources,
            "this machine no longer has a source address of the plan (local_ips); put it back",
        ),
        say("no_files", files, "this process may open no more files; raise its limit (ulimit -n)"),
        say("blocked", far, "redirects led to more servers than an agent goes to; see what they lead to"),
        say("blocked", blocked, &format!("addresses that this agent may not load; it may load {targets}")),
    ];
    all.into_iter().flatten().collect()
}

/// In microseconds; `core_use` and `cpu_steal`: `worst` in thousandths.
fn held_back(delta: &Delta, strain: &Strain) -> Vec<Warning> {
    let mut found = Vec::new();
    let span = delta.to.since(delta.from);
    let per_mille = |us: u64| us.saturating_mul(1_000) / span.0.max(1);
    let is_throttled = strain.throttled.times > 0;
    if span >= SPAN_MIN {
        let used = per_mille(strain.core_cpu_us_max);
        if used > CORE_USE_MAX {
            let text = "a load core was busy for more than 90 % of the time: response times include waiting for it, and the rate may be \
                        the most that it can do; add cores or agents";
            found.push(warning("core_use", text.to_owned(), strain.core_cpu_us_max, used));
        }
        // Where the cgroup made it wait, that is the cause.
        if !is_throttled && per_mille(strain.core_wait_us_max) > CPU_WAIT_MAX {
            let text = "a load core waited for a processor for more than 10 % of the time; leave the machine to the agent";
            found.push(warning(
                "cpu_wait",
                text.to_owned(),
                strain.core_wait_us_max,
                strain.core_wait_us_max,
            ));
        }
        if strain.stolen > CPU_STEAL_MAX {
            let text = "the hypervisor gave more than 5 % of this machine's processor time to others; use another machine";
            let us = span.0.saturating_mul(strain.stolen) / 1_000;
            found.push(warning("cpu_steal", text.to_owned(), us, strain.stolen));
        }
    }
    if strain.look_late_ns_max > STALL_MAX.as_nanos() {
        let text =
            format!("a load core stood still for more than {STALL_MAX}; leave the machine to the agent");
        let us = strain.look_late_ns_max / 1_000;
        found.push(warning("stalled", text, us, us));
    }
    if is_throttled {
        // Each processor's share of it is counted.
        let us = strain.throttled.us / u64::from(delta.process.cores.max(1));
        let text = "the CPU quota of this agent's cgroup was used up; raise it";
        found.push(warning("throttled", text.to_owned(), us, us));
    }
    found
}

fn warning(code: &str, message: String, amount: u64, worst: u64) -> Warning {
    Warning { code: code.to_owned(), message, amount, worst, ..Warning::default() }
}
