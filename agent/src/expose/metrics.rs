//! The agent's own metrics, all named `volcanion_agent_…`, so that a sum over everything that is scraped never counts a request
//! of the master's `http_…` metrics twice.

use std::time::Instant;

use volcanion_common::ids::RunId;
use volcanion_common::series::Outcome;
use volcanion_common::telemetry::prometheus::Family;

use super::seen::{Seen, SeenRun};
use crate::session::desk::Census;

/// Everything that is shown, as of now.
pub fn families(seen: &Seen, census: &Census) -> Vec<Family> {
    let mut runs = RunFamilies::new();
    seen.read(Instant::now(), |run, seen| runs.add(run, seen));
    let mut families = process(census);
    families.extend(runs.into_families());
    families
}

fn process(census: &Census) -> Vec<Family> {
    let mut build = Family::gauge("volcanion_agent_build_info", "1, labelled with the agent's version.");
    build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let mut active = Family::gauge("volcanion_agent_active_runs", "Runs that the agent carries.");
    active.add(&[], census.runs.len() as f64);
    let mut draining = Family::gauge(
        "volcanion_agent_draining",
        "1 while the agent drains or leaves, and takes no new run.",
    );
    draining.add(&[], f64::from(u8::from(census.closed().is_some())));
    vec![build, active, draining]
}

struct RunFamilies {
    requests: Family,
    failed: Family,
    redirects: Family,
    durations: Family,
    sent: Family,
    received: Family,
    started: Family,
    completed: Family,
    dropped: Family,
    interrupted: Family,
    vus: Family,
    lag: Family,
    load_cpu: Family,
    unacked: Family,
}

impl RunFamilies {
    fn new() -> Self {
        Self {
            requests: Family::counter(
                "volcanion_agent_requests_total",
                "Requests by step and by the answer's status, or the error's type where there was no answer.",
            ),
            failed: Family::counter(
                "volcanion_agent_requests_failed_total",
                "Requests that were no success.",
            ),
            redirects: Family::counter(
                "volcanion_agent_redirects_total",
                "Of the requests those that followed a redirect.",
            ),
            durations: Family::histogram(
                "volcanion_agent_request_duration_seconds",
                "Response times: from the intended start in open loops.",
            ),
            sent: Family::counter("volcanion_agent_sent_bytes_total", "Bytes of requests written."),
            received: Family::counter("volcanion_agent_received_bytes_total", "Bytes of answers read."),
            started: Family::counter("volcanion_agent_iterations_total", "Iterations started."),
            completed: Family::counter(
                "volcanion_agent_iterations_completed_total",
                "Iterations that ran to their end.",
            ),
            dropped: Family::counter(
                "volcanion_agent_iterations_dropped_total",
                "Iterations that were due and found no VU.",
            ),
            interrupted: Family::counter(
                "volcanion_agent_iterations_interrupted_total",
                "Iterations that the run's end cut off.",
            ),
            vus: Family::gauge("volcanion_agent_vus", "VUs at the end of the last interval."),
            lag: Family::histogram(
                "volcanion_agent_schedule_lag_seconds",
                "Actual minus intended start of iterations.",
            ),
            load_cpu: Family::counter(
                "volcanion_agent_load_cpu_seconds_total",
                "CPU time of a run's load cores.",
            ),
            unacked: Family::gauge(
                "volcanion_agent_outbox_unacked",
                "Deltas that were sent to the leader and not acknowledged.",
            ),
        }
    }

    fn add(&mut self, run: RunId, seen: &SeenRun) {
        let run_id = run.to_string();
        let run_id = run_id.as_str();
        for (key, series) in &seen.total.series {
            let Some((step, method)) = seen.names.steps.get(key.step as usize) else { continue };
            let status = match key.outcome {
                Outcome::Status(status) => status.to_string(),
                Outcome::Error(kind) => kind.name().to_owned(),
            };
            let labels = [("run_id", run_id), ("step", step), ("method", method), ("status", &status)];
            self.requests.add(&labels, series.requests as f64);
            self.failed.add(&labels, series.failed as f64);
            self.redirects.add(&labels, series.redirects as f64);
            self.sent.add(&labels, series.bytes_sent as f64);
            self.received.add(&labels, series.bytes_received as f64);
            if !series.response_time.is_empty() {
                self.durations.add_distribution(&labels, &series.response_time);
            }
        }
        for (index, scenario) in &seen.total.scenarios {
            let Some(name) = seen.names.scenarios.get(*index as usize) else { continue };
            let labels = [("run_id", run_id), ("scenario", name.as_str())];
            self.started.add(&labels, scenario.started as f64);
            self.completed.add(&labels, scenario.completed as f64);
            self.dropped.add(&labels, scenario.dropped as f64);
            self.interrupted.add(&labels, scenario.interrupted as f64);
            self.vus.add(&labels, scenario.vus as f64);
            self.lag.add_distribution(&labels, &scenario.schedule_lag);
        }
        self.load_cpu.add(&[("run_id", run_id)], seen.total.process.cpu_us as f64 / 1e6);
        self.unacked.add(&[("run_id", run_id)], seen.unacked as f64);
    }

    fn into_families(self) -> Vec<Family> {
        vec![
            self.requests,
            self.failed,
            self.redirects,
            self.durations,
            self.sent,
            self.received,
            self.started,
            self.completed,
            self.dropped,
            self.interrupted,
            self.vus,
            self.lag,
            self.load_cpu,
            self.unacked,
        ]
    }
}
