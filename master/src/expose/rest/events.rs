//! A run's events as SSE: `snapshot`, `state`, `warning`, `end`.
//!
//! Each event has its `id`, so that a client that comes back with `Last-Event-ID` misses nothing. A slow client is sent what the
//! run's history still holds, and the newest snapshot for the rest; the number of streams is bounded.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::{FutureExt, Stream};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use volcanion_common::ids::RunId;
use volcanion_common::view::ErrorCode;

use super::RestState;
use super::ids::RunAt;
use super::problem::{Refusal, Refused};
use crate::run::live::{RunEvent, RunEventKind};

/// A comment is sent after so long without an event, so that proxies keep the connection and the death of a client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// An event as WebSockets carry it; SSE has the same three in its own form.
#[derive(serde::Serialize, ToSchema)]
pub(super) struct EventView {
    /// `snapshot` (metrics), `state` (a run), `warning`, or `end` (metrics; nothing follows).
    pub(super) event: &'static str,
    /// From 1, without gaps.
    pub(super) id: u64,
    /// What the event is about.
    pub(super) data: Value,
}

#[utoipa::path(
    get, path = "/test-runs/{id}/events", tag = "events", operation_id = "events",
    summary = "A run's events by SSE: snapshot, state, warning, end",
    params(
        ("id" = Uuid, Path, description = "The run's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on after this event"),
    ),
    responses(
        (status = 200, description = "A stream of events that ends after `end`", body = String, content_type = "text/event-stream"),
        (status = 204, description = "`Last-Event-ID` was the last of the run: nothing follows, do not come back"),
        (status = 404, response = Refused),
        (status = 429, response = Refused),
    )
)]
pub(super) async fn events(
    State(state): State<RestState>,
    RunAt(id): RunAt,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let place = place(&state)?;
    // What is no id of ours is as good as none: the stream begins anew.
    let after = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut events = open(&state, id, after).await?;
    let first = events.next().now_or_never();
    if matches!(first, Some(None)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stream = stream::iter(first.flatten()).chain(events).map(move |event| {
        let _held_until_the_stream_ends = &place;
        Ok::<_, Infallible>(sse_event(&event))
    });
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx and its like pass events on at once.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

/// A place among the streams.
///
/// # Errors
/// There are too many.
pub(super) fn place(state: &RestState) -> Result<OwnedSemaphorePermit, Refusal> {
    std::sync::Arc::clone(&state.streams).try_acquire_owned().map_err(|_| {
        Refusal::new(
            ErrorCode::RateLimited,
            "too many event streams are open; close one, or ask for /live now and then",
        )
    })
}

/// A run's events until its end, or until the master stops.
///
/// # Errors
/// There is no such run, or the master is ending.
pub(super) async fn open(
    state: &RestState,
    id: RunId,
    after: Option<u64>,
) -> Result<BoxStream<'static, RunEvent>, Refusal> {
    if state.stop.is_cancelled() {
        return Err(Refusal::new(ErrorCode::NoLeader, "this master is ending"));
    }
    let events = state.runs.events(id, after).await?;
    Ok(until_stopped(events, state.stop.clone()).boxed())
}

fn until_stopped(
    events: impl Stream<Item = RunEvent> + Send + 'static,
    stop: tokio_util::sync::CancellationToken,
) -> impl Stream<Item = RunEvent> + Send + 'static {
    events.take_until(stop.cancelled_owned())
}

/// The event's name and what it is about.
pub(super) fn view(event: &RunEvent) -> EventView {
    let (name, data) = match &event.kind {
        RunEventKind::Snapshot(metrics) => ("snapshot", serde_json::to_value(metrics)),
        RunEventKind::State(run) => ("state", serde_json::to_value(run)),
        RunEventKind::Warning(warning) => ("warning", serde_json::to_value(warning)),
        RunEventKind::End(metrics) => ("end", serde_json::to_value(metrics)),
    };
    // Views are made of text, numbers and maps with text keys: they have a JSON form.
    EventView { event: name, id: event.id, data: data.unwrap_or_default() }
}

fn sse_event(event: &RunEvent) -> Event {
    let EventView { event, id, data } = view(event);
    // JSON in one line holds no line break.
    Event::default().event(event).id(id.to_string()).data(data.to_string())
}
