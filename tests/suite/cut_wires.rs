//! The wire between master and agent is cut in mid-run, one way or both, reset, or gone for good: the load goes on, and what the agents kept is counted once.

use std::time::Duration;

use serde_json::{Value, json};

use super::slow_readers::{longest_row_ms, unacked};
use crate::harness::cluster::Cluster;
use crate::harness::masters::{Masters, await_beyond};
use crate::harness::wire::{Wire, start_agent_behind};

const RATE: u64 = 300;

fn plan(target: &str, seconds: u64) -> Value {
    json!({
        "name": "cut", "target": target,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": format!("{RATE}/s"), "duration": format!("{seconds}s"),
            "max_vus": 300, "steps": [{ "get": "/cut" }],
        } },
    })
}

/// Two agents, the second one behind a wire.
async fn cluster() -> (Cluster, Wire) {
    let mut cluster = Cluster::start(1).await;
    let (agent, wire) = start_agent_behind(&cluster.etcd.url, "agent-2", &["--cores", "1"]).await;
    cluster.agents.push(agent);
    cluster.await_agents(2).await;
    (cluster, wire)
}

fn check(metrics: &Value, counted: u64, seconds: u64) {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], counted, "report and target: {metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!((of("iterations") + of("dropped_iterations"), of("missed_iterations")), (RATE * seconds, 0));
    assert!(of("dropped_iterations") <= RATE * seconds / 100, "the rate is kept: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_cut_for_six_seconds_and_reset_loses_nothing() {
    let (cluster, wire) = cluster().await;
    let mut often = plan(&cluster.target.url, 11);
    often["interval"] = json!("200ms");
    let run = cluster.rest.start(&often).await;
    await_beyond(&cluster.rest, &run, 0).await;
    wire.hold(true, true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    // What it could not say it keeps, folded: eight deltas, and one that grows.
    assert_eq!(unacked(&cluster.agents[1..]).await, 8.0);
    wire.reset();
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, cluster.target.requests().await, 11);
    let longest = longest_row_ms(&cluster.rest, &run).await;
    assert!(longest > 1_000.0, "it folded what came after the eighth; but the longest row has {longest} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_open_one_way_only_loses_nothing() {
    for (to_agent, to_master) in [(true, false), (false, true)] {
        let (cluster, wire) = cluster().await;
        let run = cluster.rest.start(&plan(&cluster.target.url, 7)).await;
        await_beyond(&cluster.rest, &run, 0).await;
        wire.hold(to_agent, to_master);
        tokio::time::sleep(Duration::from_secs(3)).await;
        wire.reset();
        let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
        check(&metrics, cluster.target.requests().await, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_reset_again_and_again_loses_nothing() {
    let (cluster, wire) = cluster().await;
    let run = cluster.rest.start(&plan(&cluster.target.url, 7)).await;
    let mut seen = 0;
    for _ in 0..5 {
        seen = await_beyond(&cluster.rest, &run, seen).await;
        wire.reset();
    }
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, cluster.target.requests().await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_cut_for_good_at_a_fail_over_leaves_a_named_hole() {
    let mut cluster = Masters::start(2, 1, &["--cores", "1"]).await;
    let (agent, wire) = start_agent_behind(&cluster.etcd.url, "agent-2", &["--cores", "1"]).await;
    let leader = cluster.leader().await.expect("one leads");
    crate::harness::await_some("both agents", Duration::from_secs(20), || async {
        let (_, agents) = cluster.masters[leader].rest.get("/api/v1/agents").await;
        (agents.as_array()?.len() == 2).then_some(())
    })
    .await;
    let run = cluster.masters[leader].rest.start(&plan(&cluster.target.url, 9)).await;
    await_beyond(&cluster.masters[leader].rest, &run, 0).await;
    wire.hold(true, true);
    cluster.kill(leader).await;
    let next = cluster.await_leader_after(leader).await;
    let metrics = cluster.masters[next].rest.ended(&run, Duration::from_secs(90)).await;
    let gaps = metrics["completeness"]["gaps"].as_array().expect("a list");
    assert_eq!((gaps.len(), &gaps[0]["agent"]), (1, &json!("agent-2")), "{metrics}");
    let total = metrics["total_requests"].as_u64().expect("it counts");
    let missing = cluster.target.requests().await.checked_sub(total).expect("nothing is counted twice");
    let at_most = gaps[0]["at_most_requests"].as_u64().expect("a bound");
    assert!(missing > 0 && missing <= at_most, "{missing} are missing, the gap covers {at_most}: {metrics}");
    drop(agent);
}
