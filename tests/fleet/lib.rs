//! Many simulated agents in one process, to show what a master pays for a thousand.
//!
//! Each has a registry entry with a lease of its own and a gRPC server on a port of its own, and keeps to the protocol: it is
//! prepared and started, sends a delta an interval, keeps it until it is acknowledged, and ends with the plan. What it has not is an
//! engine: deltas are encoded once and sent again and again, so that the machine's cores are the master's. It tells how many requests its
//! deltas counted: what the master must report, to the one.

mod agent;
mod deltas;
mod run;

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::watch;
use volcanion_common::registry::etcd::{EtcdOptions, EtcdRegistry};
use volcanion_common::registry::{Membership, Registry};

use deltas::Deltas;
pub use run::Ended;

/// Agents that are being started at once.
const STARTING_MAX: usize = 32;

/// Agents that are there.
pub struct Fleet {
    entries: Vec<Box<dyn Membership>>,
    ended: watch::Receiver<Ended>,
}

impl Fleet {
    /// Starts the agents of these numbers, named `fleet-NUMBER`. Each is to be given `series` steps, of each of which it counts `samples` answers a
    /// second.
    ///
    /// # Errors
    /// etcd does not take an entry, or there is no port.
    pub async fn start(etcd: &str, numbers: Range<u32>, series: u32, samples: u64) -> Result<Self, String> {
        let options = EtcdOptions {
            endpoints: vec![etcd.to_owned()],
            prefix: "/volcanion".to_owned(),
            ..EtcdOptions::default()
        };
        let registry: Arc<dyn Registry> =
            Arc::new(EtcdRegistry::connect(options).await.map_err(|error| error.to_string())?);
        let deltas = Arc::new(Deltas::new(series, samples));
        let (sender, ended) = watch::channel(Ended::default());
        let starting = numbers
            .map(|number| agent::start(number, registry.as_ref(), Arc::clone(&deltas), sender.clone()));
        let started: Vec<Result<Box<dyn Membership>, String>> =
            futures_util::stream::iter(starting).buffer_unordered(STARTING_MAX).collect().await;
        Ok(Self { entries: started.into_iter().collect::<Result<_, _>>()?, ended })
    }

    /// What they have come to, now and from now on.
    pub fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.clone()
    }

    /// Takes all entries away.
    pub async fn leave(self) {
        futures_util::future::join_all(self.entries.iter().map(|entry| entry.leave())).await;
    }
}
