//! Where the agent's time and memory go: for whoever is on this machine, and beyond it only where the agent was told so.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use volcanion_common::net::listen;
use volcanion_common::telemetry::memory::memory;
use volcanion_common::telemetry::pprof::{NoProfile, profile};

use super::Sources;

/// How long a profile takes where nothing is said.
const SECONDS: u32 = 10;

/// What is asked of a profile.
#[derive(Deserialize)]
pub struct Asked {
    seconds: Option<u32>,
}

/// The CPU profile of so many seconds, in pprof's form.
pub async fn cpu_profile(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(sources): State<Arc<Sources>>,
    Query(asked): Query<Asked>,
) -> Response {
    if let Some(refused) = refused(peer, &sources) {
        return refused;
    }
    match profile(asked.seconds.unwrap_or(SECONDS)).await {
        Ok(profile) => ([(CONTENT_TYPE, "application/octet-stream")], profile).into_response(),
        Err(error) => {
            let status = match error {
                NoProfile::Length(_) => StatusCode::BAD_REQUEST,
                NoProfile::Busy => StatusCode::CONFLICT,
                NoProfile::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

/// The memory now.
pub async fn memory_figures(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(sources): State<Arc<Sources>>,
) -> Response {
    refused(peer, &sources).unwrap_or_else(|| Json(memory()).into_response())
}

fn refused(peer: SocketAddr, sources: &Sources) -> Option<Response> {
    let may = sources.remote_debug || listen::is_loopback(peer);
    (!may).then(|| {
        let text = "only this machine may look inside the agent; ask a master elsewhere, or start the agent with --remote-debug\n";
        (StatusCode::FORBIDDEN, text).into_response()
    })
}
