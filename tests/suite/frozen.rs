//! An agent that hangs for longer than its lease lasts, and wakes: others have its part, so it sends nothing more of it, and tells what it had sent.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wakes_sends_nothing_that_others_took_over_and_every_count_is_equal() {
    let frozen_s = 10;
    let cluster = Cluster::start(3).await;
    let seconds = frozen_s + 7;
    let planned = 300 * seconds;
    let plan = json!({
        "name": "frozen", "target": cluster.target.url, "on_agent_loss": "redistribute",
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "300/s", "duration": format!("{seconds}s"), "max_vus": 300,
            "steps": [{ "get": "/frozen" }],
        } },
    });
    let began = Instant::now();
    let run = cluster.rest.start(&plan).await;
    await_beyond(&cluster.rest, &run, 300).await;
    cluster.agents[1].process.signal("STOP").await;
    let awake = began.elapsed();
    tokio::time::sleep(Duration::from_secs(frozen_s)).await;
    cluster.agents[1].process.signal("CONT").await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["status"], "completed", "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    let counted = cluster.target.requests().await;
    let has_warned = |code: &str| {
        let warnings = metrics["warnings"].as_array().expect("a list");
        warnings.iter().any(|warning| warning["code"] == code && warning["agent"] == "agent-2")
    };
    assert!(has_warned("agent_lost") && has_warned("agent_returned"), "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    assert_eq!(of("total_requests"), counted, "{metrics}");
    // Each arrival has one of these fates, so nothing was sent by two.
    assert_eq!(counted + of("dropped_iterations") + of("missed_iterations"), planned, "{metrics}");
    let rows = metrics["agents"].as_array().expect("a list");
    let frozen = rows.iter().find(|row| row["id"] == "agent-2").expect("a row");
    let most = (awake.as_secs_f64() * 100.0).ceil() as u64 + 1;
    assert!(frozen["iterations"].as_u64() <= Some(most), "a third of 300/s for {awake:?}: {frozen}");
    cluster.await_agents(3).await;
}
