//! The request's id, in and out; its span; and one log line a request.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};
use uuid::Uuid;
use volcanion_common::telemetry::request_id::{self, is_request_id};
use volcanion_common::telemetry::trace::{self, Kind, TraceContext};

use super::RestState;
use super::route::Route;
use crate::run::origin::Cause;

/// The header's name.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static(request_id::REQUEST_ID);
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);

/// Gives every answer its request's id and writes one line a request: method, path template, status, duration. What is logged meanwhile carries the
/// id, and the run where the path names one. Calls of the API are spans, in the trace that the client says.
pub(super) async fn trace(State(state): State<RestState>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = id_of(request.headers());
    let request_id = id.to_str().unwrap_or_default().to_owned();
    // The template, not the path: lines of one call are alike, and nothing that a client made up reaches the log.
    let route = Route::of(&request);
    let is_call = route.path().starts_with("/api");

    let mut parent = parent_of(request.headers());
    // Probes and scrapes come every few seconds; they are no spans.
    let mut spanned = is_call.then(|| {
        let (method, path) = (route.method, route.path());
        let mut span = state.options.tracer.begin(format!("{method} {path}"), Kind::Server, parent);
        span.set("http.request.method", method.into());
        span.set("http.route", path.to_owned().into());
        span
    });
    if let Some(span) = &spanned {
        parent = span.context();
    }
    // Whoever is asked further hears the same.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    request.headers_mut().remove(TRACEPARENT);
    if let Some(value) = parent.and_then(|parent| HeaderValue::try_from(parent.to_string()).ok()) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
    request.extensions_mut().insert(Cause { request_id: Some(request_id.clone()), trace: parent });
    let log_span = tracing::error_span!("request", request_id, run_id = Empty);
    if let Some(run) = run_of(request.uri().path()) {
        log_span.record("run_id", display(run));
    }
    let mut response = next.run(request).instrument(log_span.clone()).await;

    let status = response.status().as_u16();
    if let Some(span) = &mut spanned {
        span.set("http.response.status_code", i64::from(status).into());
        if status >= 500 {
            span.fail();
        }
    }
    log_span.in_scope(|| say(&request_id, &route, status, began));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn say(request_id: &str, route: &Route, status: u16, began: Instant) {
    let (method, path) = (route.method, route.path());
    let duration_ms = began.elapsed().as_micros() as f64 / 1e3;
    if status >= 500 && status != 503 {
        tracing::warn!(request_id, method, path, status, duration_ms, "request");
    } else if path.starts_with("/api") {
        tracing::info!(request_id, method, path, status, duration_ms, "request");
    } else {
        // Probes and scrapes come every few seconds.
        tracing::debug!(request_id, method, path, status, duration_ms, "request");
    }
}

/// Says in the log to which run the request led whose handler calls this.
pub(super) fn led_to(run: Uuid) {
    Span::current().record("run_id", display(run));
}

/// The client's own id where it is 1 to 128 visible ASCII characters, else a new one.
fn id_of(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |value: &&HeaderValue| value.to_str().is_ok_and(is_request_id);
    headers.get(&REQUEST_ID).filter(is_fit).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID's text is visible ASCII")
    })
}

/// The place in a trace that the client says, where it says one and only one.
fn parent_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut said = headers.get_all(TRACEPARENT).iter();
    let (first, more) = (said.next()?, said.next());
    first.to_str().ok()?.parse().ok().filter(|_| more.is_none())
}

/// The run that a path names.
fn run_of(path: &str) -> Option<Uuid> {
    let call = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/api/"))?;
    call.strip_prefix("test-runs/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_its_path_and_by_nothing_that_a_client_made_up() {
        let id = Uuid::now_v7();
        for path in [format!("/api/v1/test-runs/{id}/stop"), format!("/api/test-runs/{id}")] {
            assert_eq!(run_of(&path), Some(id), "{path}");
        }
        for path in ["/api/v1/test-runs", "/api/v1/test-runs/x/stop", "/test-runs/x", "/livez"] {
            assert_eq!(run_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_place_that_is_said_twice_or_not_well_is_none() {
        let said = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        assert_eq!(parent_of(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(said));
        assert_eq!(parent_of(&headers), said.parse().ok());
        headers.append(TRACEPARENT, HeaderValue::from_static(said));
        assert_eq!(parent_of(&headers), None);
        let wrong = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static("00-x"))]);
        assert_eq!(parent_of(&wrong), None);
    }
}
