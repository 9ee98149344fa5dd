//! Two agents, a master, a real etcd: what the target counted is what the report says.

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;

fn closed(url: &str) -> Value {
    json!({
        "name": "closed",
        "target": url,
        "scenarios": { "s": { "executor": "constant-vus", "vus": 20, "duration": "3s", "steps": [{ "name": "home", "get": "/a" }, { "name": "second", "post": "/b", "body": "x" }] } },
    })
}

fn open(url: &str) -> Value {
    json!({
        "name": "open",
        "target": url,
        "scenarios": { "s": { "executor": "constant-arrival-rate", "rate": "500/s", "duration": "3s", "max_vus": 100, "steps": [{ "name": "home", "get": "/a" }] } },
    })
}

fn sum(object: &Value) -> u64 {
    object.as_object().expect("it is an object").values().filter_map(Value::as_u64).sum()
}

/// What must hold of every whole run.
fn check_report(metrics: &Value, target_requests: u64, agents: usize) {
    let total = metrics["total_requests"].as_u64().expect("it counts");
    assert_eq!(total, target_requests, "report and target: {metrics}");
    assert_eq!(sum(&metrics["status_codes"]) + sum(&metrics["errors"]), total, "{metrics}");
    assert_eq!(
        metrics["success_requests"].as_u64().unwrap() + metrics["failed_requests"].as_u64().unwrap(),
        total
    );
    let rows = metrics["agents"].as_array().expect("a row an agent");
    assert_eq!(rows.len(), agents);
    let shares: Vec<u64> = rows.iter().map(|row| row["requests"].as_u64().unwrap()).collect();
    assert_eq!(shares.iter().sum::<u64>(), total, "shares add up: {shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "each agent did its share: {shares:?}");
    let steps: u64 =
        metrics["steps"].as_array().unwrap().iter().map(|step| step["requests"].as_u64().unwrap()).sum();
    assert_eq!(steps, total, "steps add up");
    assert_eq!(
        metrics["response_time_ms"]["count"].as_u64().unwrap(),
        total,
        "every answer is in the histogram"
    );
    assert_eq!(metrics["completeness"]["complete"], true);
    assert_eq!(metrics["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_equals_the_targets_count_for_closed_and_open_loops() {
    let cluster = Cluster::start(2).await;
    let url = &cluster.target.url;

    let metrics = cluster.rest.run(&closed(url)).await;
    let after_closed = cluster.target.requests().await;
    check_report(&metrics, after_closed, 2);
    assert!(after_closed > 100, "a closed loop of 20 VUs does more than {after_closed}");

    let metrics = cluster.rest.run(&open(url)).await;
    let open_count = cluster.target.requests().await - after_closed;
    check_report(&metrics, open_count, 2);
    assert_eq!(
        metrics["iterations"].as_u64().unwrap() + metrics["dropped_iterations"].as_u64().unwrap(),
        1_500
    );
    let halves: Vec<u64> = metrics["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["iterations"].as_u64().unwrap() + row["dropped_iterations"].as_u64().unwrap())
        .collect();
    assert_eq!(halves, [750, 750], "each agent owns half of the arrivals");
    assert!(metrics["schedule_lag_ms"]["count"].as_u64().unwrap() > 0);
    assert!(metrics["start_skew_ms"].as_f64().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn live_metrics_grow_while_the_run_goes_and_intervals_add_up() {
    let cluster = Cluster::start(1).await;
    let run = cluster.rest.start(&closed(&cluster.target.url)).await;
    let mut seen = 0;
    for _ in 0..2 {
        let before = seen;
        seen =
            crate::harness::await_some("live metrics grow", std::time::Duration::from_secs(10), || async {
                cluster.rest.live(&run).await["total_requests"].as_u64().filter(|now| *now > before)
            })
            .await;
    }
    let metrics = cluster.rest.ended(&run, std::time::Duration::from_secs(30)).await;
    let (status, intervals) = cluster.rest.get(&format!("/api/v1/test-runs/{run}/intervals")).await;
    assert_eq!(status, 200);
    let sum: u64 =
        intervals.as_array().expect("a list").iter().map(|row| row["requests"].as_u64().unwrap()).sum();
    assert_eq!(Some(sum), metrics["total_requests"].as_u64());
    assert_eq!(metrics["total_requests"].as_u64(), Some(cluster.target.requests().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_is_counted_by_status_and_by_error() {
    let cluster = Cluster::start(2).await;
    let failing = crate::harness::cluster::Target::start(&["--error-rate", "0.2"]).await;
    let metrics = cluster.rest.run(&closed(&failing.url)).await;
    let stats = failing.stats().await;
    assert_eq!(metrics["total_requests"], stats["requests"]);
    assert_eq!(metrics["status_codes"], stats["by_status"]);
    assert_eq!(metrics["failed_requests"], stats["by_status"]["500"]);

    let mut plan = closed("http://127.0.0.1:1");
    plan["scenarios"]["s"]["vus"] = json!(2);
    plan["scenarios"]["s"]["duration"] = json!("1s");
    let metrics = cluster.rest.run(&plan).await;
    let total = metrics["total_requests"].as_u64().unwrap();
    assert!(total > 0, "a refused connection is an attempt");
    assert_eq!(metrics["errors"]["connect: refused"].as_u64(), Some(total), "{metrics}");
    assert_eq!(metrics["response_time_ms"]["count"], 0, "a refused connection has no response time");
}
