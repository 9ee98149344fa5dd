//! The plan: what to do. One form inside, whether a user wrote the full plan or the simple one.
//!
//! Taken from documents by [`document`] and [`simple`], checked by [`crate::validate`]. A plan holds no position, no
//! default left open and no unparsed text: what is here is resolved.

mod decode;
pub mod document;
mod encode;
pub mod executor;
mod fields;
mod full;
pub mod http;
mod json;
pub(crate) mod node;
pub mod profile;
pub mod request;
pub mod scenario;
pub mod simple;
pub mod suggest;
pub mod template;
pub mod threshold;
mod yaml;

use std::collections::BTreeMap;

use crate::units::{Micros, Share};
pub use executor::{Arrival, Control, Executor, Level, Stage, WhenBusy};
pub use http::{
    AddressFamily, ClientCertificate, Connections, DnsOptions, DnsRefresh, HttpOptions, HttpVersion, Resolve,
    TlsOptions, TlsVersion,
};
pub use request::{Body, Header, Request};
pub use scenario::{RequestStep, Scenario, Step};
pub use threshold::Threshold;

/// What to do: scenarios against a target, and the rules by which the result is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// 1 to 200 characters.
    pub name: String,
    /// The URL that the paths of steps are joined to; needed only where a step's URL is not absolute.
    pub target: Option<String>,
    /// How long one request may take, connecting included.
    pub timeout: Micros,
    /// Sent with every request, unless the step has its own of the same name.
    pub headers: Vec<Header>,
    /// How the agents speak HTTP.
    pub http: HttpOptions,
    /// Constants for `{{ name }}` in URLs, headers and bodies.
    pub variables: BTreeMap<String, String>,
    /// Which agents take part.
    pub agents: AgentChoice,
    /// Whether the agents share the plan or each carries it whole.
    pub load: Load,
    /// Whether agents that join a running run get a part of it.
    pub elastic: bool,
    /// What becomes of a lost agent's part.
    pub on_agent_loss: OnAgentLoss,
    /// The statuses of a success, as inclusive ranges; 200-399 by default.
    pub success_status: Vec<(u16, u16)>,
    /// How often agents report.
    pub interval: Micros,
    /// Which share of the requests carries a `traceparent`, and is a span; the master's own where absent.
    pub trace_sample: Option<Share>,
    /// In the order of the document; at least one.
    pub scenarios: Vec<Scenario>,
    /// Judged on merged numbers only.
    pub thresholds: Vec<Threshold>,
}

/// Which of the registered agents a run uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentChoice {
    /// So many, the least loaded ones; all that match where absent.
    pub count: Option<u32>,
    /// Labels that an agent must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// No other run may use them meanwhile.
    pub exclusive: bool,
}

/// How a plan's load relates to the number of agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// The plan is split over the agents.
    #[default]
    Total,
    /// Each agent carries the whole plan: more agents, more load.
    PerAgent,
}

/// What becomes of the part of an agent that is lost during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAgentLoss {
    /// The others take it over.
    Redistribute,
    /// The run goes on without it, and the result says what is missing.
    #[default]
    Continue,
    /// The run ends as failed.
    Abort,
}

/// A request step of a plan under its global number, by which series are keyed.
#[derive(Clone, Copy, Debug)]
pub struct StepRef<'a> {
    /// Counted through all scenarios in order, request steps only; from 0.
    pub index: u32,
    /// The scenario's position in the plan.
    pub scenario: u32,
    /// The step itself.
    pub step: &'a RequestStep,
}

impl Plan {
    /// Every request step with its global number.
    pub fn steps(&self) -> impl Iterator<Item = StepRef<'_>> {
        let requests = self.scenarios.iter().enumerate().flat_map(|(scenario, s)| {
            s.steps.iter().filter_map(move |step| match step {
                Step::Request(step) => Some((scenario as u32, step)),
                Step::Think { .. } => None,
            })
        });
        requests.enumerate().map(|(index, (scenario, step))| StepRef { index: index as u32, scenario, step })
    }

    /// When the last scenario starts its last iteration at the latest, counted from the run's start.
    pub fn duration(&self) -> Micros {
        self.scenarios
            .iter()
            .map(|s| s.start_time.saturating_add(s.executor.duration()))
            .max()
            .unwrap_or_default()
    }

    /// The longest that iterations in flight at the planned end may go on.
    pub fn graceful_stop(&self) -> Micros {
        self.scenarios.iter().map(|s| s.graceful_stop).max().unwrap_or_default()
    }

    /// Whether a response of this status is a success.
    pub fn is_success(&self, status: u16) -> bool {
        self.success_status.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}
