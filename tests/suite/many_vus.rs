//! 10,000 VUs in one agent, error-free. 30 s of it with `VOLCANION_LONG_TESTS=1`, else a short form.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_vus_in_one_agent_are_error_free() {
    let seconds = if std::env::var_os("VOLCANION_LONG_TESTS").is_some() { 30 } else { 5 };
    let cluster = Cluster::start_with(1, &["--cores", "2"]).await;
    let plan = json!({
        "name": "many", "target": cluster.target.url,
        "scenarios": { "s": {
            "executor": "ramping-vus", "start_vus": 0,
            "stages": [{ "duration": "2s", "target": 10_000 }, { "duration": format!("{seconds}s"), "target": 10_000 }],
            "steps": [{ "get": "/" }, { "think": "1s..2s" }],
        } },
    });
    let run = cluster.rest.start(&plan).await;
    await_some("all VUs are there", Duration::from_secs(60), || async {
        (cluster.rest.live(&run).await["active_workers"].as_u64() == Some(10_000)).then_some(())
    })
    .await;
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.agents[0].process.id()))
        .expect("the agent lives");
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("agent with 10,000 VUs: {resident}");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(120)).await;
    assert_eq!(metrics["failed_requests"], 0, "{}", metrics["errors"]);
    assert_eq!(metrics["status"], "completed");
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));
    assert!(metrics["total_requests"].as_u64().unwrap() >= 10_000, "each VU sent something");
}
