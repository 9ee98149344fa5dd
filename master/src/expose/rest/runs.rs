//! Runs: started, stopped, listed, and what they have measured.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::Timestamp;
use utoipa::ToSchema;
use volcanion_common::ids::PlanId;
use volcanion_common::problem::Problem;
use volcanion_common::view::{Metrics, RunStatus, RunView};

use super::body::SmallObject;
use super::ids::{self, RunAt};
use super::lists;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use super::trace;
use crate::run::origin::Cause;
use crate::run::table::{RunFilter, Runs};
use crate::store::STATUSES;

/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// Which plan is to be run.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it is only described; the body is read with all its problems at once")]
pub(super) struct StartRun {
    /// The plan's id.
    plan_id: uuid::Uuid,
}

#[utoipa::path(
    get, path = "/test-runs", tag = "runs", operation_id = "listRuns", summary = "Runs, newest first",
    params(
        ("plan_id" = Option<Uuid>, Query, description = "Of this plan only"),
        ("status" = Option<RunStatus>, Query, description = "In this state only"),
        ("from" = Option<String>, Query, description = "Made at this time (RFC 3339) or later"),
        ("to" = Option<String>, Query, description = "Made before this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Most runs in the answer; 50 where absent", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Vec<RunView>,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last"))),
        (status = 400, response = Refused),
    )
)]
pub(super) async fn list(State(runs): State<Runs>, mut parameters: Parameters) -> Result<Response, Refusal> {
    let plan_id = parameters.value("plan_id", "the id of a plan (a UUID)");
    let status = parameters.read("status", status);
    let from = parameters.value::<Timestamp>("from", "a time such as 2026-01-31T12:00:00Z");
    let to = parameters.value::<Timestamp>("to", "a time such as 2026-01-31T12:00:00Z");
    let (limit, cursor) = lists::page_of(&mut parameters);
    let address = parameters.finish()?;
    let page = runs.runs(RunFilter { plan_id, status, from, to, limit, cursor }).await?;
    Ok(lists::answer(&address, page, |run| run))
}

#[utoipa::path(
    post, path = "/test-runs/start", tag = "runs", operation_id = "startRun", summary = "Starts a run of a plan",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key again gives the run that it started", max_length = 255)),
    request_body(content = StartRun),
    responses(
        (status = 201, description = "The run", body = RunView,
            headers(("Location" = String, description = "Where the run is"))),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 409, response = Refused),
        (status = 413, response = Refused),
        (status = 415, response = Refused),
        (status = 429, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn start(
    State(runs): State<Runs>,
    Extension(cause): Extension<Cause>,
    headers: HeaderMap,
    body: SmallObject,
) -> Result<Response, Refusal> {
    let [plan_id] = body.texts(["plan_id"])?;
    start_plan(&runs, ids::plan_id(&plan_id)?, &headers, cause).await
}

/// What both ways to start a run do.
pub(super) async fn start_plan(
    runs: &Runs,
    id: PlanId,
    headers: &HeaderMap,
    cause: Cause,
) -> Result<Response, Refusal> {
    let run = runs.start_run_for(id, idempotency_key(headers)?, cause).await?;
    trace::led_to(run.id);
    let location = format!("/api/v1/test-runs/{}", run.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(run)).into_response())
}

#[utoipa::path(
    get, path = "/test-runs/{id}", tag = "runs", operation_id = "getRun", summary = "A run",
    params(("id" = Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run", body = RunView),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn get(State(runs): State<Runs>, RunAt(id): RunAt) -> Result<Json<RunView>, Refusal> {
    Ok(Json(runs.run(id).await?))
}

#[utoipa::path(
    post, path = "/test-runs/{id}/stop", tag = "runs", operation_id = "stopRun",
    summary = "Stops a run; again: the same answer",
    params(("id" = Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The run, stopped or still stopping", body = RunView),
        (status = 404, response = Refused),
        (status = 409, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn stop(State(runs): State<Runs>, RunAt(id): RunAt) -> Result<Json<RunView>, Refusal> {
    Ok(Json(runs.stop_run(id).await?))
}

#[utoipa::path(
    get, path = "/test-runs/{id}/live", tag = "metrics", operation_id = "liveMetrics",
    summary = "The metrics now: at most an interval old while the run goes, then the final ones",
    params(("id" = Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The metrics", body = Metrics),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn live(State(runs): State<Runs>, RunAt(id): RunAt) -> Result<Json<Arc<Metrics>>, Refusal> {
    Ok(Json(runs.metrics(id).await?))
}

#[utoipa::path(
    get, path = "/test-runs/{id}/metrics", tag = "metrics", operation_id = "metrics",
    summary = "The same document; final once the run ended",
    params(("id" = Uuid, Path, description = "The run's id")),
    responses(
        (status = 200, description = "The metrics", body = Metrics),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn metrics(
    State(runs): State<Runs>,
    RunAt(id): RunAt,
) -> Result<Json<Arc<Metrics>>, Refusal> {
    Ok(Json(runs.metrics(id).await?))
}

fn status(text: &str) -> Result<RunStatus, String> {
    STATUSES.into_iter().find(|status| status.name() == text).ok_or_else(|| {
        let names = STATUSES.map(RunStatus::name).join(", ");
        format!("`{}` is not a state; give one of {names}", text.chars().take(100).collect::<String>())
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Refusal::invalid(vec![Problem::new(
            "Idempotency-Key",
            format!("must be 1 to {KEY_BYTES_MAX} visible ASCII characters"),
        )])),
    }
}
