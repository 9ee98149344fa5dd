//! The merged truth for Prometheus, under the original's names; what is further ours begins with `volcanion_`.
//!
//! Takes the totals of the runs that go or ended in the last ten minutes, and the agents; gives Prometheus' text. Nothing is counted
//! here: every number is the sum of merged deltas, so a scrape agrees with the metrics document of the same moment.

use std::collections::BTreeMap;

use volcanion_common::delta::ScenarioDelta;
use volcanion_common::series::{Outcome, Series};
use volcanion_common::telemetry::prometheus::{Family, encode};
use volcanion_common::view::{AgentView, RunStatus};

use crate::run::table::{RunTotals, StoreState};

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = volcanion_common::telemetry::prometheus::CONTENT_TYPE;

/// Everything that is shown, in Prometheus' text format.
pub fn text(runs: &[RunTotals], agents: &[AgentView], store: StoreState) -> Vec<u8> {
    let mut families = request_families(runs);
    families.extend(scenario_families(runs));
    families.extend(master_families(runs, agents));
    families.extend(store_families(store));
    encode(families)
}

/// What a master shows that does not lead: no run, and nothing that the leader shows.
pub fn standby_text(store: StoreState) -> Vec<u8> {
    let mut families = vec![leads(false), build_info()];
    families.extend(store_families(store));
    encode(families)
}

/// By run, step, method and status, where an error's type stands for the status that there was none of.
fn request_families(runs: &[RunTotals]) -> Vec<Family> {
    let mut durations = Family::histogram(
        "http_request_duration_seconds",
        "Response time of answered requests and timeouts.",
    );
    let mut requests = Family::counter("http_requests_total", "Requests, every attempt.");
    let mut failed = Family::counter("http_requests_failed_total", "Requests that were no success.");
    let mut redirects =
        Family::counter("volcanion_redirects_total", "Of the requests those that followed a redirect.");
    let mut sent = Family::counter("volcanion_sent_bytes_total", "Bytes written by requests.");
    let mut received = Family::counter("volcanion_received_bytes_total", "Bytes read of responses.");
    for_each_series(runs, |labels, series| {
        requests.add(labels, series.requests as f64);
        failed.add(labels, series.failed as f64);
        redirects.add(labels, series.redirects as f64);
        sent.add(labels, series.bytes_sent as f64);
        received.add(labels, series.bytes_received as f64);
        if !series.response_time.is_empty() {
            durations.add_distribution(labels, &series.response_time);
        }
    });
    vec![durations, requests, failed, redirects, sent, received]
}

fn for_each_series(runs: &[RunTotals], mut add: impl FnMut(&[(&str, &str)], &Series)) {
    for run in runs {
        let run_id = run.view.id.to_string();
        let steps: Vec<_> = run.plan.steps().map(|step| step.step).collect();
        for (key, series) in &run.totals.series {
            // A step that the plan does not have was refused at the merge.
            let Some(step) = steps.get(key.step as usize) else { continue };
            let status = match key.outcome {
                Outcome::Status(status) => status.to_string(),
                Outcome::Error(kind) => kind.name().to_owned(),
            };
            let labels = [
                ("run_id", &*run_id),
                ("step", &step.name),
                ("method", &step.request.method),
                ("status", &status),
            ];
            add(&labels, series);
        }
    }
}

/// By run and scenario.
fn scenario_families(runs: &[RunTotals]) -> Vec<Family> {
    type Count = fn(&ScenarioDelta) -> u64;
    const COUNTERS: [(&str, &str, Count); 5] = [
        ("volcanion_iterations_total", "Iterations that were started.", |s| s.started),
        ("volcanion_completed_iterations_total", "Iterations that ran to their end.", |s| s.completed),
        ("volcanion_interrupted_iterations_total", "Iterations that were cut off by the end.", |s| {
            s.interrupted
        }),
        ("volcanion_dropped_iterations_total", "Arrivals that found no VU.", |s| s.dropped),
        ("volcanion_missed_iterations_total", "Arrivals that nobody owned.", |s| s.missed),
    ];
    let mut counters = COUNTERS.map(|(name, help, _)| Family::counter(name, help));
    let mut lag =
        Family::histogram("volcanion_schedule_lag_seconds", "Actual minus intended start of iterations.");
    for run in runs {
        let run_id = run.view.id.to_string();
        for (index, delta) in &run.totals.scenarios {
            let Some(scenario) = run.plan.scenarios.get(*index as usize) else { continue };
            let labels = [("run_id", &*run_id), ("scenario", &*scenario.name)];
            for (family, (_, _, count)) in counters.iter_mut().zip(COUNTERS) {
                family.add(&labels, count(delta) as f64);
            }
            if !delta.schedule_lag.is_empty() {
                lag.add_distribution(&labels, &delta.schedule_lag);
            }
        }
    }
    counters.into_iter().chain([lag]).collect()
}

fn master_families(runs: &[RunTotals], agents: &[AgentView]) -> Vec<Family> {
    let active =
        || runs.iter().filter(|run| !run.view.status.is_ended() && run.view.status != RunStatus::Queued);
    let vus: u64 = active().map(|run| run.metrics.active_workers).sum();
    vec![
        gauge("stress_test_active_tests", "Runs that are going.", active().count() as f64),
        gauge("stress_test_active_workers", "VUs of all runs that are going.", vus as f64),
        by_label("volcanion_runs", "Runs that are going or ended in the last ten minutes.", "status", {
            runs.iter().map(|run| run.view.status.name())
        }),
        by_label("volcanion_agents", "Registered agents.", "state", agents.iter().map(|agent| &*agent.state)),
        leads(true),
        build_info(),
    ]
}

fn gauge(name: &str, help: &str, value: f64) -> Family {
    let mut family = Family::gauge(name, help);
    family.add(&[], value);
    family
}

fn leads(leads: bool) -> Family {
    gauge(
        "volcanion_leader",
        "1 on the master that leads, 0 on one that stands by.",
        f64::from(u8::from(leads)),
    )
}

/// Each master says how the store looks from where it is.
fn store_families(store: StoreState) -> [Family; 2] {
    let up = f64::from(u8::from(store.works));
    let help = "1 while the store works; 0 while what is to be kept waits for it.";
    let mut failures = Family::counter(
        "volcanion_store_failures_total",
        "Uses of the store that failed because it did not work.",
    );
    failures.add(&[], store.failures as f64);
    [gauge("volcanion_store_up", help, up), failures]
}

fn build_info() -> Family {
    let mut family = Family::gauge("volcanion_build_info", "The program's version.");
    family.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    family
}

/// How many there are of each.
fn by_label<'a>(name: &str, help: &str, label: &str, values: impl Iterator<Item = &'a str>) -> Family {
    let mut counts = BTreeMap::<&str, u64>::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut family = Family::gauge(name, help);
    for (value, count) in counts {
        family.add(&[(label, value)], count as f64);
    }
    family
}
