//! What is sent must be legal HTTP once the variables are filled in: URLs, methods, headers, bodies.

use std::collections::HashSet;

use super::bounds::{BODY_BYTES_MAX, CA_BYTES_MAX, HEADER_BYTES_MAX, REQUESTS_BYTES_MAX, URL_BYTES_MAX};
use super::http::check_body_file;
use super::{Found, step_path};
use crate::plan::node::{at_key, excerpt};
use crate::plan::request::{is_absolute, join};
use crate::plan::suggest::hint;
use crate::plan::template::{Piece, Template};
use crate::plan::{Body, Header, Plan, Step};

/// Headers that are ours, each with the way out.
const OURS: &[(&str, &str)] = &[
    ("content-length", "it is the body's and is set for you; leave it out"),
    ("transfer-encoding", "bodies are sent with their length; leave it out"),
    ("connection", "it is set for you; use http.keep_alive to close after each request"),
    ("keep-alive", "it is set for you; use http.keep_alive to close after each request"),
    ("proxy-connection", "no proxies are spoken to; leave it out"),
    ("upgrade", "connections keep their protocol; use http.version to choose HTTP/1.1 or 2"),
    ("http2-settings", "HTTP/2 is not reached by an upgrade; use http.version: 2 to speak it from the start"),
    ("trailer", "requests have no trailers; leave it out"),
];

pub(super) fn check(plan: &Plan, found: &mut Found) {
    let mut bytes: usize = 0;
    if let Some(target) = &plan.target {
        check_target(target, found);
    }
    headers(plan, &plan.headers, "", found);
    if let Some(pem) = &plan.http.tls.ca_pem {
        check_ca(pem, found);
    }
    let is_good_target = plan.target.as_ref().is_none_or(|target| join(None, target).is_ok());
    for scenario in &plan.scenarios {
        for (index, step) in scenario.steps.iter().enumerate() {
            let Step::Request(step) = step else { continue };
            let path = step_path(&scenario.name, index);
            let request = &step.request;
            check_method(&request.method, &format!("{path}.method"), found);
            bytes = bytes.saturating_add(check_url(
                plan,
                &request.url,
                is_good_target,
                &format!("{path}.url"),
                found,
            ));
            headers(plan, &request.headers, &path, found);
            let values = plan.headers.iter().chain(&request.headers).map(|header| &header.value);
            bytes =
                values.map(|value| value.rendered_bytes(&plan.variables)).fold(bytes, usize::saturating_add);
            if let Some(body) = &request.body {
                check_body_file(&path, body, found);
            }
            if let Some(Body::Text(body)) = &request.body {
                let path = format!("{path}.body");
                let size = body.rendered_bytes(&plan.variables);
                bytes = bytes.saturating_add(size);
                if known_variables(plan, body, &path, found) && size > BODY_BYTES_MAX {
                    found.note(
                        path,
                        format!("the body has {size} bytes; at most {BODY_BYTES_MAX} are possible"),
                    );
                }
            }
        }
    }
    if bytes > REQUESTS_BYTES_MAX {
        found.note(
            "scenarios",
            format!("the requests have {bytes} bytes together; at most {REQUESTS_BYTES_MAX} are possible"),
        );
    }
}

fn check_method(method: &str, path: &str, found: &mut Found) {
    if !is_token(method) || method.len() > 64 {
        found.note(path, format!("`{}` is not a method; give one such as GET", excerpt(method)));
    } else if method.eq_ignore_ascii_case("CONNECT") {
        found.note(path, "CONNECT opens a tunnel, which is no load; give another method");
    }
}

fn check_target(target: &str, found: &mut Found) {
    if target.contains("{{") {
        found.note("target", "variables cannot stand in the target; write the URL out");
    } else if target.len() > URL_BYTES_MAX {
        found.note(
            "target",
            format!("the URL has {} bytes; at most {URL_BYTES_MAX} are possible", target.len()),
        );
    } else if let Err(message) = join(None, target) {
        // There is no second target that a target could be joined to.
        let message = if is_absolute(target) || target.contains("://") {
            message
        } else {
            format!("`{}` is not a whole URL; write it as http://host", excerpt(target))
        };
        found.note("target", message);
    }
}

/// Gives the rendered length.
fn check_url(plan: &Plan, url: &Template, is_good_target: bool, path: &str, found: &mut Found) -> usize {
    let size = url.rendered_bytes(&plan.variables);
    if !known_variables(plan, url, path, found) {
        return size;
    }
    if size > URL_BYTES_MAX {
        found.note(path, format!("the URL has {size} bytes; at most {URL_BYTES_MAX} are possible"));
        return size;
    }
    if url.has_holes() && !begins_whole(url) {
        found.note(
            path,
            "neither a variable nor a secret can stand in a URL's scheme or host; write both out, or begin with a path",
        );
        return size;
    }
    let rendered = url.render(&plan.variables);
    // What is wrong with the target is said at the target.
    if (is_good_target || is_absolute(&rendered))
        && let Err(message) = join(plan.target.as_deref(), &rendered)
    {
        found.note(path, message);
    }
    size
}

/// Whether scheme and host stand before the first hole, or a path does.
fn begins_whole(url: &Template) -> bool {
    match url.pieces.first() {
        Some(Piece::Literal(text)) => {
            let text = text.trim_start();
            // `http{{ x }}` could still become a scheme; what has a slash or a query before cannot.
            let rest =
                if is_absolute(text) { text.split_once("://").map_or("", |(_, rest)| rest) } else { text };
            rest.contains(['/', '?', '#'])
        }
        _ => false,
    }
}

fn headers(plan: &Plan, headers: &[Header], of: &str, found: &mut Found) {
    let base = if of.is_empty() { "headers".to_owned() } else { format!("{of}.headers") };
    let mut hosts = 0;
    for header in headers {
        let path = at_key(&base, &header.name);
        if !is_token(&header.name) || header.name.len() > 256 {
            found.note(
                path,
                format!("`{}` is not a header name; use letters, digits and hyphens", excerpt(&header.name)),
            );
            continue;
        }
        if let Some((name, way_out)) = OURS.iter().find(|(name, _)| header.name.eq_ignore_ascii_case(name)) {
            found.note(path, format!("`{name}` cannot be given: {way_out}"));
            continue;
        }
        if header.name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if hosts == 2 {
                found.note(&path, "a request has one `host`; keep one");
            }
        }
        if !known_variables(plan, &header.value, &path, found) {
            continue;
        }
        let size = header.value.rendered_bytes(&plan.variables);
        if size > HEADER_BYTES_MAX {
            found.note(path, format!("the value has {size} bytes; at most {HEADER_BYTES_MAX} are possible"));
            continue;
        }
        let value = header.value.render(&plan.variables);
        if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
            found.note(path, "the value holds a line break or another control character; leave it out");
        } else if header.name.eq_ignore_ascii_case("host") && header.value.has_secrets() {
            found
                .note(path, "a host is no secret: the target's answers and logs would show it; write it out");
        } else if header.name.eq_ignore_ascii_case("host") && !is_host(value.trim()) {
            found.note(
                path,
                format!("`{}` is not a host; give a name, with a port where it needs one", excerpt(&value)),
            );
        }
    }
}

fn is_host(value: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_graphic() && !b"/?#@\\\"<>^`{|}".contains(&b);
    !value.is_empty() && value.len() <= 300 && value.bytes().all(is_allowed)
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Notes every hole that no variable fills, once.
fn known_variables(plan: &Plan, template: &Template, path: &str, found: &mut Found) -> bool {
    let mut missing = HashSet::new();
    for name in template.variables().filter(|name| !plan.variables.contains_key(*name)) {
        if missing.insert(name) {
            let known: Vec<&str> = plan.variables.keys().map(String::as_str).collect();
            let hint =
                if known.is_empty() { "give it under `variables`".to_owned() } else { hint(name, &known) };
            found.note(path, format!("there is no variable `{}`; {hint}", excerpt(name)));
        }
    }
    missing.is_empty()
}

fn check_ca(pem: &str, found: &mut Found) {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let path = "http.tls.ca";
    if pem.len() > CA_BYTES_MAX {
        found.note(
            path,
            format!("the certificates have {} bytes; at most {CA_BYTES_MAX} are possible", pem.len()),
        );
        return;
    }
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        if certificate.is_err() {
            found.note(
                path,
                "a certificate in it cannot be read; give PEM text (-----BEGIN CERTIFICATE-----)",
            );
            return;
        }
        count += 1;
    }
    if count == 0 {
        found.note(path, "holds no certificate; give PEM text (-----BEGIN CERTIFICATE-----)");
    }
}
