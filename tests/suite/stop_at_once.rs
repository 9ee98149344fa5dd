//! A run of 60 s is stopped in under 2 s, by REST and by Ctrl-C, with exact counts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, Target};
use crate::harness::process::Process;

fn minute(url: &str) -> Value {
    json!({
        "name": "minute",
        "target": url,
        "scenarios": {
            "closed": { "executor": "constant-vus", "vus": 10, "duration": "60s", "steps": [{ "name": "closed", "get": "/closed" }] },
            "open": { "executor": "constant-arrival-rate", "rate": "200/s", "duration": "60s", "max_vus": 50, "steps": [{ "name": "open", "get": "/open" }] },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_by_rest_within_two_seconds_and_its_counts_are_exact() {
    let cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&minute(&cluster.target.url)).await;
    await_some("load goes", Duration::from_secs(20), || async {
        cluster.rest.live(&run).await["total_requests"].as_u64().filter(|requests| *requests > 0)
    })
    .await;
    let begun = Instant::now();
    let (status, view) = cluster.rest.post_nothing(&format!("/api/v1/test-runs/{run}/stop")).await;
    assert_eq!(status, 200, "{view}");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(10)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
    assert_eq!(metrics["status"], "cancelled");
    assert_eq!(metrics["stop_reason"], "cancelled");
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));

    let path = format!("/api/v1/test-runs/{run}/stop");
    let again = cluster.rest.post_nothing(&path).await;
    assert_eq!((again.0, &again.1["status"]), (200, &json!("cancelled")), "the same answer again");
    let short = json!({ "name": "short", "target": cluster.target.url, "scenarios": { "s": { "executor": "shared-iterations", "vus": 1, "iterations": 1, "max_duration": "5s", "steps": [{ "get": "/" }] } } });
    let ended = cluster.rest.start(&short).await;
    cluster.rest.ended(&ended, Duration::from_secs(20)).await;
    let (status, problem) = cluster.rest.post_nothing(&format!("/api/v1/test-runs/{ended}/stop")).await;
    assert_eq!((status, &problem["error"]), (409, &json!("conflict")));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_run_within_two_seconds_with_its_result() {
    let target = Target::start(&[]).await;
    let mut run = Process::volcanion("run", &["run", &target.url, "-c", "10", "-d", "60s", "--json"]);
    run.await_line("load goes", |line| line.contains("p95").then_some(())).await;
    let begun = Instant::now();
    run.signal("INT").await;
    let status = run.ended(Duration::from_secs(10)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(130));
    let text = await_some("the result is printed", Duration::from_secs(5), || async {
        let lines = run.lines();
        let first = lines.iter().position(|line| line == "{")?;
        let last = lines.iter().rposition(|line| line == "}")?;
        Some(
            lines[first..=last]
                .iter()
                .filter(|line| !line.contains("p95 "))
                .cloned()
                .collect::<Vec<_>>()
                .join("\n"),
        )
    })
    .await;
    let metrics: Value = serde_json::from_str(&text).expect("the result is JSON");
    assert_eq!(metrics["total_requests"].as_u64(), Some(target.requests().await));
    assert_eq!(metrics["status"], "cancelled");
}
