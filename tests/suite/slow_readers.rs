//! Whoever is slow (a client of events that does not read, a store that takes its time) holds nobody else up, and memory stays bounded.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::await_some;
use crate::harness::cluster::{Agent, Cluster};
use crate::harness::events::Follower;
use crate::harness::masters::{Masters, await_beyond};
use crate::harness::rest::{Rest, http};

const LIMIT: Duration = Duration::from_secs(60);
const SILENT: usize = 20;
/// Above what the history of a run's events and the streams' own buffers take.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// Asks for a run's events, and does not read.
async fn silent_client(master: SocketAddr, run: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(master).await.unwrap();
    let request = format!(
        "GET /api/v1/test-runs/{run}/events HTTP/1.1\r\nHost: {master}\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_events_hold_up_nobody_and_hear_the_end_when_they_do() {
    let cluster = Cluster::start(1).await;
    // Large events, often: a buffer of the kernel is full within a second or two.
    let steps: Vec<_> = (0..100).map(|step| json!({ "name": format!("step-{step}"), "get": "/" })).collect();
    let plan = json!({ "name": "events", "target": cluster.target.url, "interval": "100ms", "scenarios": { "s": {
        "executor": "constant-arrival-rate", "rate": "10/s", "max_vus": 20, "duration": "12s", "steps": steps,
    } } });
    let run = cluster.rest.start(&plan).await;
    let address: SocketAddr = cluster.rest.base.trim_start_matches("http://").parse().unwrap();
    let reader = Follower::of(&[&cluster.rest.base], &run);
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(silent_client(address, &run).await);
    }
    await_beyond(&cluster.rest, &run, 1_000).await;
    let before = resident_bytes(cluster.master.id());
    let heard = reader.ended(LIMIT).await;
    let grown = resident_bytes(cluster.master.id()).saturating_sub(before);
    let snapshots = heard.iter().filter(|event| event.name == "snapshot").count();
    println!("{snapshots} snapshots were heard; the master grew by {} MiB", grown >> 20);
    assert!(snapshots >= 100, "whoever reads hears of nearly each of 120 intervals: {snapshots}");
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB more are resident", grown >> 20);
    let metrics = cluster.rest.ended(&run, LIMIT).await;
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    for mut client in silent {
        let mut text = Vec::new();
        tokio::time::timeout(LIMIT, client.read_to_end(&mut text)).await.ok();
        let text = String::from_utf8_lossy(&text);
        assert!(text.trim_end().lines().any(|line| line == "event: end"), "the last event comes in the end");
        let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each event comes once, in order: {ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_delays_acknowledgements_and_not_the_load() {
    let cluster = Masters::start(1, 2, &["--cores", "1"]).await;
    let rest = cluster.masters[0].rest.clone();
    let plan = json!({ "name": "slow store", "target": cluster.target.url, "interval": "200ms", "scenarios": { "s": {
        "executor": "constant-arrival-rate", "rate": "300/s", "max_vus": 20, "duration": "12s", "steps": [{ "get": "/" }],
    } } });
    let run = rest.start(&plan).await;
    await_beyond(&rest, &run, 300).await;
    // A write of a part waits for it, and is neither refused nor broken off.
    let held =
        cluster.postgres.psql("BEGIN; LOCK TABLE parts IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT");
    let looking = async {
        let before = cluster.target.requests().await;
        let most = await_some("outboxes are full", LIMIT, || async {
            let unacked = most_unacked(&cluster).await;
            (unacked >= 8.0).then_some(unacked)
        })
        .await;
        let sent = cluster.target.requests().await - before;
        assert!(sent > 100, "the load goes on meanwhile: {sent}");
        for _ in 0..20 {
            assert!(most_unacked(&cluster).await <= most, "an outbox stays within its bound");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    };
    let (_, most) = tokio::join!(held, looking);
    assert!(most <= 8.0, "{most} deltas wait at most");
    let metrics = rest.ended(&run, LIMIT).await;
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    let accounted = metrics["iterations"].as_u64().unwrap() + metrics["dropped_iterations"].as_u64().unwrap();
    assert_eq!(accounted, 3_600, "{metrics}");
    assert_eq!(metrics["missed_iterations"], Value::from(0), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hangs_delays_what_is_said_and_loses_nothing() {
    let cluster = Cluster::start(2).await;
    let plan = json!({ "name": "slow master", "target": cluster.target.url, "interval": "200ms", "scenarios": { "s": {
        "executor": "constant-arrival-rate", "rate": "300/s", "max_vus": 100, "duration": "10s", "steps": [{ "get": "/" }],
    } } });
    let run = cluster.rest.start(&plan).await;
    await_beyond(&cluster.rest, &run, 300).await;
    cluster.master.signal("STOP").await;
    let before = cluster.target.requests().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(unacked(&cluster.agents).await, 8.0, "so many deltas wait, and no more");
    let sent = cluster.target.requests().await - before;
    assert!(sent > 1_500, "the load goes on meanwhile: {sent}");
    cluster.master.signal("CONT").await;
    let metrics = cluster.rest.ended(&run, LIMIT).await;
    assert_eq!(metrics["total_requests"], cluster.target.requests().await, "{metrics}");
    assert_eq!(metrics["completeness"], json!({ "complete": true, "gaps": [] }), "{metrics}");
    let of = |key: &str| metrics[key].as_u64().unwrap();
    assert_eq!(
        (of("iterations") + of("dropped_iterations"), of("missed_iterations")),
        (3_000, 0),
        "{metrics}"
    );
    let longest = longest_row_ms(&cluster.rest, &run).await;
    assert!(longest > 1_000.0, "what came after the eighth was folded; but the longest row has {longest} ms");
}

/// The longest row of a run's history: of more than an interval where an agent folded.
pub async fn longest_row_ms(rest: &Rest, run: &str) -> f64 {
    let (status, rows) = rest.get(&format!("/api/v1/test-runs/{run}/intervals")).await;
    assert_eq!(status, 200, "{rows}");
    let span = |row: &Value| row["to_ms"].as_f64().unwrap() - row["from_ms"].as_f64().unwrap();
    rows.as_array().unwrap().iter().map(span).fold(0.0, f64::max)
}

/// The most deltas of an agent that are sent and not acknowledged.
async fn most_unacked(cluster: &Masters) -> f64 {
    unacked(&cluster.agents).await
}

/// The same of these agents.
pub async fn unacked(agents: &[Agent]) -> f64 {
    let mut most = 0.0f64;
    for agent in agents {
        let text = http().get(&agent.metrics).send().await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("volcanion_agent_outbox_unacked{"));
        most = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(most, f64::max);
    }
    most
}
