//! Room for the run's connections among the local ports.
//!
//! One source address has at most 65,535 connections to one target address and port. Where the VUs of a closed loop keep more than that to a
//! server whose addresses are known, the run is refused: no setting of the machine would make room. Where it is only possible that ports
//! run out (the system's range is smaller, a name may have few addresses, an open loop may need its `max_vus`), that is logged; the run
//! then counts them as the agent's own fault and is not valid.

use std::fs;
use std::net::IpAddr;

use tracing::warn;

use super::demand::Demand;
use super::{Network, PrepareError, Program};

/// The ports that there are for one pair of addresses.
const PORTS_MAX: u64 = 65_535;

/// Looks whether what the VUs hold for sure, and what they may hold at most, fits the ports.
pub(super) fn check(program: &Program, demand: &Demand) -> Result<(), PrepareError> {
    if program.network.unix_socket.is_some() {
        return Ok(());
    }
    let ports = of_system();
    for (origin, wanted) in program.origins.iter().zip(&demand.by_origin) {
        let given = program.network.given(&origin.host, origin.port);
        let ways = ways(&program.network, given.as_deref());
        let server = format!("{}:{}", origin.host, origin.port);
        if given.is_some() && program.keep_alive && wanted.certain > ways.saturating_mul(PORTS_MAX) {
            return Err(refusal(&server, wanted.certain, ways));
        }
        let room = ports.saturating_mul(ways);
        if wanted.most > room {
            warn!(
                server,
                connections = wanted.most,
                ports = room,
                "so many connections may not find a local port (net.ipv4.ip_local_port_range)"
            );
        }
    }
    Ok(())
}

/// Pairs of a source address and one of a server's, as far as they are known; at least one.
fn ways(network: &Network, given: Option<&[IpAddr]>) -> u64 {
    let sources = |is_v4: bool| {
        let of_family = network.local_ips.iter().filter(|ip| ip.is_ipv4() == is_v4).count() as u64;
        if network.local_ips.is_empty() { 1 } else { of_family }
    };
    let count = match given {
        Some(addresses) => addresses.iter().map(|ip| sources(ip.is_ipv4())).sum(),
        None => sources(true).max(sources(false)),
    };
    count.max(1)
}

fn refusal(server: &str, wanted: u64, ways: u64) -> PrepareError {
    PrepareError::new(
        "port_limit",
        format!(
            "{wanted} connections to {server} do not fit the {PORTS_MAX} ports that each of {ways} pairs of source and target address \
             has at most; name more source addresses (http.local_ips), share connections (http.connections), use fewer VUs or add agents"
        ),
    )
}

/// How many local ports the system gives out; all where it does not say.
fn of_system() -> u64 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let reserved = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    count(&range, &reserved).unwrap_or(PORTS_MAX)
}

/// From `32768 60999` and `8080,9000-9100`.
fn count(range: &str, reserved: &str) -> Option<u64> {
    let mut bounds = range.split_ascii_whitespace().map(str::parse);
    let (lowest, highest): (u16, u16) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    let reserved = reserved.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (u64::from(last.min(highest)) + 1).checked_sub(first.max(lowest).into())
    });
    let reserved: u64 = reserved.sum();
    Some((u64::from(highest) + 1).saturating_sub(lowest.into()).saturating_sub(reserved))
}

#[cfg(test)]
mod tests {
    use volcanion_common::plan::{Executor, Plan};
    use volcanion_common::units::Micros;

    use super::super::tests::{plan, request, shard};
    use super::super::{PrepareSettings, compile};
    use super::*;

    #[test]
    fn ports_are_those_of_the_range_that_are_not_reserved() {
        let check = |range: &str, reserved: &str, expected: Option<u64>| {
            assert_eq!(count(range, reserved), expected, "{range} {reserved}");
        };
        check("32768\t60999\n", "\n", Some(28_232));
        check("1024 65535", "", Some(64_512));
        check("50000 50009", "8080,50000-50003,50009,60000-60100\n", Some(5));
        check("50000 50009", "1-65535", Some(0));
        check("", "", None);
        check("x y", "", None);
    }

    /// Whether so many VUs that iterate all the time are let through, as far as ports go.
    fn judged(url: &str, vus: u64, adjust: impl FnOnce(&mut Plan)) -> Result<(), PrepareError> {
        let mut plan = plan(None, vec![request("GET", url, vec![], None)]);
        let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
        let ours = compile(&shard(1), &plan, &settings).unwrap();
        plan.scenarios[0].executor = Executor::ConstantVus { vus, duration: Micros::from_secs(1) };
        adjust(&mut plan);
        let network = Network::new(&plan.http, &ours.targets, 0).unwrap();
        let scenarios = super::super::scenarios(&shard(1), &plan);
        let program = Program { scenarios, network, keep_alive: !plan.http.no_keep_alive, ..ours };
        let demand = super::super::demand::of(&program, plan.http.connections);
        check(&program, &demand)
    }

    #[test]
    fn what_no_setting_could_make_room_for_is_refused_and_nothing_else() {
        let error = judged("http://127.0.0.1/", 65_536, |_| {}).unwrap_err();
        assert_eq!(error.code, "port_limit");
        assert!(error.message.contains("65536 connections to 127.0.0.1:80 do not fit"), "{error}");
        assert!(error.message.contains("http.local_ips"), "{error}");
        assert_eq!(judged("http://127.0.0.1/", 65_535, |_| {}), Ok(()));
        assert_eq!(judged("http://name.example/", 65_536, |_| {}), Ok(()));
        assert_eq!(judged("http://127.0.0.1/", 65_536, |plan| plan.http.no_keep_alive = true), Ok(()));
        let two = |plan: &mut Plan| {
            plan.http.local_ips = ["127.0.0.2", "127.0.0.3"].iter().map(|ip| ip.parse().unwrap()).collect();
        };
        assert_eq!(judged("http://127.0.0.1/", 131_070, two), Ok(()));
        assert!(judged("http://127.0.0.1/", 131_071, two).is_err());
    }
}
