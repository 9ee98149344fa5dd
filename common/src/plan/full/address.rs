//! Addresses in documents: `http.dns.resolve` in curl's form, and `http.local_ips` as addresses, networks and ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::decode::{Decoder, Field};
use super::super::http::Resolve;
use super::super::node::excerpt;
use crate::plan::http::LOCAL_IPS_MAX;

/// Reads `http.dns.resolve`.
pub(super) fn resolve(decoder: &mut Decoder, field: &Field<'_>) -> Vec<Resolve> {
    let mut found = Vec::new();
    each(decoder, field, "`host:port:address`", resolve_of, |resolve| found.push(resolve));
    found
}

/// Reads `http.local_ips`; networks and ranges become their addresses.
pub(super) fn local_ips(decoder: &mut Decoder, field: &Field<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    each(decoder, field, "addresses", addresses_of, |addresses| {
        // A small document can name more than memory holds. Those that are kept past the limit have it refused.
        if found.len() <= LOCAL_IPS_MAX {
            found.extend(addresses);
        }
    });
    found
}

/// Hands on what can be read of a list of texts.
fn each<T>(
    decoder: &mut Decoder,
    field: &Field<'_>,
    of_what: &str,
    read: fn(&str) -> Result<T, String>,
    mut keep: impl FnMut(T),
) {
    for item in decoder.list(field, of_what).unwrap_or_default() {
        let Some(text) = decoder.text(&item) else { continue };
        match read(text.trim()) {
            Ok(value) => keep(value),
            Err(why) => decoder.wrong(&item, format!("`{}` {why}", excerpt(&text))),
        }
    }
}

/// `host:port:address[,address…]`; an IPv6 address may stand in brackets.
fn resolve_of(text: &str) -> Result<Resolve, String> {
    const FORM: &str = "is not host:port:address[,address]; write it as shop.example.com:443:10.0.0.7";
    let (Some((host, rest)), false) = (text.split_once(':'), text.starts_with('[')) else {
        return Err(FORM.to_owned());
    };
    let (port, addresses) = rest.split_once(':').ok_or(FORM)?;
    let host = if host == "*" {
        host.to_owned()
    } else {
        // `shop.example.com.` is the same name, and URLs may leave the dot out.
        let known = url::Host::parse(host.strip_suffix('.').unwrap_or(host)).map(|host| host.to_string());
        known.map_err(|_| format!("names no host in `{}`; give one as in URLs, or `*`", excerpt(host)))?
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or("has no port after the host; give 1 to 65535, as in host:443:address")?;
    let addresses = addresses.split(',').map(|address| {
        let address = address.trim();
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = bare.unwrap_or(address).parse::<IpAddr>();
        address.map_err(|_| "has no address after the port; give IPv4 or IPv6 addresses, with commas between")
    });
    Ok(Resolve { host, port, addresses: addresses.collect::<Result<_, _>>()? })
}

/// An address, a network (`10.0.0.0/28`; of IPv4 without the addresses of the network and of all, as k6 does) or a range (`10.0.0.1-10.0.0.9`).
fn addresses_of(text: &str) -> Result<Vec<IpAddr>, String> {
    const FORM: &str =
        "is no address; write one as 10.0.0.1, a network as 10.0.0.0/28 or a range as 10.0.0.1-10.0.0.9";
    let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| FORM.to_owned());
    if let Some((network, prefix)) = text.split_once('/') {
        let network = address(network)?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.trim().parse::<u32>().ok().filter(|prefix| *prefix <= bits);
        let prefix = prefix.ok_or_else(|| format!("has no length of 0 to {bits} after its `/`"))?;
        // A shift by all bits is one too many for the type.
        let hosts = u128::MAX.checked_shr(128 - (bits - prefix)).unwrap_or(0);
        let (first, last) = (number(network) & !hosts, number(network) | hosts);
        let skipped = u128::from(bits == 32 && prefix < 31);
        return between(first + skipped, last - skipped, network.is_ipv4());
    }
    let Some((first, last)) = text.split_once('-') else { return address(text).map(|one| vec![one]) };
    let (first, last) = (address(first)?, address(last)?);
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err("is no range; write the lower address first, both of one family".to_owned());
    }
    between(number(first), number(last), first.is_ipv4())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn between(first: u128, last: u128, is_ipv4: bool) -> Result<Vec<IpAddr>, String> {
    if last - first >= LOCAL_IPS_MAX as u128 {
        return Err(format!("holds more than {LOCAL_IPS_MAX} addresses; give a smaller one"));
    }
    let address = |bits: u128| match is_ipv4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    Ok((first..=last).map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_is_read_as_curl_writes_it() {
        let check = |text: &str, host: &str, port: u16, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(resolve_of(text), Ok(Resolve { host: host.to_owned(), port, addresses }), "{text}");
        };
        check("Shop.Example.com.:443:10.0.0.7", "shop.example.com", 443, &["10.0.0.7"]);
        check("*:80:127.0.0.1, 127.0.0.2", "*", 80, &["127.0.0.1", "127.0.0.2"]);
        check("10.0.0.1:80:10.0.0.2", "10.0.0.1", 80, &["10.0.0.2"]);
        check("h:8443:[::1],::2,10.0.0.1", "h", 8443, &["::1", "::2", "10.0.0.1"]);
        check("bücher.example:1:::1", "xn--bcher-kva.example", 1, &["::1"]);
        for (wrong, part) in [
            ("", "is not host:port:address"),
            ("h:80", "is not host:port:address"),
            ("[::1]:80:::1", "is not host:port:address"),
            ("a b:80:::1", "names no host"),
            (":80:::1", "names no host"),
            ("h:0:::1", "has no port"),
            ("h:65536:::1", "has no port"),
            ("h:80:", "has no address"),
            ("h:80:other.example", "has no address"),
            ("h:80:10.0.0.1,", "has no address"),
            ("-h:80", "is not host:port:address"),
        ] {
            let told = resolve_of(wrong).unwrap_err();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }

    #[test]
    fn networks_and_ranges_become_their_addresses() {
        let check = |text: &str, count: usize, first: &str, last: &str| {
            let found = addresses_of(text).unwrap();
            let ends = [found.first(), found.last()].map(|end| end.map(ToString::to_string));
            assert_eq!((found.len(), ends), (count, [first, last].map(|end| Some(end.to_owned()))), "{text}");
        };
        check("127.0.0.2", 1, "127.0.0.2", "127.0.0.2");
        check("10.0.0.5/28", 14, "10.0.0.1", "10.0.0.14");
        check("10.0.0.4/31", 2, "10.0.0.4", "10.0.0.5");
        check("10.0.0.4/32", 1, "10.0.0.4", "10.0.0.4");
        check("255.255.252.0/22", 1_022, "255.255.252.1", "255.255.255.254");
        check("fd00::/118", 1_024, "fd00::", "fd00::3ff");
        check("::1/128", 1, "::1", "::1");
        check("10.0.0.250 - 10.0.1.3", 10, "10.0.0.250", "10.0.1.3");
        check("fe80::1-fe80::3", 3, "fe80::1", "fe80::3");
        for (wrong, part) in [
            ("", "is no address"),
            ("h", "is no address"),
            ("10.0.0.1/33", "0 to 32"),
            ("10.0.0.1/", "0 to 32"),
            ("::1/129", "0 to 128"),
            ("10.0.0.2-10.0.0.1", "lower address first"),
            ("10.0.0.2-::1", "one family"),
            ("10.0.0.1-", "is no address"),
            ("10.0.0.0/21", "more than 1024"),
            ("0.0.0.0/0", "more than 1024"),
            ("::/0", "more than 1024"),
            ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "more than 1024"),
        ] {
            let told = addresses_of(wrong).unwrap_err();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }
}
