//! etcd is killed in mid-run, for longer than its leases last: the load goes on, nobody is lost because of it, and everything is counted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

fn plan(target: &str, seconds: u64) -> Value {
    json!({
        "name": "unregistered", "target": target, "on_agent_loss": "abort",
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "300/s", "duration": format!("{seconds}s"), "max_vus": 300,
            "steps": [{ "get": "/unregistered" }],
        } },
    })
}

/// The run is whole, and the next one has both agents.
async fn check(cluster: &Cluster, run: &str, seconds: u64) {
    let metrics = cluster.rest.ended(run, Duration::from_secs(60)).await;
    assert_eq!(
        (&metrics["status"], &metrics["completeness"]["complete"]),
        (&json!("completed"), &json!(true)),
        "{metrics}"
    );
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!((of("iterations") + of("dropped_iterations"), of("missed_iterations")), (300 * seconds, 0));

    cluster.await_agents(2).await;
    let metrics = cluster.rest.run(&plan(&cluster.target.url, 1)).await;
    assert_eq!(
        (&metrics["status"], metrics["agents"].as_array().map(Vec::len)),
        (&json!("completed"), Some(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_without_etcd_and_all_agents_are_back_after_it() {
    let gone_s = if std::env::var_os("VOLCANION_LONG_TESTS").is_some() { 12 } else { 5 };
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, gone_s + 7)).await;
    await_beyond(&cluster.rest, &run, 0).await;
    cluster.etcd.kill().await;
    tokio::time::sleep(Duration::from_secs(gone_s)).await;
    cluster.etcd.start_again().await;
    check(&cluster, &run, gone_s + 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_comes_back_empty_is_filled_again_and_ends_no_run() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, 10)).await;
    await_beyond(&cluster.rest, &run, 300).await;
    cluster.etcd.kill().await;
    cluster.etcd.start_empty().await;
    check(&cluster, &run, 10).await;
}
