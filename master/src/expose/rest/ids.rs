//! Ids in paths: one that is malformed names nothing, as one that is unknown does.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use volcanion_common::ids::{AgentId, KeyId, PlanId, RunId};
use volcanion_common::view::ErrorCode;

use super::problem::Refusal;

/// No agent has a longer name.
const AGENT_BYTES_MAX: usize = 253;

/// The plan that a path names; whether there is one is not known yet.
pub(super) struct PlanAt(pub(super) PlanId);

/// The run that a path names; whether there is one is not known yet.
pub(super) struct RunAt(pub(super) RunId);

/// The key that a path names by its id; whether there is one is not known yet.
pub(super) struct KeyAt(pub(super) KeyId);

/// The agent that a path names; whether there is one is not known yet.
pub(super) struct AgentAt(pub(super) AgentId);

impl<S: Send + Sync> FromRequestParts<S> for AgentAt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = id_text(parts, state).await;
        if text.len() > AGENT_BYTES_MAX {
            let shown: String = text.chars().take(100).collect();
            return Err(Refusal::new(ErrorCode::NotFound, format!("there is no agent {shown}…")));
        }
        Ok(Self(AgentId(text)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PlanAt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        plan_id(&id_text(parts, state).await).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RunAt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = id_text(parts, state).await;
        text.parse().map(|id| Self(RunId(id))).map_err(|_| nothing("run", &text))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for KeyAt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let text = id_text(parts, state).await;
        text.parse().map(Self).map_err(|_| nothing("key", &text))
    }
}

/// A plan's id from text.
///
/// # Errors
/// 404: the text is no id.
pub(super) fn plan_id(text: &str) -> Result<PlanId, Refusal> {
    text.parse().map_err(|_| nothing("plan", text))
}

async fn id_text<S: Send + Sync>(parts: &mut Parts, state: &S) -> String {
    // What cannot be decoded is no id either.
    Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text).unwrap_or_default()
}

fn nothing(what: &str, text: &str) -> Refusal {
    let shown: String = text.chars().take(100).collect();
    Refusal::new(
        ErrorCode::NotFound,
        format!("there is no {what} `{shown}`; ids are UUIDs, and the list has them all"),
    )
}
