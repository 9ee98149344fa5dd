use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::*;

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn serve(address: SocketAddr) -> (Kept, SocketAddr) {
    let (kept, incoming) = (Kept::default(), TcpIncoming::bind(address).unwrap());
    let address = incoming.local_addr().unwrap();
    tokio::spawn(
        Server::builder().add_service(TraceServiceServer::new(kept.clone())).serve_with_incoming(incoming),
    );
    (kept, address)
}

fn to(address: SocketAddr) -> (Tracer, Exporter) {
    let collector: Collector = format!("http://{address}").parse().unwrap();
    let (tracer, exporter) = Tracer::start(Some(&collector), "volcanion-master", "m-1");
    (tracer, exporter.expect("there is a collector"))
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn spans_reach_the_collector_with_their_parents_and_their_resource() {
    let (kept, address) = serve(anywhere());
    let (tracer, exporter) = to(address);
    let parent: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    let mut outer = tracer.begin("GET /x", Kind::Server, Some(parent));
    outer.set("http.response.status_code", 500.into());
    outer.fail();
    let inner = tracer.begin("choose", Kind::Internal, outer.context());
    let (inner_is, outer_is) = (inner.context().unwrap(), outer.context().unwrap());
    drop(inner);
    drop(outer);
    exporter.finish().await;
    assert_eq!(tracer.counts(), Some(SpanCounts { exported: 2, dropped: 0 }));

    let requests = kept.0.lock().unwrap();
    let of_service = &requests[0].resource_spans[0];
    let said: Vec<_> = of_service.resource.as_ref().unwrap().attributes.iter().collect();
    let text = |name: &str| {
        let value = said.iter().find(|attribute| attribute.key == name).unwrap().value.clone();
        value.and_then(|value| value.value)
    };
    assert_eq!(text("service.name"), Some(any_value::Value::StringValue("volcanion-master".to_owned())));
    assert_eq!(text("service.instance.id"), Some(any_value::Value::StringValue("m-1".to_owned())));
    let spans = &of_service.scope_spans[0].spans;
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["choose", "GET /x"]);
    for span in spans {
        assert_eq!(span.trace_id, parent.trace.to_bytes());
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    }
    assert_eq!(spans[0].span_id, inner_is.span.to_bytes());
    assert_eq!(spans[0].parent_span_id, outer_is.span.to_bytes());
    assert_eq!(spans[1].parent_span_id, parent.span.to_bytes());
    assert_eq!(spans[1].status.as_ref().unwrap().code, 2);
}

#[tokio::test]
async fn a_collector_of_an_authority_of_ones_own_is_trusted_by_its_file_alone() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let (kept, incoming) = (Kept::default(), TcpIncoming::bind(anywhere()).unwrap());
    let url = format!("https://localhost:{}", incoming.local_addr().unwrap().port());
    let identity = tonic::transport::Identity::from_pem(&certificate, key);
    let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
    let server =
        Server::builder().tls_config(tls).unwrap().add_service(TraceServiceServer::new(kept.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));
    let collector: Collector = url.parse().unwrap();
    for (collector, exported) in
        [(collector.clone(), 0), (collector.clone().trusting(certificate.as_bytes()).unwrap(), 1)]
    {
        let (tracer, exporter) = Tracer::start(Some(&collector), "volcanion-master", "m-1");
        drop(tracer.begin("GET /x", Kind::Server, None));
        exporter.unwrap().finish().await;
        assert_eq!(tracer.counts().unwrap().exported, exported);
        assert_eq!(kept.0.lock().unwrap().len() as u64, exported);
    }
    let plain: Collector = "http://localhost:4317".parse().unwrap();
    assert_eq!(
        plain.trusting(certificate.as_bytes()).unwrap_err(),
        TrustError::NoTls("http://localhost:4317/".to_owned())
    );
    assert_eq!(collector.trusting(b"no certificate").unwrap_err(), TrustError::NoAuthority);
}

#[tokio::test]
async fn what_nobody_keeps_is_handed_on_and_not_sent() {
    let (kept, address) = serve(anywhere());
    let (tracer, exporter) = to(address);
    let parent: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap();
    let context = tracer.begin("a", Kind::Server, Some(parent)).context().unwrap();
    assert_eq!((context.trace, context.is_sampled), (parent.trace, false));
    exporter.finish().await;
    assert!(kept.0.lock().unwrap().is_empty());

    let off = Tracer::off();
    assert_eq!(off.begin("a", Kind::Server, Some(parent)).context(), Some(parent));
    assert_eq!(off.begin("a", Kind::Server, None).context(), None);
    assert_eq!(off.counts(), None);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_keeps_places_for_what_is_rare() {
    let address = std::net::TcpListener::bind(anywhere()).unwrap().local_addr().unwrap();
    let (tracer, exporter) = to(address);
    let record = || Record {
        context: TraceContext::of_run(crate::ids::RunId::new()),
        parent: None,
        name: "home".into(),
        kind: Kind::Client,
        began_unix_ns: 1,
        ended_unix_ns: 2,
        attributes: Vec::new(),
        is_error: false,
    };
    // The exporter does not run meanwhile: nothing here waits.
    (0..QUEUE_MAX).for_each(|_| tracer.keep_request(record));
    assert_eq!(tracer.counts().unwrap().dropped, RESERVED as u64);
    (0..RESERVED).for_each(|_| tracer.keep(record()));
    assert_eq!(tracer.counts().unwrap().dropped, RESERVED as u64);
    tracer.keep(record());
    assert_eq!(tracer.counts().unwrap().dropped, RESERVED as u64 + 1);
    // A collector that is not there does not hold up the end.
    let ended = tokio::time::timeout(Duration::from_secs(10), exporter.finish()).await;
    assert!(ended.is_ok() && tracer.counts().unwrap().exported == 0);
}

#[test]
fn only_a_bare_url_names_a_collector() {
    for right in ["http://127.0.0.1:4317", "http://otel-collector:4317/", "https://otlp.example.com"] {
        assert!(right.parse::<Collector>().is_ok(), "{right}");
    }
    for wrong in
        ["", "collector:4317", "ftp://a", "http://", "http://u:p@a:1", "http://a/v1/traces", "http://a?b"]
    {
        assert!(wrong.parse::<Collector>().is_err(), "{wrong}");
    }
}
