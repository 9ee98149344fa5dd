//! Makes connections: resolve, choose an address, look whether it may be loaded, connect, shake hands.
//!
//! Takes an origin of the program, gives a [`Connection`] and the phases that it took. Not on the request path of a kept connection.

mod fault;
mod pool;
mod resolve;
mod stream;

use std::net::SocketAddr;

use tokio::net::TcpStream;
use volcanion_common::series::ErrorKind;

pub use fault::of_exchange;
pub use pool::Pool;
pub use resolve::Names;
pub use stream::Connection;

use super::CoreClient;
use super::clock::{now_ns, span_us};
use super::sample::{Failure, PhaseTimes, detail};
use crate::prepare::Origin;

/// Opens a connection to an origin; gives it with the instant at which it was ready. Phases that ended are noted, also before a failure.
///
/// # Errors
/// `dns`, `connect`, `tls`, `blocked`. Of several addresses the last one's failure is given.
pub async fn dial(
    core: &CoreClient,
    origin: u32,
    phases: &mut PhaseTimes,
) -> Result<(Connection, u64), Failure> {
    let began_ns = now_ns();
    let names = &core.names[origin as usize];
    let origin = &core.program.origins[origin as usize];
    let resolved = names.resolve(origin).await?;
    let resolved_ns = if resolved.was_asked { now_ns() } else { began_ns };
    if resolved.was_asked {
        phases.dns_us = Some(span_us(began_ns, resolved_ns));
    }
    let count = resolved.addresses.len();
    let first = core.next_address.get();
    core.next_address.set(first.wrapping_add(1));
    let turn =
        (0..count).map(|n| SocketAddr::new(resolved.addresses[first.wrapping_add(n) % count], origin.port));
    let stream = connect(core, origin, turn).await?;
    let connected_ns = now_ns();
    phases.connect_us = Some(span_us(resolved_ns, connected_ns));
    let (Some(name), Some(connector)) = (&origin.tls, &core.tls) else {
        return Ok((Connection::Plain(stream), connected_ns));
    };
    let stream =
        connector.connect(name.clone(), stream).await.map_err(|error| fault::of_handshake(&error))?;
    let ready_ns = now_ns();
    phases.tls_us = Some(span_us(connected_ns, ready_ns));
    Ok((Connection::Tls(Box::new(stream)), ready_ns))
}

/// The first of the addresses that may be loaded and answers.
async fn connect(
    core: &CoreClient,
    origin: &Origin,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<TcpStream, Failure> {
    let mut failure = Failure::new(ErrorKind::Blocked, detail::TARGET);
    for address in addresses {
        if !core.program.targets.permits(&origin.host, address.ip(), address.port()) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it a request could wait for the acknowledgement of the one before; a failure costs only that.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failure = fault::of_connect(&error),
        }
        if detail::is_own_exhaustion(failure.detail) {
            break;
        }
    }
    Err(failure)
}
