//! The agent: takes shards over gRPC, loads, and streams deltas up until they are durable.
//!
//! One entry, [`start`]: it binds its listeners, joins the registry and serves until its stop token is cancelled; then it
//! leaves along the way of the data: no new runs, no new iterations, last deltas acknowledged, registry entry gone, exit.
//! Embedded and cluster differ in one value, the registry that is handed in.

pub mod calibrate;
pub mod config;
pub mod delta;
pub mod engine;
pub mod expose;
pub mod loader;
pub mod prepare;
pub mod presence;
pub mod record;
pub mod schedule;
pub mod send;
pub mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{Instrument, error, error_span, info, warn};
use volcanion_common::ids::Incarnation;
use volcanion_common::net::listen;
use volcanion_common::net::tls::{self, ServerTls};
use volcanion_common::registry::{Member, MemberState, Registry, RegistryError};
use volcanion_common::telemetry::trace::{Exporter, Tracer};
use volcanion_proto::DESCRIPTOR_SET;
use volcanion_proto::v1::agent_server::AgentServer;

use calibrate::{CalibrateError, CalibrateSettings, calibrate};
pub use config::{Capacity, Config, ConfigError};
use engine::EngineSettings;
use expose::seen::Seen;
use loader::EngineLoader;
use prepare::{PrepareSettings, Taken};
use session::desk::{Census, Desk, DeskHandle};
use session::driver::Surroundings;
use session::fence::Identity;
use session::lease::Lease;
use session::load::Loader;
use session::service::AgentService;
use session::tally::Tally;

/// What spans say that they are of.
const SERVICE: &str = "volcanion-agent";
/// The largest message that is read: a Prepare.
const PREPARE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A leader that does not answer HTTP/2's pings is gone after 15 s.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(5);
/// How long `start` waits for the registry before it goes on without.
const JOIN_WAIT: Duration = Duration::from_secs(5);
/// How long an agent that leaves waits until its last deltas are durable.
const LEAVE_WAIT: Duration = Duration::from_secs(10);
/// How long open connections may take to end after that.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener.
    #[error("{field}: cannot listen on {address}: {source}")]
    Listen {
        /// The setting.
        field: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The registry will not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its capacity was to be measured.
    #[error("capacity: {0}; give a number, or leave it out")]
    Calibrate(#[from] CalibrateError),
    /// The wire's description, which is compiled in, cannot be read.
    #[error("gRPC reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Why an agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The gRPC server.
    #[error("the gRPC server ended: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The metrics server.
    #[error("the metrics server ended: {0}")]
    Metrics(std::io::Error),
    /// The registry took the entry away for good.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A part of it panicked or ended without being told.
    #[error("a part of the agent ended: {0}")]
    Ended(String),
}

/// An agent that serves.
#[derive(Debug)]
pub struct Agent {
    grpc_address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    incarnation: Incarnation,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    /// Where gRPC really listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where metrics and health really listen.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// This process of the agent.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Waits until it has ended: after its stop token was cancelled, or by itself.
    ///
    /// # Errors
    /// It ended by itself.
    pub async fn stopped(self) -> Result<(), AgentError> {
        self.task.await.unwrap_or_else(|error| Err(AgentError::Ended(error.to_string())))
    }
}

/// Starts an agent. It listens when this returns, and is in the registry, unless that does not
/// answer: then it is entered as soon as it can be. `stop` makes it leave.
///
/// # Errors
/// The settings are wrong, an address is taken, or the registry will never take the entry.
pub async fn start(
    config: Config,
    registry: Arc<dyn Registry>,
    stop: CancellationToken,
) -> Result<Agent, StartError> {
    let (tracer, exporter) = Tracer::start(config.collector.as_ref(), SERVICE, &config.id.0);
    let loader = EngineLoader {
        prepare: PrepareSettings {
            listens_on_loopback: listen::is_loopback(config.listen),
            allow: config.targets.clone(),
            files: config.files.clone(),
            secrets: config.secrets.clone(),
            taken: Taken::default(),
            tracer: tracer.clone(),
        },
        engine: EngineSettings {
            cores: config.cores as usize,
            pin: config.pin,
            busy_poll: config.busy_poll,
            quantum: config.quantum,
        },
    };
    let traces = Traces { tracer, exporter };
    let span = error_span!("agent", agent_id = %config.id);
    begin(config, registry, Arc::new(loader), traces, stop).instrument(span).await
}

/// [`start`] with another engine.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    config: Config,
    registry: Arc<dyn Registry>,
    loader: Arc<dyn Loader>,
    stop: CancellationToken,
) -> Result<Agent, StartError> {
    let (tracer, exporter) = Tracer::start(config.collector.as_ref(), SERVICE, &config.id.0);
    let span = error_span!("agent", agent_id = %config.id);
    begin(config, registry, loader, Traces { tracer, exporter }, stop).instrument(span).await
}

/// The agent's spans, and what brings them to their collector.
struct Traces {
    tracer: Tracer,
    exporter: Option<Exporter>,
}

/// Everything here, and the tasks that come of it, are under the agent's span, which gives their log lines its name.
async fn begin(
    config: Config,
    registry: Arc<dyn Registry>,
    loader: Arc<dyn Loader>,
    Traces { tracer, exporter }: Traces,
    stop: CancellationToken,
) -> Result<Agent, StartError> {
    config.check()?;
    let (grpc, grpc_address) = bind("listen", config.listen).await?;
    let metrics = match config.metrics_listen {
        Some(address) => Some(bind("metrics_listen", address).await?),
        None => None,
    };
    let metrics_address = metrics.as_ref().map(|(_, address)| *address);
    let incarnation = Incarnation::random();
    let (capacity, requests_per_s) = capacity(&config).await?;
    let member = Member {
        id: config.id.clone(),
        incarnation,
        address: config.advertised(grpc_address),
        metrics_address: metrics_address.map(|address| config.advertised_metrics(address)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: config.labels.clone(),
        cores: config.cores,
        capacity,
        requests_per_s,
        state: MemberState::Ready,
    };
    let (lease, seen) = (Lease::default(), Arc::new(Seen::default()));
    let (tally, registry_counts) = (Arc::new(Tally::default()), registry.counts());
    let identity = Arc::new(Identity::new(config.id.clone(), incarnation, config.cluster_key.clone()));
    let around = Arc::new(Surroundings {
        loader,
        lease: lease.clone(),
        seen: seen.clone(),
        tracer: tracer.clone(),
        tally: tally.clone(),
    });
    let (desk, desk_handle) = Desk::new(identity, config.orphan_timeout, around);

    let closing = CancellationToken::new();
    let mut parts: JoinSet<Result<(), AgentError>> = JoinSet::new();
    let served = async move {
        desk.serve().await;
        Ok(())
    };
    parts.spawn(served.in_current_span());
    let service = AgentService::new(member.clone(), desk_handle.clone(), closing.clone());
    let health = serve_grpc(&mut parts, grpc, service, config.tls.clone(), closing.clone()).await?;
    if let Some((listener, _)) = metrics {
        let census = desk_handle.census();
        let router = expose::router(Arc::new(expose::Sources {
            seen: seen.clone(),
            census,
            desk: desk_handle.clone(),
            lease: lease.clone(),
            tracer,
            public: config.public,
            tally,
            registry: registry_counts,
            remote_debug: config.remote_debug,
        }));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let closed = closing.clone().cancelled_owned();
        let served = async move {
            axum::serve(listener, service).with_graceful_shutdown(closed).await.map_err(AgentError::Metrics)
        };
        parts.spawn(served.in_current_span());
    }
    info!(agent_id = %config.id, %incarnation, grpc = %grpc_address, metrics = metrics_address.map(tracing::field::display), "the agent listens");

    let leave_registry = CancellationToken::new();
    let (joined, mut has_joined) = watch::channel(false);
    let census = desk_handle.census();
    let kept = presence::keep(registry, member, census, lease, joined, leave_registry.clone());
    let mut presence = tokio::spawn(kept.in_current_span());
    // Dropping a wait loses nothing. A presence that fails drops its end of `joined`: that is not joining.
    tokio::select! {
        ended = &mut presence => if let Ok(Err(error)) = ended {
            return Err(error.into());
        },
        Ok(_) = has_joined.wait_for(|joined| *joined) => {}
        () = tokio::time::sleep(JOIN_WAIT) => warn!("the registry does not answer yet; the agent joins when it does"),
    }
    let serving =
        Serving { parts, presence, desk: desk_handle, health, leave_registry, seen, exporter, closing };
    let task = tokio::spawn(serving.until(stop).in_current_span());
    Ok(Agent { grpc_address, metrics_address, incarnation, task })
}

/// The weight beside other agents, and where it was measured the requests a second too.
async fn capacity(config: &Config) -> Result<(f64, Option<f64>), StartError> {
    match config.capacity {
        Capacity::Cores => Ok((config.cores.into(), None)),
        Capacity::Given(capacity) => Ok((capacity, None)),
        Capacity::Calibrated => {
            let closed = calibrate(&CalibrateSettings::at_start()).await?.closed;
            let (capacity, cores) = (closed.capacity(config.cores), f64::from(config.cores));
            let requests_per_s = (closed.requests_per_core_s() * cores).round();
            info!(capacity, requests_per_s, closed.cpu_us_per_request, "the agent has measured its capacity");
            Ok((capacity, Some(requests_per_s)))
        }
    }
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { field, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn serve_grpc(
    parts: &mut JoinSet<Result<(), AgentError>>,
    listener: TcpListener,
    service: AgentService,
    tls: Option<ServerTls>,
    closing: CancellationToken,
) -> Result<tonic_health::server::HealthReporter, StartError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentServer<AgentService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(AgentServer::new(service).max_decoding_message_size(PREPARE_BYTES_MAX));
    let serving = async move {
        let closed = closing.clone().cancelled_owned();
        let served = match tls {
            None => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                server.serve_with_incoming_shutdown(incoming, closed).await
            }
            Some(tls) => {
                let accepted = ReceiverStream::new(tls::accept(listener, tls, closing));
                let incoming = accepted.map(|(stream, _)| Ok::<_, std::io::Error>(stream));
                server.serve_with_incoming_shutdown(incoming, closed).await
            }
        };
        served.map_err(AgentError::from)
    };
    parts.spawn(serving.in_current_span());
    Ok(health)
}

/// Everything that goes on after the start.
struct Serving {
    parts: JoinSet<Result<(), AgentError>>,
    presence: JoinHandle<Result<(), RegistryError>>,
    desk: DeskHandle,
    health: tonic_health::server::HealthReporter,
    leave_registry: CancellationToken,
    seen: Arc<Seen>,
    exporter: Option<Exporter>,
    closing: CancellationToken,
}

impl Serving {
    /// Serves until told to stop or until a part ends by itself; then leaves, in the order of the data's way.
    async fn until(mut self, stop: CancellationToken) -> Result<(), AgentError> {
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = &mut self.presence => Err(match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => AgentError::Ended("its presence".to_owned()),
                Err(error) => AgentError::Ended(error.to_string()),
            }),
            Some(ended) = self.parts.join_next() => Err(match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) => AgentError::Ended("a server".to_owned()),
                Err(error) => AgentError::Ended(error.to_string()),
            }),
        };
        if let Err(error) = &result {
            error!(%error, "the agent cannot go on");
        }
        info!("the agent leaves");
        self.health.set_not_serving::<AgentServer<AgentService>>().await;
        self.desk.leave().await;
        let mut census = self.desk.census();
        loop {
            // How long handing over may take is the session's to say; what was reported last then has its time too.
            let hands_over = self.seen.any_hands_over();
            let no_runs = census.wait_for(|census: &Census| census.is_leaving && census.runs.is_empty());
            if timeout(LEAVE_WAIT, no_runs).await.is_ok() {
                break;
            }
            if !hands_over {
                warn!("no leader has acknowledged the last deltas in time; they are lost");
                break;
            }
        }
        self.leave_registry.cancel();
        if !self.presence.is_finished() {
            let _ = (&mut self.presence).await;
        }
        self.closing.cancel();
        // The desk ends when nobody can reach it any more.
        drop(self.desk);
        let closed = async { while self.parts.join_next().await.is_some() {} };
        if timeout(CLOSE_WAIT, closed).await.is_err() {
            warn!("some connections were still open at the end");
        }
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
        info!("the agent has ended");
        result
    }
}
