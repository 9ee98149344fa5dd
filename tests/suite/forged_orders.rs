//! Orders that a master of the cluster did not give, or not now, or not to this agent: each is refused and logged, and nothing is sent.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId, Seq};
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Hello, Order, Report, SealedHello};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_proto::v1 as pb;
use volcanion_proto::v1::agent_client::AgentClient;

use crate::harness::await_some;
use crate::harness::cluster::{Agent, Target, start_agent};
use crate::harness::etcd::Etcd;

const KEY: &str = "a key that the cluster has";
const LIMIT: Duration = Duration::from_secs(20);
const ITERATIONS: u64 = 5;

fn in_ms(ahead_ms: i64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    now.checked_add_signed(ahead_ms).unwrap()
}

/// Whoever reaches the agent's port.
struct Leader {
    client: AgentClient<Channel>,
    key: ClusterKey,
    agent: AgentId,
    incarnation: Incarnation,
    target: String,
}

/// A stream of it.
struct Stream {
    orders: mpsc::Sender<pb::Order>,
    reports: Streaming<pb::Report>,
}

impl Leader {
    fn hello(&self, run: RunId) -> Hello {
        Hello {
            run,
            epoch: Epoch(5),
            agent: self.agent.clone(),
            incarnation: self.incarnation,
            last_seq: Seq(0),
        }
    }

    fn shard(&self, run: RunId) -> Shard {
        let plan = json!({
            "name": "forged", "target": self.target, "interval": "100ms",
            "scenarios": { "s": { "executor": "shared-iterations", "vus": 1, "iterations": ITERATIONS, "max_duration": "10s",
                                  "steps": [{ "name": "s", "get": "/" }] } }
        });
        Shard {
            run,
            epoch: Epoch(5),
            agent: self.agent.clone(),
            incarnation: self.incarnation,
            expires_unix_ms: in_ms(60_000),
            seed: 1,
            plan,
            scenarios: vec![ScenarioShare { lanes: 1, owned: vec![0] }],
            first_vu: 0,
            ready_for: Vec::new(),
            orphan_timeout: None,
            trace: None,
        }
    }

    async fn open(&mut self, hello: SealedHello) -> Stream {
        let (orders, receiver) = mpsc::channel(8);
        orders.send(Order::Hello(hello).into()).await.unwrap();
        let reports = self.client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Stream { orders, reports }
    }

    /// A stream that the agent takes.
    async fn open_well(&mut self, run: RunId) -> Stream {
        let hello = self.hello(run).sealed(&self.key, in_ms(60_000)).unwrap();
        let mut stream = self.open(hello).await;
        let welcome = stream.next().await;
        assert!(matches!(welcome, Ok(Report::Welcome(_))), "{welcome:?}");
        stream
    }
}

impl Stream {
    /// The next report, or the code by which the stream was ended.
    async fn next(&mut self) -> Result<Report, String> {
        let message = tokio::time::timeout(LIMIT, self.reports.message()).await.expect("an answer in time");
        match message {
            Ok(report) => Ok(Report::try_from(report.expect("a reason, not just an end")).unwrap()),
            Err(status) => Err(status.message().split(':').next().unwrap_or_default().to_owned()),
        }
    }

    async fn send(&self, order: Order) {
        self.orders.send(order.into()).await.unwrap();
    }

    /// The code of the fault that comes next.
    async fn fault(&mut self) -> String {
        match self.next().await {
            Ok(Report::Fault { code, .. }) => code,
            other => panic!("a fault was due, not {other:?}"),
        }
    }
}

fn sealed(shard: &Shard, key: &ClusterKey) -> (Vec<u8>, Vec<u8>) {
    let bytes = serde_json::to_vec(shard).unwrap();
    let seal = key.seal(&bytes);
    (bytes, seal)
}

fn prepare((bytes, seal): (Vec<u8>, Vec<u8>)) -> Order {
    Order::Prepare { sealed_shard: bytes.into(), seal: seal.into() }
}

async fn start() -> (Etcd, TempDir, Target, Agent, Leader) {
    let (etcd, folder, target) = (Etcd::start().await, TempDir::new().unwrap(), Target::start(&[]).await);
    let file = folder.path().join("key");
    fs::write(&file, KEY).unwrap();
    let flags = ["--cores", "1", "--cluster-key-file", file.to_str().unwrap()];
    let agent = start_agent(&etcd.url, "agent-1", &flags).await;
    let log = agent.process.await_log("the agent listens").await;
    let text = |name: &str| log[name].as_str().unwrap().to_owned();
    let leader = Leader {
        client: AgentClient::connect(format!("http://{}", text("grpc"))).await.unwrap(),
        key: ClusterKey::new(KEY).unwrap(),
        agent: "agent-1".into(),
        incarnation: Incarnation(text("incarnation").parse().unwrap()),
        target: target.url.clone(),
    };
    (etcd, folder, target, agent, leader)
}

/// What the agent has logged of refused orders.
fn refusals(agent: &Agent) -> Vec<Value> {
    let lines =
        agent.process.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    lines.filter(|log| log["message"] == "an order was refused").collect()
}

async fn assert_logged(agent: &Agent, number: usize, order: &str, code: &str, run: Option<RunId>) {
    let all = await_some("the refusal is logged", LIMIT, || async {
        Some(refusals(agent)).filter(|all| all.len() >= number)
    })
    .await;
    assert_eq!(all.len(), number, "one line each: {all:?}");
    let last = &all[number - 1];
    assert_eq!((&last["level"], &last["order"]), (&json!("WARN"), &json!(order)), "{last}");
    assert_eq!((&last["code"], &last["agent_id"]), (&json!(code), &json!("agent-1")), "{last}");
    assert!(last["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{last}");
    if let Some(run) = run {
        assert_eq!(last["run_id"], json!(run.to_string()), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_orders_are_refused_and_logged_and_nothing_is_sent_and_a_good_one_loads() {
    let (_etcd, _folder, target, agent, mut leader) = start().await;
    let (ours, other) = (leader.key.clone(), ClusterKey::new("a key of somebody else").unwrap());
    let mut logged = 0;

    // Streams: whoever has no key neither raises the epoch, nor is heard.
    let run = RunId::new();
    let good = leader.hello(run);
    let seal =
        |hello: &Hello, key: &ClusterKey, ahead_ms| hello.clone().sealed(key, in_ms(ahead_ms)).unwrap();
    let highest = Hello { epoch: Epoch(u64::MAX), ..good.clone() };
    let altered = SealedHello {
        sealed_hello: seal(&highest, &other, 60_000).sealed_hello,
        ..seal(&good, &ours, 60_000)
    };
    let unsigned = SealedHello { seal: Default::default(), ..seal(&highest, &ours, 60_000) };
    let taken = seal(&good, &ours, 60_000);
    let mut stream = leader.open(taken.clone()).await;
    assert!(matches!(stream.next().await, Ok(Report::Welcome(_))));
    for (hello, code) in [
        (unsigned, "bad_seal"),
        (altered, "bad_seal"),
        (seal(&highest, &other, 60_000), "bad_seal"),
        (seal(&highest, &ours, -1), "expired"),
        (taken, "replayed"),
        (seal(&Hello { epoch: Epoch(4), ..good.clone() }, &ours, 60_000), "stale_epoch"),
        (seal(&Hello { agent: "agent-2".into(), ..highest.clone() }, &ours, 60_000), "wrong_agent"),
        (seal(&Hello { incarnation: Incarnation(1), ..highest.clone() }, &ours, 60_000), "other_incarnation"),
    ] {
        let refused = leader.open(hello).await.next().await;
        assert_eq!(refused.unwrap_err(), code);
        logged += 1;
        assert_logged(&agent, logged, "Hello", code, Some(run)).await;
    }

    // Shards, on a stream that is good.
    let good = leader.shard(run);
    let (bytes, its_seal) = sealed(&good, &ours);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let more = text.replace(&format!("\"iterations\":{ITERATIONS}"), "\"iterations\":9").into_bytes();
    assert_ne!(more, bytes);
    for (forged, code) in [
        ((bytes.clone(), Vec::new()), "bad_seal"),
        ((more, its_seal), "bad_seal"),
        (sealed(&good, &other), "bad_seal"),
        (sealed(&Shard { expires_unix_ms: in_ms(-1), ..good.clone() }, &ours), "expired"),
        (sealed(&Shard { epoch: Epoch(4), ..good.clone() }, &ours), "not_ours"),
        (sealed(&Shard { agent: "agent-2".into(), ..good.clone() }, &ours), "not_ours"),
        (sealed(&Shard { incarnation: Incarnation(1), ..good.clone() }, &ours), "not_ours"),
        (sealed(&Shard { run: RunId::new(), ..good.clone() }, &ours), "not_ours"),
    ] {
        stream.send(prepare(forged)).await;
        assert_eq!(stream.fault().await, code);
        stream.send(Order::StartAt { monotonic_ns: 0 }).await;
        assert_eq!(stream.fault().await, "not_prepared");
        logged += 2;
        assert_logged(&agent, logged, "StartAt", "not_prepared", Some(run)).await;
        assert_eq!(refusals(&agent)[logged - 2]["code"], code);
    }

    // One that was obeyed, gave way to another, and comes again.
    let (first, second) = (sealed(&good, &ours), sealed(&Shard { seed: 2, ..good.clone() }, &ours));
    for order in [&first, &second] {
        stream.send(prepare(order.clone())).await;
        assert!(matches!(stream.next().await, Ok(Report::Prepared { .. })));
    }
    stream.send(prepare(first)).await;
    assert_eq!(stream.fault().await, "replayed");
    logged += 1;
    assert_logged(&agent, logged, "Prepare", "replayed", Some(run)).await;

    // What stands outside of streams.
    for (purpose, key, ahead_ms, code) in [
        (Purpose::Kill, &other, 60_000, "bad_seal"),
        (Purpose::Kill, &ours, -1, "expired"),
        (Purpose::Drain, &ours, 60_000, "not_ours"),
    ] {
        let order = Command::new(purpose, leader.agent.clone(), leader.incarnation, in_ms(ahead_ms));
        let (sealed_order, seal) = order.sealed(key).unwrap();
        let refused = leader.client.kill(pb::KillRequest { sealed_order, seal }).await.unwrap_err();
        assert!(refused.message().starts_with(code), "{refused}");
        logged += 1;
        assert_logged(&agent, logged, "Kill", code, None).await;
    }
    drop(stream);
    assert_eq!(target.requests().await, 0, "nothing was sent");

    // The same with good orders: it is no agent that loads nothing anyway.
    let run = RunId::new();
    let mut stream = leader.open_well(run).await;
    stream.send(prepare(sealed(&leader.shard(run), &ours))).await;
    assert!(matches!(stream.next().await, Ok(Report::Prepared { .. })));
    stream.send(Order::StartAt { monotonic_ns: 0 }).await;
    assert!(matches!(stream.next().await, Ok(Report::Started { .. })));
    await_some("the load", LIMIT, || async { (target.requests().await == ITERATIONS).then_some(()) }).await;
    assert_eq!(refusals(&agent).len(), logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_on_its_way_when_the_kill_switch_was_thrown_does_not_begin_afterwards() {
    let (_etcd, _folder, target, agent, mut leader) = start().await;
    let before = RunId::new();
    let order = Command::new(Purpose::Kill, leader.agent.clone(), leader.incarnation, in_ms(60_000));
    let (sealed_order, seal) = order.sealed(&leader.key).unwrap();
    let killed = leader.client.kill(pb::KillRequest { sealed_order, seal }).await.unwrap();
    assert_eq!(killed.into_inner().runs, 0, "no agent carries it yet");
    let hello = leader.hello(before).sealed(&leader.key, in_ms(60_000)).unwrap();
    assert_eq!(leader.open(hello).await.next().await.unwrap_err(), "killed");
    assert_logged(&agent, 1, "Hello", "killed", Some(before)).await;
    assert_eq!(target.requests().await, 0);
    // One that is made afterwards is what somebody wants now.
    let key = leader.key.clone();
    let after = await_some("a later run", LIMIT, || async {
        let run = RunId::new();
        (run.made_unix_ms() > before.made_unix_ms().map(|made| made + 1_000)).then_some(run)
    })
    .await;
    let mut stream = leader.open_well(after).await;
    stream.send(prepare(sealed(&leader.shard(after), &key))).await;
    assert!(matches!(stream.next().await, Ok(Report::Prepared { .. })));
    stream.send(Order::StartAt { monotonic_ns: 0 }).await;
    await_some("the load", LIMIT, || async { (target.requests().await == ITERATIONS).then_some(()) }).await;
}
