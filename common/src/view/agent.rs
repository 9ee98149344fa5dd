//! An agent as `GET /agents` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    pub id: String,
    /// Which process of that name: another one after each start.
    pub incarnation: u64,
    /// `HOST:PORT` of its gRPC.
    pub address: String,
    /// The program's version.
    pub version: String,
    /// For a plan's choice.
    pub labels: BTreeMap<String, String>,
    /// Load cores.
    pub cores: u32,
    /// Its weight beside other agents, in cores of a fixed speed.
    pub capacity: f64,
    /// Requests a second that it can generate at most, as it measured at its start; absent where it did not.
    #[serde(default)]
    pub requests_per_s: Option<f64>,
    /// `ready`, `busy` or `draining`.
    pub state: String,
    /// Runs that it carries now.
    pub load: u32,
    /// Its monotonic clock minus the master's, in microseconds; absent until it was measured.
    pub clock_offset_us: Option<i64>,
    /// The round trip of that measurement, in microseconds; half of it bounds the error.
    pub round_trip_us: Option<u64>,
}

/// What became of the kill switch on an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KilledAgentView {
    /// The agent's name.
    pub id: String,
    /// Whether it has obeyed.
    pub killed: bool,
    /// Runs that it carried.
    pub runs: u32,
    /// Why it has not obeyed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// What became of the kill switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KillView {
    /// Whether every agent has obeyed.
    pub all_killed: bool,
    /// Every registered agent, by name.
    pub agents: Vec<KilledAgentView>,
}
