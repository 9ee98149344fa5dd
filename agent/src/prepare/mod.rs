//! Shard and plan → [`Program`]: whatever can be done before the load begins is done here, once.
//!
//! Takes an opened shard and its plan, gives one value that all cores share and nobody changes. Every request is rendered to
//! bytes, every origin and allowed target is known, and what cannot fit this machine is refused with its way out.
//! Nothing here touches the network.

mod demand;
mod files;
pub mod folder;
pub mod message;
mod network;
mod ports;
mod render;
pub mod render_h2;
pub mod secrets;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::ServerName;
pub use volcanion_common::net::allow::{AllowError, AllowList, AllowRule, TargetPolicy};
use volcanion_common::plan::{self, Connections, Executor, HttpVersion, OnAgentLoss, Plan};
use volcanion_common::shard::{ScenarioShare, Shard};
use volcanion_common::telemetry::trace::{TraceContext, Tracer};
use volcanion_common::units::{Micros, Share};

pub use files::{CONNECTIONS_PER_VU_MAX, Taken};
pub use message::Message;
pub use network::{Families, Network};
use render::Renderer;
pub use secrets::SecretSources;
use secrets::Secrets;

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
    /// Seeds whatever is drawn by chance; the same in all shards of a run but those of a further copy of its plan.
    pub seed: u64,
    /// What is added to the numbers of VUs.
    pub first_vu: u64,
    /// Whether agents may join and leave while the run goes.
    pub is_elastic: bool,
    /// Whether lanes may come while the run goes, from agents that left or were lost.
    pub may_get_lanes: bool,
    /// How often deltas are cut.
    pub interval: Micros,
    /// Whether a connection is used again.
    pub keep_alive: bool,
    /// Who uses which connection.
    pub connections: Connections,
    /// How many redirects of a step are followed, one after the other.
    pub redirects: u32,
    /// Whether VUs keep the cookies that they are given.
    pub cookies: bool,
    /// Which addresses may be connected to.
    pub targets: TargetPolicy,
    /// How connections are made.
    pub network: Network,
    /// Present where some requests are to say to the target that they are part of a trace.
    pub trace: Option<RequestTrace>,
    /// Present where a step speaks TLS, or a redirect may lead to it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Among the agent's open files, held as long as the program is.
    pub(crate) room: Option<files::Room>,
}

/// Which requests are part of a trace, and where their spans go.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    /// What they are part of.
    pub parent: TraceContext,
    /// How many of them; more than none.
    pub sample: Share,
    /// Takes a span for each.
    pub tracer: Tracer,
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
    /// How many lanes it is to be ready for, where those are more.
    pub ready_for: u32,
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
    /// What goes out.
    pub request: Message,
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

impl Program {
    /// Whether no lane is owned yet: the agent joins a run that may go already.
    pub fn joins(&self) -> bool {
        self.is_elastic && self.scenarios.iter().all(|scenario| scenario.share.is_empty())
    }
}

impl Scenario {
    /// The lanes that the agent owns, or as many as it is to be ready for.
    pub fn possible(&self) -> ScenarioShare {
        let missing = (self.ready_for as usize).saturating_sub(self.share.owned.len());
        let others = (0..self.share.lanes).filter(|lane| self.share.owned.binary_search(lane).is_err());
        let take: Vec<u32> = others.take(missing).collect();
        self.share.after(&[], &take)
    }
}

/// What the agent itself brings to a run.
#[derive(Clone, Debug, Default)]
pub struct PrepareSettings {
    /// Whether the agent can be reached from its own machine only; if so it may load its own machine too.
    pub listens_on_loopback: bool,
    /// What may be loaded; `None`: all but link-local and metadata addresses.
    pub allow: Option<AllowList>,
    /// The folder below which the files lie that plans name; `None`: plans may name none.
    pub files: Option<PathBuf>,
    /// Where the secrets are that plans name.
    pub secrets: SecretSources,
    /// The connections of the agent's runs, which the limit on open files is to hold together.
    pub taken: Taken,
    /// Takes the spans of requests that are part of a trace.
    pub tracer: Tracer,
}

/// Why the agent cannot do its part of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// A word for machines, as [`compile`] names them.
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
/// `plan`: a request cannot be put together from it, or its scenarios are not those of the shard; `tls`: its authorities or
/// the client's certificate cannot be read; `secrets`: one that it names is not here; `files`: a file that it names is not below the agent's folder; `local_ips`: a source address is
/// not this machine's; `targets`: the agent does not load its Unix socket, or a server whose address it gives; `port_limit`, `file_limit`: its connections do not fit.
pub fn compile(shard: &Shard, plan: &Plan, settings: &PrepareSettings) -> Result<Program, PrepareError> {
    if shard.scenarios.len() != plan.scenarios.len() {
        let (shares, scenarios) = (shard.scenarios.len(), plan.scenarios.len());
        return Err(PrepareError::new(
            "plan",
            format!("the shard has {shares} scenario shares for {scenarios} scenarios"),
        ));
    }
    let secrets = Secrets::of(plan, &settings.secrets)?;
    let mut renderer = Renderer::new(plan, settings.files.as_deref(), &secrets);
    let steps = plan.steps().map(|step| renderer.step(step.step)).collect::<Result<Vec<_>, _>>()?;
    let origins = renderer.origins;
    if may_speak_http2(plan, &origins) {
        for step in &steps {
            render_h2::http2_head(&step.request)
                .map_err(|what| PrepareError::new("plan", format!("step `{}`: {what}", step.name)))?;
        }
    }
    let may_need_tls = plan.http.redirects > 0 || origins.iter().any(|origin| origin.tls.is_some());
    let tls = may_need_tls.then(|| tls::client_config(&plan.http, settings.files.as_deref())).transpose()?;
    let targets = TargetPolicy { allow: settings.allow.clone(), loopback: settings.listens_on_loopback };
    let network = Network::new(&plan.http, &targets, first_lane(shard))?;
    origins.iter().try_for_each(|origin| network.check(origin, &targets))?;
    let mut program = Program {
        scenarios: scenarios(shard, plan),
        steps,
        origins,
        success: SuccessStatus::new(&plan.success_status),
        // The first copy's is its own.
        seed: shard.seed.wrapping_add(shard.first_vu.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        first_vu: shard.first_vu,
        is_elastic: plan.elastic,
        may_get_lanes: plan.elastic || plan.on_agent_loss == OnAgentLoss::Redistribute,
        interval: plan.interval,
        keep_alive: !plan.http.no_keep_alive,
        connections: plan.http.connections,
        redirects: plan.http.redirects,
        cookies: plan.http.cookies,
        targets,
        network,
        trace: request_trace(shard, &settings.tracer),
        tls,
        room: None,
    };
    let demand = demand::of(&program, plan.http.connections);
    ports::check(&program, &demand)?;
    program.room = Some(files::make_room(&settings.taken, demand.most)?);
    Ok(program)
}

/// What the plan, or the master, wants traced is traced: a master of the version before names a trace that whoever asked for the run does not keep.
fn request_trace(shard: &Shard, tracer: &Tracer) -> Option<RequestTrace> {
    let trace = shard.trace.filter(|trace| !trace.sample.is_none())?;
    let parent = TraceContext { is_sampled: true, ..trace.parent };
    Some(RequestTrace { parent, sample: trace.sample, tracer: tracer.clone() })
}

/// A number that tells the agents of a run apart: each owns other lanes.
fn first_lane(shard: &Shard) -> u32 {
    shard.scenarios.iter().flat_map(|share| &share.owned).copied().min().unwrap_or(0)
}

/// Whether a request may go out over HTTP/2: where it is said, or where the target may choose it.
fn may_speak_http2(plan: &Plan, origins: &[Origin]) -> bool {
    match plan.http.version {
        HttpVersion::Http1 => false,
        HttpVersion::Http2 => true,
        HttpVersion::Auto => !plan.http.no_keep_alive && origins.iter().any(|origin| origin.tls.is_some()),
    }
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
        .enumerate()
        .map(|(index, (scenario, share))| Scenario {
            name: scenario.name.clone(),
            executor: scenario.executor.clone(),
            share: share.clone(),
            ready_for: shard.ready_for.get(index).copied().unwrap_or(0),
            start_time: scenario.start_time,
            graceful_stop: scenario.graceful_stop,
            items: scenario.steps.iter().map(&mut item).collect(),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
