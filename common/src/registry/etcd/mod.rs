//! The registry of a cluster: etcd.
//!
//! An agent's entry is the key `PREFIX/agents/NAME` with the JSON of its [`Member`], under a lease of 3 s that is renewed each
//! second. So the entry goes when the agent leaves, or when its lease ends because nobody renewed it. Nothing here
//! needs etcd to be up: it is tried again until it is.

mod certificates;
mod dial;
mod election;
mod lease;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::ConnectOptions;
use tokio::sync::watch::Receiver;

use super::{Candidacy, Candidate, Fleet, Member, Membership, Registry, RegistryCounts, RegistryError};
use certificates::Certificates;
use dial::{CALL_LIMIT, Dialer};

/// Where etcd is and how it is spoken to.
#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT`, at least one; another one is tried when one fails.
    pub endpoints: Vec<String>,
    /// Where in etcd the cluster lives: the same for all its masters and agents.
    pub prefix: String,
    /// The authority of etcd's certificate (PEM); needs `https` endpoints.
    pub ca: Option<PathBuf>,
    /// Our certificate towards etcd (PEM); with `key`.
    pub cert: Option<PathBuf>,
    /// The certificate's key (PEM); with `cert`.
    pub key: Option<PathBuf>,
    /// The user towards etcd; with `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = f.debug_struct("EtcdOptions");
        parts.field("endpoints", &self.endpoints).field("prefix", &self.prefix).field("ca", &self.ca);
        parts.field("cert", &self.cert).field("key", &self.key).field("user", &self.user);
        parts.field("password", &self.password.as_ref().map(|_| "…")).finish()
    }
}

/// The members that etcd knows.
pub struct EtcdRegistry {
    dialer: Arc<Dialer>,
}

impl EtcdRegistry {
    /// Reads the settings' files, and again whenever a connection is made. etcd itself is asked at the first use, and need not be up before.
    ///
    /// # Errors
    /// A file cannot be read, or the settings contradict each other.
    pub async fn connect(options: EtcdOptions) -> Result<Self, RegistryError> {
        let endpoints = endpoints(&options)?;
        // The pings show a connection that has gone silent; etcd cuts off whoever pings more often than each 5 s.
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(CALL_LIMIT)
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        match (&options.user, &options.password) {
            (Some(user), Some(password)) => connect = connect.with_user(user, password),
            (None, None) => {}
            _ => return Err(settings("etcd's user and password go together")),
        }
        let is_secured = endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        let certificates = if is_secured { Some(Certificates::open(&options).await?) } else { None };
        let prefix = options.prefix.trim_end_matches('/');
        Ok(Self { dialer: Arc::new(Dialer::new(endpoints, connect, certificates, prefix)) })
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    async fn join(&self, member: Member) -> Result<Box<dyn Membership>, RegistryError> {
        Ok(Box::new(lease::join(self.dialer.clone(), member).await?))
    }

    async fn watch(&self) -> Result<Receiver<Fleet>, RegistryError> {
        watch::start(self.dialer.clone()).await
    }

    async fn campaign(&self, candidate: Candidate) -> Result<Box<dyn Candidacy>, RegistryError> {
        Ok(Box::new(election::campaign(self.dialer.clone(), candidate).await?))
    }

    fn counts(&self) -> Arc<RegistryCounts> {
        Arc::clone(&self.dialer.counts)
    }
}

/// The endpoints with their scheme; all secured or none, so that no setting for the one is lost on the other.
fn endpoints(options: &EtcdOptions) -> Result<Vec<String>, RegistryError> {
    let has_tls = options.ca.is_some() || options.cert.is_some() || options.key.is_some();
    let mut endpoints = Vec::new();
    for text in options.endpoints.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let endpoint = match text.contains("://") {
            true => text.to_owned(),
            false => format!("{}://{text}", if has_tls { "https" } else { "http" }),
        };
        let wrong = || settings(&format!("`{text}` is no etcd endpoint; write it as http://HOST:2379"));
        let url = url::Url::parse(&endpoint).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong());
        }
        endpoints.push(endpoint);
    }
    let secured = endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
    if endpoints.is_empty() {
        Err(settings("no etcd endpoint; give at least one, such as http://127.0.0.1:2379"))
    } else if secured != 0 && secured != endpoints.len() {
        Err(settings("etcd endpoints are all https or none"))
    } else if has_tls && secured == 0 {
        Err(settings("certificates for etcd need https endpoints"))
    } else {
        Ok(endpoints)
    }
}

fn settings(problem: &str) -> RegistryError {
    RegistryError::Settings(problem.to_owned())
}

#[cfg(test)]
mod tests;
