//! The registered agents.

use axum::Json;
use axum::extract::State;
use volcanion_common::view::{AgentView, KillView};

use super::ids::AgentAt;
use super::problem::{Refusal, Refused};
use crate::run::table::Runs;

#[utoipa::path(
    get, path = "/agents", tag = "agents", operation_id = "listAgents", summary = "The registered agents, by name",
    responses((status = 200, description = "All of them", body = Vec<AgentView>))
)]
pub(super) async fn list(State(runs): State<Runs>) -> Json<Vec<AgentView>> {
    Json(runs.agents())
}

#[utoipa::path(
    post, path = "/agents/{id}/drain", tag = "agents", operation_id = "drainAgent",
    summary = "Has an agent finish the runs that it has and take no new one; again: the same answer",
    description = "Answers once the agent is seen as `draining`, so a run that is started after that does not get it. It stays until its process ends; \
        started again, it takes runs again.",
    params(("id" = String, Path, description = "The agent's name")),
    responses(
        (status = 200, description = "The agent, draining", body = AgentView),
        (status = 404, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn drain(
    State(runs): State<Runs>,
    AgentAt(id): AgentAt,
) -> Result<Json<AgentView>, Refusal> {
    Ok(Json(runs.drain_agent(id).await?))
}

#[utoipa::path(
    post, path = "/kill", tag = "agents", operation_id = "kill",
    summary = "The kill switch: ends the load of every run on every agent at once",
    description = "Any master does it, whether it leads or not and whether the store answers or not. Requests in flight are cut off; what was measured is kept, and the \
        runs end as `cancelled`. New runs can be started afterwards.",
    responses((status = 200, description = "What became of it on each agent", body = KillView))
)]
pub(super) async fn kill(State(runs): State<Runs>) -> Json<KillView> {
    Json(runs.kill().await)
}
