//! Joins the stages that a shard goes through: its plan is read, compiled to a program, and made ready on cores.

use std::sync::Arc;

use volcanion_common::plan::document;
use volcanion_common::session::Move;
use volcanion_common::shard::Shard;
use volcanion_common::units::Micros;

use crate::engine::{self, Adjustment, EngineError, EngineHandle, EngineSettings, PreparedEngine};
use crate::prepare::{self, PrepareError, PrepareSettings, Program};
use crate::session::load::{Control, Fault, Load, Loader, Names, Running};

/// The loader of a real agent.
#[derive(Clone, Debug)]
pub struct EngineLoader {
    /// What the agent brings to a run.
    pub prepare: PrepareSettings,
    /// How it is carried.
    pub engine: EngineSettings,
}

impl Loader for EngineLoader {
    fn prepare(&self, shard: &Shard) -> Result<Box<dyn Load>, Fault> {
        let document = document::from_json(&shard.plan)
            .map_err(|problems| Fault { code: "plan".to_owned(), message: problems.to_string() })?;
        let program = Arc::new(prepare::compile(shard, &document.plan, &self.prepare)?);
        let names = names(&program);
        let engine = engine::prepare(program, self.engine)?;
        Ok(Box::new(EngineLoad { engine, names }))
    }
}

struct EngineLoad {
    engine: PreparedEngine,
    names: Names,
}

impl Load for EngineLoad {
    fn cores(&self) -> u32 {
        self.engine.cores()
    }

    fn names(&self) -> Names {
        self.names.clone()
    }

    fn start(self: Box<Self>, at_ns: u64) -> Result<Running, Fault> {
        let (handle, events) = self.engine.start(at_ns);
        Ok(Running { events, control: Box::new(handle) })
    }
}

impl Control for EngineHandle {
    fn stop(&self, graceful: Micros) {
        Self::stop(self, graceful);
    }

    fn adjust(&self, adjustment: Adjustment) {
        Self::adjust(self, adjustment);
    }

    fn move_lanes(&self, order: &Move) {
        Self::move_lanes(self, order);
    }

    fn allow_until(&self, monotonic_ns: u64) {
        Self::allow_until(self, monotonic_ns);
    }
}

fn names(program: &Program) -> Names {
    Names {
        steps: program.steps.iter().map(|step| (step.name.clone(), step.method.clone())).collect(),
        scenarios: program.scenarios.iter().map(|scenario| scenario.name.clone()).collect(),
    }
}

impl From<PrepareError> for Fault {
    fn from(error: PrepareError) -> Self {
        Self { code: error.code.to_owned(), message: error.message }
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self { code: error.code().to_owned(), message: error.to_string() }
    }
}
