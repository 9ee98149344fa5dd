//! A run's level, changed while it goes.

use axum::Json;
use axum::extract::State;
use utoipa::ToSchema;
use volcanion_common::view::RunView;

use super::body::SmallObject;
use super::ids::RunAt;
use super::problem::{Refusal, Refused};
use crate::run::table::{Adjustment, Runs};

/// What a run is to be set to: `vus` or `rate`, as its scenario is led.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it is only described; the body is read with all its problems at once")]
pub(super) struct AdjustRun {
    /// So many VUs, at most the scenario's `max_vus`.
    vus: Option<u64>,
    /// Such a rate: `900/s`.
    rate: Option<String>,
    /// Which scenario; needed where several of the run are externally controlled.
    scenario: Option<String>,
}

#[utoipa::path(
    patch, path = "/test-runs/{id}", tag = "runs", operation_id = "adjustRun",
    summary = "Changes the level of an externally-controlled scenario while its run goes",
    params(("id" = Uuid, Path, description = "The run's id")),
    request_body(content = AdjustRun),
    responses(
        (status = 200, description = "The run with its levels: the change is kept, and begins for all agents at the moment that it says", body = RunView),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 409, response = Refused),
        (status = 413, response = Refused),
        (status = 415, response = Refused),
        (status = 429, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn adjust(
    State(runs): State<Runs>,
    RunAt(id): RunAt,
    body: SmallObject,
) -> Result<Json<RunView>, Refusal> {
    let mut fields = body.fields(&["vus", "rate", "scenario"]);
    let vus = fields.whole("vus");
    let rate = fields.parsed("rate", "a rate such as 900/s");
    let scenario = fields.text("scenario");
    fields.finish()?;
    Ok(Json(runs.adjust_run(id, Adjustment { vus, rate, scenario }).await?))
}
