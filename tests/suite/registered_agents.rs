//! `GET /agents` shows what is there: a stopped agent leaves at once, a killed one when its lease ends, a drained one stays and
//! takes nothing new.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, start_agent};
use crate::harness::process::volcanion;

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_and_go() {
    let mut cluster = Cluster::start_with(2, &["--cores", "1", "--label", "zone=a"]).await;
    let agents = cluster.await_agents(2).await;
    assert_eq!(agents[0]["labels"], json!({ "zone": "a" }));
    assert_eq!(agents[0]["state"], "ready");
    assert_eq!(agents[0]["cores"], 1);
    assert!(agents[0]["incarnation"] != agents[1]["incarnation"]);

    let begun = Instant::now();
    let status = cluster.agents[1].process.stop().await;
    assert!(status.success(), "an agent that is stopped ends well: {status:?}");
    let left = cluster.await_agents(1).await;
    assert_eq!(left[0]["id"], "agent-1");
    assert!(
        begun.elapsed() < Duration::from_millis(2_500),
        "a stopped agent leaves at once, not with its lease: {:?}",
        begun.elapsed()
    );

    let old = left[0]["incarnation"].clone();
    cluster.agents[0].process.kill().await;
    let killed = Instant::now();
    cluster.await_agents(0).await;
    assert!(
        killed.elapsed() < Duration::from_secs(8),
        "a killed agent leaves with its lease: {:?}",
        killed.elapsed()
    );

    let (status, problem) = cluster.rest.post("/api/v1/test-plans", &json!({
        "name": "nobody", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 1, "duration": "1s", "steps": [{ "get": "/" }] } },
    })).await;
    assert_eq!(status, 201);
    let (status, problem) =
        cluster.rest.post("/api/v1/test-runs/start", &json!({ "plan_id": problem["id"] })).await;
    assert_eq!((status, &problem["error"]), (503, &json!("no_agents")), "{problem}");

    let again = start_agent(&cluster.etcd.url, "agent-1", &["--cores", "1"]).await;
    let agents = cluster.await_agents(1).await;
    assert_ne!(agents[0]["incarnation"], old, "an agent that comes back is another incarnation");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused() {
    let cluster = Cluster::start(1).await;
    let mut second = crate::harness::process::Process::volcanion(
        "second",
        &[
            "agent",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--etcd",
            &cluster.etcd.url,
            "--id",
            "agent-1",
        ],
    );
    let status = second.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(3));
    await_some("it says why", Duration::from_secs(5), || async {
        second.lines().iter().any(|line| line.contains("agent-1") && line.contains("--id")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_agent_ends_its_run_whole_and_takes_no_new_one() {
    let mut cluster = Cluster::start(2).await;
    let plan = |name: &str, duration: &str| {
        json!({
            "name": name, "target": cluster.target.url,
            "scenarios": { "s": {
                "executor": "constant-arrival-rate", "rate": "200/s", "duration": duration, "max_vus": 40,
                "steps": [{ "get": format!("/{name}") }],
            } },
        })
    };
    let going = cluster.rest.start(&plan("going", "6s")).await;
    await_some("load goes", Duration::from_secs(20), || async {
        cluster.rest.live(&going).await["total_requests"].as_u64().filter(|requests| *requests > 0)
    })
    .await;

    let (status, agent) = cluster.rest.post_nothing("/api/v1/agents/agent-1/drain").await;
    assert_eq!((status, &agent["state"], &agent["load"]), (200, &json!("draining"), &json!(1)), "{agent}");
    let again = volcanion(&["agents", "--drain", "agent-1", "--master", &cluster.rest.base]).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, "agent-1 is draining\n"), "{}", again.stderr);
    let unknown = volcanion(&["agents", "--drain", "agent-9", "--master", &cluster.rest.base]).await;
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);

    let after = cluster.rest.run(&plan("after", "1s")).await;
    let rows = after["agents"].as_array().expect("a row an agent");
    assert_eq!((rows.len(), &rows[0]["id"]), (1, &json!("agent-2")), "only the other one: {after}");
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{going}")).await;
    assert_eq!(view["status"], "running", "the drained agent's run still goes: {view}");

    let whole = cluster.rest.ended(&going, Duration::from_secs(60)).await;
    let stats = cluster.target.stats().await;
    assert_eq!(after["total_requests"], stats["by_path"]["/after"]);
    assert_eq!(whole["total_requests"], stats["by_path"]["/going"]);
    assert_eq!((&whole["status"], &whole["completeness"]["complete"]), (&json!("completed"), &json!(true)));
    let arrivals = whole["iterations"].as_u64().unwrap() + whole["dropped_iterations"].as_u64().unwrap();
    assert_eq!((arrivals, &whole["missed_iterations"]), (1_200, &json!(0)), "{whole}");
    assert!(!whole["warnings"].to_string().contains("draining"), "{whole}");
    let of = |id: &str| {
        let rows = whole["agents"].as_array().unwrap().iter();
        rows.filter(|row| row["id"] == id).filter_map(|row| row["requests"].as_u64()).sum::<u64>()
    };
    assert!(of("agent-1").abs_diff(of("agent-2")) <= 100, "the drained agent did its whole half: {whole}");

    let agents = cluster.await_agents(2).await;
    assert_eq!((&agents[0]["state"], &agents[0]["load"]), (&json!("draining"), &json!(0)), "it stays");
    assert!(cluster.agents[0].process.stop().await.success());
    cluster.await_agents(1).await;
    cluster.agents[0] = start_agent(&cluster.etcd.url, "agent-1", &["--cores", "1"]).await;
    let agents = cluster.await_agents(2).await;
    assert_eq!(agents[0]["state"], "ready", "started again, it takes runs again");
}
