//! Connections to agents: one an address, shared by all runs, clock measurements and questions.
//!
//! A connection is made at its first use and again after it broke. Both sides are looked after by HTTP/2 pings, so that a peer
//! that is frozen or cut off is noticed within [`KEEP_ALIVE_INTERVAL`] + [`KEEP_ALIVE_TIMEOUT`].

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use volcanion_common::net::tls::ClientTls;
use volcanion_proto::v1::agent_client::AgentClient;

/// How long making a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is looked after.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a look may take.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest message from an agent: a frame is at most 1 MiB.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What an agent may send ahead in one stream and in all of a connection: several large deltas, so that none waits for a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Connections that are kept at most; past that all are forgotten, and those in use live on with their users.
const CHANNELS_MAX: usize = 4_096;

/// An agent's address is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of an agent; HOST:PORT is")]
pub struct NoAddress(String);

/// Makes connections to agents. Cheap to clone.
#[derive(Clone, Default)]
pub struct Dialer {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    tls: Option<ClientTls>,
}

impl Dialer {
    /// With TLS agents of the cluster only are spoken to, and see that a master of it speaks.
    pub fn new(tls: Option<ClientTls>) -> Self {
        Self { channels: Arc::default(), tls }
    }

    /// A client of the agent at `address` (`HOST:PORT`). Nothing is sent yet. Must be called within a runtime.
    ///
    /// # Errors
    /// The address is none.
    pub fn client(&self, address: &str) -> Result<AgentClient<Channel>, NoAddress> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = endpoint(address)?;
                let channel = match &self.tls {
                    None => endpoint.connect_lazy(),
                    Some(tls) => endpoint.connect_with_connector_lazy(connector(tls.clone())),
                };
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

type TlsConnection = TokioIo<TlsStream<TcpStream>>;

/// Connects and shakes hands; certificates are those of the moment.
fn connector(
    tls: ClientTls,
) -> impl tower::Service<Uri, Response = TlsConnection, Error = io::Error, Future: Send> + Clone + Send + 'static
{
    tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
            tcp.set_nodelay(true)?;
            Ok(TokioIo::new(tls.connect(tcp).await?))
        }
    })
}

fn endpoint(address: &str) -> Result<Endpoint, NoAddress> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|_| NoAddress(address.to_owned()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}
