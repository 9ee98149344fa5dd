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

pub mod expose;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use volcanion_common::net::listen::{self, ListenError};
use volcanion_common::registry::{Registry, RegistryError};

pub use config::Config;
use fleet::Agents;
use fleet::dial::Dialer;
use run::table::Runs;
use run::take_over;
use store::StoreError;

/// How long runs may take to end, or to be left, once the master is to end.
const RUNS_END_TIMEOUT: Duration = Duration::from_secs(20);
/// How long clients that are being answered may take then.
const REST_END_TIMEOUT: Duration = Duration::from_secs(5);
/// How often ended runs are looked through for those whose time is over.
const FORGET_EVERY: Duration = Duration::from_secs(30);
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
    runs: Runs,
    rest_address: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Master {
    /// What clients ask of it.
    pub fn runs(&self) -> Runs {
        self.runs.clone()
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

/// Starts a master: opens the store, takes office, watches the agents, takes up what the last master left, listens. It ends with `stop`.
///
/// # Errors
/// It may not or cannot listen; the store or the registry cannot be used.
pub async fn start(
    config: Config,
    registry: Arc<dyn Registry>,
    stop: CancellationToken,
) -> Result<Master, StartError> {
    // The port comes first: a second master on it must not depose the first one.
    let listener = match config.listen {
        Some(address) => Some(bind(&config, address).await?),
        None => None,
    };
    let rest_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let store = store::open(&config.store).await?;
    let agents = Agents::watch(&*registry).await?;
    let epoch = leader::take_office(&*store).await?;
    let dialer = Dialer::default();
    let runs = Runs::new(store, agents.clone(), dialer.clone(), Arc::new(config), epoch, stop.clone());
    take_over::take_over(&runs).await?;

    let mut tasks = JoinSet::new();
    tasks.spawn(fleet::clock::keep_measuring(agents, dialer, stop.clone()));
    tasks.spawn(watch_office(runs.clone(), stop.clone()));
    tasks.spawn(forget_old_runs(runs.clone(), stop.clone()));
    if let Some(listener) = listener {
        tracing::info!(address = rest_address.map(tracing::field::display), "REST listens");
        tasks.spawn(serve(listener, runs.clone(), stop.clone()));
    }
    let task = tokio::spawn(supervise(runs.clone(), tasks, stop));
    Ok(Master { runs, rest_address, task })
}

async fn bind(config: &Config, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::check(address, false, config.allow_unauthenticated, OPEN_FLAG)?;
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

/// Waits for the end, or for a task that broke, and brings everything to its end.
async fn supervise(runs: Runs, mut tasks: JoinSet<()>, stop: CancellationToken) {
    let _ends_all = stop.clone().drop_guard();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => raise(ended),
        }
    }
    runs.wind_up(RUNS_END_TIMEOUT).await;
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            raise(ended);
        }
    };
    if tokio::time::timeout(REST_END_TIMEOUT, rest).await.is_err() {
        tracing::warn!("some clients were still being answered; their connections are cut");
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

async fn watch_office(runs: Runs, stop: CancellationToken) {
    let shared = &runs.shared;
    leader::watch_office(&*shared.store, shared.epoch, &shared.deposed, &stop).await;
}

async fn forget_old_runs(runs: Runs, stop: CancellationToken) {
    let mut every = tokio::time::interval(FORGET_EVERY);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        runs.forget_old();
    }
}

async fn serve(listener: TcpListener, runs: Runs, stop: CancellationToken) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return tracing::error!(%error, "the REST listener is gone"),
    };
    let router = expose::rest::router(expose::rest::RestState::new(runs, address, stop.clone()));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "REST broke; the master ends");
        stop.cancel();
    }
}
