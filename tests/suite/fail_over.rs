//! One master on SQLite, killed again and again in mid-run: the load goes on, and nothing is lost or counted twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::events::{Follower, Heard};
use crate::harness::masters::await_beyond;

/// How often the leader is killed.
pub const KILLS: usize = 3;

/// An open loop, long enough for three fail-overs, with room for an agent that is not served for seconds.
pub fn plan(target: &str) -> Value {
    json!({
        "name": "killed", "target": target,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "400/s", "duration": "12s", "max_vus": 1_200,
            "steps": [{ "name": "home", "get": "/killed" }],
        } },
        "thresholds": ["error_rate < 1%", "p(50) < 60s", "requests > 4000"],
    })
}

/// What must hold of that run, however many masters it had.
pub fn check(metrics: &Value, counted: &Value) {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], counted["by_path"]["/killed"], "report and target: {metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    let (started, dropped) = (of("iterations"), of("dropped_iterations"));
    assert_eq!((started + dropped, of("missed_iterations")), (4_800, 0), "every arrival is accounted for");
    assert!(dropped <= 48, "the asked rate is kept within 1 %: {dropped} of 4,800 were dropped");
    let thresholds = metrics["thresholds"].as_array().expect("a list");
    assert_eq!(thresholds.len(), 3);
    assert!(thresholds.iter().all(|threshold| threshold["ok"] == true), "judged: {thresholds:?}");
    let shares: Vec<u64> = metrics["agents"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["requests"].as_u64())
        .collect();
    assert_eq!(shares.iter().sum::<u64>(), of("total_requests"), "{shares:?}");
}

/// What a client must have heard of it.
pub fn check_events(heard: &[Heard], metrics: &Value) {
    let ids: Vec<u64> = heard.iter().map(|event| event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ids go on, none comes twice: {ids:?}");
    let terms = ids.iter().map(|id| id / 1_000_000_000).collect::<std::collections::BTreeSet<_>>();
    assert!(terms.len() >= 2, "it heard more than one master: {ids:?}");
    let totals: Vec<u64> = heard
        .iter()
        .filter(|event| event.name == "snapshot")
        .filter_map(|event| event.data["total_requests"].as_u64())
        .collect();
    assert!(totals.len() >= 3, "{totals:?}");
    let end = heard.last().expect("it heard something");
    assert_eq!((end.name.as_str(), &end.data["total_requests"]), ("end", &metrics["total_requests"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_three_times_and_comes_back_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url)).await;
    let events = Follower::of(&[&cluster.rest.base], &run);
    let mut seen = await_beyond(&cluster.rest, &run, 0).await;
    for _ in 0..KILLS {
        cluster.master.kill().await;
        cluster.restart_master().await;
        // Until it is elected itself, nobody is: its reads are the store's.
        let (status, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
        assert_eq!((status, &view["id"]), (200, &json!(run)), "{view}");
        seen = await_beyond(&cluster.rest, &run, seen).await;
    }
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, &cluster.target.stats().await);
    check_events(&events.ended(Duration::from_secs(30)).await, &metrics);
    let (status, after) = cluster.rest.get("/readyz").await;
    assert_eq!((status, after), (200, json!("ok\n")));
}
