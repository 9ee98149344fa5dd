//! The metrics document: what a run has measured so far, or in the end. Times are milliseconds.
//!
//! The first group of keys is the original's, kept for scripts; latency there is the response time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::run::{RunStatus, StopReason};

/// What a run has measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Metrics {
    /// The run.
    pub run_id: Uuid,
    /// Every attempt: answers, errors, refused connections.
    pub total_requests: u64,
    /// Whole responses with a status of success.
    pub success_requests: u64,
    /// All others that the target is to blame for.
    pub failed_requests: u64,
    /// Attempts that failed on the side of the load generators (no free port, no free file, a target that their guard rail refuses): neither
    /// successes nor failures, and no threshold counts them. The three together are `total_requests`.
    pub own_faults: u64,
    /// How long the load has been going, or went.
    pub total_duration_ms: f64,
    /// Least response time.
    pub min_latency_ms: f64,
    /// Greatest response time.
    pub max_latency_ms: f64,
    /// Mean response time.
    pub avg_latency_ms: f64,
    /// Median response time.
    pub p50_latency_ms: f64,
    /// 75th percentile of the response time.
    pub p75_latency_ms: f64,
    /// 90th percentile of the response time.
    pub p90_latency_ms: f64,
    /// 95th percentile of the response time.
    pub p95_latency_ms: f64,
    /// 99th percentile of the response time.
    pub p99_latency_ms: f64,
    /// 99.9th percentile of the response time.
    pub p99_9_latency_ms: f64,
    /// Requests a second since the start.
    pub requests_per_sec: f64,
    /// Requests a second in the newest whole interval; 0 once ended.
    pub current_rps: f64,
    /// VUs now.
    pub active_workers: u64,
    /// Responses by status, as text: `"200"`.
    pub status_codes: BTreeMap<String, u64>,
    /// Failures without a whole response by type, `connect` or `connect: refused`.
    pub errors: BTreeMap<String, u64>,
    /// RFC 3339.
    pub last_updated: String,

    /// How far the run is.
    pub status: Option<RunStatus>,
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// From the first byte sent to the last byte received.
    pub service_time_ms: TimesView,
    /// The response time, in the same shape.
    pub response_time_ms: TimesView,
    /// Actual minus intended start of iterations.
    pub schedule_lag_ms: TimesView,
    /// Where the time of requests went.
    pub phases: PhasesView,
    /// Of the requests those that followed a redirect; the others are steps' own.
    pub redirects: u64,
    /// Iterations that were started.
    pub iterations: u64,
    /// Iterations that ran to their end.
    pub completed_iterations: u64,
    /// Iterations that were cut off by the end.
    pub interrupted_iterations: u64,
    /// Arrivals that found no VU.
    pub dropped_iterations: u64,
    /// Arrivals that nobody owned.
    pub missed_iterations: u64,
    /// Bytes written by requests.
    pub bytes_sent: u64,
    /// Bytes read of responses.
    pub bytes_received: u64,
    /// In the plan's order.
    pub steps: Vec<StepView>,
    /// Every threshold with what was observed.
    pub thresholds: Vec<ThresholdView>,
    /// Every agent that ever took part.
    pub agents: Vec<AgentShareView>,
    /// What is to be known about this run.
    pub warnings: Vec<WarningView>,
    /// Whether the numbers can be vouched for.
    pub validity: ValidityView,
    /// Whether anything is missing.
    pub completeness: CompletenessView,
    /// The latest minus the earliest start of a shard, in milliseconds; absent before the start and for one agent 0.
    pub start_skew_ms: Option<f64>,
}

/// A distribution of times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[allow(missing_docs)]
pub struct TimesView {
    pub count: u64,
    pub min: f64,
    pub avg: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Where the time of requests went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PhasesView {
    /// Name resolution.
    pub dns: TimesView,
    /// TCP connect.
    pub connect: TimesView,
    /// TLS handshake.
    pub tls: TimesView,
    /// First byte sent to first byte received.
    pub wait: TimesView,
    /// First byte received to last.
    pub receive: TimesView,
}

/// One step's part of the metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StepView {
    /// The step.
    pub name: String,
    /// Its scenario.
    pub scenario: String,
    /// Its method.
    pub method: String,
    /// Every attempt.
    pub requests: u64,
    /// Those that failed by the target's fault.
    pub failed: u64,
    /// Those that failed by the load generators' own fault.
    pub own_faults: u64,
    /// Of them those that followed a redirect.
    pub redirects: u64,
    /// Requests a second since the start.
    pub rate: f64,
    /// Responses by status.
    pub status_codes: BTreeMap<String, u64>,
    /// Failures without a whole response by type.
    pub errors: BTreeMap<String, u64>,
    /// Response time.
    pub response_time_ms: TimesView,
    /// Service time.
    pub service_time_ms: TimesView,
}

/// A threshold with what was observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ThresholdView {
    /// The rule.
    pub expr: String,
    /// In the rule's own unit: milliseconds, a fraction, requests a second or a count; absent while nothing was measured.
    pub observed: Option<f64>,
    /// Whether the rule holds.
    pub ok: bool,
}

/// One agent's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentShareView {
    /// The agent.
    pub id: String,
    /// `running`, `finished` or `lost`.
    pub state: String,
    /// Requests that it reported.
    pub requests: u64,
    /// Of them those that failed by the target's fault.
    pub failed: u64,
    /// Of them those that failed by its own fault: no free port, no free file, a target that its guard rail refuses.
    pub own_faults: u64,
    /// Requests a second since the start.
    pub rate: f64,
    /// Iterations that it started.
    pub iterations: u64,
    /// Arrivals that it dropped.
    pub dropped_iterations: u64,
    /// 99th percentile of its schedule lag.
    pub schedule_lag_p99_ms: f64,
    /// CPU use of its load cores in the newest interval, 0 to 1 a core.
    pub cpu: f64,
    /// Its resident memory in bytes.
    pub memory_bytes: u64,
}

/// Something to be known about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WarningView {
    /// For machines.
    pub code: String,
    /// When it began, in run time.
    pub since_ms: f64,
    /// Who noticed it about itself; absent: the master.
    pub agent: Option<String>,
    /// For people.
    pub message: String,
}

/// Whether the numbers can be vouched for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ValidityView {
    /// The verdict.
    pub verdict: Verdict,
    /// What speaks against `valid`.
    pub causes: Vec<CauseView>,
}

/// How far the numbers can be vouched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing speaks against them.
    #[default]
    Valid,
    /// They are usable with the causes in mind.
    Degraded,
    /// They say more about the load generator than about the target.
    Invalid,
}

/// What speaks against a run's numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CauseView {
    /// For machines: `schedule_lag`, `throttled`, `no_ports` …
    pub code: String,
    /// What follows from this cause alone: `degraded` or `invalid`.
    pub verdict: Verdict,
    /// Whose fault it is; absent: the master's, or nobody's alone.
    pub agent: Option<String>,
    /// The scenario that it is about; absent: all.
    pub scenario: Option<String>,
    /// When it began, in run time.
    pub since_ms: f64,
    /// When it was seen last: the end of that interval, in run time; absent where that is not known.
    pub until_ms: Option<f64>,
    /// How much of it there was in all: milliseconds, or a count, as docs/validity.md says for each code; 0 where it has no measure.
    pub amount: f64,
    /// The most of it in one interval: milliseconds, a count, or a share of 1; 0 where it has no measure.
    pub worst: f64,
}

/// Whether anything is missing from the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CompletenessView {
    /// Nothing is missing.
    pub complete: bool,
    /// What is missing.
    pub gaps: Vec<GapView>,
}

impl Default for CompletenessView {
    fn default() -> Self {
        Self { complete: true, gaps: Vec::new() }
    }
}

/// A hole in the numbers: what an agent did in this time is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GapView {
    /// Whose numbers are missing.
    pub agent: String,
    /// From this run time.
    pub from_ms: f64,
    /// To this run time.
    pub to_ms: f64,
    /// No more requests than this are missing.
    pub at_most_requests: u64,
    /// Whether that is an estimate (closed loops) or exact (open loops).
    pub estimate: bool,
}
