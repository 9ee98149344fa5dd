//! Many agents on one master: all are taken, none is lost, and the sum is right to the one.

use std::time::Duration;

use serde_json::json;
use volcanion_fleet::Fleet;

use crate::harness::cluster::Cluster;

const AGENTS: u32 = 100;
const STEPS: u32 = 20;
const SAMPLES: u64 = 50;
const SECONDS: u64 = 6;

/// `make bench BENCH=scale` measures a thousand.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_agents_of_twenty_series_add_up() {
    let cluster = Cluster::start(0).await;
    let fleet = Fleet::start(&cluster.etcd.url, 0..AGENTS, STEPS, SAMPLES).await.unwrap();
    cluster.await_agents(AGENTS as usize).await;
    let steps: Vec<_> = (0..STEPS).map(|step| json!({ "name": format!("s{step}"), "get": "/" })).collect();
    let plan = json!({ "name": "many agents", "target": "http://127.0.0.1:9", "scenarios": { "simulated": {
        "executor": "constant-vus", "vus": AGENTS, "duration": format!("{SECONDS}s"), "steps": steps,
    } } });
    let run = cluster.rest.start(&plan).await;
    let mut ended = fleet.ended();
    let all_over = ended.wait_for(|ended| ended.parts == u64::from(AGENTS));
    let all = *tokio::time::timeout(Duration::from_secs(60), all_over).await.unwrap().unwrap();
    assert_eq!(all.requests, u64::from(AGENTS * STEPS) * SAMPLES * SECONDS);
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], all.requests, "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    assert_eq!(metrics["agents"].as_array().map(Vec::len), Some(AGENTS as usize), "{metrics}");
    let series = metrics["steps"].as_array().map(Vec::len);
    assert_eq!(series, Some(STEPS as usize), "{metrics}");
    fleet.leave().await;
}
