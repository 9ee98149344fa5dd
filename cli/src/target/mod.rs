//! `volcanion target`: an HTTP server to load, which says exactly how many requests it answered.
//!
//! `GET /__stats` is the one path that is not counted. It speaks HTTP/1.1 and HTTP/2 with prior knowledge.

mod behaviour;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use futures_util::TryStreamExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::TargetArgs;
use behaviour::Behaviour;
use stats::Stats;

/// A target that listens.
pub struct Target {
    address: SocketAddr,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<Behaviour>,
    stats: Arc<Stats>,
}

impl Target {
    /// Listens and answers until `stop`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(args: &TargetArgs, stop: CancellationToken) -> std::io::Result<Self> {
        let listener = TcpListener::bind(args.listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared { behaviour: Arc::new(Behaviour::new(args)), stats: Arc::default() };
        let router =
            Router::new().route("/__stats", axum::routing::get(stats)).fallback(answer).with_state(shared);
        let listener = listener.tap_io(|stream| {
            // Without it every answer on a kept connection may wait for an acknowledgement; a socket that refuses the
            // option is closing and needs no speed.
            let _ = stream.set_nodelay(true);
        });
        let serving = tokio::spawn(async move {
            // A cut is enough at the end: whoever stops a target is done with it.
            tokio::select! {
                served = axum::serve(listener, router).into_future() => served,
                () = stop.cancelled() => Ok(()),
            }
        });
        Ok(Self { address, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until it was stopped.
    ///
    /// # Errors
    /// The server failed.
    pub async fn stopped(self) -> std::io::Result<()> {
        self.serving.await.map_err(std::io::Error::other)?
    }
}

async fn stats(State(shared): State<Shared>) -> Response {
    axum::Json(shared.stats.snapshot()).into_response()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // The body is read to its end before the answer, and not kept: a client that still sends must not find the
    // connection closed.
    let read = body.into_data_stream().try_for_each(|_| async { Ok(()) }).await;
    let plan = shared.behaviour.draw();
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    let status = if read.is_err() { axum::http::StatusCode::BAD_REQUEST } else { plan.status };
    shared.stats.count(parts.uri.path(), status.as_u16());
    let body = Body::from(shared.behaviour.body());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("text/plain"));
    response
}
