//! An open loop tells the truth: as many iterations as were asked for, evenly or by chance as asked for, and a target that stalls is
//! felt by everyone who came meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, Target};
use crate::harness::noting::NotingTarget;
use crate::harness::process::{Process, volcanion};

fn is_long() -> bool {
    std::env::var_os("VOLCANION_LONG_TESTS").is_some()
}

/// Runs a plan of one scenario `s` in one process with one load core; the result.
async fn run(url: &str, scenario: Value) -> Value {
    let (_folder, path) = plan_file(url, scenario);
    let output = volcanion(&["run", &path, "--cores", "1", "--json"]).await;
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stderr))
}

fn plan_file(url: &str, scenario: Value) -> (tempfile::TempDir, String) {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().join("plan.json");
    let plan = json!({ "name": "open", "target": url, "scenarios": { "s": scenario } });
    std::fs::write(&path, plan.to_string()).expect("the folder can be written");
    let path = path.display().to_string();
    (folder, path)
}

fn figure(metrics: &Value, key: &str) -> u64 {
    metrics[key].as_u64().unwrap_or_else(|| panic!("{key} is a number in {metrics}"))
}

fn within(what: &str, observed: f64, expected: f64, part: f64) {
    let distance = (observed - expected).abs() / expected;
    assert!(distance <= part, "{what}: {observed} is more than {part} off {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_started_or_dropped_to_the_one_at_any_rate() {
    let seconds = if is_long() { 4 } else { 1 };
    for (rate, flags) in [(1_000, &[][..]), (10_000, &[]), (20_000, &[]), (10_000, &["--busy-poll"])] {
        let target = Target::start(&[]).await;
        let (rate_word, duration) = (rate.to_string(), format!("{seconds}s"));
        let args = [
            &["run", &target.url, "-r", &rate_word, "-d", &duration, "-c", "200", "--cores", "1", "--json"],
            flags,
        ]
        .concat();
        let output = volcanion(&args).await;
        let metrics: Value = serde_json::from_str(&output.stdout).expect("the result is JSON");
        let (started, dropped) = (figure(&metrics, "iterations"), figure(&metrics, "dropped_iterations"));
        assert_eq!(
            started + dropped,
            rate * seconds,
            "{rate}/s {flags:?}: {started} started, {dropped} dropped"
        );
        assert_eq!(figure(&metrics, "total_requests"), started);
        assert_eq!(target.requests().await, started, "the target counts the started ones");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uniform_arrivals_are_even_at_the_target() {
    let target = NotingTarget::start().await;
    let metrics = run(&target.url, json!({
        "executor": "constant-arrival-rate", "rate": "200/s", "duration": "3s", "max_vus": 100, "steps": [{ "get": "/" }],
    }))
    .await;
    assert_eq!(figure(&metrics, "iterations") + figure(&metrics, "dropped_iterations"), 600);
    let mut gaps: Vec<f64> = target.seconds().windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    // Medians, which a busy machine hardly moves; arrivals in bursts would have gaps of nothing.
    within("the median gap", gaps[gaps.len() / 2], 0.005, 0.2);
}

/// The closed formula. Arrivals come evenly for D seconds; the target answers at once, but whatever comes within a stall of S seconds only
/// at its end. Who comes u seconds after the stall's begin waits S − u, so of all arrivals the part (S − x) / D waits longer than
/// x, for x from 0 to S: the p-quantile of the response time is S − (1 − p) · D, where that is positive.
const D: f64 = 6.0;
const S: f64 = 2.0;

fn quantile_ms(p: f64) -> f64 {
    (S - (1.0 - p) * D) * 1_000.0
}

/// A target that stalls once, from a second after its first request.
async fn stalling() -> NotingTarget {
    NotingTarget::start_with(|_, notes| async move {
        let first = notes.lock().expect("no holder panics")[0].at;
        let (from, to) = (first + Duration::from_secs(1), first + Duration::from_secs_f64(1.0 + S));
        if (from..to).contains(&Instant::now()) {
            tokio::time::sleep_until(to.into()).await;
        }
    })
    .await
}

async fn stalled(max_vus: u64, when_busy: &str) -> (Value, NotingTarget) {
    let target = stalling().await;
    let metrics = run(&target.url, json!({
        "executor": "constant-arrival-rate", "rate": "100/s", "duration": format!("{D}s"), "max_vus": max_vus,
        "when_busy": when_busy, "steps": [{ "get": "/" }],
    }))
    .await;
    let (started, dropped) = (figure(&metrics, "iterations"), figure(&metrics, "dropped_iterations"));
    assert_eq!(started + dropped, 600, "{started} started, {dropped} dropped");
    assert_eq!(target.noted().len() as u64, started);
    (metrics, target)
}

fn check_response_times(metrics: &Value) {
    for (key, p) in [("p90", 0.90), ("p95", 0.95)] {
        within(key, metrics["response_time_ms"][key].as_f64().unwrap(), quantile_ms(p), 0.05);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_felt_by_all_who_came_meanwhile() {
    let (metrics, _target) = stalled(400, "drop").await;
    assert_eq!(figure(&metrics, "dropped_iterations"), 0);
    check_response_times(&metrics);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_few_vus_a_stall_drops_and_says_how_many() {
    let (metrics, _target) = stalled(50, "drop").await;
    // 200 come within the stall, and 50 of them have a VU.
    let dropped = figure(&metrics, "dropped_iterations");
    assert!((130..=170).contains(&dropped), "{dropped} were dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_drops_nothing_and_its_response_time_shows_the_stall_to_all() {
    let (metrics, _target) = stalled(50, "queue").await;
    assert_eq!(figure(&metrics, "dropped_iterations"), 0);
    check_response_times(&metrics);
    // Only those 50 of 600 that were really sent felt it at the target.
    let service_ms = metrics["service_time_ms"]["p90"].as_f64().unwrap();
    assert!(service_ms < quantile_ms(0.9) / 4.0, "the service time's p90 is {service_ms} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_frozen_drops_what_it_missed_and_does_not_catch_up() {
    let target = NotingTarget::start().await;
    let (_folder, path) = plan_file(
        &target.url,
        json!({
            "executor": "constant-arrival-rate", "rate": "100/s", "duration": "5s", "max_vus": 200, "when_busy": "queue",
            "steps": [{ "get": "/" }],
        }),
    );
    let out = format!("{path}.result.json");
    let mut process = Process::volcanion("run", &["run", &path, "--cores", "1", "--out", &out]);
    await_some("it loads", Duration::from_secs(30), || async { (target.noted().len() > 50).then_some(()) })
        .await;
    process.signal("STOP").await;
    let begun = Instant::now();
    let before = target.noted().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    process.signal("CONT").await;
    let frozen = begun.elapsed().as_secs_f64();
    process.ended(Duration::from_secs(30)).await;
    let text = std::fs::read_to_string(&out).expect("the result was written");
    let metrics: Value = serde_json::from_str(&text).expect("the result is JSON");
    let (started, dropped) = (figure(&metrics, "iterations"), figure(&metrics, "dropped_iterations"));
    assert_eq!(started + dropped, 500, "{started} started, {dropped} dropped");
    assert_eq!(target.noted().len() as u64, started);
    // All that was due until a second before its waking; of the last second it starts what is due, late.
    let missed = (frozen - 1.0) * 100.0;
    assert!(
        (missed - 20.0..=missed + 40.0).contains(&(dropped as f64)),
        "{dropped} dropped in {frozen} s after {before}"
    );
    assert!(metrics["schedule_lag_ms"]["max"].as_f64().unwrap() >= 500.0, "{}", metrics["schedule_lag_ms"]);
}

/// Kolmogorov and Smirnov: the greatest distance of the gaps' distribution from 1 − e^(−rate · x), times √n. Of honest sequences 7 in a
/// million pass 2.5; loopback's jitter, far below the mean gap of 10 ms, adds little. Evenly spaced arrivals, or those of eight agents
/// with one seed, are at 10 and more.
fn distance(seconds: &[f64], rate: f64) -> f64 {
    let mut gaps: Vec<f64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    let n = gaps.len() as f64;
    let distances = gaps.iter().enumerate().map(|(i, gap)| {
        let expected = 1.0 - (-gap * rate).exp();
        (expected - i as f64 / n).abs().max(((i + 1) as f64 / n - expected).abs())
    });
    distances.fold(0.0, f64::max) * n.sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn poisson_arrivals_are_poisson_at_the_target_from_one_agent_and_from_eight() {
    for agents in [1, 8] {
        let cluster = Cluster::start(agents).await;
        let target = NotingTarget::start().await;
        let metrics = cluster
            .rest
            .run(&json!({ "name": "poisson", "target": target.url, "scenarios": { "s": {
                "executor": "constant-arrival-rate", "rate": "100/s", "duration": "8s", "arrival": "poisson",
                "max_vus": 400, "steps": [{ "get": "/" }],
            } } }))
            .await;
        assert_eq!(metrics["agents"].as_array().map(Vec::len), Some(agents));
        let seconds = target.seconds();
        assert_eq!(seconds.len() as u64, figure(&metrics, "iterations"));
        // 800 on the average, with a deviation of 28.
        assert!((650..=950).contains(&seconds.len()), "{} arrivals", seconds.len());
        let distance = distance(&seconds, 100.0);
        assert!(distance < 2.5, "{agents} agents: the distance is {distance}");
    }
    let even: Vec<f64> = (0..800).map(|k| f64::from(k) / 100.0).collect();
    assert!(distance(&even, 100.0) > 10.0, "the test can tell");
}
