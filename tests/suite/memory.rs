//! What VUs cost in memory, and what does not fit is refused before it begins.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::process::run;

/// Resident memory of a process in bytes.
fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_vus_that_think_fit_in_a_gibibyte() {
    let cluster = Cluster::start_with(1, &["--cores", "2"]).await;
    let agent = cluster.agents[0].process.id();
    let before = resident_bytes(agent);
    let run = cluster
        .rest
        .start(&json!({ "name": "many", "target": cluster.target.url, "http": { "connections": 32 }, "scenarios": { "s": {
            "executor": "constant-vus", "vus": 100_000, "duration": "60s", "graceful_stop": "0s",
            "steps": [{ "think": "2s..20s" }, { "get": "/" }, { "think": "60s" }],
        } } }))
        .await;
    await_some("all VUs are there, and some have sent", Duration::from_secs(60), || async {
        let live = cluster.rest.live(&run).await;
        (live["active_workers"].as_u64() == Some(100_000) && live["total_requests"].as_u64() > Some(1_000))
            .then_some(())
    })
    .await;
    let after = resident_bytes(agent);
    println!("{} bytes a VU, {} MiB in all", (after - before) / 100_000, after >> 20);
    assert!(after < 1 << 30, "{} MiB are resident", after >> 20);
    cluster.rest.post_nothing(&format!("/api/v1/test-runs/{run}/stop")).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let errors = metrics["errors"].as_object().expect("errors are told");
    assert!(errors.keys().all(|error| error == "interrupted"), "{errors:?}");
    let interrupted = errors.values().filter_map(serde_json::Value::as_u64).sum::<u64>();
    let (sent, came) = (metrics["total_requests"].as_u64().unwrap(), cluster.target.requests().await);
    assert!((sent - interrupted..=sent).contains(&came), "{came} came of {sent}, {interrupted} were cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_files_or_ports_are_refused_with_the_way_out() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().join("plan.json");
    for (vus, words) in [
        (50_000, ["file_limit", "50000 connections", "20000 open files", "ulimit -n"]),
        (100_000, ["do not fit", "100000 connections", "http.connections", "fewer VUs"]),
    ] {
        let plan = json!({ "name": "too many", "target": "http://127.0.0.1:9", "scenarios": { "s": {
            "executor": "constant-vus", "vus": vus, "duration": "1s", "steps": [{ "get": "/" }],
        } } });
        fs::write(&path, plan.to_string()).expect("the folder can be written");
        let binary = env!("CARGO_BIN_EXE_volcanion");
        let command = format!("ulimit -n 20000 && exec '{binary}' run '{}'", path.display());
        let output = run("sh", &["-c", &command]).await;
        assert_ne!(output.code, 0, "{}", output.stdout);
        for word in words {
            assert!(output.stdout.contains(word), "`{word}` is told: {}", output.stdout);
        }
    }
}
