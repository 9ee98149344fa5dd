//! How the agents speak HTTP: `http` of a document.

use super::super::decode::{Decoder, Field};
use super::super::fields;
use super::super::http::{
    AddressFamily, ClientCertificate, Connections, DnsOptions, DnsRefresh, HttpOptions, HttpVersion,
    TlsOptions, TlsVersion,
};
use super::super::node::{Content, excerpt};
use super::address;

/// Reads `http`.
pub(crate) fn http(decoder: &mut Decoder, field: Field<'_>) -> HttpOptions {
    let Some(object) = decoder.object(field, &fields::HTTP) else { return HttpOptions::default() };
    let mut flag = |name: &str| object.get(name).and_then(|field| decoder.flag(&field));
    let (keep_alive, cookies) = (flag("keep_alive"), flag("cookies"));
    let unix_socket = object.get("unix_socket").and_then(|field| decoder.text(&field));
    HttpOptions {
        version: object.get("version").and_then(|field| version(decoder, &field)).unwrap_or_default(),
        no_keep_alive: !keep_alive.unwrap_or(true),
        connections: object
            .get("connections")
            .and_then(|field| connections(decoder, &field))
            .unwrap_or_default(),
        redirects: object.get("redirects").and_then(|field| number(decoder, &field)).unwrap_or_default(),
        cookies: cookies.unwrap_or_default(),
        dns: object.get("dns").map(|field| dns(decoder, field)).unwrap_or_default(),
        local_ips: object
            .get("local_ips")
            .map(|field| address::local_ips(decoder, &field))
            .unwrap_or_default(),
        unix_socket,
        tls: object.get("tls").map(|field| tls(decoder, field)).unwrap_or_default(),
    }
}

/// Text that YAML and JSON make a number of where it stands without quotes: `1.1`.
fn word_or_number(decoder: &mut Decoder, field: &Field<'_>) -> Option<String> {
    match &field.node.content {
        Content::Number { value, .. } => Some(value.to_string()),
        _ => decoder.text(field),
    }
}

fn version(decoder: &mut Decoder, field: &Field<'_>) -> Option<HttpVersion> {
    match word_or_number(decoder, field)?.as_str() {
        "auto" => Some(HttpVersion::Auto),
        "1.1" | "1" => Some(HttpVersion::Http1),
        "2" | "2.0" | "h2" => Some(HttpVersion::Http2),
        other => {
            let shown = excerpt(other);
            decoder.wrong(
                field,
                format!("`{shown}` is not a version of HTTP that is spoken here; use auto, 1.1 or 2"),
            );
            None
        }
    }
}

fn connections(decoder: &mut Decoder, field: &Field<'_>) -> Option<Connections> {
    match &field.node.content {
        Content::Text(text) if text == "per_vu" => Some(Connections::PerVu),
        Content::Number { .. } => number(decoder, field).map(Connections::Shared),
        _ => {
            let message = format!(
                "{} is not known here; give per_vu, or the number that all VUs share",
                field.node.describe()
            );
            decoder.wrong(field, message);
            None
        }
    }
}

/// A whole number; what is too large for its type is out of every range as well.
fn number(decoder: &mut Decoder, field: &Field<'_>) -> Option<u32> {
    decoder.whole(field).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
}

fn dns(decoder: &mut Decoder, field: Field<'_>) -> DnsOptions {
    let Some(object) = decoder.object(field, &fields::DNS) else { return DnsOptions::default() };
    let family = object.get("family").and_then(|field| {
        let words =
            [("any", AddressFamily::Any), ("ipv4", AddressFamily::Ipv4), ("ipv6", AddressFamily::Ipv6)];
        decoder.word(&field, &words)
    });
    DnsOptions {
        refresh: object.get("refresh").and_then(|field| refresh(decoder, &field)).unwrap_or_default(),
        family: family.unwrap_or_default(),
        resolve: object.get("resolve").map(|field| address::resolve(decoder, &field)).unwrap_or_default(),
    }
}

fn refresh(decoder: &mut Decoder, field: &Field<'_>) -> Option<DnsRefresh> {
    let Content::Text(text) = &field.node.content else {
        return decoder.duration(field).map(DnsRefresh::Every);
    };
    match text.as_str() {
        "once" => Some(DnsRefresh::Once),
        "per_connection" => Some(DnsRefresh::PerConnection),
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            decoder.duration(field).map(DnsRefresh::Every)
        }
        other => {
            let shown = excerpt(other);
            decoder.wrong(
                field,
                format!("`{shown}` is not known here; give once, per_connection, or a time such as 30s"),
            );
            None
        }
    }
}

fn tls(decoder: &mut Decoder, field: Field<'_>) -> TlsOptions {
    let Some(object) = decoder.object(field, &fields::TLS) else { return TlsOptions::default() };
    let mut flag = |name: &str| object.get(name).and_then(|field| decoder.flag(&field));
    let (insecure, resumption) = (flag("insecure"), flag("resumption"));
    let ca_pem = object.get("ca").and_then(|field| {
        let text = decoder.text(&field)?;
        if text.contains("-----BEGIN") {
            return Some(text);
        }
        let shown = excerpt(&text);
        decoder.wrong(
            &field,
            format!("`{shown}` names a file, which only the command line can read; put the certificates' text (PEM) here"),
        );
        None
    });
    let mut file = |name: &str| {
        // What is there and cannot be read is not missing as well.
        object.get(name).map(|field| file_name(decoder, &field).unwrap_or_else(|| super::STAND_IN.to_owned()))
    };
    let client = match (file("cert"), file("key")) {
        (Some(cert_file), Some(key_file)) => Some(ClientCertificate { cert_file, key_file }),
        (None, None) => None,
        (cert, _) => {
            let (given, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let message = format!("is missing beside `{given}`; give both files, or none");
            decoder.note(object.field.node.at, &object.path(missing), message);
            None
        }
    };
    let mut version = |name: &str| object.get(name).and_then(|field| tls_version(decoder, &field));
    let (min_version, max_version) = (version("min_version"), version("max_version"));
    TlsOptions {
        insecure: insecure.unwrap_or_default(),
        ca_pem,
        client,
        server_name: object.get("server_name").and_then(|field| decoder.text(&field)),
        min_version: min_version.unwrap_or_default(),
        max_version,
        no_resumption: !resumption.unwrap_or(true),
    }
}

/// The name of a file that every agent has; its text must not stand in a plan.
fn file_name(decoder: &mut Decoder, field: &Field<'_>) -> Option<String> {
    let text = decoder.text(field)?;
    if text.contains("-----BEGIN") {
        decoder.wrong(
            field,
            "holds PEM text; put it into a file below each agent's own folder (--files) and give its name, so that no key lies in a plan",
        );
        return None;
    }
    Some(text)
}

fn tls_version(decoder: &mut Decoder, field: &Field<'_>) -> Option<TlsVersion> {
    match word_or_number(decoder, field)?.as_str() {
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        other => {
            let shown = excerpt(other);
            decoder.wrong(
                field,
                format!("`{shown}` is not a version of TLS that is spoken here; give 1.2 or 1.3"),
            );
            None
        }
    }
}
