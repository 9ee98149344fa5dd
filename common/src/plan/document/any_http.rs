//! Valid options of HTTP of every shape, for property tests.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::plan::{
    AddressFamily, ClientCertificate, Connections, DnsOptions, DnsRefresh, HttpOptions, HttpVersion, Resolve,
    TlsOptions, TlsVersion,
};
use crate::units::Micros;

/// Any options that keep the rules.
pub(super) fn any_http() -> impl Strategy<Value = HttpOptions> {
    let version = prop_oneof![Just(HttpVersion::Auto), Just(HttpVersion::Http1), Just(HttpVersion::Http2)];
    let connections =
        prop_oneof![Just(Connections::PerVu), (1..=1_000_000_u32).prop_map(Connections::Shared)];
    let socket = option::weighted(0.3, "/[a-zä /]{1,20}");
    (version, any::<(bool, bool)>(), connections, 0..=20_u32, routes(), socket, tls()).prop_map(
        |(version, (closes, cookies), connections, redirects, (dns, local_ips), unix_socket, tls)| {
            // A socket has neither names nor addresses.
            let (dns, local_ips) =
                if unix_socket.is_some() { (DnsOptions::default(), Vec::new()) } else { (dns, local_ips) };
            let no_keep_alive = closes && version != HttpVersion::Http2;
            HttpOptions {
                version,
                no_keep_alive,
                connections,
                redirects,
                cookies,
                dns,
                local_ips,
                unix_socket,
                tls,
            }
        },
    )
}

fn address(family: AddressFamily) -> BoxedStrategy<IpAddr> {
    let ipv4 = any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]));
    let ipv6 = any::<[u16; 4]>().prop_map(|[a, b, c, d]| IpAddr::from([0xfd00, 0, 0, a, 0, b, c, d]));
    match family {
        AddressFamily::Any => prop_oneof![ipv4, ipv6].boxed(),
        AddressFamily::Ipv4 => ipv4.boxed(),
        AddressFamily::Ipv6 => ipv6.boxed(),
    }
}

/// Names and source addresses, which must go together.
fn routes() -> impl Strategy<Value = (DnsOptions, Vec<IpAddr>)> {
    let family = prop_oneof![Just(AddressFamily::Any), Just(AddressFamily::Ipv4), Just(AddressFamily::Ipv6)];
    let refresh = prop_oneof![
        Just(DnsRefresh::Once),
        Just(DnsRefresh::PerConnection),
        (1_000..=86_400_000_000_u64).prop_map(|us| DnsRefresh::Every(Micros(us))),
    ];
    (family, refresh).prop_flat_map(|(family, refresh)| {
        // Each host and port once.
        let names = btree_set(("(\\*|[a-z]{1,9}(\\.[a-z]{2,5})?)", 1..=u16::MAX), 0..3);
        let addresses = vec(vec(address(family), 1..4), 3);
        let local_ips = btree_set(address(family), 0..4);
        (names, addresses, local_ips).prop_map(
            move |(names, addresses, local_ips): (BTreeSet<(String, u16)>, _, BTreeSet<_>)| {
                let pairs = names.into_iter().zip(addresses);
                let resolve = pairs.map(|((host, port), addresses)| Resolve { host, port, addresses });
                let dns = DnsOptions { refresh, family, resolve: resolve.collect() };
                (dns, local_ips.into_iter().collect())
            },
        )
    })
}

fn tls() -> impl Strategy<Value = TlsOptions> {
    let versions = prop_oneof![
        Just((TlsVersion::V1_2, None)),
        Just((TlsVersion::V1_2, Some(TlsVersion::V1_2))),
        Just((TlsVersion::V1_2, Some(TlsVersion::V1_3))),
        Just((TlsVersion::V1_3, None)),
        Just((TlsVersion::V1_3, Some(TlsVersion::V1_3))),
    ];
    let client = ("[a-z]{1,5}\\.pem", "(certs/)?[a-z]{1,5}\\.key")
        .prop_map(|(cert_file, key_file)| ClientCertificate { cert_file, key_file });
    let server_name = prop_oneof![Just("10.0.0.1".to_owned()), "[a-z]{1,9}\\.example"];
    // Of a certificate only the form is looked at.
    let pem = Just("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned());
    (any::<(bool, bool)>(), option::of(pem), option::of(client), option::of(server_name), versions).prop_map(
        |((insecure, no_resumption), ca_pem, client, server_name, (min_version, max_version))| TlsOptions {
            insecure,
            ca_pem,
            client,
            server_name,
            min_version,
            max_version,
            no_resumption,
        },
    )
}
