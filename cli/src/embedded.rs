//! A whole cluster in this process: a registry within it, a master, and agents on loopback. They still speak real gRPC,
//! so that there is one path, not two.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use volcanion_agent::Agent;
use volcanion_agent::prepare::SecretSources;
use volcanion_common::ids::{AgentId, RunId};
use volcanion_common::plan::document;
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Collector;
use volcanion_common::units::Share;
use volcanion_common::view::RunView;
use volcanion_master::Master;
use volcanion_master::run::table::{MasterError, RunEvent, RunEventKind, Runs};

use crate::args::PacingArgs;
use crate::cluster::{Cluster, Update};
use crate::exit::Failure;

/// How large the cluster is, and where its spans go.
#[derive(Clone, Debug)]
pub struct Size {
    pub agents: u32,
    /// Load cores of each agent; all, shared among the agents, where absent.
    pub cores: Option<u32>,
    pub pacing: PacingArgs,
    pub collector: Option<Collector>,
    /// Which share of the requests of a plan that says none is traced.
    pub trace_sample: Share,
}

/// A cluster in this process.
pub struct Embedded {
    runs: Runs,
    master: Master,
    agents: Vec<Agent>,
    stop_master: CancellationToken,
    stop_agents: CancellationToken,
}

impl Embedded {
    /// Starts master and agents. gRPC listens on random loopback ports under a key of this process; REST only where
    /// asked. Agents read the files that plans name below `files`, and find secrets in `secrets`.
    ///
    /// # Errors
    /// No port, no thread, no memory.
    pub async fn start(
        size: Size,
        rest: Option<SocketAddr>,
        files: Option<&Path>,
        secrets: &SecretSources,
    ) -> Result<Self, Failure> {
        let registry = Arc::new(LocalRegistry::new());
        let key = ClusterKey::random();
        let (stop_master, stop_agents) = (CancellationToken::new(), CancellationToken::new());
        let machine_cores = std::thread::available_parallelism().map_or(1, NonZero::get) as u32;
        let cores = size.cores.unwrap_or((machine_cores / size.agents).max(1));
        let mut agents = Vec::new();
        for number in 1..=size.agents {
            let id = AgentId(format!("agent-{number}"));
            let defaults = volcanion_agent::Config::new(id, key.clone());
            let config = volcanion_agent::Config {
                metrics_listen: None,
                cores,
                has_credentials: true,
                files: files.map(Path::to_owned),
                secrets: secrets.clone(),
                collector: size.collector.clone(),
                pin: size.pacing.pin,
                busy_poll: size.pacing.busy_poll,
                quantum: size.pacing.quantum.unwrap_or(defaults.quantum),
                ..defaults
            };
            let agent = volcanion_agent::start(config, registry.clone(), stop_agents.clone());
            agents.push(agent.await.map_err(Failure::could_not_run)?);
        }
        let config = volcanion_master::Config {
            listen: rest,
            collector: size.collector,
            trace_sample: size.trace_sample,
            ..volcanion_master::Config::embedded(key)
        };
        let master = volcanion_master::start(config, registry, stop_master.clone())
            .await
            .map_err(Failure::could_not_run)?;
        Ok(Self { runs: master.runs(), master, agents, stop_master, stop_agents })
    }

    /// Where REST listens, if it does.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.master.rest_address()
    }

    /// Ends the master, then the agents.
    pub async fn stop(self) -> Result<(), Failure> {
        self.stop_master.cancel();
        self.master.stopped().await;
        self.stop_agents.cancel();
        for agent in self.agents {
            agent.stopped().await.map_err(Failure::could_not_run)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Cluster for Embedded {
    async fn start(&self, document: &Value) -> Result<RunView, Failure> {
        let document = document::from_json(document).map_err(Failure::wrong)?;
        let plan = self.runs.create_plan(document).await.map_err(failure)?;
        self.runs.start_run(plan.id, None).await.map_err(failure)
    }

    async fn stop(&self, run: Uuid) -> Result<(), Failure> {
        self.runs.stop_run(RunId(run)).await.map(drop).map_err(failure)
    }

    async fn updates(&self, run: Uuid) -> Result<BoxStream<'static, Result<Update, Failure>>, Failure> {
        let events = self.runs.events(RunId(run), None).await.map_err(failure)?;
        Ok(events.map(|event| Ok(update(event))).boxed())
    }
}

fn update(event: RunEvent) -> Update {
    match event.kind {
        RunEventKind::Snapshot(metrics) => Update::Snapshot(Box::new((*metrics).clone())),
        RunEventKind::State(run) => Update::State(Box::new(run)),
        RunEventKind::Warning(warning) => Update::Warning(warning),
        RunEventKind::End(metrics) => Update::End(Box::new((*metrics).clone())),
    }
}

fn failure(error: MasterError) -> Failure {
    Failure::of_code(error.code, error.detail)
}
