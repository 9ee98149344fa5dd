//! A shard: an agent's part of a run.
//!
//! A run is cut in **lanes**. A scenario has `lanes` of them, at most as many as it has VUs; VU number n, arrival
//! number k and (of a fixed number of iterations) iteration number k belong to lane n or k modulo `lanes`. Each lane has one owner, so
//! the shards add up to the plan by construction, and all agents' arrivals together are the plan's own evenly spaced
//! schedule. An agent cuts its lanes over its cores by the same arithmetic; a core without a lane has neither VU nor
//! arrival. With `load: per_agent` the plan is first multiplied by the number of agents ([`split`] does it).

pub mod apportion;
pub mod holding;
pub mod lanes;
pub mod segments;
pub mod split;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Epoch, Incarnation, RunId};
use crate::telemetry::trace::TraceContext;
use crate::units::{Micros, Share};

/// An agent's part of a run, as it is sealed and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// The run.
    pub run: RunId,
    /// The leader's term in which it was cut.
    pub epoch: Epoch,
    /// Whose part it is.
    pub agent: AgentId,
    /// Which process of that name; no other takes it.
    pub incarnation: Incarnation,
    /// Milliseconds since 1970 after which it is not taken any more.
    pub expires_unix_ms: u64,
    /// Seeds whatever is drawn by chance (Poisson arrivals, think times): the same in all shards of a run.
    pub seed: u64,
    /// The plan as cut (for `per_agent` already multiplied), in its document form.
    pub plan: serde_json::Value,
    /// For each scenario of the plan, in order.
    pub scenarios: Vec<ScenarioShare>,
    /// What is added to the numbers of its VUs: above 0 in a further copy of a plan, of which each joiner of a `load: per_agent` run gets one.
    #[serde(default)]
    pub first_vu: u64,
    /// For each scenario, how many lanes the agent is to be ready to own; empty, or less than it owns: those. What a joiner, which owns none yet, is judged by.
    #[serde(default)]
    pub ready_for: Vec<u32>,
    /// How long the agent may load without any master; the lesser of it and the agent's own holds. Absent: the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan_timeout: Option<Micros>,
    /// The run's place in its trace, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<ShardTrace>,
}

/// What an agent needs to be part of a run's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardTrace {
    /// What the agent's own spans are part of.
    pub parent: TraceContext,
    /// Which share of the requests says so to the target.
    pub sample: Share,
}

/// What part of a scenario somebody owns: an agent, or a core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioShare {
    /// Lanes of the scenario in all; at least 1.
    pub lanes: u32,
    /// The owned ones, ascending.
    pub owned: Vec<u32>,
}
