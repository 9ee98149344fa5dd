//! Spans → an OTLP collector, over gRPC.
//!
//! One task takes what waits in the queue and sends it in batches. A batch that the collector does not take is sent again, [`TRIES`] times in
//! all, and dropped then; meanwhile the queue fills, and what finds it full is dropped too. So a collector that is away costs memory up to the queue's bound and nothing
//! else. It is said in the log once, and once more when it is back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{Counts, Kind, Record, Value};

/// Spans that are sent at once.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(500);
/// How long making a connection, and one sending, may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
const SEND_MAX: Duration = Duration::from_secs(5);
/// How often a batch is sent at most, and how long it waits in between.
const TRIES: u32 = 3;
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the last spans may take to reach the collector when their process ends.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Where a collector takes OTLP over gRPC.
#[derive(Clone, Debug)]
pub struct Collector(Endpoint);

/// Why a text is no such place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not where a collector takes OTLP over gRPC; give it as http://HOST:PORT")]
pub struct CollectorError(String);

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let wrong = || CollectorError(text.chars().take(200).collect());
        let url: url::Url = text.trim().parse().map_err(|_| wrong())?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_named = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare || !is_named {
            return Err(wrong());
        }
        let endpoint = Endpoint::from_shared(url.to_string()).map_err(|_| wrong())?;
        let endpoint = endpoint.connect_timeout(CONNECT_MAX).timeout(SEND_MAX);
        if url.scheme() == "http" {
            return Ok(Self(endpoint));
        }
        let tls = ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        endpoint.tls_config(tls).map(Self).map_err(|_| wrong())
    }
}

/// Why a collector cannot be trusted by some authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It shows no certificate.
    #[error("`{0}` shows no certificate; give its address with https, or no authority")]
    NoTls(String),
    /// The text has none.
    #[error("there is no certificate of an authority in it (PEM)")]
    NoAuthority,
}

impl Collector {
    /// Whether it shows a certificate.
    pub fn has_tls(&self) -> bool {
        self.0.uri().scheme_str() == Some("https")
    }

    /// Trusts these authorities (PEM), instead of the public ones.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn trusting(self, authorities: &[u8]) -> Result<Self, TrustError> {
        if !self.has_tls() {
            return Err(TrustError::NoTls(self.to_string()));
        }
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities).collect();
        if all.map_or(true, |all| all.is_empty()) {
            return Err(TrustError::NoAuthority);
        }
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authorities));
        self.0.tls_config(tls).map(Self).map_err(|_| TrustError::NoAuthority)
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.uri().fmt(f)
    }
}

/// The task that brings spans to the collector. Dropped, it ends once it has tried the last ones.
#[derive(Debug)]
pub struct Exporter {
    ending: DropGuard,
    task: JoinHandle<()>,
}

impl Exporter {
    pub(super) fn start(
        collector: &Collector,
        service: &'static str,
        instance: &str,
        inbox: mpsc::Receiver<Record>,
        counts: Arc<Counts>,
    ) -> Self {
        let stop = CancellationToken::new();
        let client = TraceServiceClient::new(collector.0.connect_lazy());
        let resource = resource(service, instance);
        let ending = stop.clone().drop_guard();
        let sending = Sending { collector: collector.to_string(), client, resource, counts, is_away: false };
        Self { ending, task: tokio::spawn(sending.run(inbox, stop)) }
    }

    /// Sends what waits still, and ends; within [`FLUSH_MAX`].
    pub async fn finish(self) {
        drop(self.ending);
        let mut task = self.task;
        if timeout(FLUSH_MAX, &mut task).await.is_err() {
            task.abort();
        }
    }
}

struct Sending {
    collector: String,
    client: TraceServiceClient<Channel>,
    resource: Resource,
    counts: Arc<Counts>,
    /// Whether the newest try failed.
    is_away: bool,
}

impl Sending {
    async fn run(mut self, mut inbox: mpsc::Receiver<Record>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // `recv_many` loses nothing when it is dropped.
        while let Some(1..) = stop.run_until_cancelled(inbox.recv_many(&mut batch, BATCH_MAX)).await {
            if batch.len() < BATCH_MAX {
                // The others of this moment come along.
                let _ = stop.run_until_cancelled(sleep(BATCH_WAIT)).await;
                while batch.len() < BATCH_MAX
                    && let Ok(record) = inbox.try_recv()
                {
                    batch.push(record);
                }
            }
            self.send(&mut batch, &stop).await;
        }
        inbox.close();
        while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.send(&mut batch, &stop).await;
        }
    }

    /// Sends a batch, again and again if need be; it is empty afterwards.
    async fn send(&mut self, batch: &mut Vec<Record>, stop: &CancellationToken) {
        let count = batch.len();
        let request = self.request(batch);
        for attempt in 1..=TRIES {
            match self.client.export(request.clone()).await {
                Ok(answer) => {
                    let refused = answer.into_inner().partial_success.map_or(0, |some| some.rejected_spans);
                    let refused = usize::try_from(refused).unwrap_or(0).min(count);
                    self.counts.exported.fetch_add((count - refused) as u64, Ordering::Relaxed);
                    self.counts.drop_some(refused);
                    if std::mem::take(&mut self.is_away) {
                        tracing::info!(collector = self.collector, "the collector takes spans again");
                    }
                    return;
                }
                Err(status) => {
                    if !std::mem::replace(&mut self.is_away, true) {
                        tracing::warn!(
                            collector = self.collector,
                            error = status.message(),
                            "the collector takes no spans; they are dropped until it does, and nothing waits for it"
                        );
                    }
                }
            }
            let is_last = attempt == TRIES || stop.run_until_cancelled(sleep(AGAIN_AFTER)).await.is_none();
            if is_last {
                break;
            }
        }
        self.counts.drop_some(count);
    }

    fn request(&self, batch: &mut Vec<Record>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "volcanion".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans: batch.drain(..).map(span).collect(),
            ..Default::default()
        };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], ..Default::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }
}

fn resource(service: &'static str, instance: &str) -> Resource {
    let attributes = [
        ("service.name", service.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance.to_owned()),
    ];
    let attributes = attributes.into_iter().map(|(name, text)| attribute(name, text.into())).collect();
    Resource { attributes, ..Default::default() }
}

fn span(record: Record) -> Span {
    let kind = match record.kind {
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
        Kind::Internal => span::SpanKind::Internal,
    };
    let code = if record.is_error { status::StatusCode::Error } else { status::StatusCode::Unset };
    let attributes = record.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect();
    Span {
        trace_id: record.context.trace.to_bytes().to_vec(),
        span_id: record.context.span.to_bytes().to_vec(),
        parent_span_id: record.parent.map_or_else(Vec::new, |parent| parent.to_bytes().to_vec()),
        flags: u32::from(record.context.is_sampled),
        name: record.name.into_owned(),
        kind: kind as i32,
        start_time_unix_nano: record.began_unix_ns,
        end_time_unix_nano: record.ended_unix_ns.max(record.began_unix_ns),
        attributes,
        status: Some(Status { code: code as i32, ..Default::default() }),
        ..Default::default()
    }
}

fn attribute(name: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Whole(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
