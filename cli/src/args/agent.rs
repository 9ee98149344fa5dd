//! The flags of `agent`, and those by which it keeps time, which a load in one process takes too.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use volcanion_agent::Capacity;
use volcanion_agent::prepare::SecretSources;
use volcanion_common::units::Micros;

use super::cluster::{EtcdArgs, KeyArgs, OtlpArgs, TargetsArgs};
use super::master::PublicWord;
use super::value::{capacity, duration, quantum};

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where gRPC listens
    #[arg(long, env = "VOLCANION_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Where metrics are served
    #[arg(long, env = "VOLCANION_METRICS_LISTEN", default_value = "127.0.0.1:9090")]
    pub metrics_listen: SocketAddr,
    /// What of it other machines are answered: health, metrics, none; this one always is
    #[arg(
        long,
        env = "VOLCANION_PUBLIC",
        value_name = "WORD[,WORD]",
        value_delimiter = ',',
        default_value = "health,metrics"
    )]
    pub public: Vec<PublicWord>,
    /// HOST:PORT at which masters reach the gRPC port [default: the listening address]
    #[arg(long, env = "VOLCANION_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub targets: TargetsArgs,
    /// Name, unique in the cluster [default: the host's name]
    #[arg(long, env = "VOLCANION_ID", value_name = "NAME")]
    pub id: Option<String>,
    /// A label for plans to choose agents by, k=v; again and again
    #[arg(long = "label", env = "VOLCANION_LABEL", value_name = "K=V", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Load cores [default: all]
    #[arg(long, env = "VOLCANION_CORES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cores: Option<u32>,
    /// Weight beside other agents, in cores of 10 us a request [default: the cores]; `calibrated` measures it at the start, for about 2 s
    #[arg(long, env = "VOLCANION_CAPACITY", value_name = "NUMBER|calibrated", value_parser = capacity)]
    pub capacity: Option<Capacity>,
    #[command(flatten)]
    pub pacing: PacingArgs,
    /// Folder below which the bodies and client certificates lie that plans name [default: plans may name none]
    #[arg(long, env = "VOLCANION_FILES", value_name = "DIR")]
    pub files: Option<PathBuf>,
    #[command(flatten)]
    pub secrets: SecretsArgs,
    /// Show profiles and memory figures (/debug) at the metrics' port to other machines too
    #[arg(long, env = "VOLCANION_REMOTE_DEBUG")]
    pub remote_debug: bool,
    /// How long a run goes on without any master, at most; its master may ask for less
    #[arg(long, env = "VOLCANION_ORPHAN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub orphan_timeout: Micros,
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

/// Where secrets are that plans name by `{{ secret('name') }}`.
#[derive(Clone, Debug, Default, Args)]
pub struct SecretsArgs {
    /// Folder with a file for each secret that plans name; those that are not there are looked for as variables VOLCANION_SECRET_NAME
    #[arg(long, env = "VOLCANION_SECRETS", value_name = "DIR")]
    pub secrets: Option<PathBuf>,
}

impl SecretsArgs {
    /// With what this process was started with.
    pub fn sources(&self) -> SecretSources {
        SecretSources::new(self.secrets.clone(), std::env::vars_os())
    }
}

/// How exactly load cores keep time, and at what cost.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PacingArgs {
    /// Bind each load core's thread to its CPU
    #[arg(long, env = "VOLCANION_PIN")]
    pub pin: bool,
    /// Let load cores spin while a run goes, rather than sleep until something is due: for CPUs that have nothing else to do
    #[arg(long, env = "VOLCANION_BUSY_POLL")]
    pub busy_poll: bool,
    /// The least time for which a load core sleeps, 0us to 1ms: what falls due in it is sent together [default: 50us]
    #[arg(long, env = "VOLCANION_QUANTUM", value_parser = quantum)]
    pub quantum: Option<Micros>,
}
