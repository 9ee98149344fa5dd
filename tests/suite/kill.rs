//! The kill switch: every load ends within a second, whatever else hangs. And `leave`, the gentle way.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::{Masters, await_beyond};
use crate::harness::process::volcanion;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(30);
const ADMIN: &str = "the-first-admins-key";
/// How long a master takes the store's word on a key without asking again.
const FRESH: Duration = Duration::from_secs(1);

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
    let folder = TempDir::new().unwrap();
    let admin = folder.path().join("admin");
    fs::write(&admin, ADMIN).unwrap();
    let flags = ["--admin-key-file", admin.to_str().unwrap()];
    let cluster = Masters::start_with(2, 2, &["--cores", "1"], &flags, Some(ADMIN)).await;
    let leader = cluster.leader().await.expect("one leads");
    let (leading, standing_by) = (&cluster.masters[leader].rest, &cluster.masters[1 - leader].rest);
    let runs =
        [start(leading, &cluster.target.url, false).await, start(leading, &cluster.target.url, true).await];
    // An operator's, which the master that stands by has seen before, and would ask the store for again.
    let operator = {
        let (status, made) =
            leading.post("/api/v1/keys", &json!({ "name": "on call", "role": "operator" })).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().unwrap().to_owned()
    };
    let (seen, _) = Rest::with_key(standing_by.base.clone(), &operator).get("/api/v1/test-runs").await;
    let seen_at = Instant::now();
    assert_eq!(seen, 200);
    let held = cluster.postgres.psql(
        "BEGIN; LOCK TABLE parts, runs, plans, office, api_keys, audit_logs IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(5); COMMIT",
    );
    let killing = async {
        await_some("the store hangs, and the key's word is no longer fresh", LIMIT, || async {
            let locks =
                "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'api_keys'::regclass";
            (cluster.postgres.psql(locks).await == "1" && seen_at.elapsed() > FRESH).then_some(())
        })
        .await;
        let began = Instant::now();
        // By the master that stands by: it needs neither office nor store.
        let killed =
            volcanion(&["kill", "--json", "--master", &standing_by.base, "--api-key", &operator]).await;
        assert_eq!(killed.code, 0, "{}", killed.stderr);
        let after = began.elapsed();
        assert!(after < Duration::from_secs(1), "it took {after:?}");
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
    let (mut reported, mut cut_off) = (0, 0);
    for run in &runs {
        let ended = await_some("the run ends", LIMIT, || async {
            let view = leading.get(&format!("/api/v1/test-runs/{run}")).await.1;
            view["ended_at"].is_string().then_some(view)
        })
        .await;
        assert_eq!(ended["status"], "cancelled", "{ended}");
        let metrics = leading.get(&format!("/api/v1/test-runs/{run}/metrics")).await.1;
        reported += metrics["total_requests"].as_u64().unwrap();
        cut_off += metrics["errors"]["interrupted"].as_u64().unwrap_or(0);
    }
    // What was in flight when it was cut off, the target has answered or not.
    let counted = cluster.target.requests().await;
    assert!(
        (reported - cut_off..=reported).contains(&counted),
        "{counted} of {reported}, {cut_off} of them cut off"
    );
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
