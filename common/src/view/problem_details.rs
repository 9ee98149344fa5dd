//! Errors as RFC 9457 problem details, and the one list of their codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;

/// The error's code for machines. [`ErrorCode::status`] is the only place where it becomes an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The input has problems; `errors` lists them all.
    ValidationError,
    /// There is no such thing.
    NotFound,
    /// It cannot be done in the present state.
    Conflict,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks may not.
    Forbidden,
    /// Too many requests.
    RateLimited,
    /// No agent can take the run.
    NoAgents,
    /// No master leads at this moment.
    NoLeader,
    /// The store takes nothing, or gives nothing, at this moment.
    StoreUnavailable,
    /// An agent does not answer, says no, or has just left.
    AgentUnavailable,
    /// The input is too large.
    TooLarge,
    /// There is such a path, but not with this method.
    MethodNotAllowed,
    /// The body is of a kind that is not read here.
    UnsupportedMediaType,
    /// Our fault.
    InternalError,
}

impl ErrorCode {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::ValidationError => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimited => 429,
            Self::InternalError => 500,
            Self::NoAgents | Self::NoLeader | Self::StoreUnavailable | Self::AgentUnavailable => 503,
        }
    }

    /// The short name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ValidationError => "The input is not valid",
            Self::NotFound => "Not found",
            Self::Conflict => "Not possible in the present state",
            Self::Unauthorized => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::RateLimited => "Too many requests",
            Self::NoAgents => "No agent can take the run",
            Self::NoLeader => "No master leads",
            Self::StoreUnavailable => "The store does not work",
            Self::AgentUnavailable => "The agent does not do it now",
            Self::TooLarge => "The input is too large",
            Self::MethodNotAllowed => "No such method here",
            Self::UnsupportedMediaType => "Not a kind of body that is read here",
            Self::InternalError => "Internal error",
        }
    }

    /// The code as documents carry it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ValidationError => "validation_error",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::NoAgents => "no_agents",
            Self::NoLeader => "no_leader",
            Self::StoreUnavailable => "store_unavailable",
            Self::AgentUnavailable => "agent_unavailable",
            Self::TooLarge => "too_large",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InternalError => "internal_error",
        }
    }
}

/// RFC 9457 problem details (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// A URI of the error's code: `urn:volcanion:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every error of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and the way out.
    pub detail: String,
    /// The code for machines.
    pub error: ErrorCode,
    /// Every problem of the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

impl ProblemDetails {
    /// An error without a list of problems.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:volcanion:error:{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            error: code,
            errors: Vec::new(),
        }
    }

    /// An input with problems.
    pub fn invalid(errors: Vec<Problem>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.to_string(),
            many => format!(
                "{} problems: {}",
                many.len(),
                many.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            ),
        };
        Self { errors, ..Self::new(ErrorCode::ValidationError, detail) }
    }
}
