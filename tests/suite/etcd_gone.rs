//! etcd is killed in mid-run, for longer than its leases last: the load goes on, nobody is lost because of it, and everything is counted.

use std::time::Duration;

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_without_etcd_and_all_agents_are_back_after_it() {
    let gone_s = if std::env::var_os("VOLCANION_LONG_TESTS").is_some() { 12 } else { 5 };
    let mut cluster = Cluster::start(2).await;
    let seconds = gone_s + 7;
    let plan = json!({
        "name": "unregistered", "target": cluster.target.url, "on_agent_loss": "abort",
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "300/s", "duration": format!("{seconds}s"), "max_vus": 300,
            "steps": [{ "get": "/unregistered" }],
        } },
    });
    let run = cluster.rest.start(&plan).await;
    await_beyond(&cluster.rest, &run, 0).await;
    cluster.etcd.kill().await;
    tokio::time::sleep(Duration::from_secs(gone_s)).await;
    cluster.etcd.start_again().await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(
        (&metrics["status"], &metrics["completeness"]["complete"]),
        (&json!("completed"), &json!(true))
    );
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!((of("iterations") + of("dropped_iterations"), of("missed_iterations")), (300 * seconds, 0));

    cluster.await_agents(2).await;
    let mut next = plan;
    next["scenarios"]["s"]["duration"] = json!("1s");
    let metrics = cluster.rest.run(&next).await;
    assert_eq!(
        (&metrics["status"], metrics["agents"].as_array().map(Vec::len)),
        (&json!("completed"), Some(2))
    );
}
