//! The one error of what clients ask of the master: its code, its sentence, and the input's problems.

use volcanion_common::problem::Problem;
use volcanion_common::view::{ErrorCode, ProblemDetails};

use crate::fleet::choose::NoAgents;
use crate::fleet::drain::NotDrained;
use crate::fleet::look::NotSeen;
use crate::store::StoreError;

/// Why the master did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct MasterError {
    /// For machines; decides the HTTP status.
    pub code: ErrorCode,
    /// For people: what, and the way out.
    pub detail: String,
    /// Every problem of the input; empty unless the input is what is wrong.
    pub problems: Vec<Problem>,
}

impl MasterError {
    /// An error without a list of problems.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), problems: Vec::new() }
    }

    /// An input with problems; `problems` is not empty.
    pub fn invalid(problems: Vec<Problem>) -> Self {
        let details = ProblemDetails::invalid(problems);
        Self { code: details.error, detail: details.detail, problems: details.errors }
    }

    /// There is no such thing.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("there is no {what} {id}"))
    }

    /// It cannot be done in the present state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, detail)
    }

    /// Our fault.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InternalError, detail)
    }

    /// The document that REST answers with.
    pub fn to_problem_details(&self) -> ProblemDetails {
        let details = ProblemDetails::new(self.code, self.detail.clone());
        ProblemDetails { errors: self.problems.clone(), ..details }
    }
}

impl From<NoAgents> for MasterError {
    fn from(error: NoAgents) -> Self {
        Self::new(ErrorCode::NoAgents, error.to_string())
    }
}

impl From<NotDrained> for MasterError {
    fn from(error: NotDrained) -> Self {
        let code = match &error {
            NotDrained::Unknown(_) => ErrorCode::NotFound,
            NotDrained::Unavailable(_) => ErrorCode::AgentUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NotSeen> for MasterError {
    fn from(error: NotSeen) -> Self {
        let code = match &error {
            NotSeen::Unknown(_) => ErrorCode::NotFound,
            NotSeen::Busy(_) => ErrorCode::Conflict,
            NotSeen::Unavailable(_) => ErrorCode::AgentUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for MasterError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor(cursor) => Self::invalid(vec![Problem::new(
                "cursor",
                format!("`{cursor}` is not a cursor; take it from the page before, or leave it away"),
            )]),
            StoreError::Fenced { .. } => Self::new(ErrorCode::NoLeader, error.to_string()),
            StoreError::Unavailable(_) => Self::new(ErrorCode::StoreUnavailable, error.to_string()),
            error => Self::internal(error.to_string()),
        }
    }
}
