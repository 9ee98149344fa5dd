//! `volcanion calibrate` says in time what this machine can do, and an agent can go by it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::cluster::{Cluster, start_agent};
use crate::harness::process::volcanion;

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_with_whole_and_plausible_figures() {
    let begun = Instant::now();
    let said = volcanion(&["calibrate", "--json", "--duration", "5s"]).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    let figure = |name: &str| found[name].as_f64().unwrap_or_else(|| panic!("{name}: {found}"));
    for name in ["requests_per_s", "requests_per_s_per_core", "cpu_us_per_request", "core_use", "capacity"] {
        assert!(figure(name) > 0.0, "{name}: {found}");
    }
    assert_eq!((&found["cores"], &found["connections"]), (&json!(1), &json!(64)));
    assert_eq!(found["target_shares_cpus"], figure("cpus") < 2.0);
    assert!(figure("capacity_requests_per_s") >= 0.9 * figure("requests_per_s"), "{found}");
    let capacity = 10.0 / figure("cpu_us_per_request");
    assert!((figure("capacity") - capacity).abs() <= 0.006, "{found}");
    let pacing = found["pacing"].as_array().unwrap();
    assert_eq!(
        pacing.iter().map(|row| row["rate"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1_000, 10_000, 20_000]
    );
    for row in pacing {
        let count = |name: &str| row[name].as_u64().unwrap();
        assert_eq!(count("started") + count("dropped"), count("rate"), "of one second: {row}");
        let lag = |name: &str| row["lag_us"][name].as_u64().unwrap();
        assert!(lag("p50") <= lag("p90") && lag("p90") <= lag("p99") && lag("p99") <= lag("max"), "{row}");
    }
}

#[tokio::test]
async fn a_duration_that_says_nothing_is_refused() {
    let said = volcanion(&["calibrate", "--duration", "1s"]).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("give 5s to 60s"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_advertises_what_it_measured_and_shards_are_cut_by_it() {
    let mut cluster = Cluster::start(0).await;
    let url = cluster.etcd.url.clone();
    let measured = start_agent(&url, "agent-1", &["--cores", "1", "--capacity", "calibrated"]).await;
    cluster.agents.push(measured);
    let agents = cluster.await_agents(1).await;
    let capacity = agents[0]["capacity"].as_f64().unwrap();
    let requests_per_s = agents[0]["requests_per_s"].as_f64().unwrap();
    assert!(capacity > 0.0, "{agents:?}");
    // A core of capacity 1 makes 100,000 requests a second; two decimals are shown.
    assert!((requests_per_s / 100_000.0 - capacity).abs() <= 0.006, "{agents:?}");

    let threefold = (3.0 * capacity).to_string();
    let given = start_agent(&url, "agent-2", &["--cores", "1", "--capacity", &threefold]).await;
    cluster.agents.push(given);
    let agents = cluster.await_agents(2).await;
    assert_eq!(agents[1]["requests_per_s"], Value::Null, "{agents:?}");
    let metrics = cluster
        .rest
        .run(&json!({
            "name": "shares", "target": cluster.target.url,
            "scenarios": { "s": {
                "executor": "constant-arrival-rate", "rate": "200/s", "duration": "2s", "max_vus": 200,
                "steps": [{ "get": "/" }],
            } },
        }))
        .await;
    let rows = metrics["agents"].as_array().unwrap().iter();
    let shares: Vec<u64> = rows
        .map(|row| row["iterations"].as_u64().unwrap() + row["dropped_iterations"].as_u64().unwrap())
        .collect();
    assert_eq!(shares.iter().sum::<u64>(), 400, "{metrics}");
    assert!(shares[0].abs_diff(100) <= 2, "a quarter is the measured agent's: {shares:?}");
}
