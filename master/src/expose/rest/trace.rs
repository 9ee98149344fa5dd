//! The request's id, in and out, and one log line a request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

/// The header's name.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const ID_BYTES_MAX: usize = 128;

/// Gives every answer its request's id and writes one line a request: method, path template, status, duration.
pub(super) async fn trace(mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = id_of(request.headers());
    let request_id = id.to_str().unwrap_or_default().to_owned();
    let method = request.method().clone();
    // The template, not the path: lines of one call are alike, and nothing that a client made up reaches the log.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());

    // Whoever is asked further hears the same.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let span = tracing::info_span!("request", request_id);
    let mut response = next.run(request).instrument(span).await;

    let status = response.status().as_u16();
    let duration_ms = began.elapsed().as_micros() as f64 / 1e3;
    if status >= 500 && status != 503 {
        tracing::warn!(request_id, %method, path, status, duration_ms, "request");
    } else if path.starts_with("/api") {
        tracing::info!(request_id, %method, path, status, duration_ms, "request");
    } else {
        // Probes and scrapes come every few seconds.
        tracing::debug!(request_id, %method, path, status, duration_ms, "request");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own id where it is 1 to 128 visible ASCII characters, else a new one.
fn id_of(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |value: &&HeaderValue| {
        (1..=ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers.get(&REQUEST_ID).filter(is_fit).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID's text is visible ASCII")
    })
}
