//! Where a master's or an agent's time and memory go: the admin's, as is every route that is not listed.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use volcanion_common::telemetry::memory::{self, MemoryView};
use volcanion_common::telemetry::pprof::{self, NoProfile, SECONDS_MAX};
use volcanion_common::view::ErrorCode;

use super::ids::AgentAt;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use crate::run::table::Runs;

/// How long a profile takes where nothing is said.
const SECONDS: u32 = 10;

#[utoipa::path(
    get, path = "/debug/pprof/profile", tag = "debug", operation_id = "profile",
    summary = "Where this master's CPU time goes: samples of its stacks, in pprof's form (gzip)",
    params(("seconds" = Option<u32>, Query, description = "For how long, 1 to 30; 10 where absent")),
    responses(
        (status = 200, description = "`go tool pprof` reads it", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, response = Refused),
        (status = 409, response = Refused),
    )
)]
pub(super) async fn profile(parameters: Parameters) -> Result<Response, Refusal> {
    let made = pprof::profile(seconds(parameters)?).await;
    made.map(answer).map_err(|error| {
        let code = match error {
            NoProfile::Length(_) => ErrorCode::ValidationError,
            NoProfile::Busy => ErrorCode::Conflict,
            NoProfile::Broken(_) => ErrorCode::InternalError,
        };
        Refusal::new(code, error.to_string())
    })
}

#[utoipa::path(
    get, path = "/debug/memory", tag = "debug", operation_id = "memory", summary = "What memory this master has",
    responses((status = 200, description = "As the kernel says it", body = MemoryView))
)]
pub(super) async fn memory() -> Json<MemoryView> {
    Json(memory::memory())
}

#[utoipa::path(
    get, path = "/agents/{id}/profile", tag = "agents", operation_id = "agentProfile",
    summary = "Where an agent's CPU time goes: samples of its stacks, in pprof's form (gzip)",
    description = "Any master does it, whether it leads or not. Naming the functions takes up to some seconds of one of the agent's cores after the sampling.",
    params(
        ("id" = String, Path, description = "The agent's name"),
        ("seconds" = Option<u32>, Query, description = "For how long, 1 to 30; 10 where absent"),
    ),
    responses(
        (status = 200, description = "`go tool pprof` reads it", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 409, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn agent_profile(
    State(runs): State<Runs>,
    AgentAt(id): AgentAt,
    parameters: Parameters,
) -> Result<Response, Refusal> {
    Ok(answer(runs.agent_profile(id, seconds(parameters)?).await?))
}

#[utoipa::path(
    get, path = "/agents/{id}/memory", tag = "agents", operation_id = "agentMemory", summary = "What memory an agent has",
    params(("id" = String, Path, description = "The agent's name")),
    responses(
        (status = 200, description = "As its kernel says it", body = MemoryView),
        (status = 404, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn agent_memory(
    State(runs): State<Runs>,
    AgentAt(id): AgentAt,
) -> Result<Json<MemoryView>, Refusal> {
    Ok(Json(runs.agent_memory(id).await?))
}

fn seconds(mut parameters: Parameters) -> Result<u32, Refusal> {
    let seconds = parameters.number("seconds", 1, SECONDS_MAX).unwrap_or(SECONDS);
    parameters.finish()?;
    Ok(seconds)
}

fn answer(profile: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/octet-stream")], profile).into_response()
}
