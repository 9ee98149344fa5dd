//! A real load against a server that counts: what the deltas say is what the server answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use volcanion_agent::{Config, start as start_agent};
use volcanion_common::delta::Delta;
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::series::Outcome;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Order, Report, StopWhy};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::Micros;

use crate::Started;
use crate::leader::Leader;

/// Answers every request with 200 and counts its answers.
pub async fn counting_server() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answered = Arc::new(AtomicU64::new(0));
    let counter = answered.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, counter.clone()));
        }
    });
    (url, answered)
}

async fn answer(mut socket: TcpStream, counter: Arc<AtomicU64>) {
    let (mut buffer, mut filled) = (vec![0; 16 * 1024], 0);
    while let Ok(read) = socket.read(&mut buffer[filled..]).await
        && read > 0
    {
        filled += read;
        while let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            buffer.copy_within(end + 4..filled, 0);
            filled -= end + 4;
            counter.fetch_add(1, Ordering::Relaxed);
            if socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

pub async fn start() -> Started {
    let (registry, key, stop) = (LocalRegistry::new(), ClusterKey::random(), CancellationToken::new());
    let config = Config { cores: 2, ..Config::new("a".into(), key.clone()) };
    let agent = start_agent(config, Arc::new(registry.clone()), stop.clone()).await.unwrap();
    Started { agent, key, registry, stop }
}

fn whole(lanes: u32) -> Vec<ScenarioShare> {
    vec![ScenarioShare { lanes, owned: (0..lanes).collect() }]
}

pub fn plan(url: &str, executor: Value) -> Value {
    let mut scenario = json!({"steps": [{"name": "home", "get": "/"}]});
    for (key, value) in executor.as_object().unwrap() {
        scenario[key] = value.clone();
    }
    json!({"name": "p", "target": url, "interval": "100ms", "scenarios": {"browse": scenario}})
}

pub fn assert_is_whole(total: &Delta, answered: u64) {
    assert_eq!(total.requests(), answered);
    let ok: u64 = total
        .series
        .iter()
        .filter(|(key, _)| key.outcome == Outcome::Status(200))
        .map(|(_, s)| s.requests)
        .sum();
    let scenario = &total.scenarios[&0];
    assert_eq!((ok, scenario.started), (answered, answered), "{:?}", total.series.keys());
    let measured: u64 = total.series.values().map(|series| series.response_time.count()).sum();
    assert_eq!(measured, answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_that_is_cut_off_in_mid_run_counts_what_the_server_counts() {
    let (url, answered) = counting_server().await;
    let started = start().await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let executor =
        json!({"executor": "constant-arrival-rate", "rate": "401/s", "duration": "2s", "max_vus": 20});
    let prepare = leader.prepare(&started, plan(&url, executor), whole(20));
    leader.start(&mut stream, prepare).await;
    for _ in 0..3 {
        let Report::Delta(frame) = stream.report().await else { panic!("a delta an interval") };
        leader.take(&frame);
        drop(stream);
        stream = leader.open().await;
        while !matches!(stream.report().await, Report::Started { .. }) {}
    }
    leader.take_to_the_end(&mut stream).await;
    let scenario = &leader.total.scenarios[&0];
    assert_eq!(scenario.started + scenario.dropped, 802);
    assert_is_whole(&leader.total, answered.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_loop_that_is_stopped_counts_what_the_server_counts() {
    let (url, answered) = counting_server().await;
    let started = start().await;
    let mut leader = Leader::of(&started).await;
    let mut stream = leader.open().await;
    let executor = json!({"executor": "constant-vus", "vus": 8, "duration": "60s"});
    let prepare = leader.prepare(&started, plan(&url, executor), whole(8));
    leader.start(&mut stream, prepare).await;
    while leader.high_water.0 < 5 {
        let Report::Delta(frame) = stream.report().await else { panic!("a delta an interval") };
        leader.take(&frame);
        stream.order(Order::Ack(leader.high_water)).await;
    }
    stream.order(Order::Stop { why: StopWhy::Cancelled, graceful: Micros::from_secs(1) }).await;
    leader.take_to_the_end(&mut stream).await;
    assert!(leader.total.requests() > 100, "{}", leader.total.requests());
    assert_is_whole(&leader.total, answered.load(Ordering::Relaxed));
}
