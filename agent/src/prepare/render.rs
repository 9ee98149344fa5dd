//! A step → the bytes of its request, rendered once: request line in origin form, headers in the plan's order, body.
//!
//! Order of the head: request line, `host`, the plan's headers that the step does not replace, the step's own, then what we add where
//! the plan is silent: `user-agent`, `accept`, `content-length`, `connection: close`. Framing is ours alone, so that
//! what is sent is one whole request whatever the plan writes.

use http::{HeaderName, HeaderValue, Method};
use rustls_pki_types::ServerName;
use url::Url;
use volcanion_common::plan::request::join;
use volcanion_common::plan::{Body, Header, Plan, RequestStep};

use super::{Origin, PrepareError, Step};

/// Renders a step; its server is put among the origins unless it is there.
pub(super) fn step(plan: &Plan, step: &RequestStep, origins: &mut Vec<Origin>) -> Result<Step, PrepareError> {
    let wrong = |what: String| PrepareError::new("plan", format!("step `{}`: {what}", step.name));
    let request = &step.request;
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| wrong(format!("`{}` is not an HTTP method", request.method)))?;
    if method == Method::CONNECT {
        return Err(wrong("CONNECT opens a tunnel and cannot be a step; use another method".to_owned()));
    }
    let url = join(plan.target.as_deref(), &request.url.render(&plan.variables)).map_err(wrong)?;
    let headers = headers(plan, &step.request.headers).map_err(wrong)?;
    let body = match &request.body {
        Some(Body::Text(text)) => Some(text.render(&plan.variables)),
        Some(Body::File(_)) => return Err(wrong("bodies from files are not sent yet".to_owned())),
        None => None,
    };
    let rendered = assemble(&method, &url, &headers, body.as_deref(), !plan.http.no_keep_alive);
    Ok(Step {
        name: step.name.clone(),
        origin: intern(origins, origin(&url).map_err(wrong)?),
        request: rendered,
        is_head: method == Method::HEAD,
        is_idempotent: method.is_idempotent(),
        timeout: step.timeout.unwrap_or(plan.timeout),
        method: request.method.clone(),
    })
}

fn origin(url: &Url) -> Result<Origin, String> {
    let host = match url.host() {
        Some(url::Host::Domain(name)) => name.to_owned(),
        Some(url::Host::Ipv4(ip)) => ip.to_string(),
        Some(url::Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(format!("url `{url}` names no host")),
    };
    let tls = if url.scheme() == "https" {
        let name = host.strip_suffix('.').unwrap_or(&host).to_owned();
        Some(
            ServerName::try_from(name)
                .map_err(|_| format!("host `{host}` is not a name that a certificate can have"))?,
        )
    } else {
        None
    };
    let port = url.port_or_known_default().ok_or_else(|| format!("url `{url}` has no port"))?;
    Ok(Origin { host, port, tls })
}

fn intern(origins: &mut Vec<Origin>, origin: Origin) -> u32 {
    let known = origins.iter().position(|known| *known == origin);
    known.unwrap_or_else(|| {
        origins.push(origin);
        origins.len() - 1
    }) as u32
}

/// The plan's headers that the step does not replace, then the step's; rendered and checked.
fn headers(plan: &Plan, own: &[Header]) -> Result<Vec<(String, String)>, String> {
    let is_own = |name: &str| own.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let mut headers = Vec::new();
    for header in plan.headers.iter().filter(|header| !is_own(&header.name)).chain(own) {
        let value = header.value.render(&plan.variables);
        if HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            return Err(format!("`{}` is not a header name", header.name));
        }
        if HeaderValue::from_bytes(value.as_bytes()).is_err() {
            return Err(format!(
                "header `{}`: its value holds a line break or a control character",
                header.name
            ));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("header `transfer-encoding`: bodies go out with their length; leave the header out"
                .to_owned());
        }
        headers.push((header.name.clone(), value.trim().to_owned()));
    }
    Ok(headers)
}

fn assemble(
    method: &Method,
    url: &Url,
    headers: &[(String, String)],
    body: Option<&str>,
    keep_alive: bool,
) -> Vec<u8> {
    let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {}", url.path());
    if let Some(query) = url.query() {
        head.push('?');
        head.push_str(query);
    }
    head.push_str(" HTTP/1.1\r\n");
    let mut line = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    if !given("host") {
        line("host", &authority(url));
    }
    // The length is ours: a wrong one would leave the server waiting, or read the next request as this one's body.
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
        line(name, value);
    }
    if !given("user-agent") {
        line("user-agent", concat!("volcanion/", env!("CARGO_PKG_VERSION")));
    }
    if !given("accept") {
        line("accept", "*/*");
    }
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if body.is_some() || expects_body || given("content-length") {
        line("content-length", &body.map_or(0, str::len).to_string());
    }
    if !keep_alive && !given("connection") {
        line("connection", "close");
    }
    head.push_str("\r\n");
    head.push_str(body.unwrap_or_default());
    head.into_bytes()
}

/// Host, and the port where it is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
