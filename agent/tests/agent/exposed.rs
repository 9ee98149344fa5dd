//! What the agent shows of itself: metrics, health, Ping, Describe, gRPC health.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use volcanion_common::session::Order;
use volcanion_proto::v1 as pb;

use crate::leader::Leader;
use crate::paced_load::PacedLoad;
use crate::{Started, start};

pub async fn get(started: &Started, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(started.agent.metrics_address().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until a metric's only series has such a value.
pub async fn metric_reaches(started: &Started, name: &str, is_wanted: impl Fn(f64) -> bool) {
    let reached = async {
        loop {
            let (_, page) = get(started, "/metrics").await;
            let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
            let value =
                line.and_then(|line| line.rsplit(' ').next()).map(|value| value.parse::<f64>().unwrap());
            if value.is_some_and(&is_wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), reached).await.expect("the metric in time");
}

#[tokio::test]
async fn metrics_show_what_was_counted_and_pass_promtool() {
    let load = PacedLoad { intervals: 10, ..PacedLoad::default() };
    let started = start(load).await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let prepare = leader.prepare(&started, json!({}), Vec::new());
    leader.start(&mut stream, prepare).await;
    leader.take_to_the_end(&mut stream).await;
    stream.order(Order::Release).await;
    assert!(stream.next().await.unwrap().is_none());
    let run = leader.run;
    metric_reaches(&started, "volcanion_agent_vus", |vus| vus == 0.0).await;
    let (status, page) = get(&started, "/metrics").await;
    assert_eq!(status, 200);
    let labels = format!("run_id=\"{run}\",step=\"home \\\"page\\\"\",method=\"GET\",status=\"200\"");
    for line in [
        format!("volcanion_agent_requests_total{{{labels}}} 34"),
        format!("volcanion_agent_requests_failed_total{{{labels}}} 0"),
        format!("volcanion_agent_request_duration_seconds_count{{{labels}}} 34"),
        format!("volcanion_agent_iterations_total{{run_id=\"{run}\",scenario=\"browse\"}} 34"),
        format!("volcanion_agent_outbox_unacked{{run_id=\"{run}\"}} 0"),
        "volcanion_agent_active_runs 0".to_owned(),
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\nis not in\n{page}");
    }
    check_with_promtool(&page);
}

fn check_with_promtool(page: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = command.unwrap_or_else(|error| {
        panic!("`promtool` cannot be started ({error}): run `make deps`, which installs it")
    });
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn health_ping_and_describe_say_who_is_there() {
    let started = start(PacedLoad::default()).await;
    assert_eq!(get(&started, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&started, "/readyz").await.0, 200);
    let (status, health) = get(&started, "/health").await;
    assert_eq!(status, 200);
    assert!(health.contains("\"status\":\"ok\"") && health.contains("\"registered\":true"), "{health}");

    let mut leader = Leader::of(&started).await;
    let ping = leader.client.ping(pb::PingRequest {}).await.unwrap().into_inner();
    assert_eq!(ping.incarnation, started.agent.incarnation().0);
    assert!(ping.received_ns > 0 && ping.received_ns <= ping.sent_ns);
    let mut stream = leader.open().await;
    stream.report().await;
    let described = leader.client.describe(pb::DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!((described.agent_id.as_str(), described.incarnation), ("a", ping.incarnation));
    assert_eq!(described.run_ids, [leader.run.to_string()]);
}
