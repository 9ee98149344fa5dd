//! How HTTP is spoken: ranges, options that contradict each other, names of files and hosts.

use std::collections::HashSet;
use std::net::IpAddr;

use rustls_pki_types::ServerName;

use super::Found;
use super::bounds::{
    CONNECTIONS_MAX, FILE_NAME_BYTES_MAX, HEADER_BYTES_MAX, REDIRECTS_MAX, RESOLVE_ADDRESSES_MAX,
    RESOLVE_MAX, UNIX_SOCKET_BYTES_MAX,
};
use crate::plan::http::LOCAL_IPS_MAX;
use crate::plan::node::excerpt;
use crate::plan::{
    AddressFamily, Body, Connections, DnsOptions, DnsRefresh, Header, HttpOptions, HttpVersion, Plan,
    TlsOptions, TlsVersion,
};
use crate::units::Micros;

const DAY: Micros = Micros::from_secs(86_400);

pub(super) fn check(plan: &Plan, found: &mut Found) {
    let http = &plan.http;
    if http.version == HttpVersion::Http2 && http.no_keep_alive {
        found.note(
            "http.keep_alive",
            "HTTP/2 carries all requests of a VU over one connection; leave keep_alive out, or give version: 1.1",
        );
    }
    if let Connections::Shared(count) = http.connections {
        found.within("http.connections", count, 1, CONNECTIONS_MAX);
    }
    if http.redirects > REDIRECTS_MAX {
        found
            .note("http.redirects", format!("{} is out of range; give 0 to {REDIRECTS_MAX}", http.redirects));
    }
    check_dns(&http.dns, found);
    check_local_ips(http, found);
    check_unix_socket(http, found);
    check_tls(&http.tls, found);
    if http.version != HttpVersion::Http1 {
        let steps = plan.steps().flat_map(|step| &step.step.request.headers);
        if plan.headers.iter().chain(steps).any(|header| is_te_of_http1(header, plan)) {
            found.note(
                "http.version",
                "HTTP/2 knows no other `te` than `trailers`; leave that header out, or give version: 1.1",
            );
        }
    }
}

/// RFC 9113, 8.2.2. The other headers that it forbids are nobody's to give: see [`super::request`].
fn is_te_of_http1(header: &Header, plan: &Plan) -> bool {
    // A value that is huge once filled in is refused as such, and never made.
    header.name.eq_ignore_ascii_case("te")
        && header.value.rendered_bytes(&plan.variables) <= HEADER_BYTES_MAX
        && !header.value.render(&plan.variables).trim().eq_ignore_ascii_case("trailers")
}

fn check_dns(dns: &DnsOptions, found: &mut Found) {
    if let DnsRefresh::Every(time) = dns.refresh {
        found.within("http.dns.refresh", time, Micros::from_millis(1), DAY);
    }
    let path = "http.dns.resolve";
    if dns.resolve.len() > RESOLVE_MAX {
        let message = format!("{} are too many; at most {RESOLVE_MAX} are possible", dns.resolve.len());
        return found.note(path, message);
    }
    let mut seen = HashSet::new();
    for (index, resolve) in dns.resolve.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = format!("{}:{}", excerpt(&resolve.host), resolve.port);
        // No document names port 0 or a host in upper case; whoever makes a plan of their own might.
        let is_name = |host: &str| url::Host::parse(host).is_ok_and(|known| known.to_string() == host);
        if resolve.port == 0 || resolve.host != "*" && !is_name(&resolve.host) {
            found.note(&path, format!("`{name}` is no host and port as in URLs; give a name, or `*`"));
        }
        if !seen.insert((resolve.host.as_str(), resolve.port)) {
            found.note(
                &path,
                format!("`{name}` is there twice; write all its addresses in one line, as {name}:A,B"),
            );
        }
        let count = resolve.addresses.len();
        if !(1..=RESOLVE_ADDRESSES_MAX).contains(&count) {
            found.note(
                &path,
                format!("{count} addresses are out of range; give 1 to {RESOLVE_ADDRESSES_MAX}"),
            );
        } else if !resolve.addresses.iter().any(|address| is_of(dns.family, address)) {
            found.note(&path, format!("none of the addresses is {}, as family asks", word(dns.family)));
        }
    }
}

fn check_local_ips(http: &HttpOptions, found: &mut Found) {
    let path = "http.local_ips";
    if http.local_ips.len() > LOCAL_IPS_MAX {
        // A document's are not all kept, so they cannot be counted here.
        return found.note(path, format!("holds more than {LOCAL_IPS_MAX} addresses; give fewer"));
    }
    let mut seen = HashSet::new();
    for address in &http.local_ips {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            found.note(
                path,
                format!("nothing can be sent from {address}; give an address of the agents' machines"),
            );
        } else if !seen.insert(address) {
            found.note(path, format!("{address} is there twice; give it once"));
        } else if !is_of(http.dns.family, address) {
            found.note(path, format!("{address} is not {}, as dns.family asks", word(http.dns.family)));
        }
    }
}

fn is_of(family: AddressFamily, address: &IpAddr) -> bool {
    match family {
        AddressFamily::Any => true,
        AddressFamily::Ipv4 => address.is_ipv4(),
        AddressFamily::Ipv6 => address.is_ipv6(),
    }
}

fn word(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Any => "an address",
        AddressFamily::Ipv4 => "IPv4",
        AddressFamily::Ipv6 => "IPv6",
    }
}

fn check_unix_socket(http: &HttpOptions, found: &mut Found) {
    let Some(socket) = &http.unix_socket else { return };
    let path = "http.unix_socket";
    if !socket.starts_with('/') || socket.contains(char::is_control) {
        found.note(
            path,
            format!("{:?} is not a path from the root; write it as /run/name.sock", excerpt(socket)),
        );
    } else if socket.len() > UNIX_SOCKET_BYTES_MAX {
        let message = format!(
            "the path has {} bytes; the system takes at most {UNIX_SOCKET_BYTES_MAX}, so give a shorter one",
            socket.len()
        );
        found.note(path, message);
    }
    if !http.local_ips.is_empty() {
        found.note("http.local_ips", "a Unix socket has no addresses; leave local_ips out, or unix_socket");
    }
    if http.dns != DnsOptions::default() {
        found.note("http.dns", "a Unix socket is asked for no address; leave dns out, or unix_socket");
    }
}

fn check_tls(tls: &TlsOptions, found: &mut Found) {
    if tls.max_version.is_some_and(|highest| highest < tls.min_version) {
        let version = |version: TlsVersion| if version == TlsVersion::V1_2 { "1.2" } else { "1.3" };
        let message = format!(
            "{} is below min_version ({}); give at least that",
            tls.max_version.map_or("", version),
            version(tls.min_version)
        );
        found.note("http.tls.max_version", message);
    }
    if let Some(client) = &tls.client {
        check_file(&client.cert_file, "http.tls.cert", found);
        check_file(&client.key_file, "http.tls.key", found);
    }
    if let Some(name) = &tls.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let message = format!("{:?} is no host; give a name such as shop.example.com", excerpt(name));
        found.note("http.tls.server_name", message);
    }
}

/// The files of steps' bodies.
pub(super) fn check_body_file(step: &str, body: &Body, found: &mut Found) {
    if let Body::File(name) = body {
        check_file(name, &format!("{step}.body_file"), found);
    }
}

/// A file below each agent's own folder.
fn check_file(name: &str, path: &str, found: &mut Found) {
    use std::path::{Component, Path};
    let is_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if name.trim().is_empty() || name.contains(char::is_control) {
        found.note(path, format!("{:?} is no file's name; give one such as data/body.bin", excerpt(name)));
    } else if name.len() > FILE_NAME_BYTES_MAX {
        let message =
            format!("the name has {} bytes; at most {FILE_NAME_BYTES_MAX} are possible", name.len());
        found.note(path, message);
    } else if !Path::new(name).components().all(is_below) || name.ends_with('/') {
        let message = format!(
            "`{}` does not lie below the agents' folder of files; give a file's path from there, without `..`",
            excerpt(name)
        );
        found.note(path, message);
    }
}

#[cfg(test)]
mod tests;
