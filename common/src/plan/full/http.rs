//! How the agents speak HTTP: `http` of a document.

use super::super::decode::{Decoder, Field};
use super::super::fields;
use super::super::http::{HttpOptions, HttpVersion, TlsOptions};

/// Reads `http`.
pub(crate) fn http(decoder: &mut Decoder, field: Field<'_>) -> HttpOptions {
    let Some(object) = decoder.object(field, &fields::HTTP) else { return HttpOptions::default() };
    let version = object.get("version").and_then(|field| version(decoder, &field)).unwrap_or_default();
    let keep_alive = object.get("keep_alive").and_then(|field| decoder.flag(&field)).unwrap_or(true);
    let tls = object.get("tls").map(|field| tls(decoder, field)).unwrap_or_default();
    HttpOptions { version, no_keep_alive: !keep_alive, tls, ..HttpOptions::default() }
}

fn version(decoder: &mut Decoder, field: &Field<'_>) -> Option<HttpVersion> {
    // Unquoted, YAML and JSON make a number of it.
    let text = match &field.node.content {
        super::super::node::Content::Number { value, .. } => value.to_string(),
        _ => decoder.text(field)?,
    };
    match text.as_str() {
        "auto" => Some(HttpVersion::Auto),
        "1.1" | "1" => Some(HttpVersion::Http1),
        "2" | "2.0" | "h2" => {
            decoder.wrong(field, "HTTP/2 is not spoken by this version; use auto or 1.1");
            None
        }
        other => {
            let shown = super::super::node::excerpt(other);
            decoder.wrong(
                field,
                format!("`{shown}` is not a version of HTTP that is spoken here; use auto or 1.1"),
            );
            None
        }
    }
}

fn tls(decoder: &mut Decoder, field: Field<'_>) -> TlsOptions {
    let Some(object) = decoder.object(field, &fields::TLS) else { return TlsOptions::default() };
    let insecure = object.get("insecure").and_then(|field| decoder.flag(&field)).unwrap_or(false);
    let ca_pem = object.get("ca").and_then(|field| {
        let text = decoder.text(&field)?;
        if text.contains("-----BEGIN") {
            return Some(text);
        }
        let shown = super::super::node::excerpt(&text);
        decoder.wrong(
            &field,
            format!("`{shown}` names a file, which only the command line can read; put the certificates' text (PEM) here"),
        );
        None
    });
    TlsOptions { insecure, ca_pem, ..TlsOptions::default() }
}
