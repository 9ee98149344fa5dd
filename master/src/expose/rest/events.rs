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
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use utoipa::ToSchema;
use volcanion_common::ids::RunId;
use volcanion_common::view::ErrorCode;

use super::RestState;
use super::forward;
use super::ids::RunAt;
use super::problem::{Refusal, Refused};
use super::streams::{Kind, Place};
use crate::run::live::{RunEvent, RunEventKind};

/// A comment is sent after so long without an event, so that proxies keep the connection and the death of a client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// An event as WebSockets carry it; SSE has the same three in its own form.
#[derive(serde::Serialize, ToSchema)]
pub(super) struct EventView {
    /// `snapshot` (metrics), `state` (a run), `warning`, or `end` (metrics; nothing follows).
    pub(super) event: &'static str,
    /// Ascends; from 1 without gaps unless another master takes the run over.
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
        (status = 503, response = Refused),
    )
)]
pub(super) async fn events(
    State(state): State<RestState>,
    RunAt(id): RunAt,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let place = place(&state, Kind::Sse)?;
    // What is no id of ours is as good as none: the stream begins anew.
    let after = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut events = open(&state, id, after, &headers).await?;
    let first = events.next().now_or_never();
    if matches!(first, Some(None)) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stream = stream::iter(first.flatten()).chain(events).map(move |event| {
        let _held_until_the_stream_ends = &place;
        Ok::<_, Infallible>(sse_event(event))
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
pub(super) fn place(state: &RestState, kind: Kind) -> Result<Place, Refusal> {
    state.streams.place(kind).ok_or_else(|| {
        Refusal::new(
            ErrorCode::RateLimited,
            "too many event streams are open; close one, or ask for /live now and then",
        )
    })
}

/// A run's events until its end, or until the master stops: from here, or passed on from the leader.
///
/// # Errors
/// There is no such run, or no leader for one that goes, or the master is ending.
pub(super) async fn open(
    state: &RestState,
    id: RunId,
    after: Option<u64>,
    headers: &HeaderMap,
) -> Result<BoxStream<'static, EventView>, Refusal> {
    if state.stop.is_cancelled() {
        return Err(Refusal::new(ErrorCode::NoLeader, "this master is ending"));
    }
    let views = match forward::own_events(state, id, after).await? {
        Some(events) => events.map(|event| view(&event)).boxed(),
        None => forward::events(state, id, after, headers).await?,
    };
    Ok(views.take_until(state.stop.clone().cancelled_owned()).boxed())
}

/// The names of all events.
pub(super) const NAMES: [&str; 4] = ["snapshot", "state", "warning", "end"];

fn view(event: &RunEvent) -> EventView {
    let [snapshot, state, warning, end] = NAMES;
    let (name, data) = match &event.kind {
        RunEventKind::Snapshot(metrics) => (snapshot, serde_json::to_value(metrics)),
        RunEventKind::State(run) => (state, serde_json::to_value(run)),
        RunEventKind::Warning(about) => (warning, serde_json::to_value(about)),
        RunEventKind::End(metrics) => (end, serde_json::to_value(metrics)),
    };
    // Views are made of text, numbers and maps with text keys: they have a JSON form.
    EventView { event: name, id: event.id, data: data.unwrap_or_default() }
}

fn sse_event(EventView { event, id, data }: EventView) -> Event {
    // JSON in one line holds no line break.
    Event::default().event(event).id(id.to_string()).data(data.to_string())
}
