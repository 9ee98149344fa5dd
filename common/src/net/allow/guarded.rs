//! Addresses that nobody is to load by accident, in every spelling that leads to them.
//!
//! They are networks, so that a rule of a list can be held against them: one that is wider says "everything", not "this too".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

/// Link-local, and where clouds answer their machines' questions about themselves.
pub(super) const LINK_LOCAL_AND_METADATA: &[Network] = &[
    v4([169, 254, 0, 0], 16),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v4([100, 100, 100, 200], 32),                     // Alibaba
    v4([192, 0, 0, 192], 32),                         // Oracle
    v4([168, 63, 129, 16], 32),                       // Azure
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254], 128), // AWS
    v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254], 128), // Google
];

/// Loopback, and "this host", which Linux connects to itself.
pub(super) const OWN_MACHINE: &[Network] =
    &[v4([127, 0, 0, 0], 8), v4([0, 0, 0, 0], 8), v6([0, 0, 0, 0, 0, 0, 0, 1], 128), v6([0; 8], 128)];

/// Why an address is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    /// It lies in this network.
    Itself(Network),
    /// It leads to an IPv4 address that does.
    Embedding(IpAddr),
}

/// Whether an address leads into one of the networks.
pub(super) fn of(ip: IpAddr, networks: &[Network]) -> Option<Guarded> {
    let ip = ip.to_canonical();
    let home = |ip: IpAddr| networks.iter().find(|network| network.has(ip)).copied();
    home(ip)
        .map(Guarded::Itself)
        .or_else(|| embedded_v4(ip).any(|v4| home(v4.into()).is_some()).then_some(Guarded::Embedding(ip)))
}

impl Guarded {
    /// Whether a rule about this network is about what is guarded, and nothing wider.
    pub(super) fn is_opened_by(self, rule: Network) -> bool {
        match self {
            Self::Itself(network) => rule.is_within(network),
            // Such a spelling is opened by itself alone.
            Self::Embedding(ip) => rule == Network::of_one(ip),
        }
    }
}

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Network {
    Network { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], bits: u8) -> Network {
    Network { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
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
