//! A run's events by WebSocket: each a text message `{"event", "id", "data"}`, then a close.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Instant, interval_at, timeout};

use super::RestState;
use super::events::{self, EventView};
use super::ids::RunAt;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use super::streams::{Kind, Place};

/// A client is asked for a sign of life this often; without one until the next time it is gone.
const PING: Duration = Duration::from_secs(15);
/// A client that does not take a message for so long is let go; it may come back with `last_event_id`.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Clients have nothing to say but pongs.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

#[utoipa::path(
    get, path = "/test-runs/{id}/ws/metrics", tag = "events", operation_id = "socket",
    summary = "A run's events by WebSocket, each as {event, id, data}",
    params(
        ("id" = Uuid, Path, description = "The run's id"),
        ("last_event_id" = Option<u64>, Query, description = "Go on after this event"),
    ),
    responses(
        (status = 101, description = "WebSocket; messages are JSON texts of this form", body = EventView),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 429, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn socket(
    State(state): State<RestState>,
    RunAt(id): RunAt,
    mut parameters: Parameters,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let after = parameters.value("last_event_id", "the id of an event");
    parameters.finish()?;
    let place = events::place(&state, Kind::WebSocket)?;
    let events = events::open(&state, id, after, &headers).await?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| serve(socket, events, place)))
}

/// Until the run's end, the client's, or the master's. A send that fails ends it: then nobody is there to be told.
async fn serve(mut socket: WebSocket, mut events: BoxStream<'static, EventView>, _place: Place) {
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut was_heard = true;
    loop {
        // Each branch is ready with a whole thing or not at all, so nothing is lost when another goes first.
        let message = tokio::select! {
            event = events.next() => match event {
                Some(event) => text(&event),
                None => break,
            },
            received = socket.recv() => match received {
                // Pings are answered by the library.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    was_heard = true;
                    continue;
                }
            },
            _ = pings.tick() => {
                if !was_heard {
                    return;
                }
                was_heard = false;
                Message::Ping(bytes::Bytes::new())
            }
        };
        if !matches!(timeout(SEND_MAX, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    let bye = CloseFrame { code: close_code::NORMAL, reason: "nothing follows".into() };
    let closing = async {
        if socket.send(Message::Close(Some(bye))).await.is_ok() {
            // Until the client has closed as well, so that it reads everything.
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(SEND_MAX, closing).await;
}

fn text(event: &EventView) -> Message {
    // A view is text, a number and JSON.
    Message::Text(serde_json::to_string(event).unwrap_or_default().into())
}
