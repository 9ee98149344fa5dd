//! Agents that leave an elastic run hand their part over, agents that join it get one: the rate has no dent, and every arrival is in the report.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::await_some;
use crate::harness::cluster::{Cluster, start_agent};
use crate::harness::masters::await_beyond;
use crate::harness::noting::NotingTarget;

const RATE: u64 = 600;
/// How far the rate of a whole second at the target may be from the asked one.
const RATE_WITHIN: f64 = 0.05;

fn plan(target: &str, rate: u64, seconds: u64) -> Value {
    json!({
        "name": "elastic", "target": target, "elastic": true,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": format!("{rate}/s"), "duration": format!("{seconds}s"),
            "max_vus": 1_500, "steps": [{ "name": "home", "get": "/moved" }],
        } },
    })
}

/// What must hold of a run in which agents came or went of their own will.
fn check(metrics: &Value, counted: u64, planned: u64) {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    assert_eq!(metrics["total_requests"], counted, "report and target: {metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!(of("missed_iterations"), 0, "nobody had to be waited for: {metrics}");
    assert_eq!(of("iterations") + of("dropped_iterations"), planned, "{metrics}");
}

/// Whole seconds of a steady rate, without the first and the last one.
fn check_rate(target: &NotingTarget, rate: u64) {
    let seconds = target.seconds();
    let whole = seconds.last().map_or(0, |last| *last as usize);
    let mut worst = 0.0f64;
    for second in 1..whole {
        let arrivals = seconds.iter().filter(|at| **at as usize == second).count() as f64;
        let apart = (arrivals / rate as f64 - 1.0).abs();
        worst = worst.max(apart);
        assert!(apart <= RATE_WITHIN, "{arrivals} of {rate} in second {second}");
    }
    eprintln!("each of {whole} seconds is within {:.2} % of {rate}/s", worst * 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_are_stopped_or_drained_hand_over_what_they_have() {
    let mut cluster = Cluster::start(3).await;
    let target = NotingTarget::start().await;
    let run = cluster.rest.start(&plan(&target.url, RATE, 10)).await;
    let seen = await_beyond(&cluster.rest, &run, RATE).await;
    let status = cluster.agents[2].process.stop().await;
    assert!(status.success(), "it leaves well: {status:?}");
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    assert_eq!(view["status"], "running", "it left before the run's end: {view}");
    await_beyond(&cluster.rest, &run, seen).await;
    let (status, drained) = cluster.rest.post_nothing("/api/v1/agents/agent-2/drain").await;
    assert_eq!((status, &drained["state"]), (200, &json!("draining")), "{drained}");

    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, target.noted().len() as u64, RATE * 10);
    check_rate(&target, RATE);
    let of = |id: &str| {
        let rows = metrics["agents"].as_array().expect("a row an agent");
        rows.iter().find(|row| row["agent"] == id || row["id"] == id).expect("it is there")["requests"]
            .as_u64()
    };
    assert!(of("agent-1") > of("agent-2") && of("agent-2") > of("agent-3"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_agents_that_become_six_and_then_two_keep_the_rate_and_miss_nothing() {
    const FAST: u64 = 3_000;
    let mut cluster = Cluster::start(3).await;
    let target = NotingTarget::start().await;
    let run = cluster.rest.start(&plan(&target.url, FAST, 16)).await;
    await_beyond(&cluster.rest, &run, FAST).await;
    for number in 4..=6 {
        let agent = start_agent(&cluster.etcd.url, &format!("agent-{number}"), &["--cores", "1"]).await;
        cluster.agents.push(agent);
    }
    // Each of the three has its part, as it is seen in what it did.
    await_some("all six load", Duration::from_secs(20), || async {
        let live = cluster.rest.live(&run).await;
        let rows = live["agents"].as_array()?.iter().filter(|row| row["requests"].as_u64() > Some(200));
        (rows.count() == 6).then_some(())
    })
    .await;
    for agent in &cluster.agents[..4] {
        agent.process.signal("TERM").await;
    }
    for agent in &mut cluster.agents[..4] {
        assert!(agent.process.ended(Duration::from_secs(30)).await.success(), "it leaves well");
    }
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    assert_eq!(view["status"], "running", "they left before the run's end: {view}");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    check(&metrics, target.noted().len() as u64, FAST * 16);
    check_rate(&target, FAST);
    assert_eq!(metrics["agents"].as_array().map(Vec::len), Some(6), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_load_per_agent_each_that_joins_brings_a_whole_plan() {
    let mut cluster = Cluster::start(1).await;
    let target = NotingTarget::start().await;
    let mut each = plan(&target.url, RATE / 2, 10);
    each["load"] = json!("per_agent");
    let run = cluster.rest.start(&each).await;
    await_beyond(&cluster.rest, &run, RATE).await;
    cluster.agents.push(start_agent(&cluster.etcd.url, "agent-2", &["--cores", "1"]).await);
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let seconds = target.seconds();
    assert_eq!(metrics["total_requests"], seconds.len(), "report and target: {metrics}");
    assert_eq!(
        (&metrics["completeness"]["complete"], &metrics["missed_iterations"]),
        (&json!(true), &json!(0))
    );
    let in_second = |second: usize| seconds.iter().filter(|at| **at as usize == second).count() as f64;
    let (alone, both) = (in_second(1), in_second(8));
    assert!((both / alone - 2.0).abs() < 0.2, "{alone} in a second of one agent, {both} of two: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_is_another_one_when_it_comes_back_and_gets_its_part() {
    let mut cluster = Cluster::start(2).await;
    let target = NotingTarget::start().await;
    let run = cluster.rest.start(&plan(&target.url, RATE, 16)).await;
    await_beyond(&cluster.rest, &run, RATE).await;
    cluster.agents[0].process.kill().await;
    cluster.await_agents(1).await;
    cluster.agents[0] = start_agent(&cluster.etcd.url, "agent-1", &["--cores", "1"]).await;
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let gaps = metrics["completeness"]["gaps"].as_array().expect("a list");
    assert_eq!((gaps.len(), &gaps[0]["agent"]), (1, &json!("agent-1")), "{metrics}");
    let total = metrics["total_requests"].as_u64().expect("it counts");
    let missing = target.noted().len() as u64 - total;
    assert!(missing <= gaps[0]["at_most_requests"].as_u64().expect("a bound"), "{missing}: {metrics}");
    let rows = metrics["agents"].as_array().expect("a row an agent");
    let parts: Vec<u64> = rows.iter().filter_map(|row| row["requests"].as_u64()).collect();
    assert_eq!((parts.len(), parts.iter().sum::<u64>()), (3, total), "both processes are there: {metrics}");
    assert!(parts.iter().all(|part| *part > 0), "each had a part: {metrics}");
}
