//! What a master needs to know, resolved: nothing here can be wrong any more.

use std::net::SocketAddr;
use std::time::Duration;

use volcanion_common::session::seal::ClusterKey;

use crate::store::StoreUrl;

/// A master's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where REST and `/metrics` listen; port 0 takes a free one. `None`: nowhere (a run within one process).
    pub listen: Option<SocketAddr>,
    /// Where plans, runs and histories are kept.
    pub store: StoreUrl,
    /// Seals the orders to agents.
    pub cluster_key: ClusterKey,
    /// Listen beyond loopback although clients need no credentials.
    pub allow_unauthenticated: bool,
    /// How long the agents of this cluster go on without a master: said when a master leaves runs behind.
    pub orphan_timeout: Duration,
    /// On exit stop the runs that are going, instead of leaving them to the next master. Always so where the store is gone with the process.
    pub stop_runs_on_exit: bool,
}

impl Config {
    /// The settings of a cluster within one process: no port, a store in memory, runs end with the process.
    pub fn embedded(cluster_key: ClusterKey) -> Self {
        Self {
            listen: None,
            store: StoreUrl::Memory,
            cluster_key,
            allow_unauthenticated: false,
            orphan_timeout: Duration::from_secs(30),
            stop_runs_on_exit: true,
        }
    }
}
