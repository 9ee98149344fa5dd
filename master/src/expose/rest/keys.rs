//! Keys of clients.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa::ToSchema;
use volcanion_common::problem::Problem;
use volcanion_common::units::Micros;
use volcanion_common::view::{KeyView, NewKeyView, Role};

use super::RestState;
use super::body::SmallObject;
use super::ids::KeyAt;
use super::problem::{Refusal, Refused};
use crate::access::NewKey;

/// What a key is to be.
#[derive(ToSchema)]
#[allow(
    dead_code,
    reason = "it is only described: a body is read field by field, so that all its problems are told"
)]
pub(super) struct KeyOrder {
    /// Whose it is, or what for; 1 to 100 characters.
    name: String,
    /// What it lets do.
    role: Role,
    /// How long it is of use, such as `90d`; until it is revoked where absent.
    expires_in: Option<String>,
}

#[utoipa::path(
    get, path = "/keys", tag = "keys", operation_id = "listKeys",
    summary = "Keys of clients, newest first; admins only",
    responses(
        (status = 200, description = "All of them, revoked and expired ones too", body = Vec<KeyView>),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn list(State(state): State<RestState>) -> Result<Json<Vec<KeyView>>, Refusal> {
    Ok(Json(state.access.list().await?))
}

#[utoipa::path(
    post, path = "/keys", tag = "keys", operation_id = "createKey", summary = "Makes a key; admins only",
    request_body(content_type = "application/json", content = KeyOrder),
    responses(
        (status = 201, description = "The key, shown this once", body = NewKeyView),
        (status = 400, response = Refused),
        (status = 409, response = Refused),
        (status = 415, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn create(
    State(state): State<RestState>,
    body: SmallObject,
) -> Result<(StatusCode, Json<NewKeyView>), Refusal> {
    let mut fields = body.fields(&["name", "role", "expires_in"]);
    let name = fields.text("name");
    let role = fields.parsed::<Role>("role", "viewer, operator or admin");
    let expires_in = fields.parsed::<Micros>("expires_in", "a length of time such as `90d`");
    fields.finish()?;
    let missing = |name: &str| Refusal::invalid(vec![Problem::new(name, "is missing")]);
    let name = name.ok_or_else(|| missing("name"))?;
    let role = role.ok_or_else(|| missing("role"))?;
    let made = state.access.create(NewKey { name, role, expires_in }).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys", operation_id = "revokeKey",
    summary = "Revokes a key, for ever; it stays in the list. Admins only",
    params(("id" = Uuid, Path, description = "The key's id")),
    responses(
        (status = 200, description = "The key, revoked; again: the same answer", body = KeyView),
        (status = 404, response = Refused),
        (status = 503, response = Refused),
    )
)]
pub(super) async fn revoke(
    State(state): State<RestState>,
    KeyAt(id): KeyAt,
) -> Result<Json<KeyView>, Refusal> {
    Ok(Json(state.access.revoke(id).await?))
}
