//! What Prometheus scrapes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use volcanion_common::delta::{Delta, ScenarioDelta};
use volcanion_common::series::{ErrorKind, Outcome, Series, SeriesKey};
use volcanion_common::units::Micros;
use volcanion_common::view::{AgentView, Metrics, RunStatus};

use super::Api;
use crate::expose::prometheus;
use crate::run::table::{RunTotals, StoreState};
use crate::run::tests::{any_plan, any_view};

fn a_run(status: RunStatus) -> RunTotals {
    let mut totals = Delta::default();
    let mut answered =
        Series { requests: 3, redirects: 1, bytes_sent: 30, bytes_received: 300, ..Series::default() };
    [700, 2_000, 40_000].into_iter().for_each(|us| answered.response_time.record(Micros(us)));
    totals.series.insert(SeriesKey { step: 0, outcome: Outcome::Status(200) }, answered);
    let refused = Series { requests: 2, failed: 2, ..Series::default() };
    totals.series.insert(SeriesKey { step: 0, outcome: Outcome::Error(ErrorKind::Connect) }, refused);
    let mut scenario = ScenarioDelta { started: 6, dropped: 1, ..ScenarioDelta::default() };
    scenario.schedule_lag.record(Micros(50));
    totals.scenarios.insert(0, scenario);
    let metrics = Metrics { active_workers: 4, ..Metrics::default() };
    RunTotals {
        view: any_view(status),
        plan: Arc::new(any_plan()),
        totals: Arc::new(totals),
        metrics: Arc::new(metrics),
        inside: Default::default(),
    }
}

fn an_agent(state: &str) -> AgentView {
    AgentView {
        id: "a".into(),
        incarnation: 1,
        address: "127.0.0.1:1".into(),
        version: "0".into(),
        labels: Default::default(),
        cores: 1,
        capacity: 1.0,
        requests_per_s: None,
        state: state.into(),
        load: 0,
        clock_offset_us: None,
        round_trip_us: None,
    }
}

fn scrape() -> String {
    let runs = [a_run(RunStatus::Running), a_run(RunStatus::Completed)];
    let agents = [an_agent("ready"), an_agent("ready"), an_agent("draining")];
    let store = StoreState { works: false, failures: 3 };
    String::from_utf8(prometheus::text(&runs, &agents, store)).unwrap()
}

/// The sum over all lines of a name whose labels hold a text.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let lines =
        text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn sums_over_the_series_are_the_merged_counts() {
    let text = scrape();
    let check = |name: &str, label: &str, expected: f64| {
        assert_eq!(sum(&text, name, label), expected, "{name} {label}\n{text}")
    };
    check("http_requests_total", "", 10.0);
    check("http_requests_total", "status=\"200\"", 6.0);
    check("http_requests_total", "status=\"connect\"", 4.0);
    check("http_requests_failed_total", "", 4.0);
    check("volcanion_redirects_total", "", 2.0);
    check("http_request_duration_seconds_count", "method=\"GET\"", 6.0);
    check("http_request_duration_seconds_bucket", "le=\"0.001\"", 2.0);
    check("http_request_duration_seconds_count", "status=\"connect\"", 0.0);
    check("stress_test_active_tests", "", 1.0);
    check("stress_test_active_workers", "", 4.0);
    check("volcanion_dropped_iterations_total", "", 2.0);
    check("volcanion_agents", "state=\"ready\"", 2.0);
    check("volcanion_runs", "status=\"completed\"", 1.0);
}

#[test]
fn promtool_finds_nothing_to_say() {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = tool.expect("promtool is there; `make deps` installs it");
    tool.stdin.take().unwrap().write_all(scrape().as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test]
async fn a_master_without_runs_has_no_series_of_runs() {
    let api = Api::new().await;
    let answer = api.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"), "{}", answer.header("content-type"));
    let text = answer.text();
    assert!(!text.contains("run_id"), "{text}");
    assert!(text.contains("stress_test_active_tests 0\n"), "{text}");
}

#[tokio::test]
async fn answers_are_counted_by_route_method_and_class_whatever_clients_ask_for() {
    let api = Api::new().await;
    for path in ["/api/v1/test-plans", "/api/v1/test-plans?limit=x", "/api/v1/nothing", "/else", "/livez"] {
        api.get(path).await;
    }
    let text = api.get("/metrics").await.text();
    for line in [
        "volcanion_rest_requests_total{route=\"/api/v1/test-plans\",method=\"GET\",status=\"2xx\"} 1",
        "volcanion_rest_requests_total{route=\"/api/v1/test-plans\",method=\"GET\",status=\"4xx\"} 1",
        "volcanion_rest_requests_total{route=\"(none)\",method=\"GET\",status=\"4xx\"} 2",
        "volcanion_rest_request_seconds_count{route=\"/livez\",method=\"GET\"} 1",
        "volcanion_event_streams{kind=\"sse\"} 0",
        "volcanion_queue_bound{queue=\"event_streams\"} 1000",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is not in {text}");
    }
}
