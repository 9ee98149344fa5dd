//! Whole runs on real parts in one process: master and agents over real gRPC, an HTTP server that counts, a real store.
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use futures_util::StreamExt;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use volcanion_agent::Agent;
use volcanion_common::ids::RunId;
use volcanion_common::plan::document;
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::registry::{Candidacy, Candidate, Fleet, Member, Membership, Registry, RegistryError};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::units::Micros;
use volcanion_common::view::{ErrorCode, Metrics, RunStatus, StopReason};
use volcanion_master::run::table::{RunEventKind, Runs, Window};
use volcanion_master::store::StoreUrl;
use volcanion_master::{Config, Master};

const LIMIT: Duration = Duration::from_secs(30);

/// A target that counts what it answers.
struct Target {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Target {
    async fn start(delay: Duration) -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        let answer = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(delay).await;
                "ok"
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().fallback(answer);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { served.await });
        Self { address, requests, _stop: stop.drop_guard() }
    }

    fn answered(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn closed_loop(&self, seconds: u64) -> Value {
        json!({ "name": "closed", "target_url": format!("http://{}/", self.address), "method": "GET", "users": 6,
            "ramp_up_sec": 0, "duration_sec": seconds })
    }

    fn open_loop(&self, rate: &str, seconds: u64) -> Value {
        json!({ "name": "open", "target": format!("http://{}", self.address), "scenarios": { "main": {
            "executor": "constant-arrival-rate", "rate": rate, "duration": format!("{seconds}s"), "max_vus": 50,
            "steps": [ { "name": "home", "get": "/home" } ] } } })
    }
}

/// Agents that outlive masters, as in a cluster.
struct Cluster {
    registry: Arc<LocalRegistry>,
    key: ClusterKey,
    stop_agents: CancellationToken,
    agents: Vec<Agent>,
}

impl Cluster {
    async fn start(agents: u32) -> Self {
        let mut cluster = Self {
            registry: Arc::new(LocalRegistry::new()),
            key: ClusterKey::random(),
            stop_agents: CancellationToken::new(),
            agents: Vec::new(),
        };
        for number in 1..=agents {
            let defaults =
                volcanion_agent::Config::new(format!("agent-{number}").as_str().into(), cluster.key.clone());
            let config =
                volcanion_agent::Config { metrics_listen: None, cores: 1, has_credentials: true, ..defaults };
            let stop = cluster.stop_agents.clone();
            cluster
                .agents
                .push(volcanion_agent::start(config, cluster.registry.clone(), stop).await.unwrap());
        }
        cluster
    }

    async fn master(&self, store: StoreUrl) -> (Master, CancellationToken) {
        self.master_of(self.registry.clone(), store).await
    }

    /// A master that is elected whoever else is.
    async fn master_elected_apart(&self, store: StoreUrl) -> (Master, CancellationToken) {
        let registry = OwnElection { fleet: Arc::clone(&self.registry), election: LocalRegistry::new() };
        self.master_of(Arc::new(registry), store).await
    }

    async fn master_of(&self, registry: Arc<dyn Registry>, store: StoreUrl) -> (Master, CancellationToken) {
        let stop = CancellationToken::new();
        let stop_runs_on_exit = !store.is_durable();
        let config = Config { store, stop_runs_on_exit, ..Config::embedded(self.key.clone()) };
        let master = volcanion_master::start(config, registry, stop.clone()).await.unwrap();
        (master, stop)
    }

    async fn end(self) {
        self.stop_agents.cancel();
        for agent in self.agents {
            tokio::time::timeout(LIMIT, agent.stopped()).await.unwrap().unwrap();
        }
    }
}

/// Agents as the cluster has them, and an election of one's own: as for a master whose registry has elected another behind its back.
struct OwnElection {
    fleet: Arc<LocalRegistry>,
    election: LocalRegistry,
}

#[async_trait]
impl Registry for OwnElection {
    async fn join(&self, member: Member) -> Result<Box<dyn Membership>, RegistryError> {
        self.fleet.join(member).await
    }

    async fn watch(&self) -> Result<watch::Receiver<Fleet>, RegistryError> {
        self.fleet.watch().await
    }

    async fn campaign(&self, candidate: Candidate) -> Result<Box<dyn Candidacy>, RegistryError> {
        self.election.campaign(candidate).await
    }
}

async fn start(runs: &Runs, plan: Value) -> RunId {
    let plan = runs.create_plan(document::from_json(&plan).unwrap()).await.unwrap();
    RunId(runs.start_run(plan.id, None).await.unwrap().id)
}

/// Follows a run to its end.
async fn end_of(runs: &Runs, run: RunId) -> Arc<Metrics> {
    let mut events = runs.events(run, None).await.unwrap();
    let mut last_id = None;
    let follow = async {
        while let Some(event) = events.next().await {
            assert!(last_id.is_none_or(|last| event.id > last), "ids ascend");
            last_id = Some(event.id);
            if let RunEventKind::End(metrics) = event.kind {
                return metrics;
            }
        }
        panic!("the events of run {run} ended without an end: {:?}", runs.run(run).await);
    };
    tokio::time::timeout(LIMIT, follow).await.expect("a run ends in time")
}

/// Waits until the target has answered so many.
async fn until_answered(target: &Target, least: u64) {
    until(|| target.answered() >= least).await;
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it comes in time");
}

/// What every result must keep.
async fn check_sums(runs: &Runs, run: RunId, metrics: &Metrics, target: &Target) {
    assert_eq!(metrics.total_requests, target.answered(), "{metrics:#?}");
    assert_eq!(metrics.status_codes.get("200"), Some(&metrics.success_requests));
    assert_eq!(metrics.success_requests + metrics.failed_requests, metrics.total_requests);
    assert_eq!(metrics.agents.iter().map(|agent| agent.requests).sum::<u64>(), metrics.total_requests);
    assert!(metrics.completeness.complete, "{:?}", metrics.completeness);
    let rows = runs.intervals(run, Window::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), metrics.total_requests);
    assert!(rows.windows(2).all(|pair| pair[0].to_ms <= pair[1].from_ms), "rows are disjoint");
    let whole = Window { every: Some(Micros::from_secs(3_600)), ..Window::default() };
    let whole = runs.intervals(run, whole).await.unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].response_time_ms.p99, metrics.p99_latency_ms, "the window's percentile is the run's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_counts_what_the_target_counted() {
    let (cluster, target) = (Cluster::start(2).await, Target::start(Duration::from_millis(5)).await);
    let (master, stop) = cluster.master(StoreUrl::Memory).await;
    let runs = master.runs();
    let run = start(&runs, target.closed_loop(2)).await;
    let metrics = end_of(&runs, run).await;
    check_sums(&runs, run, &metrics, &target).await;
    assert_eq!(metrics.status, Some(RunStatus::Completed));
    assert_eq!(metrics.agents.len(), 2);
    assert!(metrics.agents.iter().all(|agent| agent.requests > 0), "{:?}", metrics.agents);
    assert_eq!(runs.stop_run(run).await.unwrap_err().code, ErrorCode::Conflict);
    stop.cancel();
    tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_starts_every_arrival_of_the_plan() {
    let (cluster, target) = (Cluster::start(3).await, Target::start(Duration::ZERO).await);
    let (master, stop) = cluster.master(StoreUrl::Memory).await;
    let runs = master.runs();
    let run = start(&runs, target.open_loop("201/s", 2)).await;
    let metrics = end_of(&runs, run).await;
    check_sums(&runs, run, &metrics, &target).await;
    assert_eq!(metrics.iterations + metrics.dropped_iterations + metrics.missed_iterations, 402);
    stop.cancel();
    tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_ends_at_once_with_exact_counts() {
    let (cluster, target) = (Cluster::start(2).await, Target::start(Duration::from_millis(5)).await);
    let (master, stop) = cluster.master(StoreUrl::Memory).await;
    let runs = master.runs();
    let run = start(&runs, target.closed_loop(60)).await;
    until_answered(&target, 50).await;
    let asked = Instant::now();
    let view = runs.stop_run(run).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    assert_eq!((view.status, view.stop_reason), (RunStatus::Cancelled, Some(StopReason::Cancelled)));
    let metrics = runs.metrics(run).await.unwrap();
    check_sums(&runs, run, &metrics, &target).await;
    assert_eq!(runs.stop_run(run).await.unwrap(), view);
    stop.cancel();
    tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_while_one_master_follows_another() {
    let (cluster, target) = (Cluster::start(2).await, Target::start(Duration::from_millis(5)).await);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::SqliteFile(folder.path().join("runs.db"));
    let (first, stop) = cluster.master(store.clone()).await;
    let run = start(&first.runs(), target.closed_loop(5)).await;
    until_answered(&target, 200).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, first.stopped()).await.unwrap();
    let at_the_change = target.answered();

    let (second, stop) = cluster.master(store.clone()).await;
    let runs = second.runs();
    assert!(!runs.run(run).await.unwrap().status.is_ended());
    let metrics = end_of(&runs, run).await;
    assert!(metrics.total_requests > at_the_change, "the agents went on");
    assert_eq!(metrics.status, Some(RunStatus::Completed));
    check_sums(&runs, run, &metrics, &target).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, second.stopped()).await.unwrap();

    let (third, stop) = cluster.master(store).await;
    assert_eq!(*third.runs().metrics(run).await.unwrap(), *metrics, "a result outlives its master");
    assert!(third.runs().run(run).await.unwrap().status.is_ended());
    stop.cancel();
    tokio::time::timeout(LIMIT, third.stopped()).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_for_a_while_loses_nothing() {
    let (cluster, target) = (Cluster::start(1).await, Target::start(Duration::from_millis(5)).await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let (master, stop) = cluster.master(StoreUrl::SqliteFile(path.clone())).await;
    let runs = master.runs();
    let run = start(&runs, target.closed_loop(4)).await;
    until_answered(&target, 50).await;
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::query("ALTER TABLE parts RENAME TO parts_away").execute(&mut other).await.unwrap();
    let mut events = runs.events(run, None).await.unwrap();
    let warned = async {
        while let Some(event) = events.next().await {
            if let RunEventKind::Warning(warning) = event.kind {
                return warning.code;
            }
        }
        "none".to_owned()
    };
    assert_eq!(tokio::time::timeout(LIMIT, warned).await.unwrap(), "store");
    until_answered(&target, target.answered() + 50).await;
    sqlx::query("ALTER TABLE parts_away RENAME TO parts").execute(&mut other).await.unwrap();
    let metrics = end_of(&runs, run).await;
    assert_eq!(metrics.status, Some(RunStatus::Completed));
    check_sums(&runs, run, &metrics, &target).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_master_deposes_the_first_and_counts_on() {
    let (cluster, target) = (Cluster::start(2).await, Target::start(Duration::from_millis(5)).await);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::SqliteFile(folder.path().join("runs.db"));
    let (first, stop_first) = cluster.master(store.clone()).await;
    let run = start(&first.runs(), target.closed_loop(4)).await;
    until_answered(&target, 100).await;
    let (second, stop_second) = cluster.master_elected_apart(store).await;
    let metrics = end_of(&second.runs(), run).await;
    assert_eq!(metrics.status, Some(RunStatus::Completed));
    check_sums(&second.runs(), run, &metrics, &target).await;
    let first_runs = first.runs();
    until(|| first_runs.check_ready().is_err_and(|error| error.code == ErrorCode::NoLeader)).await;
    until(|| first_runs.going() == 0).await;
    assert_eq!(*first_runs.metrics(run).await.unwrap(), *metrics, "it reads what the second one wrote");
    for (master, stop) in [(first, stop_first), (second, stop_second)] {
        stop.cancel();
        tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
    }
    cluster.end().await;
}

#[tokio::test]
async fn rest_listens_on_loopback_and_nowhere_else_without_a_word() {
    let cluster = Cluster::start(0).await;
    let config =
        |listen: &str| Config { listen: listen.parse().ok(), ..Config::embedded(cluster.key.clone()) };
    let stop = CancellationToken::new();
    let refused = volcanion_master::start(config("0.0.0.0:0"), cluster.registry.clone(), stop.clone()).await;
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("--allow-unauthenticated"), "{error}");

    let master =
        volcanion_master::start(config("127.0.0.1:0"), cluster.registry.clone(), stop.clone()).await.unwrap();
    let address = master.rest_address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let taken =
        volcanion_master::start(config(&address.to_string()), cluster.registry.clone(), stop.clone()).await;
    let error = taken.err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}")), "{error}");
    stop.cancel();
    tokio::time::timeout(LIMIT, master.stopped()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_agents_went_with_its_master_is_ended_by_the_next() {
    let (cluster, target) = (Cluster::start(1).await, Target::start(Duration::from_millis(5)).await);
    let folder = tempfile::tempdir().unwrap();
    let store = StoreUrl::SqliteFile(folder.path().join("runs.db"));
    let (first, stop) = cluster.master(store.clone()).await;
    let run = start(&first.runs(), target.closed_loop(60)).await;
    until_answered(&target, 50).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, first.stopped()).await.unwrap();
    // Nobody takes their last words.
    cluster.end().await;

    let others = Cluster::start(1).await;
    let (second, stop) = others.master(store).await;
    let metrics = end_of(&second.runs(), run).await;
    let view = second.runs().run(run).await.unwrap();
    assert!(view.status.is_ended() && view.message.is_some(), "{view:?}");
    assert!(!metrics.completeness.complete, "what the lost agent did after its last report is not known");
    stop.cancel();
    tokio::time::timeout(LIMIT, second.stopped()).await.unwrap();
    others.end().await;
}
