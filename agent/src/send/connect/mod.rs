//! Makes connections: resolve, choose an address, look whether it may be loaded, connect, shake hands.
//!
//! Takes an origin, gives a [`Connection`] and the phases that it took. Not on the request path of a kept connection.

mod fault;
mod local;
mod pool;
mod race;
mod resolve;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use volcanion_common::series::ErrorKind;

pub use fault::of_exchange;
pub use pool::{Link, Pool};
pub use shared::{Grant, Place, Shared};
pub use stream::{Connection, Socket};

use super::CoreClient;
use super::clock::{now_ns, span_us};
use super::sample::{Failure, PhaseTimes, detail};
use crate::prepare::{Network, Origin, Program};
use local::Sources;
use resolve::{Resolved, Resolver};

/// TLS sessions that a core keeps to resume.
const TLS_SESSIONS: usize = 256;
/// How long to wait before a Unix socket is tried again whose queue of connections is full.
const UNIX_RETRY: Duration = Duration::from_millis(1);

/// What a core keeps to make connections: names, turns, TLS sessions.
pub struct Dialler {
    resolver: Resolver,
    sources: Sources,
    tls: Option<TlsConnector>,
}

impl Dialler {
    /// For one core; connects to nothing yet.
    pub fn new(program: &Program) -> Self {
        let tls = program.tls.as_deref().map(|config| {
            let mut config = config.clone();
            if program.network.resumes_tls {
                // Each core resumes its own sessions: the store has a lock, which so is never waited for.
                config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
            }
            TlsConnector::from(Arc::new(config))
        });
        let resolver = Resolver::new(&program.network);
        let sources = Sources::new(&program.network.local_ips, program.network.beginning());
        Self { resolver, sources, tls }
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

/// Opens a connection to an origin; gives it with the instant at which it was ready. Phases that ended are noted, also before a failure.
///
/// # Errors
/// `dns`, `connect`, `tls`, `blocked`. Of several addresses the last one's failure is given.
pub async fn dial(
    core: &CoreClient,
    origin: &Origin,
    phases: &mut PhaseTimes,
) -> Result<(Connection, u64), Failure> {
    let network = &core.program().network;
    let dialler = core.dialler();
    let began_ns = now_ns();
    let (socket, connecting_ns) = match &network.unix_socket {
        Some(path) => (connect_unix(path).await?, began_ns),
        None => {
            let resolved = dialler.resolver.resolve(network, origin).await?;
            let resolved_ns = if resolved.was_asked { now_ns() } else { began_ns };
            if resolved.was_asked {
                phases.dns_us = Some(span_us(began_ns, resolved_ns));
            }
            (connect(core.program(), &dialler.sources, origin, &resolved).await?, resolved_ns)
        }
    };
    let connected_ns = now_ns();
    phases.connect_us = Some(span_us(connecting_ns, connected_ns));
    let (Some(name), Some(connector)) = (&origin.tls, &dialler.tls) else {
        return Ok((Connection::Plain(socket), connected_ns));
    };
    let connection = shake_hands(connector, network, name, socket).await?;
    let ready_ns = now_ns();
    phases.tls_us = Some(span_us(connected_ns, ready_ns));
    if network.needs_h2 && !connection.speaks_h2() {
        return Err(Failure::new(ErrorKind::Tls, detail::NO_H2));
    }
    Ok((connection, ready_ns))
}

/// To the first of the addresses that may be loaded and answers.
async fn connect(
    program: &Program,
    sources: &Sources,
    origin: &Origin,
    resolved: &Resolved,
) -> Result<Socket, Failure> {
    let may_load = |ip| program.targets.permits(&origin.host, ip, origin.port);
    if let [ip] = *resolved.addresses {
        if may_load(ip) {
            return connect_to(sources, SocketAddr::new(ip, origin.port)).await;
        }
        return Err(Failure::new(ErrorKind::Blocked, detail::TARGET));
    }
    let mut addresses: Vec<SocketAddr> = resolved
        .addresses
        .iter()
        .filter(|ip| may_load(**ip))
        .map(|ip| SocketAddr::new(*ip, origin.port))
        .collect();
    if addresses.is_empty() {
        return Err(Failure::new(ErrorKind::Blocked, detail::TARGET));
    }
    let first = resolved.turn % addresses.len();
    addresses.rotate_left(first);
    race::first(addresses.into_iter().map(|address| connect_to(sources, address))).await
}

async fn connect_to(sources: &Sources, address: SocketAddr) -> Result<Socket, Failure> {
    let stream = sources.connect(address).await?;
    // Without it a request could wait for the acknowledgement of the one before; a failure costs only that.
    let _ = stream.set_nodelay(true);
    Ok(Socket::Tcp(stream))
}

async fn connect_unix(path: &Path) -> Result<Socket, Failure> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Socket::Unix(stream)),
            // The listener's queue is full; a TCP connect would go on trying too.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(UNIX_RETRY).await,
            Err(error) => return Err(fault::of_connect(&error)),
        }
    }
}

async fn shake_hands(
    connector: &TlsConnector,
    network: &Network,
    name: &ServerName<'static>,
    socket: Socket,
) -> Result<Connection, Failure> {
    let name = network.tls_name.as_ref().unwrap_or(name).clone();
    match connector.connect(name, socket).await {
        Ok(stream) => Ok(Connection::Tls(Box::new(stream))),
        Err(error) if network.needs_h2 && fault::is_without_h2(&error) => {
            Err(Failure::new(ErrorKind::Tls, detail::NO_H2))
        }
        Err(error) => Err(fault::of_handshake(&error)),
    }
}
