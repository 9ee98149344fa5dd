//! Which targets may be loaded. A load tester left open is a weapon, so every connection is judged by the address that it
//! really goes to, after name resolution.
//!
//! Without a list: everything but link-local and metadata addresses, and loopback only for an agent that can itself be
//! reached from loopback alone. With one: only what it names. A name on the list does not open link-local, metadata or (for an open
//! agent) loopback addresses that it may resolve to; only an address or a network on the list does.
//! A Unix socket is opened by its exact path on the list, or by having no list, for an agent that can be reached from loopback alone:
//! behind one may be anything that the agent's user may command (a container engine).
//! An IPv6 address that carries an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is judged by both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Which addresses the agent connects to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Only what is on it, where there is one.
    pub allow: Option<AllowList>,
    /// Whether the machine itself may be loaded without being on the list.
    pub loopback: bool,
}

/// The targets that may be loaded; an empty one allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<AllowRule>);

/// One line of the list: `example.com`, `*.example.com`, `10.0.0.0/8`, `192.0.2.7`, `[2001:db8::1]`, each with `:port` or without;
/// `unix:/path` for a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// This name, in lower case.
    Name(String),
    /// Every name below it, kept as `.example.com`.
    Below(String),
    /// A network by its first address and the bits that count.
    Network(IpAddr, u8),
    /// The socket at this path.
    Unix(String),
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no target; write a host name, *.domain, an address or a network such as 10.0.0.0/8, with :port or without, or unix:/path"
)]
pub struct AllowError(String);

impl TargetPolicy {
    /// Whether a connection to this address may be made, for a URL that named this host.
    pub fn permits(&self, host: &str, ip: IpAddr, port: u16) -> bool {
        let guarded = is_guarded(ip) || !self.loopback && is_own_machine(ip);
        match &self.allow {
            None => !guarded,
            Some(list) => list.0.iter().any(|rule| rule.holds(host, ip, port, guarded)),
        }
    }

    /// Whether a connection to the Unix socket at this path may be made.
    pub fn permits_unix(&self, path: &str) -> bool {
        match &self.allow {
            None => self.loopback,
            Some(list) => list.0.iter().any(|rule| rule.hosts == Hosts::Unix(path.to_owned())),
        }
    }
}

impl AllowRule {
    /// Whether a name may turn out to be on it: by itself, or by an address that it may have.
    pub fn may_hold(&self, host: &str, port: u16) -> bool {
        let is_port = self.port.is_none_or(|wanted| wanted == port);
        is_port && (matches!(self.hosts, Hosts::Network(..)) || self.is_named(host))
    }

    fn is_named(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.hosts {
            Hosts::Name(name) => host.eq_ignore_ascii_case(name),
            Hosts::Below(suffix) => {
                let cut = host.len().saturating_sub(suffix.len());
                cut > 0 && host.is_char_boundary(cut) && host[cut..].eq_ignore_ascii_case(suffix)
            }
            Hosts::Network(..) | Hosts::Unix(_) => false,
        }
    }

    fn holds(&self, host: &str, ip: IpAddr, port: u16, guarded: bool) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match &self.hosts {
            Hosts::Name(_) | Hosts::Below(_) => !guarded && self.is_named(host),
            Hosts::Network(network, bits) => {
                let ip = plain(ip);
                // A wide IPv6 network must not let a guarded IPv4 address in by the back door.
                is_within(ip, *network, *bits)
                    && !(guarded && embedded_v4(ip).any(|v4| is_guarded(v4.into())))
            }
            Hosts::Unix(_) => false,
        }
    }
}

impl FromStr for AllowRule {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let wrong = || AllowError(text.to_owned());
        let text_trimmed = text.trim();
        if let Some(path) = text_trimmed.strip_prefix("unix:") {
            let rule = Self { hosts: Hosts::Unix(path.to_owned()), port: None };
            return path.starts_with('/').then_some(rule).ok_or_else(wrong);
        }
        if let Ok(ip) = text_trimmed.parse::<IpAddr>() {
            return Ok(Self { hosts: Hosts::of_address(ip), port: None });
        }
        let (host, port) = match text_trimmed.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains("::") => {
                (host, Some(port.parse().map_err(|_| wrong())?))
            }
            Some((host, port)) if host.ends_with(']') => (host, Some(port.parse().map_err(|_| wrong())?)),
            _ => (text_trimmed, None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Ok(Self { hosts: Hosts::parse(host).ok_or_else(wrong)?, port })
    }
}

impl Hosts {
    fn of_address(ip: IpAddr) -> Self {
        let ip = plain(ip);
        Self::Network(ip, if ip.is_ipv4() { 32 } else { 128 })
    }

    fn parse(host: &str) -> Option<Self> {
        if let Some((address, bits)) = host.split_once('/') {
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            return (bits <= if address.is_ipv4() { 32 } else { 128 })
                .then_some(Self::Network(address, bits));
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Self::of_address(ip));
        }
        let (name, below) = host.strip_prefix("*.").map_or((host, false), |rest| (rest, true));
        let name = match url::Host::parse(name).ok()? {
            url::Host::Domain(name) => name.strip_suffix('.').map_or(name.clone(), str::to_owned),
            url::Host::Ipv4(_) | url::Host::Ipv6(_) => return None,
        };
        if name.is_empty() || name.contains('*') {
            return None;
        }
        Some(if below { Self::Below(format!(".{name}")) } else { Self::Name(name) })
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.0.iter().enumerate() {
            write!(f, "{}{rule}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Name(name) => f.write_str(name)?,
            Hosts::Below(suffix) => write!(f, "*{suffix}")?,
            Hosts::Network(IpAddr::V4(ip), 32) => write!(f, "{ip}")?,
            Hosts::Network(IpAddr::V6(ip), 128) => write!(f, "[{ip}]")?,
            Hosts::Network(ip @ IpAddr::V4(_), bits) => write!(f, "{ip}/{bits}")?,
            Hosts::Network(ip @ IpAddr::V6(_), bits) => write!(f, "[{ip}/{bits}]")?,
            Hosts::Unix(path) => write!(f, "unix:{path}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// An IPv4-mapped address as what it is.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            (u32::from(ip) ^ u32::from(network)).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            (u128::from(ip) ^ u128::from(network)).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Link-local, and where clouds answer their machines' questions about themselves.
fn is_guarded(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip == Ipv4Addr::new(100, 100, 100, 200) // Alibaba
                || ip == Ipv4Addr::new(192, 0, 0, 192) // Oracle
                || ip == Ipv4Addr::new(168, 63, 129, 16) // Azure
        }
        IpAddr::V6(ip) => {
            ip.segments()[0] & 0xffc0 == 0xfe80
                || ip == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254) // AWS
                || ip == Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254) // Google
                || embedded_v4(IpAddr::V6(ip)).any(|v4| is_guarded(v4.into()))
        }
    }
}

/// Loopback, and "this host", which Linux connects to itself.
fn is_own_machine(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => ip.is_loopback() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || embedded_v4(IpAddr::V6(ip)).any(|v4| is_own_machine(v4.into()))
        }
    }
}

/// The IPv4 addresses that an IPv6 one may lead to, by every usual translation.
fn embedded_v4(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let found = match ip {
        IpAddr::V4(_) => [None; 3],
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            let at = |shift: u32| Some(Ipv4Addr::from((bits >> shift) as u32));
            match ip.segments() {
                // 64:ff9b:1::/48 (RFC 8215): the network chooses where the address stands (RFC 6052); the usual two.
                [0x64, 0xff9b, 1, ..] => [at(0), split_at_u_octet(bits), None],
                // NAT64 (RFC 6052)
                [0x64, 0xff9b, 0, 0, 0, 0, ..] => [at(0), None, None],
                // 6to4 (RFC 3056)
                [0x2002, ..] => [at(80), None, None],
                // Teredo (RFC 4380): the server, and the client in the complement
                [0x2001, 0, ..] => [at(64), Some(Ipv4Addr::from(!(bits as u32))), None],
                // ISATAP (RFC 5214)
                [.., 0 | 0x0200, 0x5efe, _, _] => [at(0), None, None],
                // compatible and mapped; ::1 and :: are themselves
                [0, 0, 0, 0, 0, 0 | 0xffff, ..] if bits > 1 => [at(0), None, None],
                // translated (RFC 2765)
                [0, 0, 0, 0, 0xffff, 0, ..] => [at(0), None, None],
                _ => [None; 3],
            }
        }
    };
    found.into_iter().flatten()
}

/// The IPv4 address behind a /48 prefix: two octets, one that is always 0, two octets (RFC 6052 2.2).
fn split_at_u_octet(bits: u128) -> Option<Ipv4Addr> {
    let high = (bits >> 64) as u32 & 0xffff;
    let low = (bits >> 40) as u32 & 0xffff;
    Some(Ipv4Addr::from(high << 16 | low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_agent() -> TargetPolicy {
        TargetPolicy::default()
    }

    fn with_list(rules: &[&str]) -> TargetPolicy {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        TargetPolicy { allow: Some(AllowList(rules)), loopback: false }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_spelling() {
        let policy = TargetPolicy { loopback: true, ..TargetPolicy::default() };
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::",
            "2001:0:101:101:0:0:5601:5601",
            "2001:db8::5efe:a9fe:a9fe",
            "::ffff:0:a9fe:a9fe",
        ] {
            assert!(!policy.permits("x", address.parse().unwrap(), 80), "{address}");
        }
        for address in ["127.0.0.1", "::1", "10.0.0.1", "8.8.8.8", "2001:db8::1", "fd00::1", "169.253.1.1"] {
            assert!(policy.permits("x", address.parse().unwrap(), 80), "{address}");
        }
    }

    #[test]
    fn an_agent_that_others_can_reach_does_not_load_its_own_machine() {
        for address in
            ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
        {
            assert!(!open_agent().permits("localhost", address.parse().unwrap(), 80), "{address}");
        }
        assert!(open_agent().permits("x", "192.0.2.1".parse().unwrap(), 80));
    }

    #[test]
    fn a_list_allows_what_it_names_and_nothing_else() {
        let check = |rule: &str, host: &str, address: &str, port: u16, expected: bool| {
            let permitted = with_list(&[rule]).permits(host, address.parse().unwrap(), port);
            assert_eq!(permitted, expected, "{rule} for {host} at {address}:{port}");
        };
        check("shop.example.com", "shop.example.com", "192.0.2.1", 443, true);
        check("shop.example.com", "SHOP.example.com.", "192.0.2.1", 443, true);
        check("shop.example.com", "example.com", "192.0.2.1", 443, false);
        check("*.example.com", "shop.example.com", "192.0.2.1", 443, true);
        check("*.example.com", "example.com", "192.0.2.1", 443, false);
        check("*.example.com", "badexample.com", "192.0.2.1", 443, false);
        check("bücher.example", "xn--bcher-kva.example", "192.0.2.1", 80, true);
        check("shop.example.com:443", "shop.example.com", "192.0.2.1", 80, false);
        check("10.0.0.0/8", "x", "10.200.0.1", 80, true);
        check("10.0.0.0/8", "x", "11.0.0.1", 80, false);
        check("10.0.0.0/8", "x", "::ffff:10.0.0.1", 80, true);
        check("0.0.0.0/0", "x", "203.0.113.9", 80, true);
        check("192.0.2.7:8080", "x", "192.0.2.7", 8080, true);
        check("192.0.2.7:8080", "x", "192.0.2.7", 8081, false);
        check("2001:db8::/32", "x", "2001:db8::9", 80, true);
        check("[2001:db8::1]:8080", "x", "2001:db8::1", 8080, true);
        check("[2001:db8::1]:8080", "x", "2001:db8::2", 8080, false);
        check("127.0.0.1", "localhost", "127.0.0.1", 80, true);
        check("169.254.0.0/16", "x", "169.254.1.1", 80, true);
        check("::/0", "x", "::ffff:169.254.169.254", 80, false);
        check("::/0", "x", "64:ff9b::169.254.169.254", 80, false);
    }

    #[test]
    fn a_listed_name_does_not_open_metadata_or_loopback() {
        let policy = with_list(&["rebind.example.com"]);
        for address in ["169.254.169.254", "127.0.0.1", "::1"] {
            assert!(!policy.permits("rebind.example.com", address.parse().unwrap(), 80), "{address}");
        }
        assert!(!with_list(&[]).permits("x", "192.0.2.1".parse().unwrap(), 80));
    }

    #[test]
    fn a_unix_socket_is_opened_by_its_exact_path_alone() {
        let policy = with_list(&["unix:/run/app.sock", "0.0.0.0/0", "*.example.com"]);
        assert!(policy.permits_unix("/run/app.sock"));
        for other in ["/run/docker.sock", "/run/app.sock/../docker.sock", "/run//app.sock", ""] {
            assert!(!policy.permits_unix(other), "{other}");
        }
        assert!(!policy.permits("unix", "::1".parse().unwrap(), 80));
        assert!(!open_agent().permits_unix("/run/app.sock"));
        assert!(TargetPolicy { loopback: true, allow: None }.permits_unix("/run/app.sock"));
        let listed = TargetPolicy { loopback: true, ..with_list(&["10.0.0.0/8"]) };
        assert!(!listed.permits_unix("/run/app.sock"));
    }

    #[test]
    fn rules_are_written_back_as_they_are_read_and_wrong_ones_are_named() {
        for rule in [
            "example.com",
            "*.example.com:80",
            "10.0.0.0/8",
            "192.0.2.7:1",
            "[2001:db8::1]:8080",
            "unix:/run/a b.sock",
        ] {
            assert_eq!(rule.parse::<AllowRule>().unwrap().to_string(), rule);
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "a b",
            "*.",
            "*",
            "a*.b",
            "example.com:99999",
            "10.0.0.0/x",
            "http://a",
            "unix:run/a",
        ] {
            assert!(wrong.parse::<AllowRule>().is_err(), "{wrong}");
        }
    }
}
