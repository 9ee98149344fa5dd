//! A run as REST shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::units::Rate;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Waits for agents.
    Queued,
    /// Agents compile their shards.
    Preparing,
    /// Load goes.
    Running,
    /// No new iterations; what is in flight ends.
    Stopping,
    /// Ended as planned, every threshold held.
    Completed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Ended with a broken threshold, or could not go on.
    Failed,
}

impl RunStatus {
    /// Whether the run is over for ever.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }

    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// The plan was done.
    Completed,
    /// Somebody asked for it.
    Cancelled,
    /// It could not go on; `message` says why.
    Failed,
    /// A threshold was broken, in the run or judged at its end.
    Threshold,
    /// Its master or its agents were lost, and nobody could take it up.
    Lost,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// The run.
    pub id: Uuid,
    /// The plan that it executes; the run keeps a copy, so the plan may change or go.
    pub plan_id: Uuid,
    /// The plan's name at the start.
    pub plan_name: String,
    /// How far it is.
    pub status: RunStatus,
    /// Why it ended; absent before.
    pub stop_reason: Option<StopReason>,
    /// What there is to say about its end, for people.
    pub message: Option<String>,
    /// When it was asked for (RFC 3339).
    pub created_at: String,
    /// When its load begins or began (RFC 3339).
    pub start_at: Option<String>,
    /// When it ended (RFC 3339).
    pub ended_at: Option<String>,
    /// Planned length of the load in milliseconds.
    pub planned_duration_ms: u64,
    /// What its externally-controlled scenarios are set to, in the plan's order; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelView>,
}

/// What an externally-controlled scenario of a run is set to: `vus` or `rate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LevelView {
    /// The scenario's name.
    pub scenario: String,
    /// So many VUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vus: Option<u64>,
    /// Such a rate, as plans write it: `900/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Rate>,
    /// The most VUs that there may be.
    pub max_vus: u64,
    /// The number of the change that set it; 0: the plan did.
    pub change: u64,
    /// The run's time, in milliseconds, from which on it holds.
    pub from_ms: f64,
}
