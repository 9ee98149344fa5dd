//! Events by SSE and WebSocket: named, numbered, resumed, ended.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{Metrics, RunStatus, RunView};

use super::{Answer, Api, request};
use crate::run::live::Live;
use crate::run::tests::{any_plan, any_view};
use crate::store::RunEnd;
use crate::store::samples::{end as stored_end, record};

/// A run with the events state, snapshot, warning, snapshot; ids 1 to 4.
fn going(api: &Api) -> (Arc<Live>, RunView) {
    let view = any_view(RunStatus::Running);
    let live = Live::new(view.clone(), Arc::new(any_plan()));
    api.runs.adopt(Arc::clone(&live));
    live.publish_view(RunView { status: RunStatus::Stopping, ..view.clone() });
    live.publish_metrics(metrics(1), Arc::default());
    live.publish_warning(WarningView { code: "schedule_lag".into(), ..WarningView::default() });
    live.publish_metrics(metrics(2), Arc::default());
    (live, view)
}

fn metrics(total_requests: u64) -> Arc<Metrics> {
    Arc::new(Metrics { total_requests, ..Metrics::default() })
}

/// Adds state and end; ids 5 and 6.
fn end(live: &Live, view: &RunView) {
    live.publish_end(RunView { status: RunStatus::Completed, ..view.clone() }, metrics(3), Arc::default());
}

async fn events_after(api: &Api, view: &RunView, last: &str) -> Answer {
    let request = request(Method::GET, &format!("/api/v1/test-runs/{}/events", view.id));
    let request = if last.is_empty() { request } else { request.header("last-event-id", last) };
    api.call(request.body(Body::empty()).unwrap()).await
}

/// Name, id and data of each event.
fn read(answer: &Answer) -> Vec<(String, u64, Value)> {
    let text = answer.text();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    blocks.map(event).collect()
}

fn event(block: &str) -> (String, u64, Value) {
    let field = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{block}"))
    };
    (
        field("event: ").to_owned(),
        field("id: ").parse().unwrap(),
        serde_json::from_str(field("data: ")).unwrap(),
    )
}

fn names(events: &[(String, u64, Value)]) -> Vec<(&str, u64)> {
    events.iter().map(|(name, id, _)| (name.as_str(), *id)).collect()
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_final_metrics() {
    let api = Api::new().await;
    let (live, view) = going(&api);
    end(&live, &view);
    let answer = events_after(&api, &view, "").await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = read(&answer);
    assert_eq!(names(&events), [("state", 1), ("warning", 3), ("snapshot", 4), ("state", 5), ("end", 6)]);
    assert_eq!(events[1].2["code"], "schedule_lag");
    assert_eq!(events[4].2["total_requests"], 3);
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_repeats_nothing() {
    let api = Api::new().await;
    let (live, view) = going(&api);
    end(&live, &view);
    let events = read(&events_after(&api, &view, "1").await);
    assert_eq!(names(&events), [("snapshot", 2), ("warning", 3), ("snapshot", 4), ("state", 5), ("end", 6)]);
    assert_eq!(names(&read(&events_after(&api, &view, "5").await)), [("end", 6)]);
    assert_eq!(
        events_after(&api, &view, "6").await.status,
        204,
        "after the end a browser is told not to come back"
    );
    assert_eq!(read(&events_after(&api, &view, "nonsense").await).len(), 5, "an id that is none begins anew");
}

#[tokio::test]
async fn a_run_that_ended_long_ago_is_not_heard_to_end_twice() {
    let api = Api::new().await;
    let (store, run) = (&api.runs.shared.store, record());
    let epoch = store.epoch().await.unwrap();
    store.insert_run(epoch, &run, None).await.unwrap();
    store.end_run(epoch, run.id(), &RunEnd { last_event: 2_000_000_007, ..stored_end() }).await.unwrap();
    let heard = async |last: &str| events_after(&api, &run.view, last).await;
    for last in ["2000000007", "2000000008"] {
        assert_eq!(heard(last).await.status, 204, "{last}");
    }
    let both = [("state", 2_000_000_006), ("end", 2_000_000_007)];
    assert_eq!(names(&read(&heard("2000000006").await)), both[1..]);
    for last in ["2000000005", "900", ""] {
        assert_eq!(names(&read(&heard(last).await)), both, "after {last}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_until_the_run_ends() {
    let api = Api::new().await;
    let (live, view) = going(&api);
    let address = api.on_a_port().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /api/test-runs/{}/events HTTP/1.1\r\nhost: {address}\r\nlast-event-id: 3\r\nconnection: close\r\n\r\n",
        view.id
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = read_until(&mut stream, "\"total_requests\":2").await;
    assert!(!text.contains("event: end"), "{text}");
    end(&live, &view);
    text += &read_until(&mut stream, "event: end").await;
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
        .await
        .expect("the stream ends after `end`")
        .unwrap();
}

async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(what) {
            assert!(
                stream.read_buf(&mut seen).await.unwrap() > 0,
                "ended: {}",
                String::from_utf8_lossy(&seen)
            );
        }
    };
    timeout(Duration::from_secs(10), reading).await.unwrap_or_else(|_| panic!("{what} did not come"));
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn a_web_socket_carries_the_same_and_closes_after_the_end() {
    let api = Api::new().await;
    let (live, view) = going(&api);
    let address = api.on_a_port().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /api/test-runs/{}/ws/metrics?last_event_id=2 HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        view.id
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));

    // A masked ping is answered by a pong with the same payload.
    stream.write_all(&[0x89, 0x81, 0, 0, 0, 0, b'?']).await.unwrap();
    end(&live, &view);
    let (mut events, mut pongs) = (Vec::new(), 0);
    loop {
        match frame(&mut stream).await {
            (0x1, payload) => {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                events.push((
                    message["event"].as_str().unwrap().to_owned(),
                    message["id"].as_u64().unwrap(),
                    message["data"].clone(),
                ));
            }
            (0xA, payload) => {
                assert_eq!(payload, b"?");
                pongs += 1;
            }
            (0x8, payload) => {
                assert_eq!(payload[..2], 1000u16.to_be_bytes());
                break;
            }
            (other, _) => panic!("a frame of the kind {other}"),
        }
    }
    assert_eq!(names(&events), [("warning", 3), ("snapshot", 4), ("state", 5), ("end", 6)]);
    assert_eq!(events[3].2["total_requests"], 3);
    assert!(pongs <= 1);
}

/// Kind and payload of the next frame of a server: never masked, never in parts.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let reading = async {
        let kind = stream.read_u8().await.unwrap() & 0x0F;
        let length = match stream.read_u8().await.unwrap() {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        (kind, payload)
    };
    timeout(Duration::from_secs(10), reading).await.expect("a frame")
}

#[tokio::test]
async fn live_and_metrics_of_a_going_run_are_the_newest_snapshot() {
    let api = Api::new().await;
    let (_live, view) = going(&api);
    for path in ["live", "metrics"] {
        let answer = api.get(&format!("/api/v1/test-runs/{}/{path}", view.id)).await;
        assert_eq!(answer.json()["total_requests"], 2, "{path}");
    }
    let scrape = api.get("/metrics").await.text();
    assert!(scrape.contains("stress_test_active_tests 1\n"), "{scrape}");
}
