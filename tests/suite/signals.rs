//! Signals in mid-run: the first one ends a process well, a second one at once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::await_some;
use crate::harness::cluster::Cluster;
use crate::harness::masters::await_beyond;
use crate::harness::noting::NotingTarget;
use crate::harness::process::Process;

fn plan(target: &str, is_elastic: bool) -> Value {
    json!({
        "name": "signalled", "target": target, "elastic": is_elastic, "on_agent_loss": "continue",
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "200/s", "duration": "8s", "max_vus": 100, "steps": [{ "get": "/signalled" }],
        } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_stopped_ends_its_part_and_says_all_of_it() {
    let mut cluster = Cluster::start(2).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, false)).await;
    await_beyond(&cluster.rest, &run, 0).await;
    assert!(cluster.agents[0].process.stop().await.success(), "it ends well");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    assert_eq!(metrics["completeness"]["complete"], true, "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert_eq!(of("iterations") + of("dropped_iterations") + of("missed_iterations"), 1_600, "{metrics}");
    assert!(of("missed_iterations") > 0, "what it had still to start is missed: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_an_agent_at_once() {
    let mut cluster = Cluster::start(1).await;
    let run = cluster.rest.start(&plan(&cluster.target.url, true)).await;
    await_beyond(&cluster.rest, &run, 0).await;
    // Nobody is there to take its part, so it loads on for a while.
    cluster.agents[0].process.signal("TERM").await;
    await_some("it is about to leave", Duration::from_secs(10), || async {
        let live = cluster.rest.live(&run).await;
        live["warnings"].as_array()?.iter().any(|warning| warning["code"] == "draining").then_some(())
    })
    .await;
    cluster.agents[0].process.signal("TERM").await;
    let status = cluster.agents[0].process.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(130), "{status:?}");
    let metrics = cluster.rest.ended(&run, Duration::from_secs(60)).await;
    let missing = cluster.target.requests().await - metrics["total_requests"].as_u64().expect("it counts");
    let at_most = metrics["completeness"]["gaps"][0]["at_most_requests"].as_u64().expect("a named gap");
    assert!(missing <= at_most, "{missing} of {at_most}: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_master_at_once() {
    let mut cluster = Cluster::start(0).await;
    // A client that it waits for: it has begun to send a plan, and does not go on.
    let address = cluster.rest.base.trim_start_matches("http://").to_owned();
    let mut client = TcpStream::connect(&address).await.expect("it listens");
    let head = format!(
        "POST /api/v1/test-plans HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    client.write_all(head.as_bytes()).await.expect("it reads");
    // Answered after the head before it was read.
    assert_eq!(cluster.rest.get("/livez").await.0, 200);
    cluster.master.signal("TERM").await;
    await_some("it listens no more", Duration::from_secs(10), || async {
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    cluster.master.signal("TERM").await;
    let status = cluster.master.ended(Duration::from_secs(2)).await;
    assert_eq!(status.code(), Some(130), "{status:?}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_the_command_line_without_waiting_for_the_run() {
    // A target that never answers, so that the run's own stop takes a second.
    let target = NotingTarget::start_with(|_, _| std::future::pending()).await;
    let flags = ["--vus", "1", "--duration", "60s", "--cores", "1", "--json"];
    let mut process = Process::volcanion("run", &[&["run", &target.url], &flags[..]].concat());
    await_some("it loads", Duration::from_secs(30), || async { (!target.noted().is_empty()).then_some(()) })
        .await;
    // Two signals that come together count as one.
    for _ in 0..4 {
        process.signal("INT").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = process.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(130), "{status:?}");
    assert!(
        !process.lines().iter().any(|line| line.contains("total_requests")),
        "it did not wait for the result"
    );
}
