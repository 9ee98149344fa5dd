//! SIGTERM to an agent that carries a run: the first one ends it well, a second one at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;

fn plan(target: &str, is_elastic: bool) -> Value {
    json!({
        "name": "signalled", "target": target, "elastic": is_elastic, "on_agent_loss": "continue",
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "200/s", "duration": "8s", "max_vus": 100, "steps": [{ "get": "/signalled" }],
        } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_stopped_ends_its_part_and_says_all_of_it() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, false)).await;
    await_beyond(&cluster.rest, &run, 0).await;
    assert!(cluster.agents[0].process.stop().await.success(), "it ends well");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!(of("iterations") + of("dropped_iterations") + of("missed_iterations"), 1_600, "{metrics}");
    assert!(of("missed_iterations") > 0, "what it had still to start is missed: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_an_agent_at_once() {
    let mut cluster = Cluster::start(1).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, true)).await;
    await_beyond(&cluster.rest, &run, 0).await;
    // Nobody is there to take its part, so it loads on for a while.
    cluster.agents[0].process.signal("TERM").await;
    await_some("it is about to leave", Duration::from_secs(10), || async {
        let live = cluster.rest.live(&run).await;
        live["warnings"].as_array()?.iter().any(|warning| warning["code"] == "draining").then_some(())
    })
    .await;
    cluster.agents[0].process.signal("TERM").await;
    let status = cluster.agents[0].process.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(130), "{status:?}");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let missing = cluster.target.requests().await - metrics["total_requests"].as_u64().expect("it counts");
    let at_most = metrics["completeness"]["gaps"][0]["at_most_requests"].as_u64().expect("a named gap");
    assert!(missing <= at_most, "{missing} of {at_most}: {metrics}");
}
