//! An agent that hangs for longer than its lease lasts, and wakes: others have its part, so it sends nothing more of it.

use std::time::Duration;

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wakes_sends_nothing_that_others_took_over() {
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
    let run = cluster.rest.start(&plan).await;
    await_beyond(&cluster.rest, &run, 300).await;
    cluster.agents[1].process.signal("STOP").await;
    tokio::time::sleep(Duration::from_secs(frozen_s)).await;
    cluster.agents[1].process.signal("CONT").await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["status"], "completed", "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    let counted = cluster.target.requests().await;
    // Whether it was taken for lost, and its part carried by the others, or was back in time and dropped what it had slept through.
    let gaps = metrics["completeness"]["gaps"].as_array().expect("a list");
    assert!(gaps.iter().all(|gap| gap["agent"] == "agent-2"), "{metrics}");
    let at_most: u64 = gaps.iter().filter_map(|gap| gap["at_most_requests"].as_u64()).sum();
    let missing = counted.checked_sub(of("total_requests")).expect("nothing is counted twice");
    assert!(missing <= at_most, "{missing} are missing, the gap covers {at_most}: {metrics}");
    // Each arrival has one of these fates, so nothing was sent by two.
    let fates = counted + of("dropped_iterations") + of("missed_iterations");
    assert!(fates <= planned, "{counted} came to the target, {fates} of {planned}: {metrics}");
    assert!(fates + at_most >= planned, "{fates} and {at_most} of {planned}: {metrics}");
    cluster.await_agents(3).await;
}
