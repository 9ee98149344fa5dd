//! What an agent is told: resolved settings, checked before anything listens.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use volcanion_common::ids::AgentId;
use volcanion_common::net::listen;
use volcanion_common::net::public::Public;
use volcanion_common::net::tls::ServerTls;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::trace::Collector;
use volcanion_common::units::Micros;

use crate::prepare::{AllowList, SecretSources};
use crate::schedule::pacer::{QUANTUM, QUANTUM_MAX};

/// The most load cores.
pub const CORES_MAX: u32 = 1_024;
/// The flag by which it gets credentials.
const KEY_FLAG: &str = "--cluster-key-file";
/// The flag that lets an agent listen beyond loopback without credentials.
pub const ALLOW_FLAG: &str = "--allow-unauthenticated";

/// An agent's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's name, unique in its cluster: 1 to 253 letters, digits, `.`, `_` and `-`.
    pub id: AgentId,
    /// Where gRPC listens; port 0: any free one.
    pub listen: SocketAddr,
    /// Where metrics and health listen; port 0: any free one; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// What of that other machines are answered; this one always is.
    pub public: Public,
    /// `HOST:PORT` at which masters reach gRPC, where that is another than `listen`; port 0: the one that it listens on.
    pub advertise: Option<String>,
    /// For a plan's choice of agents.
    pub labels: BTreeMap<String, String>,
    /// Load cores, 1 to [`CORES_MAX`].
    pub cores: u32,
    /// The weight beside other agents.
    pub capacity: Capacity,
    /// Opens what masters of this cluster sealed.
    pub cluster_key: ClusterKey,
    /// Whether `cluster_key` is a secret that the user gave: only then does the agent listen beyond loopback by itself.
    pub has_credentials: bool,
    /// Lets only masters of the cluster reach gRPC, by their certificates; `None`: plain, to whoever reaches the port.
    pub tls: Option<ServerTls>,
    /// Whether it may listen beyond loopback without credentials.
    pub allow_unauthenticated: bool,
    /// What may be loaded; `None`: all but link-local and metadata addresses, and loopback for an agent that listens there.
    pub targets: Option<AllowList>,
    /// Load stops when no leader was heard for so long; at least a second.
    pub orphan_timeout: Micros,
    /// Whether each load core's thread is kept on a processor of its own.
    pub pin: bool,
    /// Whether a load core spins while run time goes, rather than sleep until something is due.
    pub busy_poll: bool,
    /// The least distance at which a load core's timer is armed; at most a millisecond.
    pub quantum: Micros,
    /// Whether profiles and memory figures are shown beyond this machine too, at the metrics' port.
    pub remote_debug: bool,
    /// The folder below which the files lie that plans name (client certificates, bodies); `None`: plans may name none.
    pub files: Option<PathBuf>,
    /// Where the secrets are that plans name.
    pub secrets: SecretSources,
    /// Where spans go; `None`: there are none.
    pub collector: Option<Collector>,
}

/// What an agent counts for beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Capacity {
    /// As many as its load cores.
    #[default]
    Cores,
    /// This much, more than zero.
    Given(f64),
    /// What its load cores turn out to be worth when it starts: it measures itself for some seconds, see [`crate::calibrate`].
    Calibrated,
}

/// Settings that cannot be used together or at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A value out of its range.
    #[error("{field}: {value} {wrong}")]
    Value {
        /// The setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong, and the way out.
        wrong: &'static str,
    },
    /// Open listening without credentials.
    #[error("{field}: {source}")]
    Listen {
        /// The setting.
        field: &'static str,
        /// Why not.
        source: listen::ListenError,
    },
}

impl Config {
    /// The defaults: gRPC and metrics on free loopback ports, every core, 30 s of orphan timeout.
    pub fn new(id: AgentId, cluster_key: ClusterKey) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            id,
            listen: any_port,
            metrics_listen: Some(any_port),
            // Probes and Prometheus come from other machines, and what they read says nothing of plans but their steps' names.
            public: Public::ALL,
            advertise: None,
            labels: BTreeMap::new(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            capacity: Capacity::Cores,
            cluster_key,
            has_credentials: false,
            tls: None,
            allow_unauthenticated: false,
            targets: None,
            orphan_timeout: Micros::from_secs(30),
            pin: false,
            busy_poll: false,
            quantum: QUANTUM,
            remote_debug: false,
            files: None,
            secrets: SecretSources::default(),
            collector: None,
        }
    }

    /// Looks at every setting.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, value: String, wrong| Err(ConfigError::Value { field, value, wrong });
        let id = &self.id.0;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if id.is_empty() || id.len() > 253 || !id.bytes().all(is_name) {
            return wrong(
                "id",
                format!("`{id}`"),
                "is no name; give 1 to 253 letters, digits, `.`, `_` and `-`",
            );
        }
        if !(1..=CORES_MAX).contains(&self.cores) {
            return wrong("cores", self.cores.to_string(), "is out of range; give 1 to 1024");
        }
        if let Capacity::Given(capacity) = self.capacity
            && !(capacity.is_finite() && capacity > 0.0)
        {
            return wrong("capacity", capacity.to_string(), "is no weight; give a number above 0");
        }
        if self.orphan_timeout < Micros::from_secs(1) {
            return wrong(
                "orphan_timeout",
                self.orphan_timeout.to_string(),
                "is too short; give at least 1s",
            );
        }
        if self.quantum > QUANTUM_MAX {
            return wrong("quantum", self.quantum.to_string(), "is too long; give 0 to 1ms");
        }
        if let Some(folder) = self.files.as_ref().filter(|folder| !folder.is_dir()) {
            let value = folder.display().to_string();
            return wrong("files", value, "is no folder that can be read; make it, or leave the setting out");
        }
        for (field, address) in [("listen", Some(self.listen)), ("metrics_listen", self.metrics_listen)] {
            let Some(address) = address else { continue };
            listen::check(address, self.has_credentials, self.allow_unauthenticated, KEY_FLAG, ALLOW_FLAG)
                .map_err(|source| ConfigError::Listen { field, source })?;
        }
        match &self.advertise {
            Some(address) if split_address(address).is_none() => {
                return wrong("advertise", format!("`{address}`"), "is no address; give HOST:PORT");
            }
            None if self.listen.ip().is_unspecified() => {
                let value = self.listen.to_string();
                return wrong(
                    "listen",
                    value,
                    "is no address that a master could dial; say --advertise HOST:PORT",
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// `HOST:PORT` for others, of a socket that really listens at `bound`.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> String {
        match self.advertise.as_deref().and_then(split_address) {
            Some((host, 0)) => format!("{host}:{}", bound.port()),
            Some((host, port)) => format!("{host}:{port}"),
            None => bound.to_string(),
        }
    }

    /// `HOST:PORT` of the metrics for others.
    pub(crate) fn advertised_metrics(&self, bound: SocketAddr) -> String {
        match self.advertise.as_deref().and_then(split_address) {
            Some((host, _)) if bound.ip().is_unspecified() => format!("{host}:{}", bound.port()),
            _ => bound.to_string(),
        }
    }
}

fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let is_host = !host.is_empty() && (host.starts_with('[') && host.ends_with(']') || !host.contains(':'));
    is_host.then_some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("a-1".into(), ClusterKey::random())
    }

    #[test]
    fn the_defaults_can_be_used_and_stay_on_loopback() {
        let config = config();
        config.check().unwrap();
        assert!(listen::is_loopback(config.listen) && config.metrics_listen.is_some_and(listen::is_loopback));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_way_out() {
        let check = |config: Config, expected: &str| {
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(Config { id: "".into(), ..config() }, "id: `` is no name");
        check(Config { id: "a/b".into(), ..config() }, "id: `a/b`");
        check(Config { cores: 0, ..config() }, "cores: 0");
        check(Config { capacity: Capacity::Given(0.0), ..config() }, "capacity: 0");
        check(Config { capacity: Capacity::Given(f64::NAN), ..config() }, "capacity: NaN");
        check(Config { files: Some("/no/such/folder".into()), ..config() }, "files: /no/such/folder");
        check(Config { orphan_timeout: Micros(1), ..config() }, "orphan_timeout: 1us");
        check(Config { quantum: Micros(1_001), ..config() }, "quantum: 1ms1us is too long");
        check(Config { advertise: Some("host".to_owned()), ..config() }, "advertise: `host`");
        check(Config { advertise: Some("::1:80".to_owned()), ..config() }, "advertise: `::1:80`");
        let open: SocketAddr = "0.0.0.0:7070".parse().unwrap();
        check(Config { listen: open, ..config() }, ALLOW_FLAG);
        check(Config { listen: open, has_credentials: true, ..config() }, "--advertise");
        let advertised = Config { listen: open, advertise: Some("a.example:0".to_owned()), ..config() };
        check(advertised.clone(), ALLOW_FLAG);
        check(Config { metrics_listen: Some(open), ..config() }, "metrics_listen");
        Config { has_credentials: true, ..advertised.clone() }.check().unwrap();
        Config { allow_unauthenticated: true, ..advertised.clone() }.check().unwrap();
        assert_eq!(advertised.advertised(open), "a.example:7070");
        assert_eq!(advertised.advertised_metrics("0.0.0.0:9090".parse().unwrap()), "a.example:9090");
    }
}
