//! Master and agents are scraped by a real Prometheus; promtool has nothing to complain of.

use crate::harness::rest::http;
use std::time::Duration;

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::prometheus::{Prometheus, promtool_complaints};

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_counts_what_the_target_counted_and_each_request_once() {
    let cluster = Cluster::start(2).await;
    let plan = json!({
        "name": "scraped", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "200/s", "duration": "3s", "max_vus": 50, "steps": [
            { "name": "read", "get": "/read" }, { "name": "write", "post": "/write", "json": { "a": 1 } },
        ] } },
    });
    let mut scraped = vec![cluster.rest.base.trim_start_matches("http://").to_owned()];
    scraped.extend(
        cluster
            .agents
            .iter()
            .map(|agent| agent.metrics.trim_start_matches("http://").trim_end_matches("/metrics").to_owned()),
    );
    let prometheus = Prometheus::start(&scraped).await;
    let run = cluster.rest.start(&plan).await;
    cluster.rest.ended(&run, Duration::from_secs(30)).await;
    let stats = cluster.target.stats().await;
    let counted = stats["requests"].as_u64().unwrap() as f64;

    let query = |text: &str| {
        let text = text.replace("RUN", &run);
        let prometheus = &prometheus;
        async move { prometheus.query(&text).await }
    };
    // Each is scraped at a time of its own, so each figure is awaited.
    let read = stats["by_path"]["/read"].as_u64().unwrap() as f64;
    for (text, expected) in [
        ("sum(http_requests_total{run_id=\"RUN\"})", counted),
        ("sum(http_request_duration_seconds_count{run_id=\"RUN\"})", counted),
        ("sum(http_requests_total{run_id=\"RUN\",step=\"read\",method=\"GET\",status=\"200\"})", read),
        ("sum(volcanion_agent_requests_total{run_id=\"RUN\"})", counted),
        ("stress_test_active_tests", 0.0),
    ] {
        await_some(&format!("{text} is {expected}"), Duration::from_secs(20), || async {
            (query(text).await == Some(expected)).then_some(())
        })
        .await;
    }
    assert_eq!(
        query("sum({__name__=~\"http_requests_total\"})").await,
        Some(counted),
        "nothing is counted twice"
    );

    for address in [format!("{}/metrics", cluster.rest.base), cluster.agents[0].metrics.clone()] {
        let text = http().get(&address).send().await.expect("it answers").text().await.expect("it is text");
        assert!(text.contains(&run), "{address} shows the run");
        assert_eq!(promtool_complaints(&text).await, "", "{address}");
    }
}

#[tokio::test]
async fn promtool_sees_what_is_wrong() {
    assert_ne!(promtool_complaints("# TYPE a counter\na 1\n").await, "");
}
