use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use volcanion_common::plan::{AddressFamily, DnsOptions, HttpOptions, Resolve};
use volcanion_common::units::Micros;

use super::*;
use crate::prepare::tests::{plan, request, shard};
use crate::prepare::{PrepareSettings, compile};

/// A name service that gives what it is told to, and counts.
#[derive(Clone, Default)]
struct Service(Arc<Inner>);

#[derive(Default)]
struct Inner {
    answers: Mutex<VecDeque<io::Result<Vec<IpAddr>>>>,
    asked: Mutex<usize>,
    may_answer: Notify,
    is_slow: bool,
}

impl Service {
    fn slow() -> Self {
        Self(Arc::new(Inner { is_slow: true, ..Inner::default() }))
    }

    fn answers(self, addresses: &[&str]) -> Self {
        self.0.answers.lock().unwrap().push_back(Ok(ips(addresses)));
        self
    }

    fn fails(self) -> Self {
        self.0.answers.lock().unwrap().push_back(Err(io::Error::other("Name or service not known")));
        self
    }

    fn asked(&self) -> usize {
        *self.0.asked.lock().unwrap()
    }

    fn lookup(&self) -> Lookup {
        let inner = self.0.clone();
        Box::new(move |_, _| {
            *inner.asked.lock().unwrap() += 1;
            let inner = inner.clone();
            Box::pin(async move {
                if inner.is_slow {
                    inner.may_answer.notified().await;
                }
                inner.answers.lock().unwrap().pop_front().expect("asked more often than the test thought")
            })
        })
    }
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn network(dns: DnsOptions) -> Network {
    let mut plan = plan(None, vec![request("GET", "http://name.example/", vec![], None)]);
    plan.http = HttpOptions { dns, ..HttpOptions::default() };
    compile(&shard(1), &plan, &PrepareSettings::default()).unwrap().network
}

fn refreshed(refresh: DnsRefresh) -> Network {
    network(DnsOptions { refresh, ..DnsOptions::default() })
}

fn origin(host: &str, port: u16) -> Origin {
    Origin { host: host.to_owned(), port, tls: None }
}

/// What a connection to `name.example` is given, and whether it waited.
async fn ask(resolver: &Resolver, network: &Network) -> Result<(Vec<IpAddr>, bool), &'static str> {
    let resolved = resolver.resolve(network, &origin("name.example", 80)).await;
    resolved.map(|found| (found.addresses.to_vec(), found.was_asked)).map_err(|failure| failure.detail)
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_those_who_wait_share_the_answer() {
    let network = refreshed(DnsRefresh::Once);
    let service = Service::slow().answers(&["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
    let resolver = Resolver::with(&network, service.lookup());
    let both = async { tokio::join!(ask(&resolver, &network), ask(&resolver, &network)) };
    let (answers, ()) = tokio::join!(both, async { service.0.may_answer.notify_one() });
    let expected = Ok((ips(&["10.0.0.1", "10.0.0.2"]), true));
    assert_eq!(answers, (expected.clone(), expected));
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1", "10.0.0.2"]), false)));
    let other_port = resolver.resolve(&network, &origin("name.example", 443)).await.unwrap();
    assert!(!other_port.was_asked);
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn one_who_stops_waiting_takes_no_answer_from_the_others() {
    let network = refreshed(DnsRefresh::Once);
    let service = Service::slow().answers(&["10.0.0.1"]);
    let resolver = Resolver::with(&network, service.lookup());
    let gone = tokio::time::timeout(Duration::from_millis(1), ask(&resolver, &network)).await;
    assert!(gone.is_err());
    service.0.may_answer.notify_one();
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), true)));
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn a_failure_stands_for_a_second_and_is_typed() {
    let network = refreshed(DnsRefresh::Once);
    let service = Service::default().fails();
    let resolver = Resolver::with(&network, service.lookup());
    for _ in 0..3 {
        assert_eq!(ask(&resolver, &network).await, Err("not found"));
    }
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn each_connection_asks_where_the_plan_wants_it_and_old_addresses_do_not_hide_a_failure() {
    let network = refreshed(DnsRefresh::PerConnection);
    let service = Service::default().answers(&["10.0.0.1"]).answers(&["10.0.0.2"]).fails();
    let resolver = Resolver::with(&network, service.lookup());
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), true)));
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.2"]), true)));
    assert_eq!(ask(&resolver, &network).await, Err("not found"));
    assert_eq!(service.asked(), 3);
}

/// Asks until the addresses are others; gives whether any of them was waited for.
async fn until_changed(resolver: &Resolver, network: &Network, old: &[&str], new: &[&str]) -> bool {
    let mut has_waited = false;
    loop {
        let (addresses, was_asked) = ask(resolver, network).await.unwrap();
        has_waited |= was_asked;
        if addresses == ips(new) {
            return has_waited;
        }
        assert_eq!(addresses, ips(old));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn at_an_interval_the_old_addresses_serve_until_the_new_ones_are_there() {
    let network = refreshed(DnsRefresh::Every(Micros::from_secs(20)));
    let service = Service::default().answers(&["10.0.0.1"]).answers(&["10.0.0.2"]);
    let resolver = Resolver::with(&network, service.lookup());
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), true)));
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), false)));
    assert_eq!(service.asked(), 1);
    age(&resolver, 25);
    assert!(!until_changed(&resolver, &network, &["10.0.0.1"], &["10.0.0.2"]).await);
    assert_eq!(service.asked(), 2);
}

#[tokio::test]
async fn after_a_long_idle_time_new_addresses_are_waited_for() {
    let network = refreshed(DnsRefresh::Every(Micros::from_secs(20)));
    let service = Service::default().answers(&["10.0.0.1"]).answers(&["10.0.0.2"]);
    let resolver = Resolver::with(&network, service.lookup());
    ask(&resolver, &network).await.unwrap();
    age(&resolver, 45);
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.2"]), true)));
}

#[tokio::test]
async fn where_asking_again_fails_or_hangs_the_old_addresses_serve_on() {
    let network = refreshed(DnsRefresh::Every(Micros::from_secs(20)));
    let service = Service::default().answers(&["10.0.0.1"]).fails();
    let resolver = Resolver::with(&network, service.lookup());
    ask(&resolver, &network).await.unwrap();
    age(&resolver, 45);
    for _ in 0..3 {
        assert_eq!(ask(&resolver, &network).await.unwrap().0, ips(&["10.0.0.1"]));
    }
    assert_eq!(service.asked(), 2);

    let service = Service::slow().answers(&["10.0.0.1"]);
    service.0.may_answer.notify_one();
    let resolver = Resolver::with(&network, service.lookup());
    ask(&resolver, &network).await.unwrap();
    age(&resolver, 45);
    // The first one waits, shortly; the others do not.
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), true)));
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["10.0.0.1"]), false)));
}

/// Makes what is known older by so many seconds.
fn age(resolver: &Resolver, secs: u64) {
    for host in resolver.hosts.borrow().values() {
        let mut known = host.known.borrow_mut();
        let (addresses, found_ns) = known.addresses.take().unwrap();
        known.addresses = Some((addresses, found_ns.saturating_sub(secs * 1_000_000_000)));
    }
}

#[tokio::test]
async fn only_addresses_of_the_family_are_used_and_none_left_is_not_found() {
    let dns = DnsOptions { family: AddressFamily::Ipv6, ..DnsOptions::default() };
    let network = network(dns);
    let service = Service::default().answers(&["10.0.0.1", "::1", "10.0.0.2"]);
    let resolver = Resolver::with(&network, service.lookup());
    assert_eq!(ask(&resolver, &network).await, Ok((ips(&["::1"]), true)));
    let service = Service::default().answers(&["10.0.0.1"]);
    let resolver = Resolver::with(&network, service.lookup());
    assert_eq!(ask(&resolver, &network).await, Err("not found"));
    let literal = resolver.resolve(&network, &origin("10.0.0.1", 80)).await.unwrap_err();
    assert_eq!(literal.detail, "not found");
}

#[tokio::test]
async fn given_addresses_are_not_asked_for_and_each_server_has_its_own_turn() {
    let rule =
        Resolve { host: "name.example".to_owned(), port: 80, addresses: ips(&["10.0.0.1", "10.0.0.2"]) };
    let network = network(DnsOptions { resolve: vec![rule], ..DnsOptions::default() });
    let service = Service::default();
    let resolver = Resolver::with(&network, service.lookup());
    let mut turns = Vec::new();
    for host in ["name.example", "192.0.2.1", "name.example", "192.0.2.1", "name.example"] {
        let found = resolver.resolve(&network, &origin(host, 80)).await.unwrap();
        assert!(!found.was_asked);
        turns.push(found.turn);
    }
    assert_eq!(turns.iter().map(|turn| turn - turns[0]).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
    assert_eq!(service.asked(), 0);
}

#[tokio::test]
async fn names_without_end_are_forgotten_rather_than_kept() {
    let network = refreshed(DnsRefresh::Once);
    let mut service = Service::default();
    for _ in 0..=HOSTS_MAX {
        service = service.answers(&["10.0.0.1"]);
    }
    let resolver = Resolver::with(&network, service.lookup());
    for n in 0..=HOSTS_MAX {
        resolver.resolve(&network, &origin(&format!("n{n}.example"), 80)).await.unwrap();
    }
    assert_eq!(resolver.hosts.borrow().len(), 1);
}
