//! TLS of our own listeners and of what dials them, from PEM files that may change while the process runs.
//!
//! A file that changed is read within seconds and holds for new connections; one that cannot be read is said in the log, and what was
//! there before stays. Between master and agents both sides show a certificate of the cluster's authority, which carries the
//! name of its part: [`MASTER_NAME`] or [`AGENT_NAME`]. So an agent's certificate cannot give orders, wherever it was taken from.

mod accept;
mod files;
mod peer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use accept::accept;
use files::keep;
pub use files::{PemFiles, TlsError};

/// The DNS name in a master's certificate.
pub const MASTER_NAME: &str = "volcanion-master";
/// The DNS name in an agent's certificate.
pub const AGENT_NAME: &str = "volcanion-agent";
/// How long a handshake may take.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What a listener shows. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls(watch::Receiver<Arc<ServerConfig>>);

/// What a master shows to agents, and whom it believes. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls(watch::Receiver<Arc<ClientConfig>>);

impl ServerTls {
    /// For everybody who speaks TLS 1.2 or 1.3, over HTTP/2 or HTTP/1.1; clients show no certificate. Must be called within a runtime.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what it should.
    pub fn open(files: PemFiles) -> Result<Self, TlsError> {
        keep(files, |pem| {
            let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
            let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&versions)?
                .with_no_client_auth();
            let mut config = builder.with_single_cert(pem.chain, pem.key.ok_or_else(no_key)?)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(config)
        })
        .map(Self)
    }

    /// For masters of the same cluster only, over TLS 1.3. Must be called within a runtime.
    ///
    /// # Errors
    /// As [`ServerTls::open`].
    pub fn for_masters(files: PemFiles) -> Result<Self, TlsError> {
        keep(files, |pem| {
            let provider = Arc::new(default_provider());
            let chains =
                WebPkiClientVerifier::builder_with_provider(Arc::new(pem.roots()?), provider.clone())
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            let builder = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_client_cert_verifier(Arc::new(peer::NamedClient {
                    chains,
                    name: name_of(MASTER_NAME)?,
                }));
            let mut config = builder.with_single_cert(pem.chain, pem.key.ok_or_else(no_key)?)?;
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok(config)
        })
        .map(Self)
    }

    /// What holds for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.borrow())
    }
}

impl ClientTls {
    /// For agents of the same cluster only, over TLS 1.3. Must be called within a runtime.
    ///
    /// # Errors
    /// As [`ServerTls::open`].
    pub fn for_agents(files: PemFiles) -> Result<Self, TlsError> {
        keep(files, |pem| {
            let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(pem.roots()?);
            let mut config = builder.with_client_auth_cert(pem.chain, pem.key.ok_or_else(no_key)?)?;
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok(config)
        })
        .map(Self)
    }

    /// Makes a connection one to an agent, whatever address it was made to.
    ///
    /// # Errors
    /// The other side is no agent of this cluster, does not take us for a master of it, or does not answer in time.
    pub async fn connect(&self, tcp: TcpStream) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let config = Arc::clone(&self.0.borrow());
        let agent = name_of(AGENT_NAME).map_err(io::Error::other)?;
        timeout(HANDSHAKE_MAX, TlsConnector::from(config).connect(agent, tcp)).await?
    }
}

/// What a master that stands by speaks to its leader's REST with: it believes this authority alone, and asks for [`MASTER_NAME`], for
/// masters are reached by addresses that no certificate knows. Must be called within a runtime.
///
/// # Errors
/// As [`ServerTls::open`].
pub fn leaders_config(ca: std::path::PathBuf) -> Result<ClientConfig, TlsError> {
    let files = PemFiles { ca: Some(ca), own: None };
    let verifier = peer::NamedServer {
        chains: keep(files, |pem| peer::chains(pem.roots()?))?,
        name: name_of(MASTER_NAME).map_err(TlsError::Provider)?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Provider)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn name_of(name: &'static str) -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(name).map_err(|error| rustls::Error::General(error.to_string()))
}

fn no_key() -> rustls::Error {
    rustls::Error::General("there is no key".to_owned())
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls(…)")
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls(…)")
    }
}

#[cfg(test)]
mod tests;
