//! Our end of a connection: which source address it has.
//!
//! Takes the plan's source addresses in turn, gives connected TCP sockets. Each address has ports of its own towards a target, and a port
//! is chosen only once the target is known (`IP_BIND_ADDRESS_NO_PORT`), so that it can be used again towards another one. Where a plan names
//! no address the system chooses, and this is a plain connect.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};
use volcanion_common::series::ErrorKind;

use super::fault;
use crate::send::sample::{Failure, detail};

/// How many source addresses a connection tries before it has failed. They are used in turn, so that they run out of ports together.
const TRIES_MAX: usize = 4;

/// The source addresses of one core.
#[derive(Debug)]
pub struct Sources {
    v4: Turn,
    v6: Turn,
}

/// Addresses of one family, and whose turn it is.
#[derive(Debug)]
struct Turn {
    addresses: Box<[IpAddr]>,
    next: Cell<usize>,
}

impl Sources {
    /// `first` is where the turns begin, so that cores begin at different addresses.
    pub fn new(addresses: &[IpAddr], first: usize) -> Self {
        let of = |is_v4: bool| Turn {
            addresses: addresses.iter().copied().filter(|ip| ip.is_ipv4() == is_v4).collect(),
            next: Cell::new(first),
        };
        Self { v4: of(true), v6: of(false) }
    }

    /// Connects to an address, from one of ours of its family.
    ///
    /// # Errors
    /// `connect`. Of several source addresses that cannot be used, the last one's failure is given.
    pub async fn connect(&self, to: SocketAddr) -> Result<TcpStream, Failure> {
        let turn = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        if self.v4.addresses.is_empty() && self.v6.addresses.is_empty() {
            return TcpStream::connect(to).await.map_err(|error| fault::of_connect(&error));
        }
        let mut failure = Failure::new(ErrorKind::Connect, detail::NO_SOURCE);
        for _ in 0..turn.addresses.len().min(TRIES_MAX) {
            match connect_from(turn.take(), to).await {
                Err(error) if [detail::NO_PORTS, detail::NO_SOURCE].contains(&error.detail) => {
                    failure = error
                }
                result => return result,
            }
        }
        Err(failure)
    }
}

impl Turn {
    fn take(&self) -> IpAddr {
        let at = self.next.get() % self.addresses.len();
        self.next.set(at + 1);
        self.addresses[at]
    }
}

async fn connect_from(source: IpAddr, to: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = bound(source, to).map_err(|error| match Errno::from_io_error(&error) {
        // Binding takes no port, so that it is the address that is not there.
        Some(Errno::ADDRNOTAVAIL) => Failure::new(ErrorKind::Connect, detail::NO_SOURCE),
        _ => fault::of_connect(&error),
    })?;
    socket.connect(to).await.map_err(|error| fault::of_connect(&error))
}

fn bound(source: IpAddr, to: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Where the system does not know it, binding takes a port at once: fewer connections, but right ones.
    let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn source_addresses_take_turns_within_the_targets_family() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let given = ["127.0.0.2", "::1", "127.0.0.3"].map(|ip| ip.parse().unwrap());
        let sources = Sources::new(&given, 1);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let stream = sources.connect(listener.local_addr().unwrap()).await.unwrap();
            seen.push(stream.local_addr().unwrap().ip().to_string());
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
        }
        assert_eq!(seen, ["127.0.0.3", "127.0.0.2", "127.0.0.3", "127.0.0.2"]);
    }

    #[tokio::test]
    async fn a_source_that_cannot_be_used_is_passed_over_and_none_left_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (foreign, own) = ("192.0.2.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let stream = Sources::new(&[foreign, own], 0).connect(to).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), own);
        for unfit in [foreign, "::1".parse().unwrap()] {
            let failure = Sources::new(&[unfit], 0).connect(to).await.unwrap_err();
            assert_eq!((failure.kind, failure.detail), (ErrorKind::Connect, "no source address"), "{unfit}");
        }
    }

    #[tokio::test]
    async fn no_port_is_taken_before_the_target_is_known() {
        for (source, to) in [("127.0.0.4", "127.0.0.1:1"), ("::1", "[::1]:1")] {
            let socket = bound(source.parse().unwrap(), to.parse().unwrap()).unwrap();
            assert_eq!(socket.local_addr().unwrap().port(), 0);
        }
    }
}
