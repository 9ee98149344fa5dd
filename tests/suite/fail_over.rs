//! One master on SQLite, killed again and again in mid-run: the load goes on, and nothing is lost or counted twice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, Target};
use crate::harness::events::{Follower, Heard};
use crate::harness::masters::{await_beyond, await_beyond_after};

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
    check_rate(counted, 400);
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

/// The target's own seconds keep an asked rate: within 1 % over the run, and without a hole of a second or two in it. The first and the last second are no whole ones.
pub fn check_rate(counted: &Value, rate: u64) {
    let seconds: Vec<u64> =
        counted["by_second"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    let [_, whole @ .., _] = &seconds[..] else { panic!("too short: {seconds:?}") };
    let within = |seconds: &[u64], most: f64| {
        let apart = seconds.iter().sum::<u64>() as f64 / (rate * seconds.len() as u64) as f64 - 1.0;
        assert!(apart.abs() <= most, "{:.1} % from {rate}/s: {seconds:?}", apart * 100.0);
    };
    within(whole, 0.01);
    whole.windows(3).for_each(|three| within(three, 0.1));
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
        let killed = Instant::now();
        cluster.restart_master().await;
        // Until it is elected itself, nobody is: its reads are the store's.
        let (status, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
        assert_eq!((status, &view["id"]), (200, &json!(run)), "{view}");
        seen = await_beyond_after(killed, &cluster.rest, &run, seen).await;
    }
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, &cluster.target.stats().await);
    check_events(&events.ended(Duration::from_secs(30)).await, &metrics);
    let (status, after) = cluster.rest.get("/readyz").await;
    assert_eq!((status, after), (200, json!("ok\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_stopped_in_mid_run_and_started_again_goes_on_and_forgets_what_is_not_to_be_kept() {
    let mut cluster = Cluster::start(2).await;
    let other = Target::start(&[]).await;
    let mut short = plan(&other.url);
    short["scenarios"]["s"] = json!({
        "executor": "constant-arrival-rate", "rate": "50/s", "duration": "1s", "max_vus": 50,
        "steps": [{ "get": "/short" }],
    });
    short["thresholds"] = json!([]);
    for _ in 0..3 {
        cluster.rest.run(&short).await;
    }
    let run = cluster.rest.start(&plan(&cluster.target.url)).await;
    await_beyond(&cluster.rest, &run, 400).await;
    assert!(cluster.master.stop().await.success(), "it ends well");
    cluster.restart_master_with(&["--keep-runs", "1"]).await;
    // One that ended, and the one that goes.
    await_some("old runs are forgotten", Duration::from_secs(45), || async {
        let (_, runs) = cluster.rest.get("/api/v1/test-runs").await;
        (runs.as_array()?.len() == 2 && runs[0]["id"] == json!(run)).then_some(())
    })
    .await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, &cluster.target.stats().await);
}
