//! 401/s for 5 s starts 2005 iterations: not 1980, not 2050; whatever the VUs, the cores and the agents.

use serde_json::{Value, json};

use crate::harness::cluster::{Cluster, start_agent};

const PLANNED: u64 = 2_005;

fn plan(url: &str, max_vus: u64) -> Value {
    json!({
        "name": "exact",
        "target": url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "401/s", "duration": "5s", "max_vus": max_vus, "steps": [{ "get": "/" }] } },
    })
}

async fn check(cluster: &Cluster, max_vus: u64) {
    let before = cluster.target.requests().await;
    let metrics = cluster.rest.run(&plan(&cluster.target.url, max_vus)).await;
    let figure = |key: &str| metrics[key].as_u64().unwrap();
    let (started, dropped, missed) =
        (figure("iterations"), figure("dropped_iterations"), figure("missed_iterations"));
    assert_eq!(
        started + dropped + missed,
        PLANNED,
        "{max_vus} VUs: {started} started, {dropped} dropped, {missed} missed"
    );
    assert_eq!(figure("total_requests"), started, "an iteration is one request here");
    assert_eq!(cluster.target.requests().await - before, started, "the target counts the started ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_asked_rate_starts_the_exact_number_of_iterations() {
    let mut cluster = Cluster::start_with(1, &["--cores", "4"]).await;
    check(&cluster, 100).await;
    check(&cluster, 1).await;
    check(&cluster, 3).await;
    for id in ["agent-2", "agent-3"] {
        let agent = start_agent(&cluster.etcd.url, id, &["--cores", "1"]).await;
        cluster.agents.push(agent);
    }
    cluster.await_agents(3).await;
    check(&cluster, 100).await;
    check(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn per_agent_load_is_the_plan_times_the_agents() {
    let cluster = Cluster::start(2).await;
    let mut plan = plan(&cluster.target.url, 50);
    plan["load"] = json!("per_agent");
    plan["scenarios"]["s"]["duration"] = json!("2s");
    let metrics = cluster.rest.run(&plan).await;
    let started = metrics["iterations"].as_u64().unwrap() + metrics["dropped_iterations"].as_u64().unwrap();
    assert_eq!(started, 2 * 802);
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_number_of_iterations_is_done_to_the_one() {
    let cluster = Cluster::start(2).await;
    let plan = json!({
        "name": "counted",
        "target": cluster.target.url,
        "scenarios": {
            "shared": { "executor": "shared-iterations", "vus": 7, "iterations": 1_003, "max_duration": "30s", "steps": [{ "name": "shared", "get": "/shared" }] },
            "each": { "executor": "per-vu-iterations", "vus": 5, "iterations": 11, "max_duration": "30s", "steps": [{ "name": "each", "get": "/each" }] },
        },
    });
    let metrics = cluster.rest.run(&plan).await;
    let stats = cluster.target.stats().await;
    assert_eq!(stats["by_path"], json!({ "/shared": 1_003, "/each": 55 }));
    assert_eq!(metrics["total_requests"], 1_058);
}
