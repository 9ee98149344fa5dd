//! The master: takes plans over REST, drives agents through runs, merges what they report and judges it.
//!
//! [`start`] is the one entry. In the order of the data's way:

pub mod config;
mod leader;

pub mod fleet;
pub mod session;

pub mod merge;
pub mod evaluate;
pub mod store;

pub mod run;

pub mod access;

pub mod expose;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use volcanion_common::net::listen::{self, ListenError};
use volcanion_common::registry::{Candidate, Registry, RegistryError};
use volcanion_common::telemetry::trace::{Exporter, Tracer};
use volcanion_common::units::Micros;

use access::Access;
use access::audit::Audit;
pub use config::{AdvertiseUrl, Config};
use expose::rest::{RestOptions, RestState, TimeLimits};
use fleet::Agents;
use fleet::dial::Dialer;
use leader::{Campaigner, Office, World};
use run::table::{Outgoing, Runs};
use store::{Store, StoreError};

/// How long runs may take to end, or to be left, once the master is to end.
const RUNS_END_TIMEOUT: Duration = Duration::from_secs(20);
/// How long clients that are being answered may take then.
const REST_END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last changes may take to be kept then, and connections to the store to be closed.
const KEPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often ended runs are looked through for those whose time is over.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// How often old changes are looked for, and how long a step of forgetting rests.
const FORGET_CHANGES_EVERY: Duration = Duration::from_secs(3_600);
const FORGET_CHANGES_PAUSE: Duration = Duration::from_millis(100);
/// What spans say that they are of.
const SERVICE: &str = "volcanion-master";
/// The flag with which REST asks for keys.
const KEY_FLAG: &str = "--admin-key-file";
/// The flag that lets REST listen beyond loopback without credentials.
const OPEN_FLAG: &str = "--allow-unauthenticated";

/// Why a master did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was asked to listen where everybody could start a load.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address cannot be listened at.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A master that runs in tasks of this process.
pub struct Master {
    office: Office,
    access: Access,
    rest_address: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Master {
    /// What clients ask of it in its present term, or while it stands by.
    pub fn runs(&self) -> Runs {
        self.office.runs()
    }

    /// Who may ask, and for what.
    pub fn access(&self) -> &Access {
        &self.access
    }

    #[cfg(test)]
    pub(crate) fn office(&self) -> Office {
        self.office.clone()
    }

    /// Where REST listens, where it does.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest_address
    }

    /// Waits until it has ended: after its stop, when runs are ended or left and clients are answered.
    ///
    /// # Panics
    /// A task of it did.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Starts a master: opens the store, watches the agents, stands for election, listens. Where it is elected at once, it has taken office, and up what the
/// last master left, before it listens. It ends with `stop`.
///
/// # Errors
/// It may not or cannot listen; the store or the registry cannot be used.
pub async fn start(
    config: Config,
    registry: Arc<dyn Registry>,
    stop: CancellationToken,
) -> Result<Master, StartError> {
    // The port comes first: a second master on it must not stand for election beside the first one.
    let listener = match config.listen {
        Some(address) => Some(bind(&config, address).await?),
        None => None,
    };
    let rest_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let rest = config.rest_url(rest_address);
    if rest_address.is_some() && rest.is_none() {
        tracing::warn!(
            "this master listens at every address, and says none to the others: they cannot send writes on to it; give --advertise-url"
        );
    }
    let store = store::open(&config.store).await?;
    let candidate = Candidate { id: Uuid::now_v7().to_string(), rest, store: Some(store.id().await?) };
    let agents = Agents::watch(&*registry).await?;
    let access = Access::new(Arc::clone(&store), config.admin_key.clone()).with_oidc(config.oidc.clone());
    let audit = access.trail(stop.clone());
    let trail = audit.clone();
    let (tracer, exporter) = Tracer::start(config.collector.as_ref(), SERVICE, &candidate.id);
    let config = Arc::new(config);
    let outgoing = config.remote_write.as_ref().map(|_| Arc::new(Outgoing::default()));
    let world = World {
        store: Arc::clone(&store),
        agents: agents.clone(),
        dialer: Dialer::new(config.cluster_tls.clone()),
        config: Arc::clone(&config),
        tracer: tracer.clone(),
        outgoing: outgoing.clone(),
        stop: stop.clone(),
    };
    let dialer = world.dialer.clone();
    let (campaigner, office) = Campaigner::begin(world, registry, candidate).await?;

    let mut campaign = JoinSet::new();
    campaign.spawn(campaigner.stand(RUNS_END_TIMEOUT));
    let mut tasks = JoinSet::new();
    tasks.spawn(fleet::clock::keep_measuring(agents, dialer, stop.clone()));
    tasks.spawn(forget_old_runs(office.clone(), stop.clone()));
    tasks.spawn(run::retention::keep_forgetting(office.clone(), stop.clone()));
    if let Some(keep) = config.keep_audit {
        tasks.spawn(forget_old_changes(Arc::clone(&store), keep, stop.clone()));
    }
    if let Some((settings, outgoing)) = config.remote_write.clone().zip(outgoing) {
        let writing =
            expose::remote_write::keep_writing(settings, outgoing, Arc::clone(&store), stop.clone());
        tasks.spawn(writing);
    }
    tasks.spawn(store::keep_probing(Arc::clone(&store), stop.clone()));
    if let Some(listener) = listener {
        tracing::info!(address = rest_address.map(tracing::field::display), "REST listens");
        tasks.spawn(serve(
            listener,
            Arc::clone(&config),
            office.clone(),
            access.clone(),
            audit,
            tracer,
            stop.clone(),
        ));
    }
    let task = tokio::spawn(supervise(campaign, tasks, exporter, Kept { store, audit: trail }, stop));
    Ok(Master { office, access, rest_address, task })
}

async fn bind(config: &Config, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::check(address, config.admin_key.is_some(), config.allow_unauthenticated, KEY_FLAG, OPEN_FLAG)?;
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

/// What outlives all that uses it.
struct Kept {
    store: Arc<dyn Store>,
    audit: Audit,
}

impl Kept {
    async fn close(self) {
        self.audit.settle().await;
        self.store.close().await;
    }
}

/// Waits for the end, or for a task that broke, and brings everything to its end.
async fn supervise(
    mut campaign: JoinSet<()>,
    mut tasks: JoinSet<()>,
    exporter: Option<Exporter>,
    kept: Kept,
    stop: CancellationToken,
) {
    let _ends_all = stop.clone().drop_guard();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = campaign.join_next() => raise(ended),
            Some(ended) = tasks.join_next() => raise(ended),
        }
    }
    while let Some(ended) = campaign.join_next().await {
        raise(ended);
    }
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            raise(ended);
        }
    };
    if tokio::time::timeout(REST_END_TIMEOUT, rest).await.is_err() {
        tracing::warn!("some clients are still being answered; their connections end with this process");
    }
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    if tokio::time::timeout(KEPT_TIMEOUT, kept.close()).await.is_err() {
        tracing::warn!("the store does not answer; it is left as it is");
    }
    tracing::info!("the master has ended");
}

fn raise(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn forget_old_runs(office: Office, stop: CancellationToken) {
    let mut every = tokio::time::interval(FORGET_EVERY);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        office.runs().forget_old();
    }
}

async fn serve(
    listener: TcpListener,
    config: Arc<Config>,
    office: Office,
    access: Access,
    audit: Audit,
    tracer: Tracer,
    stop: CancellationToken,
) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return tracing::error!(%error, "the REST listener is gone"),
    };
    let options = RestOptions {
        public: config.public,
        rate_limit: config.rate_limit,
        origins: config.origins.clone(),
        is_tls: config.rest_tls.is_some(),
        leaders_tls: config.leaders_tls.clone(),
        cluster_key: config.cluster_key.clone(),
        tracer,
        limits: TimeLimits::default(),
    };
    let limits = options.limits;
    let router = expose::rest::router(RestState::new(office, access, audit, options, address, stop.clone()));
    expose::serve::serve(listener, config.rest_tls.clone(), router, limits, stop).await;
}

/// Forgets old changes; every master may, for it is done in small steps.
async fn forget_old_changes(store: Arc<dyn Store>, keep: Micros, stop: CancellationToken) {
    let mut every = tokio::time::interval(FORGET_CHANGES_EVERY);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        let age = jiff::SignedDuration::from_micros(i64::try_from(keep.0).unwrap_or(i64::MAX));
        let Ok(before) = store::now().checked_sub(age) else { continue };
        while !stop.is_cancelled() {
            match store.forget_audits(before).await {
                Ok(true) => tokio::time::sleep(FORGET_CHANGES_PAUSE).await,
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(%error, "old changes are not forgotten yet");
                    break;
                }
            }
        }
    }
}
