//! No web page may start a load: who is named by `Host`, who asks by `Origin`, and what kind of body comes.
//!
//! A page that a browser has open can send requests to the loopback, and by a name of its own that resolves to it (DNS rebinding) it can read
//! the answers too. Hence, where the master listens on loopback: `Host` must name the loopback, and `Origin`, where there
//! is one, must be the very host and port that is asked. Beyond loopback names are not known; there `Origin` is held against `Host` for writes.
//! Everywhere a write with a body must say that it is JSON or YAML, which a page's form cannot.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use volcanion_common::net::listen;
use volcanion_common::view::ErrorCode;

use super::body;
use super::problem::Refusal;

/// What is checked.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    is_local: bool,
    /// Pages of these may ask too.
    origins: Arc<[HeaderValue]>,
}

impl Guard {
    pub(super) fn new(listen: SocketAddr, origins: Vec<HeaderValue>) -> Self {
        Self { is_local: listen.ip().is_loopback(), origins: origins.into() }
    }

    fn look(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = host(request)?;
        // Browsers always name a host; what names none is no page.
        if self.is_local
            && let Some(host) = host
        {
            Self::check_host(host)?;
        }
        let is_write = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if self.is_local || is_write {
            self.check_origin(headers, host)?;
        }
        if is_write && has_body(headers) {
            body::kind(headers)?;
        }
        Ok(())
    }

    fn check_origin(&self, headers: &HeaderMap, host: Option<&str>) -> Result<(), Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        if self.origins.contains(origin) {
            return Ok(());
        }
        let origin = origin.to_str().unwrap_or("(not text)");
        // Its form is `scheme://host[:port]`, or `null`.
        let asking = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        match (asking, host) {
            (Some(asking), Some(host)) if asking.eq_ignore_ascii_case(host) => Ok(()),
            _ => Err(forbidden(format!(
                "a web page of `{}` may not ask this master; only pages that it serves itself may",
                shortened(origin)
            ))),
        }
    }

    fn check_host(host: &str) -> Result<(), Refusal> {
        if listen::is_loopback_host(host) {
            return Ok(());
        }
        Err(forbidden(format!(
            "the host `{}` is not this machine's loopback; ask for localhost, 127.0.0.1 or [::1]",
            shortened(host)
        )))
    }
}

/// The layer.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.look(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// What the request names as its host, where it names one.
fn host(request: &Request) -> Result<Option<&str>, Refusal> {
    let mut named = request.headers().get_all(header::HOST).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(request.uri().authority().map(|authority| authority.as_str())),
        (Some(host), None) => {
            host.to_str().map(Some).map_err(|_| forbidden("the host is not text".to_owned()))
        }
        (Some(_), Some(_)) => Err(forbidden("more than one host is named".to_owned())),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || text(headers, header::CONTENT_LENGTH).is_some_and(|length| length.trim() != "0")
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn forbidden(detail: String) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, detail)
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
