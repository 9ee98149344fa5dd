//! Calibration: what this machine can generate at most, measured by generating it.
//!
//! The load is the engine's own, on load cores of their own processors; the target is the cheapest that there is, on other processors where there are
//! any. Gives requests a second of a closed loop, the CPU time that each costs the load cores, and how exactly an open loop keeps its
//! schedule at fixed rates.
//!
//! A capacity is made of the CPU time: `cores * 10 us / CPU time of a request`. It holds where load and target share processors too,
//! which a rate does not; and its unit is a core that spends 10 us, so that agents with and without a measured capacity can carry a run
//! together: a core that was not measured counts 1.

mod target;

use std::net::SocketAddr;
use std::num::NonZero;
use std::thread;

use serde_json::{Value, json};
use volcanion_common::delta::{Delta, Warning};
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::plan::document;
use volcanion_common::series::Distribution;
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::units::{Micros, RunTime};

use crate::engine::EngineSettings;
use crate::loader::EngineLoader;
use crate::prepare::PrepareSettings;
use crate::send::clock::now_ns;
use crate::session::load::{Fault, LoadEvent, Loader, Running};
use target::Target;

/// What a request of the smallest kind costs a core of capacity 1.
pub const REFERENCE_US: f64 = 10.0;
/// Connections of a closed loop for each load core.
const CONNECTIONS: u64 = 64;
/// VUs of an open loop: so many that a core that stood still for 50 ms at the highest rate drops nothing, and shows it as lag.
const PACED_VUS: u64 = 1_024;
/// What is counted begins after this: connections are made and caches warm by then.
const WARM_UP: Micros = Micros::from_millis(500);
/// How long the load may take to begin, from when it is ready.
const START_DELAY_NS: u64 = 20_000_000;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrateSettings {
    /// Load cores; at least 1.
    pub cores: u32,
    /// How long the closed loop goes; at least a second.
    pub closed: Micros,
    /// How long each open loop goes; at least a second.
    pub paced: Micros,
    /// Iterations a second of the open loops, which go on one core.
    pub rates: Vec<u64>,
}

impl CalibrateSettings {
    /// What an agent needs to know of itself at its start.
    pub fn at_start() -> Self {
        Self { cores: 1, closed: Micros::from_secs(2), paced: Micros::from_secs(1), rates: Vec::new() }
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Processors that this process may use.
    pub cpus: u32,
    /// Load cores of the closed loop.
    pub cores: u32,
    /// Whether the target had to share processors with the load: then the rates are those of both together, and only the CPU time is the load's own.
    pub shares_cpus: bool,
    /// The closed loop.
    pub closed: Closed,
    /// The open loops, in the order of the rates asked for.
    pub paced: Vec<Paced>,
    /// What the load noticed about itself meanwhile, but for a core's full use, which is meant here.
    pub warnings: Vec<Warning>,
}

/// What a closed loop at full speed did.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Kept connections.
    pub connections: u64,
    /// Whole answers.
    pub requests: u64,
    /// Answers a second of all load cores.
    pub requests_per_s: f64,
    /// CPU time of the load cores for each.
    pub cpu_us_per_request: f64,
    /// How busy the load cores were, from 0 to 1.
    pub core_use: f64,
}

/// How an open loop on one core kept its schedule.
#[derive(Clone, Debug)]
pub struct Paced {
    /// Iterations a second that were asked for.
    pub rate: u64,
    /// Iterations that started.
    pub started: u64,
    /// Iterations that found no VU.
    pub dropped: u64,
    /// Actual minus intended start.
    pub lag: Distribution,
    /// How busy the core was, from 0 to 1.
    pub core_use: f64,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The target cannot be had.
    #[error("the target of the calibration cannot listen on loopback: {0}")]
    Target(std::io::Error),
    /// The engine cannot be had, or it broke off.
    #[error("the load of the calibration broke off: {0}")]
    Load(String),
    /// Not a request was answered.
    #[error("not a request of the calibration was answered{0}; is loopback filtered?")]
    Nothing(String),
}

impl From<Fault> for CalibrateError {
    fn from(fault: Fault) -> Self {
        Self::Load(fault.to_string())
    }
}

impl Closed {
    /// Requests a second of one load core that has a processor for itself and nothing else to do.
    pub fn requests_per_core_s(&self) -> f64 {
        1e6 / self.cpu_us_per_request
    }

    /// What so many such cores count for beside others, see the module.
    pub fn capacity(&self, cores: u32) -> f64 {
        let capacity = f64::from(cores) * REFERENCE_US / self.cpu_us_per_request;
        // Two decimals are more than it is worth, and nought is no weight.
        ((capacity * 100.0).round() / 100.0).max(0.01)
    }
}

/// Measures. Needs a tokio runtime; the load has threads of its own.
///
/// # Errors
/// No port, no thread, or no answer.
pub async fn calibrate(settings: &CalibrateSettings) -> Result<Calibration, CalibrateError> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get) as u32;
    let cores = settings.cores.max(1);
    let shares_cpus = cores >= cpus;
    let pinned_after = (!shares_cpus).then_some(cores as usize);
    let target_threads = cpus.saturating_sub(cores).clamp(1, 2 * cores);
    let target = Target::start(target_threads as usize, pinned_after).map_err(CalibrateError::Target)?;
    let load = |cores: u32| EngineSettings { pin: !shares_cpus, ..EngineSettings::new(cores as usize) };

    let closed_plan = closed_plan(target.address(), cores, settings.closed);
    let (total, told) = run(closed_plan, load(cores), WARM_UP).await?;
    let mut noticed = Delta { warnings: told, ..Delta::default() };
    let closed = closed_of(&total, cores)?;
    let mut paced = Vec::new();
    for rate in &settings.rates {
        let plan = paced_plan(target.address(), *rate, settings.paced);
        let (total, told) = run(plan, load(1), Micros::ZERO).await?;
        // The same weakness in several loops is told once.
        noticed.add(&Delta { warnings: told, ..Delta::default() });
        paced.push(paced_of(&total, *rate));
    }
    noticed.warnings.retain(|warning| warning.code != "core_use");
    Ok(Calibration { cpus, cores, shares_cpus, closed, paced, warnings: noticed.warnings })
}

fn closed_of(total: &Delta, cores: u32) -> Result<Closed, CalibrateError> {
    let answered = total.series.values().map(|series| series.requests - series.failed).sum::<u64>();
    let requests = answered - total.own_faults();
    let span_us = total.to.since(total.from).0;
    if requests == 0 || span_us == 0 || total.process.cpu_us == 0 {
        let errors: Vec<String> =
            total.errors.iter().map(|((_, kind, word), _)| format!("; {}: {word}", kind.name())).collect();
        return Err(CalibrateError::Nothing(errors.concat()));
    }
    Ok(Closed {
        connections: CONNECTIONS * u64::from(cores),
        requests,
        requests_per_s: requests as f64 * 1e6 / span_us as f64,
        cpu_us_per_request: total.process.cpu_us as f64 / requests as f64,
        core_use: total.process.cpu_us as f64 / (span_us as f64 * f64::from(cores)),
    })
}

fn paced_of(total: &Delta, rate: u64) -> Paced {
    let mut lag = Distribution::default();
    let (mut started, mut dropped) = (0, 0);
    for scenario in total.scenarios.values() {
        started += scenario.started;
        dropped += scenario.dropped;
        lag.add(&scenario.schedule_lag);
    }
    let span_us = total.to.since(total.from).0.max(1);
    Paced { rate, started, dropped, lag, core_use: total.process.cpu_us as f64 / span_us as f64 }
}

fn closed_plan(target: SocketAddr, cores: u32, duration: Micros) -> Value {
    plan(
        target,
        json!({
            "executor": "constant-vus", "vus": CONNECTIONS * u64::from(cores), "duration": duration.to_string(),
        }),
    )
}

fn paced_plan(target: SocketAddr, rate: u64, duration: Micros) -> Value {
    plan(
        target,
        json!({
            "executor": "constant-arrival-rate", "rate": format!("{rate}/s"), "duration": duration.to_string(),
            "pre_allocated_vus": PACED_VUS, "max_vus": PACED_VUS,
        }),
    )
}

fn plan(target: SocketAddr, mut scenario: Value) -> Value {
    scenario["graceful_stop"] = json!("1s");
    scenario["steps"] = json!([{ "get": "/" }]);
    json!({
        "name": "calibrate",
        "target": format!("http://{target}"),
        "interval": "250ms",
        "timeout": "5s",
        "scenarios": { "calibrate": scenario },
    })
}

/// Carries out a plan of one scenario; gives what happened in whole intervals after `warm_up`.
async fn run(
    plan: Value,
    engine: EngineSettings,
    warm_up: Micros,
) -> Result<(Delta, Vec<Warning>), CalibrateError> {
    let prepare = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    let loader = EngineLoader { prepare, engine };
    let load = tokio::task::spawn_blocking(move || {
        let shard = shard(plan)?;
        loader.prepare(&shard)
    });
    let load = load.await.map_err(|error| CalibrateError::Load(error.to_string()))??;
    // Its drop ends the load, whatever becomes of this future.
    let mut running: Running = load.start(now_ns() + START_DELAY_NS)?;
    let (mut total, mut warnings) = (Delta::default(), Delta::default());
    let begins = RunTime::START.plus(warm_up);
    while let Some(event) = running.events.recv().await {
        match event {
            LoadEvent::Delta(mut delta) => {
                let told = Delta { warnings: std::mem::take(&mut delta.warnings), ..Delta::default() };
                warnings.add(&told);
                if delta.from >= begins {
                    total.add(&delta);
                }
            }
            LoadEvent::Failed(reason) => return Err(CalibrateError::Load(reason)),
            LoadEvent::Started { .. } | LoadEvent::Moved { .. } => {}
            LoadEvent::Finished => break,
        }
    }
    Ok((total, warnings.warnings))
}

fn shard(plan: Value) -> Result<Shard, Fault> {
    let unreadable = |problems: String| Fault { code: "plan".to_owned(), message: problems };
    let read = document::from_json(&plan).map_err(|problems| unreadable(problems.to_string()))?;
    let scenarios = read.plan.plan().scenarios.iter().map(|scenario| {
        let lanes = scenario.executor.max_vus().clamp(1, 256) as u32;
        ScenarioShare { lanes, owned: (0..lanes).collect() }
    });
    Ok(Shard {
        run: RunId::new(),
        epoch: Epoch(1),
        agent: AgentId::from("calibrate"),
        incarnation: Incarnation(1),
        expires_unix_ms: u64::MAX,
        seed: 0,
        scenarios: scenarios.collect(),
        first_vu: 0,
        ready_for: Vec::new(),
        orphan_timeout: None,
        trace: None,
        plan,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_measured_is_plausible_and_every_asked_iteration_is_accounted_for() {
        let settings = CalibrateSettings {
            cores: 1,
            closed: Micros::from_millis(1_500),
            paced: Micros::from_secs(1),
            rates: vec![200],
        };
        let found = calibrate(&settings).await.unwrap();
        let closed = found.closed;
        assert!(closed.requests > 100 && closed.requests_per_s > 100.0, "{closed:?}");
        assert!((1.0..100_000.0).contains(&closed.cpu_us_per_request), "{closed:?}");
        assert!(closed.core_use > 0.0 && closed.core_use < 1.1, "{closed:?}");
        assert!(closed.requests_per_core_s() > 0.9 * closed.requests_per_s, "{closed:?}");
        let [paced] = &found.paced[..] else { panic!("{found:?}") };
        assert_eq!((paced.rate, paced.started + paced.dropped), (200, 200));
        assert_eq!(paced.lag.count(), paced.started);
    }

    #[test]
    fn a_capacity_is_in_cores_of_a_fixed_speed() {
        let closed = |cpu_us_per_request| Closed {
            connections: 1,
            requests: 1,
            requests_per_s: 1.0,
            cpu_us_per_request,
            core_use: 1.0,
        };
        assert_eq!(closed(10.0).capacity(1), 1.0);
        assert_eq!(closed(20.0).capacity(4), 2.0);
        assert_eq!(closed(8.0).capacity(2), 2.5);
        assert_eq!(closed(1e9).capacity(1), 0.01);
        assert_eq!(closed(8.0).requests_per_core_s(), 125_000.0);
    }
}
