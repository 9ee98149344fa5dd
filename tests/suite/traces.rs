//! A request can be followed: from whoever asked for a run over master and agents to the target, in one trace; and a collector that is away costs nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::harness::await_some;
use crate::harness::cluster::{Agent, start_agent, start_master_in};
use crate::harness::etcd::Etcd;
use crate::harness::process::Process;
use crate::harness::rest::{Rest, http};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// Stands wherever a plan may hold a secret.
const CANARY: &str = "c4n4ry-s3cr3t";

/// An OTLP collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A span as tests look at it; ids in hexadecimal.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    instance: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: i32,
    attributes: HashMap<String, String>,
    took_ns: u64,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(attributes: &[KeyValue]) -> HashMap<String, String> {
    let word = |attribute: &KeyValue| {
        let value = match attribute.value.clone().and_then(|value| value.value) {
            Some(any_value::Value::StringValue(text)) => text,
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(word).collect()
}

impl Collector {
    fn serve() -> (Self, String) {
        let collector = Self::default();
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        (collector, url)
    }

    fn spans(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for of_service in self.0.lock().unwrap().iter().flat_map(|request| &request.resource_spans) {
            let resource = words(&of_service.resource.as_ref().unwrap().attributes);
            assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
            seen.extend(of_service.scope_spans.iter().flat_map(|spans| &spans.spans).map(|span| Seen {
                service: resource["service.name"].clone(),
                instance: resource["service.instance.id"].clone(),
                name: span.name.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                attributes: words(&span.attributes),
                took_ns: span.end_time_unix_nano - span.start_time_unix_nano,
            }));
        }
        seen
    }
}

/// A target that counts its requests, and keeps the `traceparent` of each that has one.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<(u64, Vec<String>)>>);

impl Target {
    async fn serve() -> (Self, String) {
        let target = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let counting = target.clone();
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap| async move {
            let mut seen = counting.0.lock().unwrap();
            seen.0 += 1;
            let all: Vec<_> = headers.get_all("traceparent").iter().collect();
            assert!(all.len() <= 1, "{uri}: {all:?}");
            seen.1.extend(all.iter().map(|value| value.to_str().unwrap().to_owned()));
            "ok"
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        (target, url)
    }

    /// The requests so far, and what they said; both begin anew.
    fn take(&self) -> (u64, Vec<String>) {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A master and two agents that send their spans somewhere.
struct Traced {
    _etcd: Etcd,
    _folder: TempDir,
    master: Process,
    rest: Rest,
    agents: Vec<Agent>,
}

impl Traced {
    async fn start(collector: &str) -> Self {
        let (etcd, folder) = (Etcd::start().await, TempDir::new().unwrap());
        let (master, rest) = start_master_in(&folder, &etcd, &["--otlp-endpoint", collector]).await;
        let mut agents = Vec::new();
        for id in ["agent-1", "agent-2"] {
            agents.push(start_agent(&etcd.url, id, &["--cores", "1", "--otlp-endpoint", collector]).await);
        }
        await_some("two agents", Duration::from_secs(20), || async {
            let (_, agents) = rest.get("/api/v1/agents").await;
            agents.as_array().filter(|agents| agents.len() == 2).map(drop)
        })
        .await;
        Self { _etcd: etcd, _folder: folder, master, rest, agents }
    }

    /// Has a plan run to its end, asked for from within a trace; its final metrics.
    async fn run(&self, plan: &Value, traceparent: Option<&str>) -> Value {
        let (status, stored) = self.rest.post("/api/v1/test-plans", plan).await;
        assert_eq!(status, 201, "{stored}");
        let request = self.rest.http.post(format!("{}/api/v1/test-runs/start", self.rest.base));
        let request = request.json(&json!({ "plan_id": stored["id"] }));
        let request =
            traceparent.into_iter().fold(request, |request, said| request.header("traceparent", said));
        let run: Value = request.send().await.unwrap().json().await.unwrap();
        self.rest.ended(run["id"].as_str().expect("it was started"), Duration::from_secs(60)).await
    }

    /// A counter of spans on a page of metrics.
    async fn count(url: &str, name: &str, result: &str) -> f64 {
        let page = http().get(url).send().await.unwrap().text().await.unwrap();
        let wanted = format!("{name}{{result=\"{result}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&wanted));
        line.unwrap_or_else(|| panic!("{wanted} is not in\n{page}")).parse().unwrap()
    }

    async fn counts(&self, result: &str) -> [f64; 3] {
        let of_agent = "volcanion_agent_trace_spans_total";
        [
            Self::count(&format!("{}/metrics", self.rest.base), "volcanion_trace_spans_total", result).await,
            Self::count(&self.agents[0].metrics, of_agent, result).await,
            Self::count(&self.agents[1].metrics, of_agent, result).await,
        ]
    }
}

fn plan(url: &str, sample: Option<&str>) -> Value {
    let mut plan = json!({
        "name": "traced", "target": url, "headers": { "authorization": CANARY },
        "scenarios": { "s": {
            "executor": "constant-arrival-rate", "rate": "200/s", "duration": "3s", "max_vus": 50,
            "steps": [{ "name": "order", "post": format!("/orders?token={CANARY}"), "body": CANARY }],
        } },
    });
    if let Some(sample) = sample {
        plan["trace"] = json!({ "sample": sample });
    }
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_trace_from_the_request_for_it_to_the_target() {
    let (collector, collector_url) = Collector::serve();
    let (target, url) = Target::serve().await;
    let traced = Traced::start(&collector_url).await;

    let metrics = traced.run(&plan(&url, None), None).await;
    let (requests, said) = target.take();
    assert_eq!((metrics["total_requests"].as_u64(), &said), (Some(requests), &Vec::new()), "{metrics}");

    let metrics = traced.run(&plan(&url, Some("20%")), Some(&format!("00-{TRACE}-{CALLER}-01"))).await;
    let (requests, said) = target.take();
    assert_eq!((metrics["total_requests"].as_u64(), requests), (Some(600), 600), "{metrics}");
    // A fifth of them, give or take five standard deviations.
    assert!((71..=169).contains(&said.len()), "{} of 600", said.len());

    let of_trace =
        || -> Vec<Seen> { collector.spans().into_iter().filter(|span| span.trace == TRACE).collect() };
    // The run's own span is the last to end, on the master; the agents' last ones end about then.
    let spans = await_some("all spans", Duration::from_secs(20), || async {
        let spans = of_trace();
        let ends = spans.iter().filter(|span| ["run", "finish"].contains(&span.name.as_str())).count();
        let orders = spans.iter().filter(|span| span.name == "order").count();
        (ends == 3 && orders == said.len()).then_some(spans)
    })
    .await;
    let named = |name: &str| -> Vec<&Seen> { spans.iter().filter(|span| span.name == name).collect() };
    let [request] = named("POST /api/v1/test-runs/start")[..] else { panic!("{spans:#?}") };
    assert_eq!((request.service.as_str(), request.parent.as_str()), ("volcanion-master", CALLER));
    assert_eq!((request.kind, request.attributes["http.response.status_code"].as_str()), (2, "201"));
    let [run] = named("run")[..] else { panic!("{spans:#?}") };
    assert_eq!(run.parent, request.id);
    assert!(run.took_ns > 3_000_000_000, "{run:?}");
    let parts = |service: &str, instance: &str| -> BTreeSet<&str> {
        let is_part = |span: &&Seen| {
            span.parent == run.id
                && span.service == service
                && (instance.is_empty() || span.instance == instance)
        };
        spans.iter().filter(is_part).map(|span| span.name.as_str()).collect()
    };
    assert_eq!(parts("volcanion-master", ""), BTreeSet::from(["choose", "prepare", "start"]));
    for agent in ["agent-1", "agent-2"] {
        assert_eq!(parts("volcanion-agent", agent), BTreeSet::from(["finish", "load", "prepare", "start"]));
    }
    let loads: BTreeSet<&str> = named("load").iter().map(|span| span.id.as_str()).collect();
    let mut told = BTreeSet::new();
    for order in named("order") {
        assert!(loads.contains(order.parent.as_str()) && order.kind == 3, "{order:?}");
        let expected = [("http.request.method", "POST"), ("http.response.status_code", "200")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(order.attributes, HashMap::from(expected));
        assert!(order.took_ns > 0 && order.took_ns < 30_000_000_000, "{order:?}");
        told.insert(format!("00-{TRACE}-{}-01", order.id));
    }
    assert_eq!(
        told,
        said.into_iter().collect::<BTreeSet<_>>(),
        "what the target was told is what was exported"
    );

    assert!(!format!("{:?}", collector.0.lock().unwrap()).contains(CANARY), "a span holds a secret");
    for span in collector.spans().iter().filter(|span| span.kind == 2) {
        assert!(
            span.attributes["http.route"].starts_with("/api/"),
            "no probe and no scrape is a span: {span:?}"
        );
    }
    assert!(traced.counts("exported").await.iter().all(|count| *count > 0.0));
    assert_eq!(traced.counts("dropped").await, [0.0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_count_and_is_said_once() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (target, url) = Target::serve().await;
    let mut traced = Traced::start(&format!("http://{nowhere}")).await;
    let metrics = traced.run(&plan(&url, Some("100%")), None).await;
    let (requests, said) = target.take();
    assert_eq!((metrics["total_requests"].as_u64(), requests), (Some(600), 600), "{metrics}");
    assert_eq!(metrics["failed_requests"], 0, "{metrics}");
    let traces: BTreeSet<&str> = said.iter().map(|said| &said[..36]).collect();
    assert_eq!((said.len(), traces.len()), (600, 1), "all are of one trace: {traces:?}");
    await_some("spans are dropped", Duration::from_secs(30), || async {
        traced.counts("dropped").await.iter().all(|count| *count > 0.0).then_some(())
    })
    .await;
    assert_eq!(traced.counts("exported").await, [0.0; 3]);

    let Traced { master, agents, .. } = &mut traced;
    let mut processes: Vec<&mut Process> = agents.iter_mut().map(|agent| &mut agent.process).collect();
    processes.push(master);
    for process in processes {
        assert!(process.stop().await.success(), "{} ends in good order", process.name);
        let said =
            process.lines().iter().filter(|line| line.contains("the collector takes no spans")).count();
        assert_eq!(said, 1, "{}", process.name);
    }
}
