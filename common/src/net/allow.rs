//! Which targets may be loaded. A load tester left open is a weapon, so every connection is judged by the address that it
//! really goes to, after name resolution.
//!
//! Without a list: everything but link-local and metadata addresses, and loopback only for an agent that can itself be
//! reached from loopback alone. With one: only what it names. Link-local, metadata and (for an open agent) loopback addresses are guarded: neither a name that
//! resolves to one opens it, nor a network that is wider than what is guarded, as `0.0.0.0/0`; only a rule that is about nothing else does: the address itself, or
//! a network within the guarded one.
//! A Unix socket is opened by its exact path on the list, or by having no list, for an agent that can be reached from loopback alone:
//! behind one may be anything that the agent's user may command (a container engine).
//! An IPv6 address that carries an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is judged by both.

mod guarded;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use guarded::{Guarded, LINK_LOCAL_AND_METADATA, OWN_MACHINE};

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
    Network(Network),
    /// The socket at this path.
    Unix(String),
}

/// Addresses that have their first bits in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u8,
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
        let guarded = self.guarded(ip);
        match &self.allow {
            None => guarded.is_none(),
            Some(list) => list.0.iter().any(|rule| rule.holds(host, ip, port, guarded)),
        }
    }

    /// Whether a server may be loaded at one of the addresses that are known of it. Where none is known yet, whether its name, or an address that it may turn
    /// out to have, is on the list.
    pub fn may_permit(&self, host: &str, port: u16, known: &[IpAddr]) -> bool {
        match (known, &self.allow) {
            ([], None) => true,
            ([], Some(list)) => list.0.iter().any(|rule| rule.may_hold(host, port)),
            (known, _) => known.iter().any(|ip| self.permits(host, *ip, port)),
        }
    }

    fn guarded(&self, ip: IpAddr) -> Option<Guarded> {
        guarded::of(ip, LINK_LOCAL_AND_METADATA)
            .or_else(|| if self.loopback { None } else { guarded::of(ip, OWN_MACHINE) })
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
    fn may_hold(&self, host: &str, port: u16) -> bool {
        let is_port = self.port.is_none_or(|wanted| wanted == port);
        is_port && (matches!(self.hosts, Hosts::Network(_)) || self.is_named(host))
    }

    fn is_named(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match &self.hosts {
            Hosts::Name(name) => host.eq_ignore_ascii_case(name),
            Hosts::Below(suffix) => {
                let cut = host.len().saturating_sub(suffix.len());
                cut > 0 && host.is_char_boundary(cut) && host[cut..].eq_ignore_ascii_case(suffix)
            }
            Hosts::Network(_) | Hosts::Unix(_) => false,
        }
    }

    fn holds(&self, host: &str, ip: IpAddr, port: u16, guarded: Option<Guarded>) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match &self.hosts {
            Hosts::Name(_) | Hosts::Below(_) => guarded.is_none() && self.is_named(host),
            Hosts::Network(network) => {
                network.has(ip) && guarded.is_none_or(|guarded| guarded.is_opened_by(*network))
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
        Self::Network(Network::of_one(ip))
    }

    fn parse(host: &str) -> Option<Self> {
        if let Some((address, bits)) = host.split_once('/') {
            let network = Network { first: address.parse().ok()?, bits: bits.parse().ok()? };
            return (network.bits <= Network::of_one(network.first).bits).then_some(Self::Network(network));
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

impl Network {
    /// An address alone; an IPv4-mapped one as what it is.
    fn of_one(ip: IpAddr) -> Self {
        let first = ip.to_canonical();
        Self { first, bits: if first.is_ipv4() { 32 } else { 128 } }
    }

    fn has(self, ip: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (ip.to_canonical(), self.first) {
            (IpAddr::V4(ip), IpAddr::V4(first)) => {
                (u32::from(ip) ^ u32::from(first)).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(first)) => {
                (u128::from(ip) ^ u128::from(first)).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn is_within(self, other: Self) -> bool {
        self.bits >= other.bits && other.has(self.first)
    }
}

/// What may be loaded, as a refusal says it.
impl fmt::Display for TargetPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.allow, self.loopback) {
            (Some(list), _) => list.fmt(f),
            (None, true) => f.write_str("everything but link-local and metadata addresses"),
            (None, false) => f.write_str("everything but link-local, metadata and loopback addresses"),
        }
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
            Hosts::Network(Network { first, bits }) => match (first, bits) {
                (IpAddr::V4(ip), 32) => write!(f, "{ip}")?,
                (IpAddr::V6(ip), 128) => write!(f, "[{ip}]")?,
                (IpAddr::V4(ip), bits) => write!(f, "{ip}/{bits}")?,
                (IpAddr::V6(ip), bits) => write!(f, "[{ip}/{bits}]")?,
            },
            Hosts::Unix(path) => write!(f, "unix:{path}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests;
