//! A level that is changed from outside: the load follows, for all agents at one moment, and the counts are exact over the changes.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, Target, start_agent};
use crate::harness::process::volcanion;

fn led_by_rate(url: &str, rate: &str, seconds: u64) -> Value {
    json!({
        "name": "led", "target": url, "interval": "500ms",
        "scenarios": { "s": {
            "executor": "externally-controlled", "rate": rate, "duration": format!("{seconds}s"), "max_vus": 60, "steps": [{ "get": "/led" }],
        } },
    })
}

/// Awaits so much run time of a run.
async fn await_time(cluster: &Cluster, run: &str, ms: f64) {
    await_some(&format!("{ms} ms of the run"), Duration::from_secs(40), || async {
        cluster.rest.live(run).await["total_duration_ms"].as_f64().filter(|now| *now >= ms)
    })
    .await;
}

/// Changes the run's one level; since when it holds, in milliseconds.
async fn set(cluster: &Cluster, run: &str, level: Value) -> f64 {
    let (status, view) = cluster.rest.patch(&format!("/api/v1/test-runs/{run}"), &level).await;
    assert_eq!(status, 200, "{view}");
    for (key, value) in level.as_object().unwrap() {
        assert_eq!(&view["levels"][0][key], value, "{view}");
    }
    view["levels"][0]["from_ms"].as_f64().unwrap()
}

/// What rates ask for that hold from these moments on, until the end.
fn asked(segments: &[(f64, u64)], end_ms: f64) -> u64 {
    let until = segments.iter().skip(1).map(|(from_ms, _)| *from_ms).chain([end_ms]);
    segments
        .iter()
        .zip(until)
        .map(|((from_ms, rate), until_ms)| {
            let span_us = (until_ms * 1e3).round() as u64 - (from_ms * 1e3).round() as u64;
            (rate * span_us).div_ceil(1_000_000)
        })
        .sum()
}

fn started_and_dropped(metrics: &Value) -> u64 {
    let figure = |key: &str| metrics[key].as_u64().unwrap();
    assert_eq!(figure("missed_iterations"), 0, "{metrics}");
    figure("iterations") + figure("dropped_iterations")
}

fn warnings<'a>(metrics: &'a Value, code: &str) -> Vec<&'a Value> {
    metrics["warnings"].as_array().unwrap().iter().filter(|warning| warning["code"] == code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_sees_each_rate_from_its_moment_on_and_the_counts_are_exact() {
    let cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&led_by_rate(&cluster.target.url, "100/s", 11)).await;
    await_time(&cluster, &run, 2_500.0).await;
    let faster = set(&cluster, &run, json!({ "rate": "300/s" })).await;
    assert_eq!(set(&cluster, &run, json!({ "rate": "300/s" })).await, faster, "again: nothing begins anew");
    await_time(&cluster, &run, faster + 3_000.0).await;
    let output = volcanion(&["adjust", &run, "--rate", "50/s", "--master", &cluster.rest.base]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.starts_with("s: 50/s from "), "{}", output.stdout);
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    let slower = view["levels"][0]["from_ms"].as_f64().unwrap();

    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert!(warnings(&metrics, "late_change").is_empty(), "{metrics}");
    let expected = asked(&[(0.0, 100), (faster, 300), (slower, 50)], 11_000.0);
    assert_eq!(started_and_dropped(&metrics), expected, "changes at {faster} and {slower} ms");
    let stats = cluster.target.stats().await;
    assert_eq!(metrics["total_requests"], stats["requests"]);
    // Whole seconds between the changes; the first answer, with which the target's seconds begin, is the run's beginning.
    let seconds: Vec<u64> =
        stats["by_second"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    for (from_ms, to_ms, rate) in [(0.0, faster, 100), (faster, slower, 300), (slower, 11_000.0, 50)] {
        let whole = (from_ms / 1e3).ceil() as usize..(to_ms / 1e3) as usize;
        let mean = seconds[whole.clone()].iter().sum::<u64>() as f64 / whole.len() as f64;
        let rate = f64::from(rate);
        assert!((0.8 * rate..1.2 * rate).contains(&mean), "{rate}/s in {whole:?}: {seconds:?}");
    }
    let (status, problem) =
        cluster.rest.patch(&format!("/api/v1/test-runs/{run}"), &json!({ "rate": "9/s" })).await;
    assert_eq!((status, &problem["error"]), (409, &json!("conflict")));
    let late = volcanion(&["adjust", &run, "--rate", "9/s", "--master", &cluster.rest.base]).await;
    assert!(late.code != 0 && late.stderr.contains("completed"), "{}", late.stderr);
    assert_eq!(volcanion(&["adjust", &run]).await.code, 2, "neither VUs nor a rate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_an_agent_that_joined() {
    let mut cluster = Cluster::start(1).await;
    let mut plan = led_by_rate(&cluster.target.url, "100/s", 10);
    plan["elastic"] = json!(true);
    let run = cluster.rest.start(&plan).await;
    await_time(&cluster, &run, 500.0).await;
    cluster.agents.push(start_agent(&cluster.etcd.url, "agent-2", &["--cores", "1"]).await);
    let requests_of = |metrics: &Value| {
        let rows = metrics["agents"].as_array()?;
        rows.iter().find(|row| row["id"] == "agent-2")?["requests"].as_u64()
    };
    let before = await_some("it loads", Duration::from_secs(20), || async {
        requests_of(&cluster.rest.live(&run).await).filter(|requests| *requests > 10)
    })
    .await;
    let faster = set(&cluster, &run, json!({ "rate": "400/s" })).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(started_and_dropped(&metrics), asked(&[(0.0, 100), (faster, 400)], 10_000.0), "{metrics}");
    assert_eq!(metrics["total_requests"], cluster.target.requests().await);
    // Its half of the new rate; of the old one it would have a quarter of that.
    let added = (requests_of(&metrics).unwrap() - before) as f64;
    assert!(added > 120.0 * (10_000.0 - faster) / 1e3, "{added} after {faster} ms: {metrics}");
}

/// A target that tells when each request came.
async fn stamping_target() -> (String, mpsc::Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stamps, came) = mpsc::channel(100_000);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let stamps = stamps.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                // A request is small, so it comes whole.
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stamps.try_send(Instant::now());
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (url, came)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_arrivals_together_are_evenly_spaced_after_a_change_too() {
    let cluster = Cluster::start(2).await;
    let (url, mut came) = stamping_target().await;
    let run = cluster.rest.start(&led_by_rate(&url, "0/s", 5)).await;
    await_some("the run goes", Duration::from_secs(20), || async {
        let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
        (view["status"] == "running").then_some(())
    })
    .await;
    let from_ms = set(&cluster, &run, json!({ "rate": "100/s" })).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(
        started_and_dropped(&metrics),
        asked(&[(from_ms, 100)], 5_000.0),
        "nothing before {from_ms} ms"
    );
    assert!(metrics["agents"].as_array().unwrap().iter().all(|agent| agent["requests"].as_u64() > Some(50)));
    let mut stamps = Vec::new();
    while let Ok(stamp) = came.try_recv() {
        stamps.push(stamp);
    }
    assert_eq!(metrics["total_requests"], stamps.len());
    stamps.sort_unstable();
    let mut gaps: Vec<f64> = stamps.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    // Two agents out of step would have short and long gaps in turn, and few in the middle.
    let even = gaps.iter().filter(|gap| (7.0..13.0).contains(*gap)).count();
    assert!(even * 2 > gaps.len(), "{even} of {} gaps are about 10 ms: {gaps:?}", gaps.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn vus_come_and_go_and_end_what_they_do() {
    let cluster = Cluster::start(2).await;
    let target = Target::start(&["--delay", "50ms"]).await;
    let plan = json!({
        "name": "led", "target": target.url, "interval": "500ms",
        "scenarios": {
            "led": { "executor": "externally-controlled", "vus": 2, "max_vus": 8, "duration": "9s", "steps": [{ "get": "/" }] },
        },
    });
    let run = cluster.rest.start(&plan).await;
    let await_vus = async |vus: u64| {
        await_some(&format!("{vus} VUs"), Duration::from_secs(20), || async {
            let live = cluster.rest.live(&run).await;
            (live["active_workers"] == vus).then(|| live["total_duration_ms"].as_f64().unwrap())
        })
        .await
    };
    await_vus(2).await;
    let (status, problem) =
        cluster.rest.patch(&format!("/api/v1/test-runs/{run}"), &json!({ "vus": 9 })).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("vus")));
    set(&cluster, &run, json!({ "vus": 8 })).await;
    let eight = await_vus(8).await;
    await_time(&cluster, &run, eight + 1_500.0).await;
    set(&cluster, &run, json!({ "vus": 1, "scenario": "led" })).await;
    let one = await_vus(1).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let stats = target.stats().await;
    assert_eq!(metrics["total_requests"], stats["requests"]);
    assert_eq!((&metrics["interrupted_iterations"], &metrics["failed_requests"]), (&json!(0), &json!(0)));
    let seconds: Vec<u64> =
        stats["by_second"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    // An answer takes 50 ms or more, so a VU gets 20 a second at most.
    assert!(seconds.iter().any(|second| *second > 2 * 20 + 5), "more than two VUs were there: {seconds:?}");
    let alone = (one / 1e3).ceil() as usize + 1;
    assert!(
        seconds[alone..].iter().all(|second| *second <= 21),
        "one VU from second {alone} on: {seconds:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_outlives_the_master_that_was_asked_for_it() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&led_by_rate(&cluster.target.url, "20/s", 14)).await;
    await_time(&cluster, &run, 1_000.0).await;
    let first = set(&cluster, &run, json!({ "rate": "100/s" })).await;
    for agent in &cluster.agents {
        agent.process.await_log("the level changes").await;
    }
    cluster.master.kill().await;
    cluster.restart_master().await;
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    assert_eq!(
        (&view["levels"][0]["rate"], view["levels"][0]["from_ms"].as_f64()),
        (&json!("100/s"), Some(first)),
        "{view}"
    );
    await_time(&cluster, &run, first + 500.0).await;
    let second = set(&cluster, &run, json!({ "rate": "10/s" })).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["status"], "completed", "{metrics}");
    let stats = cluster.target.stats().await;
    assert_eq!(metrics["total_requests"], stats["requests"], "nothing was lost with the master");
    let expected = asked(&[(0.0, 20), (first, 100), (second, 10)], 14_000.0);
    assert_eq!(started_and_dropped(&metrics), expected, "changes at {first} and {second} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hears_of_a_change_late_goes_over_late_and_says_when() {
    let cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&led_by_rate(&cluster.target.url, "100/s", 7)).await;
    await_time(&cluster, &run, 1_500.0).await;
    cluster.agents[1].process.signal("STOP").await;
    let from_ms = set(&cluster, &run, json!({ "rate": "300/s" })).await;
    // Its registry entry outlives so short a pause.
    await_time(&cluster, &run, from_ms + 200.0).await;
    cluster.agents[1].process.signal("CONT").await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    let late = warnings(&metrics, "late_change");
    assert_eq!((late.len(), &late[0]["agent"]), (1, &json!("agent-2")), "{metrics}");
    let message = late[0]["message"].as_str().unwrap();
    let since = message.split("since ").nth(1).and_then(|rest| rest.split(" s").next()).unwrap();
    let since_ms = since.parse::<f64>().unwrap() * 1e3;
    assert!(since_ms > from_ms, "{message}");
    // Each has half of every rate; the message is rounded, and halves of odd numbers are too.
    let expected =
        (asked(&[(0.0, 100), (from_ms, 300)], 7_000.0) + asked(&[(0.0, 100), (since_ms, 300)], 7_000.0)) / 2;
    let were = started_and_dropped(&metrics);
    assert!(were.abs_diff(expected) <= 2, "{were} started or dropped, {expected} expected: {message}");
    assert_eq!(metrics["total_requests"], cluster.target.requests().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_agents_prepare_holds_from_the_start() {
    let cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&led_by_rate(&cluster.target.url, "500/s", 2)).await;
    let from_ms = set(&cluster, &run, json!({ "rate": "40/s" })).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    // On a slow machine the start may have been fixed before the change came: then its moment is after the start, and says so.
    assert_eq!(
        started_and_dropped(&metrics),
        asked(&[(0.0, 500), (from_ms, 40)], 2_000.0),
        "from {from_ms} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_a_plan_that_nobody_changes_keeps_its_level() {
    let (target, folder) = (Target::start(&[]).await, TempDir::new().unwrap());
    let path = folder.path().join("plan.json");
    fs::write(&path, led_by_rate(&target.url, "60/s", 2).to_string()).unwrap();
    let output = volcanion(&["run", &path.display().to_string(), "--agents", "2", "--json"]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    let metrics: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(started_and_dropped(&metrics), 120);
    assert_eq!(metrics["total_requests"], target.requests().await);
}
