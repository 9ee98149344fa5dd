//! One row of a run's history: what happened in a span of run time, from the stored histograms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::metrics::TimesView;

/// What happened in a span of run time. Times are milliseconds; percentiles are those of the merged histograms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct IntervalView {
    /// The span's first moment, in run time.
    pub from_ms: f64,
    /// The moment after its last.
    pub to_ms: f64,
    /// Every attempt.
    pub requests: u64,
    /// Those that failed by the target's fault.
    pub failed: u64,
    /// Those that failed by the load generators' own fault.
    pub own_faults: u64,
    /// Of the requests those that followed a redirect.
    pub redirects: u64,
    /// Requests a second in the span.
    pub rate: f64,
    /// Responses by status, as text.
    pub status_codes: BTreeMap<String, u64>,
    /// Failures without a whole response by type.
    pub errors: BTreeMap<String, u64>,
    /// Bytes written by requests.
    pub bytes_sent: u64,
    /// Bytes read of responses.
    pub bytes_received: u64,
    /// From the intended start to the last byte received.
    pub response_time_ms: TimesView,
    /// From the first byte sent to the last byte received.
    pub service_time_ms: TimesView,
    /// Actual minus intended start of iterations; of the step's scenario where only one step was asked for.
    pub schedule_lag_ms: TimesView,
    /// Iterations that were started; of the step's scenario where only one step was asked for. So are the next four.
    pub iterations: u64,
    /// Iterations that ran to their end.
    pub completed_iterations: u64,
    /// Arrivals that found no VU.
    pub dropped_iterations: u64,
    /// Arrivals that nobody owned.
    pub missed_iterations: u64,
    /// VUs at the end of the span.
    pub active_workers: u64,
}
