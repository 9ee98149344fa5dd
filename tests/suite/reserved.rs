//! Agents that a run has for itself: others wait for them in the order of their coming, whichever master leads.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;
use crate::harness::rest::Rest;

const LIMIT: Duration = Duration::from_secs(60);

fn plan(target: &str, path: &str, seconds: u64) -> Value {
    json!({
        "name": "alone", "target": target, "agents": { "exclusive": true },
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "100/s", "duration": format!("{seconds}s"), "max_vus": 50,
            "steps": [{ "get": path }],
        } },
    })
}

async fn status(rest: &Rest, run: &str) -> Value {
    rest.get(&format!("/api/v1/test-runs/{run}")).await.1["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_want_agents_for_themselves_go_one_after_the_other_and_wait_through_a_new_master() {
    let mut cluster = Cluster::start(1).await;
    let url = cluster.target.url.clone();
    let first = cluster.rest.start(&plan(&url, "/first", 4)).await;
    let second = cluster.rest.start(&plan(&url, "/second", 1)).await;
    let third = cluster.rest.start(&plan(&url, "/third", 60)).await;
    await_beyond(&cluster.rest, &first, 0).await;
    for waiting in [&second, &third] {
        assert_eq!(status(&cluster.rest, waiting).await, "queued");
    }
    assert!(cluster.master.stop().await.success());
    cluster.restart_master().await;
    for waiting in [&second, &third] {
        assert_eq!(status(&cluster.rest, waiting).await, "queued");
    }
    let (code, stopped) = cluster.rest.post_nothing(&format!("/api/v1/test-runs/{third}/stop")).await;
    assert_eq!((code, &stopped["status"]), (200, &json!("cancelled")), "{stopped}");
    for (run, requests) in [(&first, 400), (&second, 100)] {
        let metrics = cluster.rest.ended(run, LIMIT).await;
        assert_eq!(
            (&metrics["status"], &metrics["total_requests"]),
            (&json!("completed"), &json!(requests)),
            "{metrics}"
        );
    }
    let stats = cluster.target.stats().await;
    assert_eq!(
        stats["by_path"],
        json!({ "/first": 400, "/second": 100 }),
        "each once, and of the third nothing"
    );
    await_some("the agent is free", LIMIT, || async {
        (cluster.rest.get("/api/v1/agents").await.1[0]["load"] == 0).then_some(())
    })
    .await;
}
