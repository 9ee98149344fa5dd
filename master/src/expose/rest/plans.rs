//! Plans: stored documents, and the start of a run of one.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use volcanion_common::ids::PlanId;
use volcanion_common::plan::document;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::RunView;

use super::body::PlanBody;
use super::ids::PlanAt;
use super::lists;
use super::parameters::Parameters;
use super::problem::{Refusal, Refused};
use super::runs;
use crate::run::origin::Cause;
use crate::run::table::{PlanPage, Runs, StoredPlan};

/// What the master adds to a document; documents may hold it (a client sends back what it read), and ours stands.
const ADDED_FIELDS: [&str; 3] = ["id", "created_at", "updated_at"];

/// A plan: simple or full, see `plan.schema.json`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({
    "name": "home page", "target_url": "http://127.0.0.1:9000/", "users": 10, "duration_sec": 30
}))]
#[allow(dead_code, reason = "it is only described; documents are read with their positions")]
pub(super) struct PlanDocument(Map<String, Value>);

/// A stored plan: the document as it was sent, with what the master adds.
#[derive(Serialize, ToSchema)]
pub(super) struct PlanView {
    /// The plan's id.
    #[schema(value_type = uuid::Uuid)]
    id: PlanId,
    #[serde(flatten)]
    #[schema(value_type = PlanDocument)]
    document: Map<String, Value>,
    /// When it was made (RFC 3339).
    created_at: String,
    /// When its document was last replaced (RFC 3339).
    updated_at: String,
}

/// What a valid plan amounts to.
#[derive(Serialize, ToSchema)]
pub(super) struct Validity {
    /// Always true; a plan that is not valid is answered 400 with every problem.
    valid: bool,
    /// The plan's name.
    name: String,
    /// From the start until the last iteration may start, in milliseconds.
    duration_ms: u64,
    /// How many scenarios.
    scenarios: usize,
    /// How many request steps.
    steps: usize,
    /// The most VUs at any time, those of all scenarios together.
    max_vus: u64,
}

#[utoipa::path(
    get, path = "/test-plans", tag = "plans", operation_id = "listPlans", summary = "Plans, newest first",
    params(
        ("limit" = Option<u32>, Query, description = "Most plans in the answer; 50 where absent", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Vec<PlanView>,
            headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last"))),
        (status = 400, response = Refused),
    )
)]
pub(super) async fn list(State(runs): State<Runs>, mut parameters: Parameters) -> Result<Response, Refusal> {
    let (limit, cursor) = lists::page_of(&mut parameters);
    let address = parameters.finish()?;
    let page = runs.plans(PlanPage { limit, cursor }).await?;
    Ok(lists::answer(&address, page, view))
}

#[utoipa::path(
    post, path = "/test-plans", tag = "plans", operation_id = "createPlan", summary = "Stores a plan",
    request_body(description = "A simple or a full plan", content(
        (PlanDocument = "application/json"), (PlanDocument = "application/yaml"),
    )),
    responses(
        (status = 201, description = "Stored", body = PlanView,
            headers(("Location" = String, description = "Where the plan is"))),
        (status = 400, response = Refused),
        (status = 413, response = Refused),
        (status = 415, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn create(
    State(runs): State<Runs>,
    PlanBody(document): PlanBody,
) -> Result<Response, Refusal> {
    Ok(created(runs.create_plan(document).await?))
}

#[utoipa::path(
    get, path = "/test-plans/{id}", tag = "plans", operation_id = "getPlan", summary = "A plan",
    params(("id" = Uuid, Path, description = "The plan's id")),
    responses(
        (status = 200, description = "The plan", body = PlanView),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn get(State(runs): State<Runs>, PlanAt(id): PlanAt) -> Result<Json<PlanView>, Refusal> {
    Ok(Json(view(runs.plan(id).await?)))
}

#[utoipa::path(
    put, path = "/test-plans/{id}", tag = "plans", operation_id = "replacePlan",
    summary = "Replaces a plan's document; runs that are going keep theirs",
    params(("id" = Uuid, Path, description = "The plan's id")),
    request_body(description = "A simple or a full plan", content(
        (PlanDocument = "application/json"), (PlanDocument = "application/yaml"),
    )),
    responses(
        (status = 200, description = "Replaced", body = PlanView),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 413, response = Refused),
        (status = 415, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn replace(
    State(runs): State<Runs>,
    PlanAt(id): PlanAt,
    PlanBody(document): PlanBody,
) -> Result<Json<PlanView>, Refusal> {
    Ok(Json(view(runs.replace_plan(id, document).await?)))
}

#[utoipa::path(
    delete, path = "/test-plans/{id}", tag = "plans", operation_id = "deletePlan",
    summary = "Removes a plan; its runs stay",
    params(("id" = Uuid, Path, description = "The plan's id")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn delete(State(runs): State<Runs>, PlanAt(id): PlanAt) -> Result<StatusCode, Refusal> {
    runs.delete_plan(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    post, path = "/test-plans/{id}/clone", tag = "plans", operation_id = "clonePlan",
    summary = "Stores a copy under a new id",
    params(("id" = Uuid, Path, description = "The plan's id")),
    responses(
        (status = 201, description = "The copy", body = PlanView,
            headers(("Location" = String, description = "Where the copy is"))),
        (status = 404, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn clone(State(runs): State<Runs>, PlanAt(id): PlanAt) -> Result<Response, Refusal> {
    Ok(created(runs.clone_plan(id).await?))
}

#[utoipa::path(
    post, path = "/test-plans/validate", tag = "plans", operation_id = "validateDocument",
    summary = "Says whether a document is a valid plan, and stores nothing",
    request_body(description = "A simple or a full plan", content(
        (PlanDocument = "application/json"), (PlanDocument = "application/yaml"),
    )),
    responses(
        (status = 200, description = "It is valid", body = Validity),
        (status = 400, response = Refused),
        (status = 413, response = Refused),
        (status = 415, response = Refused),
    )
)]
pub(super) async fn validate_document(
    State(runs): State<Runs>,
    PlanBody(document): PlanBody,
) -> Result<Json<Validity>, Refusal> {
    runs.check_caps(&document.plan)?;
    Ok(Json(validity(&document.plan)))
}

#[utoipa::path(
    post, path = "/test-plans/{id}/validate", tag = "plans", operation_id = "validatePlan",
    summary = "What a stored plan amounts to",
    params(("id" = Uuid, Path, description = "The plan's id")),
    responses(
        (status = 200, description = "It is valid", body = Validity),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
    )
)]
pub(super) async fn validate(
    State(runs): State<Runs>,
    PlanAt(id): PlanAt,
) -> Result<Json<Validity>, Refusal> {
    let plan = runs.plan(id).await?.plan;
    runs.check_caps(&plan)?;
    Ok(Json(validity(&plan)))
}

#[utoipa::path(
    post, path = "/test-plans/{id}/run", tag = "runs", operation_id = "runPlan", summary = "Starts a run of a plan",
    params(
        ("id" = Uuid, Path, description = "The plan's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the run that it started", max_length = 255),
    ),
    responses(
        (status = 201, description = "The run", body = RunView,
            headers(("Location" = String, description = "Where the run is"))),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 409, response = Refused),
        (status = 429, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn run(
    State(runs): State<Runs>,
    PlanAt(id): PlanAt,
    Extension(cause): Extension<Cause>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    runs::start_plan(&runs, id, &headers, cause).await
}

#[utoipa::path(
    get, path = "/plan.schema.json", tag = "plans", operation_id = "planSchema",
    summary = "The JSON Schema of plans, for editors",
    responses((status = 200, description = "A JSON Schema", body = serde_json::Value, content_type = "application/schema+json"))
)]
pub(super) async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], document::JSON_SCHEMA).into_response()
}

fn created(plan: StoredPlan) -> Response {
    let location = format!("/api/v1/test-plans/{}", plan.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(view(plan))).into_response()
}

fn view(plan: StoredPlan) -> PlanView {
    let mut document = match plan.source {
        Value::Object(fields) => fields,
        // A document that is no object is no plan, so none is stored.
        _ => Map::new(),
    };
    document.retain(|name, _| !ADDED_FIELDS.contains(&name.as_str()));
    PlanView {
        id: plan.id,
        document,
        created_at: plan.created_at.to_string(),
        updated_at: plan.updated_at.to_string(),
    }
}

fn validity(plan: &ValidPlan) -> Validity {
    Validity {
        valid: true,
        name: plan.name.clone(),
        duration_ms: plan.duration().0 / 1_000,
        scenarios: plan.scenarios.len(),
        steps: plan.steps().count(),
        max_vus: plan.scenarios.iter().map(|scenario| scenario.executor.max_vus()).sum(),
    }
}
