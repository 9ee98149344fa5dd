//! Shard and plan → [`Program`]: whatever can be done before the load begins is done here, once.
//!
//! Takes an opened shard and its plan, gives one value that all cores share and nobody changes. Every request is rendered to
//! bytes, every origin and allowed target is known, and what cannot fit this machine is refused with its way out.
//! Nothing here touches the network.

pub mod allow;
mod files;
mod render;
mod tls;

use std::sync::Arc;

use rustls_pki_types::ServerName;
use volcanion_common::plan::{self, Executor, Plan};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::units::Micros;

pub use allow::{AllowError, AllowList, AllowRule, TargetPolicy};
pub use files::CONNECTIONS_PER_VU_MAX;

/// What the cores of one run need, and nothing that changes.
#[derive(Debug)]
pub struct Program {
    /// The plan's scenarios, in order; a scenario of which this agent owns nothing is there too.
    pub scenarios: Vec<Scenario>,
    /// The request steps by their global number, see `Plan::steps`.
    pub steps: Vec<Step>,
    /// The distinct servers that the steps talk to.
    pub origins: Vec<Origin>,
    /// Which statuses are a success.
    pub success: SuccessStatus,
    /// Seeds whatever is drawn by chance; the same in all shards of a run.
    pub seed: u64,
    /// How often deltas are cut.
    pub interval: Micros,
    /// Whether a connection is used again.
    pub keep_alive: bool,
    /// Which addresses may be connected to.
    pub targets: TargetPolicy,
    /// Present where a step speaks TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// One scenario, as the cores run it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Unique in the plan.
    pub name: String,
    /// How iterations are started.
    pub executor: Executor,
    /// What part of it this agent owns.
    pub share: ScenarioShare,
    /// After the run's start.
    pub start_time: Micros,
    /// How long iterations in flight at the scenario's end may go on.
    pub graceful_stop: Micros,
    /// What an iteration does, in order.
    pub items: Vec<Item>,
}

/// One thing that an iteration does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Sends the request of [`Program::steps`] at this index.
    Request(u32),
    /// Waits, evenly distributed from `least` to `most`.
    Think {
        /// The shortest wait.
        least: Micros,
        /// The longest wait; at least `least`.
        most: Micros,
    },
}

/// One request step, rendered.
#[derive(Clone, Debug)]
pub struct Step {
    /// Unique in the plan.
    pub name: String,
    /// As sent.
    pub method: String,
    /// Into [`Program::origins`].
    pub origin: u32,
    /// Request line, headers and body, exactly as they go out.
    pub request: Vec<u8>,
    /// The answer has no body, whatever its head says.
    pub is_head: bool,
    /// May be sent again where nothing of an answer came (RFC 9110 9.2.2).
    pub is_idempotent: bool,
    /// For the whole attempt, connecting included.
    pub timeout: Micros,
}

/// A server: where connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A name in ASCII form or an address without brackets.
    pub host: String,
    /// As connected to.
    pub port: u16,
    /// The name that TLS asks for and verifies; `None`: plain TCP.
    pub tls: Option<ServerName<'static>>,
}

/// Which statuses are a success, as a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessStatus([u64; 16]);

impl SuccessStatus {
    /// From inclusive ranges.
    pub fn new(ranges: &[(u16, u16)]) -> Self {
        let mut bits = [0; 16];
        for status in ranges.iter().flat_map(|(first, last)| *first..=(*last).min(1023)) {
            bits[usize::from(status / 64)] |= 1 << (status % 64);
        }
        Self(bits)
    }

    /// Whether a whole answer of this status is a success.
    pub fn holds(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1)
    }
}

/// What the agent itself brings to a run.
#[derive(Clone, Debug, Default)]
pub struct PrepareSettings {
    /// Whether the agent can be reached from its own machine only; if so it may load its own machine too.
    pub listens_on_loopback: bool,
    /// What may be loaded; `None`: all but link-local and metadata addresses.
    pub allow: Option<AllowList>,
}

/// Why the agent cannot do its part of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// A word for machines: `plan`, `tls`, `file_limit`.
    pub code: &'static str,
    /// What is wrong, and the way out.
    pub message: String,
}

impl PrepareError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Makes the program of a shard: `plan` is the shard's own, read.
///
/// # Errors
/// `plan`: a request cannot be put together from it, or its scenarios are not those of the shard; `tls`: its authorities cannot be
/// read; `file_limit`: its connections do not fit the limit on open files.
pub fn compile(shard: &Shard, plan: &Plan, settings: &PrepareSettings) -> Result<Program, PrepareError> {
    if shard.scenarios.len() != plan.scenarios.len() {
        let (shares, scenarios) = (shard.scenarios.len(), plan.scenarios.len());
        return Err(PrepareError::new(
            "plan",
            format!("the shard has {shares} scenario shares for {scenarios} scenarios"),
        ));
    }
    let mut origins = Vec::new();
    let steps = plan
        .steps()
        .map(|step| render::step(plan, step.step, &mut origins))
        .collect::<Result<Vec<_>, _>>()?;
    let tls = origins
        .iter()
        .any(|origin| origin.tls.is_some())
        .then(|| tls::client_config(&plan.http.tls))
        .transpose()?;
    let program = Program {
        scenarios: scenarios(shard, plan),
        steps,
        origins,
        success: SuccessStatus::new(&plan.success_status),
        seed: shard.seed,
        interval: plan.interval,
        keep_alive: !plan.http.no_keep_alive,
        targets: TargetPolicy { allow: settings.allow.clone(), loopback: settings.listens_on_loopback },
        tls,
    };
    files::make_room(&program)?;
    Ok(program)
}

fn scenarios(shard: &Shard, plan: &Plan) -> Vec<Scenario> {
    let mut next_step = 0;
    let mut item = |step: &plan::Step| match step {
        plan::Step::Request(_) => {
            next_step += 1;
            Item::Request(next_step - 1)
        }
        plan::Step::Think { least, most } => Item::Think { least: *least, most: *most },
    };
    plan.scenarios
        .iter()
        .zip(&shard.scenarios)
        .map(|(scenario, share)| Scenario {
            name: scenario.name.clone(),
            executor: scenario.executor.clone(),
            share: share.clone(),
            start_time: scenario.start_time,
            graceful_stop: scenario.graceful_stop,
            items: scenario.steps.iter().map(&mut item).collect(),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
