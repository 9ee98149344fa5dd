//! How long a client may take, and how much body is taken: 8 MiB at most.
//!
//! What is larger is refused as soon as that is known, from its length or while it comes, and never kept. A client that
//! writes on before it reads would meet a closed connection instead of the answer; so, as nginx's lingering close does, a bounded part of the
//! rest is read and thrown away beside the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use volcanion_common::view::ErrorCode;

use super::problem::Refusal;

/// Longest body of a plan.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a request's head, and for being idle between two: then the connection ends.
    pub head: Duration,
    /// For a body: then the answer is 400.
    pub body: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self { head: Duration::from_secs(30), body: Duration::from_secs(30) }
    }
}

/// Of a refused body so much is thrown away at most, for so long at most, of so many clients at a time.
const LINGER_BYTES_MAX: usize = 128 << 20;
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
const LINGERING_MAX: usize = 16;

/// Refuses what says that it is too long, whether or not its route takes a body; whoever reads a body finds there how long it may take.
pub(super) async fn refuse_large(
    State(limits): State<TimeLimits>,
    mut request: Request,
    next: Next,
) -> Response {
    let length = declared_length(request.headers());
    if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        linger(request);
        return too_large(BODY_BYTES_MAX).into_response();
    }
    request.extensions_mut().insert(limits);
    next.run(request).await
}

/// The whole body, of at most `bytes_max`.
pub(super) async fn read_whole(request: Request, bytes_max: usize) -> Result<Bytes, Refusal> {
    if declared_length(request.headers()).is_some_and(|length| length > bytes_max as u64) {
        linger(request);
        return Err(too_large(bytes_max));
    }
    let limits = request.extensions().get::<TimeLimits>().copied().unwrap_or_default();
    let mut stream = request.into_body().into_data_stream();
    let mut whole = BytesMut::new();
    let reading = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| unread("it broke off before its end"))?;
            if whole.len() + chunk.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let read = timeout(limits.body, reading).await;
    match read {
        Ok(Ok(())) => Ok(whole.freeze()),
        Ok(Err(refusal)) => {
            linger_on(Body::from_stream(stream));
            Err(refusal)
        }
        Err(_) => Err(unread(&format!("it did not arrive within {} s", limits.body.as_secs_f64()))),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(
        ErrorCode::TooLarge,
        format!("the body is larger than {} KiB, the most that is read here", bytes_max >> 10),
    )
}

fn unread(why: &str) -> Refusal {
    Refusal::new(ErrorCode::ValidationError, format!("the body could not be read: {why}"))
}

fn linger(request: Request) {
    // Who asks before sending has not begun; reading would call for the body.
    if !request.headers().contains_key(header::EXPECT) {
        linger_on(request.into_body());
    }
}

/// Beside the answer, not before it. The task owns the body alone and ends by itself within `LINGER_TIME_MAX`, so nobody joins it.
fn linger_on(body: Body) {
    static LINGERING: std::sync::OnceLock<Arc<Semaphore>> = std::sync::OnceLock::new();
    let places = LINGERING.get_or_init(|| Arc::new(Semaphore::new(LINGERING_MAX)));
    // Where too many linger already this one's connection is closed at once.
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let _place = place;
        let mut stream = body.into_data_stream();
        let throwing_away = async {
            let mut bytes = 0;
            while let Some(Ok(chunk)) = stream.next().await {
                bytes += chunk.len();
                if bytes > LINGER_BYTES_MAX {
                    return;
                }
            }
        };
        let _ = timeout(LINGER_TIME_MAX, throwing_away).await;
    });
}
