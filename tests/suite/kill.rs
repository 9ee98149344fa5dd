//! The kill switch: every load ends within a second, whatever else hangs. And `leave`, the gentle way.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::{Masters, await_beyond};
use crate::harness::process::volcanion;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(30);

async fn start(rest: &Rest, url: &str, elastic: bool) -> String {
    let plan = json!({
        "name": "p", "target": url, "elastic": elastic,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "400/s", "duration": "60s", "max_vus": 100,
                              "graceful_stop": "30s", "steps": [{ "name": "s", "get": "/" }] } }
    });
    let (status, plan) = rest.post("/api/v1/test-plans", &plan).await;
    assert_eq!(status, 201, "{plan}");
    let (status, run) = rest.post("/api/v1/test-runs/start", &json!({ "plan_id": plan["id"] })).await;
    assert_eq!(status, 201, "{run}");
    let run = run["id"].as_str().unwrap().to_owned();
    await_beyond(rest, &run, 200).await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_ends_every_load_also_while_the_store_hangs() {
    let cluster = Masters::start(2, 2, &["--cores", "1"]).await;
    let leader = cluster.leader().await.expect("one leads");
    let (leading, standing_by) = (&cluster.masters[leader].rest, &cluster.masters[1 - leader].rest);
    let runs =
        [start(leading, &cluster.target.url, false).await, start(leading, &cluster.target.url, true).await];
    let held = cluster.postgres.psql(
        "BEGIN; LOCK TABLE parts, runs, plans, office IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(5); COMMIT",
    );
    let killing = async {
        await_some("the store hangs", LIMIT, || async {
            let live = leading.get(&format!("/api/v1/test-runs/{}/live", runs[0])).await.1;
            live["total_requests"].as_u64().map(|_| ())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        // By the master that stands by: it needs neither office nor store.
        let killed = volcanion(&["kill", "--json", "--master", &standing_by.base]).await;
        assert_eq!(killed.code, 0, "{}", killed.stderr);
        let after = began.elapsed();
        let view: serde_json::Value = serde_json::from_str(&killed.stdout).unwrap();
        assert_eq!(
            (&view["all_killed"], view["agents"].as_array().unwrap().len()),
            (&json!(true), 2),
            "{view}"
        );
        assert_eq!(view["agents"][0]["runs"], 2, "{view}");
        // What was on its way when the order came is there by now.
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(after)).await;
        let then = cluster.target.requests().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(cluster.target.requests().await, then, "nothing is sent a second after the order");
    };
    tokio::join!(held, killing);
    let mut reported = 0;
    for run in &runs {
        let ended = await_some("the run ends", LIMIT, || async {
            let view = leading.get(&format!("/api/v1/test-runs/{run}")).await.1;
            view["ended_at"].is_string().then_some(view)
        })
        .await;
        assert_eq!(ended["status"], "cancelled", "{ended}");
        reported += leading.get(&format!("/api/v1/test-runs/{run}/metrics")).await.1["total_requests"]
            .as_u64()
            .unwrap();
    }
    assert_eq!(reported, cluster.target.requests().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_to_leave_hands_over_first() {
    let cluster = Cluster::start(2).await;
    let run = start(&cluster.rest, &cluster.target.url, true).await;
    let metrics = cluster.agents[0].metrics.trim_end_matches("/metrics").to_owned();
    let left = volcanion(&["leave", "--metrics", &metrics]).await;
    assert_eq!(left.code, 0, "{}", left.stderr);
    let said = volcanion(&["health", &format!("{metrics}/readyz")]).await;
    assert_eq!(said.code, 3, "it takes no run any more: {}", said.stdout);
    assert!(said.stderr.contains("503"), "{}", said.stderr);
    assert_eq!(volcanion(&["health", &format!("{}/readyz", cluster.rest.base)]).await.code, 0);
    cluster.rest.post(&format!("/api/v1/test-runs/{run}/stop"), &json!({})).await;
    let metrics = await_some("the run ends", LIMIT, || async {
        let metrics = cluster.rest.get(&format!("/api/v1/test-runs/{run}/metrics")).await.1;
        (metrics["status"] == "cancelled").then_some(metrics)
    })
    .await;
    assert_eq!(metrics["total_requests"].as_u64().unwrap(), cluster.target.requests().await, "{metrics}");
    assert_eq!(metrics["missed_iterations"], 0, "{metrics}");
}
