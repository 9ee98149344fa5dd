//! Agents that leave an elastic run hand their part over: the rate has no dent, and every arrival is in the report.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;
use crate::harness::noting::NotingTarget;

const RATE: u64 = 600;

fn plan(target: &str, seconds: u64) -> Value {
    json!({
        "name": "elastic", "target": target, "elastic": true,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": format!("{RATE}/s"), "duration": format!("{seconds}s"),
            "max_vus": 500, "steps": [{ "name": "home", "get": "/moved" }],
        } },
    })
}

/// What must hold of a run in which agents came or went of their own will.
fn check(metrics: &Value, counted: u64, seconds: u64) {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], counted, "report and target: {metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!(of("missed_iterations"), 0, "nobody had to be waited for: {metrics}");
    assert_eq!(of("iterations") + of("dropped_iterations"), RATE * seconds, "{metrics}");
}

/// Whole seconds of a steady rate, without the first and the last one.
fn check_rate(target: &NotingTarget) {
    let seconds = target.seconds();
    let whole = seconds.last().map_or(0, |last| *last as usize);
    for second in 1..whole {
        let arrivals = seconds.iter().filter(|at| **at as usize == second).count() as f64;
        let asked = RATE as f64;
        assert!((asked * 0.9..=asked * 1.1).contains(&arrivals), "{arrivals} of {asked} in second {second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_are_stopped_or_drained_hand_over_what_they_have() {
    let mut cluster = Cluster::start(3).await;
    let target = NotingTarget::start().await;
    let run = cluster.rest.start(&plan(&target.url, 10)).await;
    let seen = await_beyond(&cluster.rest, &run, RATE).await;
    let status = cluster.agents[2].process.stop().await;
    assert!(status.success(), "it leaves well: {status:?}");
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    assert_eq!(view["status"], "running", "it left before the run's end: {view}");
    await_beyond(&cluster.rest, &run, seen).await;
    let (status, drained) = cluster.rest.post_nothing("/api/v1/agents/agent-2/drain").await;
    assert_eq!((status, &drained["state"]), (200, &json!("draining")), "{drained}");

    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, target.noted().len() as u64, 10);
    check_rate(&target);
    let of = |id: &str| {
        let rows = metrics["agents"].as_array().expect("a row an agent");
        rows.iter().find(|row| row["agent"] == id || row["id"] == id).expect("it is there")["requests"]
            .as_u64()
    };
    assert!(of("agent-1") > of("agent-2") && of("agent-2") > of("agent-3"), "{metrics}");
}
