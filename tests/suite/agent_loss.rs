//! Agents that are killed: the report misses no more than what they had not said yet, names the hole, and where the plan asks for it the others carry their part.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;
use crate::harness::noting::NotingTarget;

const RATE: u64 = 500;

fn plan(target: &str, seconds: u64, on_agent_loss: &str) -> Value {
    json!({
        "name": "losing", "target": target, "on_agent_loss": on_agent_loss,
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": format!("{RATE}/s"), "duration": format!("{seconds}s"),
            "max_vus": 500, "steps": [{ "name": "home", "get": "/lost" }],
        } },
    })
}

/// What must hold of a run whose agents `lost` were killed, each with a part of `agents`; gives the missed iterations.
fn check(metrics: &Value, counted: u64, seconds: u64, agents: u64, lost: &[&str]) -> u64 {
    assert_eq!(metrics["status"], "completed", "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    let gaps = metrics["completeness"]["gaps"].as_array().expect("a list");
    let names: BTreeSet<&str> = gaps.iter().filter_map(|gap| gap["agent"].as_str()).collect();
    assert_eq!(names, lost.iter().copied().collect(), "each hole has a name: {metrics}");
    assert_eq!(metrics["completeness"]["complete"], false);
    let at_most: u64 = gaps.iter().filter_map(|gap| gap["at_most_requests"].as_u64()).sum();
    let missing = counted.checked_sub(of("total_requests")).expect("nothing is counted twice");
    assert!(missing <= at_most, "{missing} are missing, the gaps cover {at_most}: {metrics}");
    let an_interval = RATE / agents * lost.len() as u64;
    assert!(missing <= an_interval, "{missing} are missing, an interval of theirs is {an_interval}");
    let accounted = of("iterations") + of("dropped_iterations") + of("missed_iterations");
    let planned = RATE * seconds;
    assert!(accounted <= planned && accounted + at_most >= planned, "{accounted} and {at_most} of {planned}");
    of("missed_iterations")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_leaves_a_named_hole_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, 8, "continue")).await;
    await_beyond(&cluster.rest, &run, RATE).await;
    cluster.agents[1].process.kill().await;
    let killed_ms = cluster.rest.live(&run).await["total_duration_ms"].as_f64().expect("a time");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let missed = check(&metrics, cluster.target.requests().await, 8, 3, &["agent-2"]);
    assert!(missed > 0, "what it had still to start is missed: {metrics}");
    // Live figures are a second and a half old at most, and after 5 s without a leader's word and a lease it sends nothing.
    let gap = &metrics["completeness"]["gaps"][0];
    let (from_ms, to_ms) = (gap["from_ms"].as_f64().expect("a time"), gap["to_ms"].as_f64().expect("a time"));
    assert!(from_ms <= killed_ms + 1_500.0, "killed at {killed_ms}: {gap}");
    assert!((from_ms..killed_ms + 6_500.0).contains(&to_ms), "killed at {killed_ms}: {gap}");
    cluster.await_agents(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_of_five_had_is_carried_by_the_others() {
    let cluster = Cluster::start(5).await;
    let target = NotingTarget::start().await;
    let run = cluster.rest.start(&plan(&target.url, 14, "redistribute")).await;
    await_beyond(&cluster.rest, &run, RATE).await;
    cluster.agents[1].process.signal("KILL").await;
    cluster.agents[3].process.signal("KILL").await;
    let killed = Instant::now();
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let noted = target.noted();
    let missed = check(&metrics, noted.len() as u64, 14, 5, &["agent-2", "agent-4"]);
    // Lost is 200/s, for as long as it takes to be sure of it, and 2 s more at most. What lies in the gaps is not missed.
    let detected_ms = metrics["completeness"]["gaps"].as_array().expect("a list").iter();
    let gaps_ms = detected_ms.filter_map(|gap| Some(gap["to_ms"].as_f64()? - gap["from_ms"].as_f64()?));
    let longest_s = gaps_ms.fold(0.0, f64::max) / 1e3;
    let most = (RATE * 2 / 5) as f64 * (longest_s + 2.0);
    assert!(
        (missed as f64) <= most,
        "{missed} were missed, {most} at most in {longest_s} s and 2 s: {metrics}"
    );
    // 6 s after it the whole rate is there again.
    let back = |one: &&crate::harness::noting::Noted| {
        (6.0..8.0).contains(&one.at.saturating_duration_since(killed).as_secs_f64())
    };
    let (arrivals, asked) = (noted.iter().filter(back).count() as f64, 2.0 * RATE as f64);
    assert!((asked * 0.95..=asked * 1.05).contains(&arrivals), "{arrivals} of {asked}: {metrics}");
    let (_, agents) = cluster.rest.get("/api/v1/agents").await;
    assert_eq!(agents.as_array().map(Vec::len), Some(3), "{agents}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_to_end_with_an_agent_does() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, 60, "abort")).await;
    await_beyond(&cluster.rest, &run, 0).await;
    cluster.agents[1].process.kill().await;
    let killed = Instant::now();
    let metrics = cluster.rest.ended(&run, Duration::from_secs(30)).await;
    println!("the run ended {:.1} s after the kill", killed.elapsed().as_secs_f64());
    assert_eq!(
        (&metrics["status"], &metrics["stop_reason"]),
        (&json!("failed"), &json!("failed")),
        "{metrics}"
    );
    let (_, view) = cluster.rest.get(&format!("/api/v1/test-runs/{run}")).await;
    let message = view["message"].as_str().expect("it says why");
    assert!(message.contains("`agent-2` was lost") && message.contains("on_agent_loss: abort"), "{message}");
    let gaps = metrics["completeness"]["gaps"].as_array().expect("a list");
    assert_eq!((gaps.len(), &gaps[0]["agent"]), (1, &json!("agent-2")), "{metrics}");
    let total = metrics["total_requests"].as_u64().expect("it counts");
    let missing = cluster.target.requests().await.checked_sub(total).expect("nothing is counted twice");
    assert!(missing <= gaps[0]["at_most_requests"].as_u64().expect("a bound"), "{missing}: {metrics}");
}
