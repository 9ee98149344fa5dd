//! Each interval reaches a real Prometheus by remote write, and what it then holds adds up to what the target counted.

use std::time::Duration;

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::prometheus::Prometheus;

async fn awaited(prometheus: &Prometheus, query: &str, expected: f64) {
    await_some(&format!("{query} is {expected}"), Duration::from_secs(20), || async {
        (prometheus.query(query).await == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_intervals_in_a_real_prometheus_add_up_to_what_the_target_counted() {
    let prometheus = Prometheus::start_receiving().await;
    let cluster = Cluster::start_with_master(2, &["--remote-write", &prometheus.write_url()]).await;
    let plan = json!({
        "name": "written", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "200/s", "duration": "4s", "max_vus": 50, "steps": [
            { "name": "read", "get": "/read" }, { "name": "write", "post": "/write", "json": { "a": 1 } },
        ] } },
    });
    let run = cluster.rest.start(&plan).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    let stats = cluster.target.stats().await;
    assert_eq!(metrics["total_requests"], stats["requests"]);
    let counted = stats["requests"].as_u64().unwrap() as f64;

    let of_run = |name: &str, more: &str| format!("{name}{{run_id=\"{run}\"{more}}}");
    let sum = |name: &str, more: &str| format!("sum(sum_over_time({}[10m]))", of_run(name, more));
    awaited(&prometheus, &sum("volcanion_interval_requests", ""), counted).await;
    let read = stats["by_path"]["/read"].as_u64().unwrap() as f64;
    let labels = ",step=\"read\",scenario=\"s\",plan=\"written\"";
    awaited(&prometheus, &sum("volcanion_interval_requests", labels), read).await;
    awaited(&prometheus, &sum("volcanion_interval_iterations", ""), 800.0).await;
    awaited(&prometheus, &sum("volcanion_interval_failed", ""), 0.0).await;
    let p99 = format!(
        "max(max_over_time({}[10m]))",
        of_run("volcanion_interval_run_response_time_seconds", ",quantile=\"0.99\"")
    );
    let p99 = prometheus.query(&p99).await.expect("there are percentiles");
    assert!(p99 > 0.0 && p99 < 30.0, "{p99}");
    // The interval's own instants: a second apart, and within the run.
    let spread =
        format!("max(count_over_time({}[10m]))", of_run("volcanion_interval_requests", ",step=\"read\""));
    let rows = prometheus.query(&spread).await.unwrap();
    assert!((4.0..=8.0).contains(&rows), "{rows} rows of 4 s");

    let own = cluster.rest.text("/metrics").await;
    assert!(own.contains("volcanion_remote_write_samples_total{outcome=\"refused\"} 0\n"), "{own}");
    assert!(own.contains("volcanion_remote_write_samples_total{outcome=\"dropped\"} 0\n"), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_takes_a_run_up_goes_on_where_the_last_one_was_killed() {
    let prometheus = Prometheus::start_receiving().await;
    let mut cluster = Cluster::start_with_master(2, &["--remote-write", &prometheus.write_url()]).await;
    let plan = json!({
        "name": "taken", "target": cluster.target.url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "100/s", "duration": "8s", "max_vus": 20, "steps": [{ "get": "/" }] } },
    });
    let run = cluster.rest.start(&plan).await;
    let sum = format!("sum(sum_over_time(volcanion_interval_requests{{run_id=\"{run}\"}}[10m]))");
    await_some("some intervals are written", Duration::from_secs(30), || async {
        prometheus.query(&sum).await.filter(|requests| *requests > 100.0)
    })
    .await;
    cluster.master.kill().await;
    cluster.restart_master().await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!((&metrics["status"], &metrics["total_requests"]), (&json!("completed"), &json!(800)));
    assert_eq!(cluster.target.requests().await, 800);
    awaited(&prometheus, &sum, 800.0).await;
}
