//! An agent's entry in the registry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Incarnation};

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub id: AgentId,
    /// Which process of that name.
    pub incarnation: Incarnation,
    /// `HOST:PORT` at which the master reaches its gRPC.
    pub address: String,
    /// `HOST:PORT` of its metrics, where it has them.
    #[serde(default)]
    pub metrics_address: Option<String>,
    /// The program's version.
    pub version: String,
    /// For a plan's choice.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Load cores.
    pub cores: u32,
    /// Its weight beside other agents; its cores unless told otherwise. More than zero.
    pub capacity: f64,
    /// Requests a second that it can generate at most, where it measured that at its start.
    #[serde(default)]
    pub requests_per_s: Option<f64>,
    /// Whether it takes runs.
    pub state: MemberState,
}

/// Whether an agent takes runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It carries no run.
    #[default]
    Ready,
    /// It carries a run, and may carry more.
    Busy,
    /// It finishes what it has and takes nothing new.
    Draining,
}
