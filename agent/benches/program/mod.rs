//! A plan's text → a program, as an agent of one core would compile it that has the whole run.

use std::sync::Arc;

use volcanion_agent::prepare::{PrepareSettings, Program, compile};
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::plan::document::{Format, read, to_json};
use volcanion_common::shard::Shard;
use volcanion_common::shard::split::{Weight, split};

/// Compiles a plan in YAML.
pub fn of(yaml: &str) -> Arc<Program> {
    let plan = read(yaml.as_bytes(), Format::Yaml).expect("the bench's plan is valid").plan;
    let (plan, shares) = split(&plan, &[Weight { cores: 1, capacity: 1.0 }]);
    let shard = Shard {
        run: RunId::new(),
        epoch: Epoch(1),
        agent: AgentId::from("bench"),
        incarnation: Incarnation(1),
        expires_unix_ms: 0,
        seed: 42,
        plan: to_json(&plan),
        scenarios: shares.into_iter().next().expect("one agent has one part"),
        first_vu: 0,
        ready_for: Vec::new(),
        orphan_timeout: None,
        trace: None,
    };
    let settings = PrepareSettings { listens_on_loopback: true, ..PrepareSettings::default() };
    Arc::new(compile(&shard, &plan, &settings).expect("the bench's plan can be carried out"))
}
