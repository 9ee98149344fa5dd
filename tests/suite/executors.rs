//! Every executor means what k6's means, seen from the target.

use std::time::Duration;

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::noting::NotingTarget;

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_go_side_by_side_each_from_its_own_start_time() {
    let cluster = Cluster::start_with(1, &["--cores", "2"]).await;
    let target = NotingTarget::start().await;
    let step = |name: &str| json!([{ "name": name, "get": format!("/{name}") }]);
    let metrics = cluster
        .rest
        .run(&json!({ "name": "side by side", "target": target.url, "scenarios": {
            "open": { "executor": "constant-arrival-rate", "rate": "50/s", "duration": "2s", "max_vus": 50, "steps": step("open") },
            "ramp": { "executor": "ramping-arrival-rate", "start_rate": "0/s", "max_vus": 50, "start_time": "1s",
                "stages": [{ "duration": "1s", "target": "80/s" }, { "duration": "500ms", "target": "0/s" }], "steps": step("ramp") },
            "each": { "executor": "per-vu-iterations", "vus": 3, "iterations": 7, "max_duration": "20s", "start_time": "500ms", "steps": step("each") },
            "shared": { "executor": "shared-iterations", "vus": 3, "iterations": 20, "max_duration": "20s", "start_time": "2s", "steps": step("shared") },
        } }))
        .await;
    assert_eq!(metrics["dropped_iterations"], 0, "{metrics}");
    // The ramp's area: 80 × 1 / 2 + 80 × 0.5 / 2.
    for (path, requests) in [("/open", 100), ("/ramp", 60), ("/each", 21), ("/shared", 20)] {
        assert_eq!(target.requests_to(path), requests, "{path}");
    }
    let noted = target.noted();
    let first = |path: &str| noted.iter().find(|one| one.path == path).expect("it was asked for").at;
    let open = first("/open");
    // Never early, but for what the open loop's own first request was late: that can only make these look earlier.
    let lag = Duration::from_secs_f64(metrics["schedule_lag_ms"]["max"].as_f64().unwrap_or(0.0) / 1_000.0);
    for (path, start_ms) in [("/each", 500), ("/ramp", 1_000), ("/shared", 2_000)] {
        let after = first(path).duration_since(open) + lag + Duration::from_millis(1);
        assert!(after >= Duration::from_millis(start_ms), "{path} came {after:?} after the start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_vu_holds_back_none_of_the_iterations_that_all_share() {
    // The first request is answered once all others have come; were any of them left to its VU, or to its core, they never would.
    let target = NotingTarget::start_with(|number, notes| async move {
        if number == 0 {
            await_some("the other 59 iterations", Duration::from_secs(25), || async {
                (notes.lock().expect("no holder panics").len() >= 60).then_some(())
            })
            .await;
        }
    })
    .await;
    let cluster = Cluster::start_with(1, &["--cores", "2"]).await;
    let metrics = cluster
        .rest
        .run(&json!({ "name": "shared", "target": target.url, "timeout": "20s", "scenarios": { "s": {
            "executor": "shared-iterations", "vus": 2, "iterations": 60, "max_duration": "20s", "steps": [{ "get": "/" }],
        } } }))
        .await;
    assert_eq!(metrics["completed_iterations"], 60, "{metrics}");
    assert_eq!(metrics["success_requests"], 60, "none had to wait for its timeout");
    assert_eq!(target.noted().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn iterations_for_which_there_was_no_time_are_told_as_dropped() {
    let target = NotingTarget::start_with(|_, _| tokio::time::sleep(Duration::from_millis(40))).await;
    let cluster = Cluster::start_with(1, &["--cores", "2"]).await;
    let step = |name: &str| json!([{ "name": name, "get": format!("/{name}") }]);
    let metrics = cluster
        .rest
        .run(&json!({ "name": "no time", "target": target.url, "scenarios": {
            "each": { "executor": "per-vu-iterations", "vus": 3, "iterations": 1_000, "max_duration": "1s", "steps": step("each") },
            "shared": { "executor": "shared-iterations", "vus": 3, "iterations": 1_000, "max_duration": "1s", "steps": step("shared") },
        } }))
        .await;
    let figure = |key: &str| metrics[key].as_u64().unwrap();
    assert_eq!(figure("iterations") + figure("dropped_iterations"), 4_000, "{metrics}");
    assert_eq!(figure("interrupted_iterations"), 0, "those in flight had their graceful stop");
    assert_eq!(figure("iterations"), target.noted().len() as u64);
}
