//! Connections to etcd: one endpoint at a time, the next one after a failure, every call within a limit.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions};
use uuid::Uuid;

use super::certificates::Certificates;
use crate::registry::{RegistryCounts, RegistryError};

/// How long a call may take. A lease lasts three times as long, so that one lost call does not cost it.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(1);

/// How often one keeps saying that etcd does not answer.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("no answer within {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("the stream has ended")]
    Ended,
    #[error(transparent)]
    Etcd(#[from] etcd_client::Error),
}

impl CallError {
    /// Whether trying again cannot mend it: etcd has understood and says no.
    pub fn is_final(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Etcd(etcd_client::Error::InvalidArgs(_) | etcd_client::Error::InvalidUri(_)) => true,
            Self::Etcd(etcd_client::Error::GRpcStatus(status)) => match status.code() {
                Code::InvalidArgument | Code::PermissionDenied => true,
                Code::FailedPrecondition => status.message().contains("authentication is not enabled"),
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<CallError> for RegistryError {
    fn from(error: CallError) -> Self {
        if error.is_final() {
            Self::Settings(error.to_string())
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

/// Awaits a call to etcd, for at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Slow(limit)),
    }
}

/// Where etcd is and how it is spoken to.
pub(super) struct Dialer {
    endpoints: Vec<String>,
    options: ConnectOptions,
    certificates: Option<Certificates>,
    turn: AtomicUsize,
    /// What the keys of agents begin with; the rest is the agent's name.
    pub agents: String,
    /// The key that the leading master holds.
    pub leader: String,
    /// What went wrong with all that use this.
    pub counts: Arc<RegistryCounts>,
}

impl Dialer {
    /// `endpoints` has at least one; `prefix` ends without a slash.
    pub fn new(
        endpoints: Vec<String>,
        options: ConnectOptions,
        certificates: Option<Certificates>,
        prefix: &str,
    ) -> Self {
        let (agents, leader) = (format!("{prefix}/agents/"), format!("{prefix}/leader"));
        let (turn, counts) = (AtomicUsize::new(0), Arc::default());
        Self { endpoints, options, certificates, turn, agents, leader, counts }
    }

    /// A client of the endpoint whose turn it is, with the certificates of the moment. Without a user it connects at its first call only.
    pub async fn client(&self) -> Result<Client, CallError> {
        let endpoint = &self.endpoints[self.turn.load(Ordering::Relaxed) % self.endpoints.len()];
        let options = match &self.certificates {
            Some(certificates) => self.options.clone().with_tls(certificates.now().await),
            None => self.options.clone(),
        };
        within(CALL_LIMIT, Client::connect([endpoint], Some(options))).await
    }

    /// Gives the turn to the next endpoint, because this one failed.
    pub fn turn_away(&self) {
        self.counts.failed();
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

/// Pauses between attempts: from 100 ms doubling to 2 s, each cut by chance to between half and all of it, so that many
/// agents do not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub async fn pause(&mut self) {
        let most_ms = (100u64 << self.failures.min(5)).min(2_000);
        self.failures += 1;
        let chance = Uuid::new_v4().as_u128() as u64 % (most_ms / 2 + 1);
        tokio::time::sleep(Duration::from_millis(most_ms / 2 + chance)).await;
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Says that etcd does not answer: at once, then now and then, and when it does again.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    said_at: Option<Instant>,
}

impl Complaint {
    pub fn failed(&mut self, doing: &str, error: &CallError) {
        if self.said_at.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            self.said_at = Some(Instant::now());
            tracing::warn!(doing, %error, "etcd does not answer; trying again");
        }
    }

    pub fn succeeded(&mut self, doing: &str) {
        if self.said_at.take().is_some() {
            tracing::info!(doing, "etcd answers again");
        }
    }
}
