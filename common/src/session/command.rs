//! Orders to an agent outside of any run's stream: drain, kill, and look inside.
//!
//! They are sealed as a Prepare is, over their bytes exactly as they are sent. None passes for another: a command says its purpose and has no
//! field besides its own, and a shard has no purpose and fields that a command lacks.

use serde::{Deserialize, Serialize};

use super::seal::ClusterKey;
use crate::ids::{AgentId, Incarnation};

/// To one process, for a short time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What is to be done.
    pub purpose: Purpose,
    /// Who is to do it.
    pub agent: AgentId,
    /// Which process of that name; no other obeys.
    pub incarnation: Incarnation,
    /// Milliseconds since 1970 after which it is not obeyed any more.
    pub expires_unix_ms: u64,
    /// For how long, where the purpose is a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// What is longer is no command.
pub const COMMAND_BYTES_MAX: usize = 4_096;

/// The code of the fault that an agent reports for a run that the kill switch ended.
pub const KILLED: &str = "killed";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Take no new run, finish those that are there, stay.
    Drain,
    /// End the load of every run at once.
    Kill,
    /// Say where the CPU time goes.
    Profile,
    /// Say what memory there is.
    Memory,
}

impl Command {
    /// An order to this process.
    pub fn new(purpose: Purpose, agent: AgentId, incarnation: Incarnation, expires_unix_ms: u64) -> Self {
        Self { purpose, agent, incarnation, expires_unix_ms, seconds: None }
    }

    /// Its bytes and their seal.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn sealed(&self, key: &ClusterKey) -> Result<(Vec<u8>, Vec<u8>), serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let seal = key.seal(&bytes);
        Ok((bytes, seal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, RunId};
    use crate::shard::Shard;

    #[test]
    fn a_shard_is_no_order_to_drain_and_the_other_way_round() {
        let order = Command::new(Purpose::Drain, "a".into(), Incarnation(7), 1_000);
        let (bytes, seal) = order.sealed(&ClusterKey::open()).unwrap();
        assert!(ClusterKey::open().is_sealed(&bytes, &seal));
        assert_eq!(serde_json::from_slice::<Command>(&bytes).unwrap(), order);
        assert!(serde_json::from_slice::<Shard>(&bytes).is_err());
        let shard = Shard {
            run: RunId::new(),
            epoch: Epoch(1),
            agent: "a".into(),
            incarnation: Incarnation(7),
            expires_unix_ms: 1_000,
            seed: 1,
            plan: serde_json::json!({ "purpose": "drain" }),
            scenarios: Vec::new(),
            first_vu: 0,
            ready_for: Vec::new(),
            orphan_timeout: None,
            trace: None,
        };
        let mut shard = serde_json::to_value(&shard).unwrap();
        assert!(serde_json::from_value::<Command>(shard.clone()).is_err());
        shard["purpose"] = "drain".into();
        assert!(serde_json::from_value::<Command>(shard).is_err());
    }
}
