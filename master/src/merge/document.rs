//! The total and the agents' states → the metrics document.
//!
//! Takes borrowed figures, gives [`Metrics`] with every key filled. Invariants: the total equals the status codes and the errors
//! added up, and successes, failures and own faults; every percentile is read from a merged histogram.

use std::collections::BTreeMap;

use volcanion_common::delta::{Delta, Phases};
use volcanion_common::ids::RunId;
use volcanion_common::plan::{Plan, StepRef};
use volcanion_common::series::{Distribution, ErrorKind, Outcome, SeriesKey};
use volcanion_common::units::RunTime;
use volcanion_common::view::metrics::{
    AgentShareView, CompletenessView, GapView, PhasesView, StepView, ThresholdView, TimesView, WarningView,
};
use volcanion_common::view::{Metrics, RunStatus, StopReason};

use super::{AgentState, validity};

/// All that the document is made of.
#[derive(Debug)]
pub struct Figures<'a> {
    /// The run.
    pub run: RunId,
    /// Its plan, as split.
    pub plan: &'a Plan,
    /// How far it is.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// The wall clock.
    pub unix_ms: u64,
    /// Everything merged.
    pub total: &'a Delta,
    /// Requests a second of the newest whole interval.
    pub current_rps: f64,
    /// Every agent that ever took part, with the distribution of its schedule lag.
    pub agents: Vec<(&'a AgentState, &'a Distribution)>,
    /// The master's own; the agents' are added.
    pub warnings: &'a [WarningView],
    /// As judged.
    pub thresholds: Vec<ThresholdView>,
    /// The latest minus the earliest start.
    pub start_skew_ms: Option<f64>,
}

/// Builds the document.
pub fn build(figures: Figures<'_>) -> Metrics {
    let Figures { plan, total, .. } = figures;
    let seconds = total.to.since(RunTime::START).as_secs_f64();
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };

    let mut sum = Sum::default();
    let mut steps = Vec::new();
    for step in plan.steps() {
        let of_step = Sum::of_step(total, step.index);
        steps.push(step_view(plan, step, &of_step, per_second(of_step.requests)));
        sum.add(&of_step);
    }
    let mut lag = Distribution::default();
    let mut phases = Phases::default();
    for scenario in total.scenarios.values() {
        lag.add(&scenario.schedule_lag);
        phases.add(&scenario.phases);
    }
    let count =
        |of: fn(&volcanion_common::delta::ScenarioDelta) -> u64| total.scenarios.values().map(of).sum();
    let states: Vec<&AgentState> = figures.agents.iter().map(|(state, _)| *state).collect();
    let scenarios: Vec<&str> = plan.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    let is_ended = figures.status.is_ended();
    let response = times(&sum.response_time);

    Metrics {
        run_id: figures.run.0,
        total_requests: sum.requests,
        success_requests: sum.requests.saturating_sub(sum.failed + sum.own_faults),
        failed_requests: sum.failed,
        own_faults: sum.own_faults,
        total_duration_ms: total.to.as_millis_f64(),
        min_latency_ms: response.min,
        max_latency_ms: response.max,
        avg_latency_ms: response.avg,
        p50_latency_ms: response.p50,
        p75_latency_ms: response.p75,
        p90_latency_ms: response.p90,
        p95_latency_ms: response.p95,
        p99_latency_ms: response.p99,
        p99_9_latency_ms: response.p99_9,
        requests_per_sec: per_second(sum.requests),
        current_rps: if is_ended { 0.0 } else { figures.current_rps },
        active_workers: if is_ended {
            0
        } else {
            states.iter().filter(|s| !s.is_over()).map(|s| s.vus()).sum()
        },
        status_codes: sum.status_codes,
        errors: sum.errors,
        last_updated: rfc3339(figures.unix_ms),
        status: Some(figures.status),
        stop_reason: figures.stop_reason,
        service_time_ms: times(&sum.service_time),
        response_time_ms: response,
        schedule_lag_ms: times(&lag),
        phases: phases_view(&phases),
        iterations: count(|s| s.started),
        completed_iterations: count(|s| s.completed),
        interrupted_iterations: count(|s| s.interrupted),
        dropped_iterations: count(|s| s.dropped),
        missed_iterations: count(|s| s.missed),
        redirects: sum.redirects,
        bytes_sent: sum.bytes_sent,
        bytes_received: sum.bytes_received,
        steps,
        thresholds: figures.thresholds,
        agents: figures.agents.iter().map(|(state, lag)| agent_view(state, lag, &per_second)).collect(),
        warnings: warnings(figures.warnings, &states),
        validity: if figures.status == RunStatus::Failed && sum.requests == 0 {
            validity::of_nothing()
        } else {
            validity::judge(total, &states, &scenarios, figures.start_skew_ms)
        },
        completeness: completeness(&states),
        start_skew_ms: figures.start_skew_ms,
    }
}

/// RFC 3339 of milliseconds since 1970.
pub fn rfc3339(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A distribution in milliseconds.
pub fn times(distribution: &Distribution) -> TimesView {
    let at = |percent| distribution.percentile_us(percent) as f64 / 1e3;
    TimesView {
        count: distribution.count(),
        min: distribution.min_us() as f64 / 1e3,
        avg: distribution.mean_us() / 1e3,
        p50: at(50.0),
        p75: at(75.0),
        p90: at(90.0),
        p95: at(95.0),
        p99: at(99.0),
        p99_9: at(99.9),
        max: distribution.max_us() as f64 / 1e3,
    }
}

/// Series added up.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Sum {
    pub requests: u64,
    pub failed: u64,
    pub own_faults: u64,
    pub redirects: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Answers by status.
    pub status_codes: BTreeMap<String, u64>,
    /// Failures without an answer by type, with their detail where that is known.
    pub errors: BTreeMap<String, u64>,
    pub response_time: Distribution,
    pub service_time: Distribution,
}

impl Sum {
    /// Of one step, by its global number.
    pub fn of_step(total: &Delta, step: u32) -> Self {
        let mut sum = Self::default();
        // The least outcome there is: statuses come before errors.
        let first = SeriesKey { step, outcome: Outcome::Status(0) };
        for (key, series) in total.series.range(first..).take_while(|(key, _)| key.step == step) {
            sum.requests += series.requests;
            sum.failed += series.failed;
            sum.own_faults += series.own_faults(key.outcome);
            sum.redirects += series.redirects;
            sum.bytes_sent += series.bytes_sent;
            sum.bytes_received += series.bytes_received;
            sum.response_time.add(&series.response_time);
            sum.service_time.add(&series.service_time);
            match key.outcome {
                Outcome::Status(status) => {
                    *sum.status_codes.entry(status.to_string()).or_default() += series.requests
                }
                Outcome::Error(kind) => sum.add_errors(total, step, kind, series.requests),
            }
        }
        sum
    }

    /// So many failures of a type, by their details as far as these are known.
    fn add_errors(&mut self, total: &Delta, step: u32, kind: ErrorKind, requests: u64) {
        let mut rest = requests;
        let details = total.errors.range((step, kind, String::new())..);
        for ((.., detail), count) in details.take_while(|((s, k, _), _)| (*s, *k) == (step, kind)) {
            let count = (*count).min(rest);
            if !detail.is_empty() && count > 0 {
                rest -= count;
                *self.errors.entry(format!("{}: {detail}", kind.name())).or_default() += count;
            }
        }
        if rest > 0 {
            *self.errors.entry(kind.name().to_owned()).or_default() += rest;
        }
    }

    /// Adds other series.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.own_faults += other.own_faults;
        self.redirects += other.redirects;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.response_time.add(&other.response_time);
        self.service_time.add(&other.service_time);
        for (ours, theirs) in
            [(&mut self.status_codes, &other.status_codes), (&mut self.errors, &other.errors)]
        {
            for (key, count) in theirs {
                *ours.entry(key.clone()).or_default() += count;
            }
        }
    }
}

fn step_view(plan: &Plan, step: StepRef<'_>, sum: &Sum, rate: f64) -> StepView {
    StepView {
        name: step.step.name.clone(),
        scenario: plan.scenarios.get(step.scenario as usize).map(|s| s.name.clone()).unwrap_or_default(),
        method: step.step.request.method.clone(),
        requests: sum.requests,
        failed: sum.failed,
        own_faults: sum.own_faults,
        redirects: sum.redirects,
        rate,
        status_codes: sum.status_codes.clone(),
        errors: sum.errors.clone(),
        response_time_ms: times(&sum.response_time),
        service_time_ms: times(&sum.service_time),
    }
}

fn phases_view(phases: &Phases) -> PhasesView {
    PhasesView {
        dns: times(&phases.dns),
        connect: times(&phases.connect),
        tls: times(&phases.tls),
        wait: times(&phases.wait),
        receive: times(&phases.receive),
    }
}

fn agent_view(state: &AgentState, lag: &Distribution, per_second: &impl Fn(u64) -> f64) -> AgentShareView {
    let name = match (state.is_lost(), state.is_whole()) {
        (true, _) => "lost",
        (false, true) => "finished",
        (false, false) => "running",
    };
    AgentShareView {
        id: state.agent.to_string(),
        state: name.to_owned(),
        requests: state.requests,
        failed: state.failed,
        own_faults: state.own_faults,
        rate: per_second(state.requests),
        iterations: state.iterations(),
        dropped_iterations: state.scenarios.iter().map(|counts| counts.dropped).sum(),
        schedule_lag_p99_ms: lag.percentile_us(99.0) as f64 / 1e3,
        cpu: state.cpu,
        memory_bytes: state.memory_bytes,
    }
}

fn warnings(ours: &[WarningView], states: &[&AgentState]) -> Vec<WarningView> {
    let theirs = states.iter().flat_map(|state| {
        state.warnings.iter().map(|warning| WarningView {
            code: warning.code.clone(),
            since_ms: warning.since.as_millis_f64(),
            agent: Some(state.agent.to_string()),
            message: warning.message.clone(),
        })
    });
    let mut all: Vec<WarningView> = ours.iter().cloned().chain(theirs).collect();
    all.sort_by(|a, b| a.since_ms.total_cmp(&b.since_ms));
    all
}

fn completeness(states: &[&AgentState]) -> CompletenessView {
    let gaps: Vec<GapView> = states
        .iter()
        .filter_map(|state| {
            state.gap.map(|gap| GapView {
                agent: state.agent.to_string(),
                from_ms: gap.from.as_millis_f64(),
                to_ms: gap.to.as_millis_f64(),
                at_most_requests: gap.at_most_requests,
                estimate: gap.estimate,
            })
        })
        .collect();
    CompletenessView { complete: gaps.is_empty(), gaps }
}
