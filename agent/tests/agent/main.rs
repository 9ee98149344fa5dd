//! An agent as a master meets it: over gRPC on loopback, through the registry, by its metrics.

// What goes wrong in a test's own helpers ends the test.
#![allow(clippy::unwrap_used)]

mod draining;
mod exposed;
mod leader;
mod leaving;
mod moving;
mod paced_load;
mod real_load;
mod streams;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use volcanion_agent::session::load::Loader;
use volcanion_agent::{Agent, Config, start_with};
use volcanion_common::registry::local::LocalRegistry;
use volcanion_common::session::seal::ClusterKey;

/// An agent in this process, with what a test needs to reach it.
pub struct Started {
    pub agent: Agent,
    pub key: ClusterKey,
    pub registry: LocalRegistry,
    pub stop: CancellationToken,
}

pub async fn start(loader: impl Loader) -> Started {
    start_as(loader, |config| config).await
}

/// With other settings than the defaults.
pub async fn start_as(loader: impl Loader, change: impl FnOnce(Config) -> Config) -> Started {
    let (registry, key, stop) = (LocalRegistry::new(), ClusterKey::random(), CancellationToken::new());
    let config = change(Config::new("a".into(), key.clone()));
    let agent = start_with(config, Arc::new(registry.clone()), Arc::new(loader), stop.clone()).await.unwrap();
    Started { agent, key, registry, stop }
}
