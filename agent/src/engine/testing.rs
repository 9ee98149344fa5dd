//! For tests: small programs, a target that counts, and the sum of what an engine says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use volcanion_common::delta::Delta;
use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::{Arrival, Connections, Executor, HttpOptions, WhenBusy};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, Rate, RunTime};

use super::{EngineEvent, EngineHandle, EngineSettings, prepare};
use crate::prepare::message::{Parts, Payload, SecretParts};
use crate::prepare::{Item, Message, Network, Origin, Program, Scenario, Step, SuccessStatus, TargetPolicy};
use crate::send::clock::now_ns;

/// A scenario of one request to the first step.
pub fn scenario(executor: Executor) -> Scenario {
    let lanes = executor.max_vus().clamp(1, 256) as u32;
    Scenario {
        name: "browse".to_owned(),
        executor,
        share: ScenarioShare { lanes, owned: (0..lanes).collect() },
        ready_for: 0,
        start_time: Micros::ZERO,
        graceful_stop: Micros::from_secs(30),
        items: vec![Item::Request(0)],
    }
}

/// A program with one scenario, of which step 0 asks for `/a` and step 1 for `/b`.
pub fn program(target: SocketAddr, scenario: Scenario) -> Program {
    let step = |path: &str| Step {
        name: path.to_owned(),
        method: "GET".to_owned(),
        request: get(&format!("http://{target}{path}")),
        timeout: Micros::from_secs(10),
    };
    let targets = TargetPolicy { allow: None, loopback: true };
    Program {
        scenarios: vec![scenario],
        steps: vec![step("/a"), step("/b")],
        origins: vec![Origin { host: target.ip().to_string(), port: target.port(), tls: None }],
        success: SuccessStatus::new(&[(200, 399)]),
        seed: 42,
        first_vu: 0,
        is_elastic: false,
        may_get_lanes: false,
        interval: Micros::from_millis(100),
        keep_alive: true,
        connections: Connections::PerVu,
        redirects: 0,
        cookies: false,
        trace: None,
        network: Network::new(&HttpOptions::default(), &targets, 0)
            .expect("the defaults can be used anywhere"),
        targets,
        tls: None,
        room: None,
    }
}

/// A request of the program's only server.
fn get(url: &str) -> Message {
    let url = url.parse().expect("an address and a path are a URL");
    let (method, secret) = (http::Method::GET, SecretParts::default());
    let parts = Parts { method, url, headers: Vec::new(), payload: Payload::None, secret };
    Message::new(0, parts, true)
}

/// A program that is not run.
pub fn two_steps() -> Program {
    let executor = Executor::ConstantVus { vus: 1, duration: Micros::from_secs(1) };
    program(SocketAddr::from(([127, 0, 0, 1], 9)), scenario(executor))
}

/// So many arrivals a second, uniform.
pub fn arrivals(rate: u64, duration_ms: u64, max_vus: u64, when_busy: WhenBusy) -> Executor {
    let open = OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 0, max_vus, when_busy };
    Executor::ConstantArrivalRate {
        rate: Rate::per_second(rate),
        duration: Micros::from_millis(duration_ms),
        open,
    }
}

/// A target on loopback that answers 200 after a delay and counts.
pub struct Target {
    pub address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Target {
    pub async fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, delay, counter.clone()));
            }
        });
        Self { address, requests, task }
    }

    /// Requests that were read whole.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, delay: Duration, requests: Arc<AtomicU64>) {
    let (mut buffer, mut held) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        held.extend_from_slice(&buffer[..read]);
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            held.drain(..end + 4);
            requests.fetch_add(1, Ordering::SeqCst);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// All that an engine said.
#[derive(Default)]
pub struct Said {
    pub deltas: Vec<Delta>,
    pub total: Delta,
    /// The moves of lanes that hold, in the order in which that was said.
    pub moved: Vec<(u64, RunTime)>,
    pub failed: Option<String>,
    pub started_ns: u64,
    pub took: Duration,
}

impl Said {
    /// Started, completed, interrupted, dropped of the first scenario.
    pub fn iterations(&self) -> (u64, u64, u64, u64) {
        let s = &self.total.scenarios[&0];
        (s.started, s.completed, s.interrupted, s.dropped)
    }

    /// Of the failures, by type and detail.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let errors = self.total.errors.iter();
        errors.map(|((_, kind, detail), count)| (format!("{}: {detail}", kind.name()), *count)).collect()
    }
}

/// Runs a program to its end; `meanwhile` is given the handle once it has started.
pub async fn run_with<F: Future<Output = ()>>(
    program: Program,
    cores: usize,
    meanwhile: impl FnOnce(EngineHandle) -> F,
) -> Said {
    run_as(program, EngineSettings::new(cores), meanwhile).await
}

/// Runs a program with other settings to its end.
pub async fn run_as<F: Future<Output = ()>>(
    program: Program,
    settings: EngineSettings,
    meanwhile: impl FnOnce(EngineHandle) -> F,
) -> Said {
    let prepared = prepare(Arc::new(program), settings).unwrap();
    let start_ns = now_ns() + 5_000_000;
    let (handle, mut events) = prepared.start(start_ns);
    let mut meanwhile = Some(meanwhile);
    let mut said = Said::default();
    loop {
        let event =
            tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("an event in time");
        match event.expect("a last event before the end") {
            EngineEvent::Started { monotonic_ns } => {
                said.started_ns = monotonic_ns;
                assert!(monotonic_ns >= start_ns && said.deltas.is_empty());
                if let Some(meanwhile) = meanwhile.take() {
                    meanwhile(handle.clone()).await;
                }
            }
            EngineEvent::Moved { number, from } => said.moved.push((number, from)),
            EngineEvent::Delta(delta) => {
                assert_eq!(delta.from.0, said.deltas.last().map_or(0, |last: &Delta| last.to.0));
                said.total.add(&delta);
                said.deltas.push(delta);
            }
            EngineEvent::Finished => break,
            EngineEvent::Failed(reason) => {
                said.failed = Some(reason);
                break;
            }
        }
    }
    said.took = Duration::from_nanos(now_ns().saturating_sub(start_ns));
    assert!(events.recv().await.is_none(), "nothing comes after the end");
    said
}

/// Runs a program to its end by itself.
pub async fn run(program: Program, cores: usize) -> Said {
    run_with(program, cores, |_| async {}).await
}
