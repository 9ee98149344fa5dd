//! A master that is killed: what it kept is there again, and a run that was going has an end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, start_master};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_every_plan_run_and_result_is_there_and_a_run_that_was_going_ends() {
    let mut cluster = Cluster::start(2).await;
    let plan = json!({
        "name": "kept", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "1s", "max_vus": 20, "steps": [{ "get": "/kept" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    assert_eq!(metrics["total_requests"], 100);

    let mut going = plan.clone();
    going["name"] = json!("going");
    going["scenarios"]["s"]["duration"] = json!("8s");
    going["scenarios"]["s"]["steps"] = json!([{ "get": "/going" }]);
    let second = cluster.rest.start(&going).await;
    await_some("load goes", Duration::from_secs(20), || async {
        cluster.rest.live(&second).await["total_requests"].as_u64().filter(|requests| *requests > 0)
    })
    .await;
    cluster.master.kill().await;
    cluster.restart_master().await;

    let (status, kept) = cluster.rest.get(&format!("/api/v1/test-runs/{run}/metrics")).await;
    assert_eq!(status, 200);
    assert_eq!(kept, metrics, "the result is served as it was");
    let (_, plans) = cluster.rest.get("/api/v1/test-plans").await;
    let names: Vec<&str> =
        plans.as_array().unwrap().iter().filter_map(|plan| plan["name"].as_str()).collect();
    assert_eq!(names, ["going", "kept"], "newest first");

    let taken_up = cluster.rest.ended(&second, Duration::from_secs(60)).await;
    assert_eq!(taken_up["status"], "completed", "{taken_up}");
    let stats = cluster.target.stats().await;
    assert_eq!(taken_up["total_requests"], stats["by_path"]["/going"], "nothing was lost with the master");
    let planned = taken_up["iterations"].as_u64().unwrap() + taken_up["dropped_iterations"].as_u64().unwrap();
    assert_eq!(planned, 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_agents_are_gone_too_ends_as_lost() {
    let mut cluster = Cluster::start(1).await;
    let plan = json!({
        "name": "lost", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "60s", "max_vus": 20, "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    await_some("load goes", Duration::from_secs(20), || async {
        cluster.rest.live(&run).await["total_requests"].as_u64().filter(|requests| *requests > 0)
    })
    .await;
    cluster.master.kill().await;
    cluster.agents[0].process.kill().await;
    cluster.restart_master().await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(
        (&metrics["status"], &metrics["stop_reason"]),
        (&json!("failed"), &json!("lost")),
        "{metrics}"
    );
    assert_eq!(metrics["completeness"]["complete"], false);
    assert_eq!(metrics["completeness"]["gaps"][0]["agent"], "agent-1");
    let report = metrics["total_requests"].as_u64().unwrap();
    let missing = cluster.target.requests().await - report;
    let at_most = metrics["completeness"]["gaps"][0]["at_most_requests"].as_u64().unwrap();
    assert!(missing <= at_most, "{missing} are missing, at most {at_most} are said to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_with_another_store_leads_neither_beside_the_leader_nor_after_it() {
    let mut cluster = Cluster::start(0).await;
    let file = cluster.folder.path().join("other.db");
    let (other, rest) = start_master(&cluster.etcd.url, file, "127.0.0.1:0", &[]).await;
    let is_refused = || async {
        let (status, said) = rest.get("/readyz").await;
        let (_, health) = rest.get("/health").await;
        assert_eq!((&health["role"], &health["leader"]), (&json!("standby"), &Value::Null), "{health}");
        (status == 503 && said["detail"].as_str().is_some_and(|detail| detail.contains("another store")))
            .then_some(())
    };
    await_some("it says why", Duration::from_secs(10), is_refused).await;
    other
        .await_line("the log says it", |line| line.contains("does not stand for election").then_some(()))
        .await;
    let plan = json!({
        "name": "p", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 1, "duration": "1s", "steps": [{ "get": "/" }] } },
    });
    assert_eq!(
        rest.post("/api/v1/test-plans", &plan).await.0,
        503,
        "nothing is sent on to a leader of another store"
    );
    cluster.master.kill().await;
    await_some("the leader's lease ends", Duration::from_secs(10), || async {
        (!cluster.etcd.has_leader().await).then_some(())
    })
    .await;
    cluster.restart_master().await;
    await_some("the leader is back", Duration::from_secs(20), || async {
        (cluster.rest.get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    is_refused().await.expect("the other one still does not lead");
    assert_eq!(cluster.rest.post("/api/v1/test-plans", &plan).await.0, 201);
}
