//! Host names → addresses, for one core. Addresses that the plan gives, and literal ones, need no asking.
//!
//! Those who want the same name at the same time wait for one answer. A failure is kept for a second, so that a name that nobody
//! answers for is not asked for by every VU in turn.
//!
//! A name that is to be asked for again at an interval stalls nobody: its old addresses serve until the answer is there, and go on
//! serving where there is none, which is logged. Only after a long idle time does the connection that asks wait for it, and then shortly
//! (the way of RFC 8767, serving stale data). Names asked for by each connection have no old addresses: there a failure is one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;
use volcanion_common::plan::DnsRefresh;
use volcanion_common::series::ErrorKind;

use super::fault;
use crate::prepare::{Families, Network, Origin};
use crate::send::clock::now_ns;
use crate::send::sample::{Failure, detail};

/// How long a failed lookup stands.
const FAILURE_KEPT_NS: u64 = 1_000_000_000;
/// How long a connection waits for new addresses while it has old ones that were not asked for again in two intervals.
const STALE_WAIT: Duration = Duration::from_millis(250);
/// Names that are kept; redirects could bring any number. Past it all are asked for anew.
const HOSTS_MAX: usize = 1_024;

/// A name's addresses, by name and port.
type Lookup = Box<dyn Fn(&str, u16) -> Asking>;
type Asking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// All names of one core. Needs a tokio runtime.
pub struct Resolver {
    hosts: RefCell<HashMap<Box<str>, Rc<Host>>>,
    lookup: Lookup,
    /// Where each turn of addresses begins.
    first: usize,
}

/// Addresses to try, never empty, and whether they had to be waited for.
#[derive(Debug)]
pub struct Resolved {
    /// In the order that they were given.
    pub addresses: Rc<[IpAddr]>,
    /// Counts the connections to this server: whose turn it is, modulo how many can be used.
    pub turn: usize,
    /// Whether it took time.
    pub was_asked: bool,
}

struct Host {
    known: RefCell<Known>,
    ports: RefCell<Vec<Port>>,
}

/// One server of a host.
struct Port {
    number: u16,
    given: Option<Rc<[IpAddr]>>,
    turn: usize,
}

#[derive(Default)]
struct Known {
    /// What was last found, and when.
    addresses: Option<(Rc<[IpAddr]>, u64)>,
    /// That the newest asking failed, and when.
    failure: Option<(Failure, u64)>,
    /// The answer that is waited for, with its instant.
    asking: Option<watch::Receiver<Answer>>,
}

type Answer = Option<(Result<Vec<IpAddr>, Failure>, u64)>;

impl Resolver {
    /// Nothing is asked yet.
    pub fn new(network: &Network) -> Self {
        Self::with(network, Box::new(|host, port| Box::pin(ask_system(host.to_owned(), port))))
    }

    fn with(network: &Network, lookup: Lookup) -> Self {
        Self { hosts: RefCell::default(), lookup, first: network.beginning() }
    }

    /// The addresses of a server, asked for where they are not known.
    ///
    /// # Errors
    /// `dns`. Dropping the future half-way is safe: the asking goes on for the next one.
    pub async fn resolve(&self, network: &Network, origin: &Origin) -> Result<Resolved, Failure> {
        let host = self.host(&origin.host);
        let (given, turn) = host.take_turn(network, origin, self.first);
        let (addresses, was_asked) = match given {
            Some(addresses) => (addresses, false),
            None => host.addresses(network, || self.ask(network.families, origin), &origin.host).await?,
        };
        if addresses.is_empty() {
            return Err(Failure::new(ErrorKind::Dns, detail::NOT_FOUND));
        }
        Ok(Resolved { addresses, turn, was_asked })
    }

    fn host(&self, name: &str) -> Rc<Host> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(host) = hosts.get(name) {
            return Rc::clone(host);
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.clear();
        }
        let host = Rc::new(Host { known: RefCell::default(), ports: RefCell::default() });
        hosts.insert(name.into(), Rc::clone(&host));
        host
    }

    /// Asks in a task, so that the answer comes for everybody, whoever stops waiting. The task ends with the core's runtime.
    fn ask(&self, families: Families, origin: &Origin) -> watch::Receiver<Answer> {
        let (sender, receiver) = watch::channel(None);
        let asking = (self.lookup)(&origin.host, origin.port);
        drop(tokio::spawn(async move {
            let found = asking.await.map_err(|error| fault::of_lookup(&error, fault::has_no_files()));
            let answer = found.and_then(|mut addresses| {
                let mut seen = Vec::with_capacity(addresses.len());
                addresses.retain(|ip| {
                    let is_new = families.have(*ip) && !seen.contains(ip);
                    seen.push(*ip);
                    is_new
                });
                let none = Failure::new(ErrorKind::Dns, detail::NOT_FOUND);
                if addresses.is_empty() { Err(none) } else { Ok(addresses) }
            });
            sender.send_replace(Some((answer, now_ns())));
        }));
        receiver
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("hosts", &self.hosts.borrow().len()).finish_non_exhaustive()
    }
}

async fn ask_system(host: String, port: u16) -> io::Result<Vec<IpAddr>> {
    Ok(lookup_host((host, port)).await?.map(|address| address.ip()).collect())
}

impl Host {
    /// The addresses that are given for this server, and its turn.
    fn take_turn(&self, network: &Network, origin: &Origin, first: usize) -> (Option<Rc<[IpAddr]>>, usize) {
        let mut ports = self.ports.borrow_mut();
        let at = ports.iter().position(|port| port.number == origin.port).unwrap_or_else(|| {
            let given = network.given(&origin.host, origin.port).map(Rc::from);
            ports.push(Port { number: origin.port, given, turn: first });
            ports.len() - 1
        });
        let port = &mut ports[at];
        let turn = port.turn;
        port.turn = turn.wrapping_add(1);
        (port.given.clone(), turn)
    }

    async fn addresses(
        &self,
        network: &Network,
        ask: impl FnOnce() -> watch::Receiver<Answer>,
        name: &str,
    ) -> Result<(Rc<[IpAddr]>, bool), Failure> {
        let (mut answer, limit) = {
            let mut known = self.known.borrow_mut();
            known.take_answer(name);
            let now_ns = now_ns();
            if let Some(ready) = known.ready(network.refresh, now_ns) {
                return ready.map(|addresses| (addresses, false));
            }
            let is_first = known.asking.is_none();
            let answer = known.asking.get_or_insert_with(ask).clone();
            let old = known.old(network.refresh);
            if let Some((addresses, _)) = old.filter(|(_, age)| !is_first || !age.is_long(now_ns)) {
                return Ok((addresses, false));
            }
            (answer, known.old(network.refresh).map(|_| STALE_WAIT))
        };
        let arrived = answer.wait_for(Option::is_some);
        match limit {
            // Whether it came is seen below.
            Some(limit) => drop(timeout(limit, arrived).await),
            None => drop(arrived.await),
        }
        let mut known = self.known.borrow_mut();
        known.take_answer(name);
        known.newest(network.refresh).map(|addresses| (addresses, true))
    }
}

/// When addresses were found, and how long they are new.
struct Age {
    found_ns: u64,
    interval_ns: u64,
}

impl Age {
    fn is_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.found_ns) > self.interval_ns
    }

    fn is_long(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.found_ns) > self.interval_ns.saturating_mul(2)
    }
}

impl Known {
    /// Takes an answer in that has arrived.
    fn take_answer(&mut self, name: &str) {
        let Some(asking) = &self.asking else { return };
        // A sender that went without a word is a lookup that broke off.
        let is_lost = asking.has_changed().is_err();
        let answer = asking.borrow().clone();
        let (found, at_ns) = match answer {
            Some(answer) => answer,
            None if is_lost => (Err(Failure::new(ErrorKind::Dns, detail::NO_ANSWER)), now_ns()),
            None => return,
        };
        self.asking = None;
        match found {
            Ok(addresses) => {
                self.addresses = Some((addresses.into(), at_ns));
                self.failure = None;
            }
            Err(failure) => {
                if self.addresses.is_some() && self.failure.is_none() {
                    warn!(
                        host = name,
                        detail = failure.detail,
                        "a name was asked for again in vain; its old addresses serve on"
                    );
                }
                self.failure = Some((failure, at_ns));
            }
        }
    }

    /// What needs no asking.
    fn ready(&self, refresh: DnsRefresh, now_ns: u64) -> Option<Result<Rc<[IpAddr]>, Failure>> {
        match &self.failure {
            Some((_, at_ns)) if now_ns.saturating_sub(*at_ns) < FAILURE_KEPT_NS => Some(self.newest(refresh)),
            _ => match refresh {
                DnsRefresh::Once => self.addresses.clone().map(|(addresses, _)| Ok(addresses)),
                DnsRefresh::PerConnection => None,
                DnsRefresh::Every(_) => self
                    .old(refresh)
                    .filter(|(_, age)| !age.is_over(now_ns))
                    .map(|(addresses, _)| Ok(addresses)),
            },
        }
    }

    /// Addresses that serve while others are asked for.
    fn old(&self, refresh: DnsRefresh) -> Option<(Rc<[IpAddr]>, Age)> {
        let DnsRefresh::Every(interval) = refresh else { return None };
        let (addresses, found_ns) = self.addresses.clone()?;
        Some((addresses, Age { found_ns, interval_ns: interval.as_nanos() }))
    }

    /// What is known when there is nothing to wait for.
    fn newest(&self, refresh: DnsRefresh) -> Result<Rc<[IpAddr]>, Failure> {
        match (&self.failure, &self.addresses) {
            (Some((failure, _)), _) if refresh == DnsRefresh::PerConnection => Err(*failure),
            (_, Some((addresses, _))) => Ok(addresses.clone()),
            (Some((failure, _)), None) => Err(*failure),
            (None, None) => Err(Failure::new(ErrorKind::Dns, detail::NO_ANSWER)),
        }
    }
}

#[cfg(test)]
mod tests;
