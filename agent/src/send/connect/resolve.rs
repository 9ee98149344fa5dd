//! Host names → addresses, once a core and run. Literal addresses need no asking.
//!
//! Those who want the same name at the same time wait for one answer. A failure is kept for a second, so that a name that nobody
//! answers for is not asked for by every VU in turn.

use std::net::IpAddr;
use std::rc::Rc;

use tokio::net::lookup_host;
use tokio::sync::Mutex;
use volcanion_common::series::ErrorKind;

use super::fault;
use crate::prepare::Origin;
use crate::send::clock::now_ns;
use crate::send::sample::{Failure, detail};

/// How long a failed lookup stands.
const FAILURE_KEPT_NS: u64 = 1_000_000_000;

/// The addresses of one origin.
#[derive(Debug)]
pub struct Names {
    known: Mutex<Known>,
}

#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Addresses(Rc<[IpAddr]>),
    Failure { failure: Failure, until_ns: u64 },
}

/// Addresses to try, never empty, and whether they had to be waited for.
pub struct Resolved {
    pub addresses: Rc<[IpAddr]>,
    pub was_asked: bool,
}

impl Names {
    /// Of an origin; nothing is asked yet.
    pub fn new(origin: &Origin) -> Self {
        let literal = origin.host.parse::<IpAddr>();
        let known = literal.map_or(Known::Nothing, |ip| Known::Addresses(Rc::from([ip])));
        Self { known: Mutex::new(known) }
    }

    /// The addresses, asked for where they are not known.
    ///
    /// # Errors
    /// `dns`. Dropping the future half-way is safe: the next one asks anew.
    pub async fn resolve(&self, origin: &Origin) -> Result<Resolved, Failure> {
        let (mut known, had_to_wait) = match self.known.try_lock() {
            Ok(known) => (known, false),
            Err(_) => (self.known.lock().await, true),
        };
        match &*known {
            Known::Addresses(addresses) => {
                return Ok(Resolved { addresses: addresses.clone(), was_asked: had_to_wait });
            }
            Known::Failure { failure, until_ns } if now_ns() < *until_ns => return Err(*failure),
            Known::Failure { .. } | Known::Nothing => {}
        }
        match ask(origin).await {
            Ok(addresses) => {
                *known = Known::Addresses(addresses.clone());
                Ok(Resolved { addresses, was_asked: true })
            }
            Err(failure) => {
                *known = Known::Failure { failure, until_ns: now_ns() + FAILURE_KEPT_NS };
                Err(failure)
            }
        }
    }
}

async fn ask(origin: &Origin) -> Result<Rc<[IpAddr]>, Failure> {
    let found =
        lookup_host((origin.host.as_str(), origin.port)).await.map_err(|error| fault::of_lookup(&error))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err(Failure::new(ErrorKind::Dns, detail::NOT_FOUND));
    }
    Ok(addresses.into())
}
