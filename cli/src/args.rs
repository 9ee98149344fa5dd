//! The flags and their `VOLCANION_` variables: raw words, resolved by the commands.

pub mod http;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use volcanion_agent::Capacity;
use volcanion_common::units::{Micros, Rate};

/// Loads HTTP services from many machines at once and reports one truth about them.
#[derive(Debug, Parser)]
#[command(name = "volcanion", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as `volcanion_agent=debug`
    #[arg(long, global = true, env = "VOLCANION_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How logs are written; servers write JSON, other commands text, unless told otherwise
    #[arg(long, global = true, env = "VOLCANION_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it all: a master, agents, a target and a live run in this one process
    Demo(DemoArgs),
    /// Load a URL, or run a plan, from this machine or on a cluster (--master)
    Run(Box<RunArgs>),
    /// Serve the REST API and lead the agents
    Master(Box<MasterArgs>),
    /// Generate load for a master
    Agent(Box<AgentArgs>),
    /// An HTTP server to load, which counts exactly what it answered
    Target(TargetArgs),
    /// Measure what this machine can generate at most: requests a second, and how exactly it keeps a schedule
    Calibrate(CalibrateArgs),
    /// Check a plan and say all of its problems; nothing is sent
    Validate(ValidateArgs),
    /// List the stored plans, or store one
    Plans(PlansArgs),
    /// List the runs, or show one
    Runs(RunsArgs),
    /// Start a stored plan
    Start(StartArgs),
    /// Change the VUs or the rate of a run's externally-controlled scenario while it goes
    Adjust(AdjustArgs),
    /// Stop a run
    Stop(RunRef),
    /// Follow a run until its end
    Watch(WatchArgs),
    /// List the registered agents, or drain one
    Agents(AgentsArgs),
}

/// Which master is spoken to.
#[derive(Clone, Debug, Args)]
pub struct MasterRef {
    /// URL of the master
    #[arg(long, env = "VOLCANION_MASTER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub master: String,
    /// API key
    #[arg(long, env = "VOLCANION_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long the load goes
    #[arg(long, short = 'd', env = "VOLCANION_DURATION", default_value = "10s", value_parser = duration)]
    pub duration: Micros,
    /// Agents
    #[arg(long, env = "VOLCANION_AGENTS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub agents: u32,
    /// Print the result alone, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// A URL to load, or a plan's file (.yaml, .yml, .json)
    #[arg(value_name = "URL|PLAN")]
    pub what: String,
    /// Virtual users; with --rate: at most so many [default: 50]
    #[arg(long, short = 'c', env = "VOLCANION_VUS")]
    pub vus: Option<u64>,
    /// Iterations in all, instead of a duration
    #[arg(long, short = 'n', env = "VOLCANION_ITERATIONS")]
    pub iterations: Option<u64>,
    /// How long the load goes [default: 10s]
    #[arg(long, short = 'd', env = "VOLCANION_DURATION", value_parser = duration)]
    pub duration: Option<Micros>,
    /// Open loop: start so many iterations a second, whatever the target does (500/s, 90/m)
    #[arg(long, short = 'r', env = "VOLCANION_RATE", value_parser = rate)]
    pub rate: Option<Rate>,
    /// How the arrivals of --rate are spaced
    #[arg(long, env = "VOLCANION_ARRIVAL", requires = "rate")]
    pub arrival: Option<ArrivalWord>,
    /// Reach the VUs, or the rate, in a straight line within this time
    #[arg(long, env = "VOLCANION_RAMP_UP", value_parser = duration)]
    pub ramp_up: Option<Micros>,
    /// HTTP method [default: GET, with --body POST]
    #[arg(long, short = 'X', env = "VOLCANION_METHOD")]
    pub method: Option<String>,
    /// A header, `Name: value`; again and again
    #[arg(
        long = "header",
        short = 'H',
        env = "VOLCANION_HEADER",
        value_name = "HEADER",
        value_delimiter = '\n'
    )]
    pub headers: Vec<String>,
    /// The request's body, or @FILE; one that is no text or has more than 4 MiB is sent in pieces, as a body_file of a plan
    #[arg(long, env = "VOLCANION_BODY", value_name = "TEXT|@FILE")]
    pub body: Option<String>,
    /// Time limit of a request, connecting included [default: 30s]
    #[arg(long, env = "VOLCANION_TIMEOUT", value_parser = duration)]
    pub timeout: Option<Micros>,
    /// A rule that must hold, such as 'p(95) < 300ms' or 'error_rate < 1%'; again and again
    #[arg(long = "threshold", env = "VOLCANION_THRESHOLD", value_name = "EXPR", value_delimiter = '\n')]
    pub thresholds: Vec<String>,
    /// Agents: so many in this process (default 1), or so many of the cluster's
    #[arg(long, env = "VOLCANION_AGENTS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub agents: Option<u32>,
    /// Load cores of each agent in this process [default: all, shared among the agents]
    #[arg(long, env = "VOLCANION_CORES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cores: Option<u32>,
    #[command(flatten)]
    pub pacing: PacingArgs,
    /// Run on a cluster instead of in this process
    #[arg(long, env = "VOLCANION_MASTER", value_name = "URL")]
    pub master: Option<String>,
    /// API key of the master
    #[arg(long, env = "VOLCANION_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Also write the result to a file; its ending says the form (.json)
    #[arg(long, env = "VOLCANION_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result alone, as JSON
    #[arg(long)]
    pub json: bool,
    /// End with code 98 when the run's numbers cannot be vouched for
    #[arg(long, env = "VOLCANION_REQUIRE_VALID")]
    pub require_valid: bool,
    // Last: its heading in the help holds for all that follows.
    #[command(flatten)]
    pub http: http::HttpArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ArrivalWord {
    Uniform,
    Poisson,
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
    #[arg(long, env = "VOLCANION_QUANTUM", value_parser = duration)]
    pub quantum: Option<Micros>,
}

/// Where etcd is and how it is spoken to.
#[derive(Clone, Debug, Args)]
pub struct EtcdArgs {
    /// etcd endpoints: URL[,URL]
    #[arg(long, env = "VOLCANION_ETCD", value_name = "URL", value_delimiter = ',', required = true)]
    pub etcd: Vec<String>,
    /// Where in etcd the cluster lives
    #[arg(long, env = "VOLCANION_PREFIX", default_value = "/volcanion")]
    pub prefix: String,
    /// Authority of etcd's certificate (PEM)
    #[arg(long, env = "VOLCANION_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, env = "VOLCANION_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, env = "VOLCANION_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// User of etcd
    #[arg(long, env = "VOLCANION_ETCD_USER", requires = "etcd_password")]
    pub etcd_user: Option<String>,
    /// Password of etcd's user
    #[arg(long, env = "VOLCANION_ETCD_PASSWORD", hide_env_values = true, requires = "etcd_user")]
    pub etcd_password: Option<String>,
}

/// The secret that master and agents share.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// File with the cluster's key, at least 16 bytes; shards are sealed with it
    #[arg(long, env = "VOLCANION_CLUSTER_KEY_FILE", value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Listen beyond loopback without credentials: whoever reaches the port can start a load
    #[arg(long, env = "VOLCANION_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
}

#[derive(Debug, Args)]
pub struct MasterArgs {
    /// Where REST listens
    #[arg(long, env = "VOLCANION_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where plans and runs are kept: sqlite:PATH
    #[arg(long, env = "VOLCANION_STORE", default_value = "sqlite:volcanion.db", value_name = "URL")]
    pub store: String,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    #[command(flatten)]
    pub key: KeyArgs,
    /// How long agents go on without any master
    #[arg(long, env = "VOLCANION_ORPHAN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub orphan_timeout: Micros,
}

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where gRPC listens
    #[arg(long, env = "VOLCANION_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Where metrics are served
    #[arg(long, env = "VOLCANION_METRICS_LISTEN", default_value = "127.0.0.1:9090")]
    pub metrics_listen: SocketAddr,
    /// HOST:PORT at which masters reach the gRPC port [default: the listening address]
    #[arg(long, env = "VOLCANION_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    #[command(flatten)]
    pub key: KeyArgs,
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
    /// How long a run goes on without any master
    #[arg(long, env = "VOLCANION_ORPHAN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub orphan_timeout: Micros,
}

#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Where it listens; any address is allowed
    #[arg(long, env = "VOLCANION_LISTEN", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// How long each answer takes
    #[arg(long, env = "VOLCANION_DELAY", default_value = "0s", value_parser = duration)]
    pub delay: Micros,
    /// Up to so much longer, evenly distributed
    #[arg(long, env = "VOLCANION_JITTER", default_value = "0s", value_parser = duration)]
    pub jitter: Micros,
    /// Share of requests answered with 500, from 0 to 1
    #[arg(long, env = "VOLCANION_ERROR_RATE", default_value_t = 0.0, value_parser = fraction)]
    pub error_rate: f64,
    /// Bytes of each answer's body
    #[arg(long, env = "VOLCANION_BODY_SIZE", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=67_108_864))]
    pub body_size: u32,
}

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// Load cores of the closed loop
    #[arg(long, env = "VOLCANION_CORES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cores: u32,
    /// How long it measures in all, 5s to 1m
    #[arg(long, short = 'd', env = "VOLCANION_DURATION", default_value = "10s", value_parser = duration)]
    pub duration: Micros,
    /// Print the figures alone, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The plan's file
    pub plan: PathBuf,
    /// Let this master check it instead of this program
    #[arg(long, env = "VOLCANION_MASTER", value_name = "URL")]
    pub master: Option<String>,
    /// API key of the master
    #[arg(long, env = "VOLCANION_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct PlansArgs {
    /// Store this plan's file, and print its id
    #[arg(long, value_name = "FILE", conflicts_with_all = ["delete", "show"])]
    pub add: Option<PathBuf>,
    /// Print this plan
    #[arg(long, value_name = "ID", conflicts_with = "delete")]
    pub show: Option<String>,
    /// Delete this plan; its runs stay
    #[arg(long, value_name = "ID")]
    pub delete: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Args)]
pub struct AgentsArgs {
    /// Have this agent finish the runs that it has and take no new one
    #[arg(long, value_name = "ID")]
    pub drain: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Show this run's metrics instead of the list
    pub id: Option<String>,
    /// Only runs of this plan
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Only runs in this state
    #[arg(long)]
    pub status: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub master: MasterRef,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// The plan's id
    pub plan_id: String,
    /// Follow the run until its end
    #[arg(long)]
    pub watch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub master: MasterRef,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("level").required(true).args(["vus", "rate"]))]
pub struct AdjustArgs {
    /// The run's id
    pub run: String,
    /// So many virtual users from now on
    #[arg(long)]
    pub vus: Option<u64>,
    /// So many iterations a second from now on (500/s, 90/m)
    #[arg(long, short = 'r', value_parser = rate)]
    pub rate: Option<Rate>,
    /// Which scenario, where several of the run are externally controlled
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<String>,
    /// Print the run as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub master: MasterRef,
}

#[derive(Debug, Args)]
pub struct RunRef {
    /// The run's id
    pub run: String,
    #[command(flatten)]
    pub master: MasterRef,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run's id
    pub run: String,
    /// Print the result alone, as JSON
    #[arg(long)]
    pub json: bool,
    /// End with code 98 when the run's numbers cannot be vouched for
    #[arg(long, env = "VOLCANION_REQUIRE_VALID")]
    pub require_valid: bool,
    #[command(flatten)]
    pub master: MasterRef,
}

/// A duration; a bare number means seconds, as users of other tools write it.
fn duration(text: &str) -> Result<Micros, String> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let text = if bare { format!("{text}s") } else { text.to_owned() };
    text.parse().map_err(|error: volcanion_common::units::UnitError| error.to_string())
}

/// A rate; a bare number means a second, as users of other tools write it.
fn rate(text: &str) -> Result<Rate, String> {
    let text = if text.contains('/') { text.to_owned() } else { format!("{text}/s") };
    text.parse().map_err(|error: volcanion_common::units::UnitError| error.to_string())
}

/// A weight, or the word that has it measured.
fn capacity(text: &str) -> Result<Capacity, String> {
    match text.parse::<f64>() {
        _ if text == "calibrated" => Ok(Capacity::Calibrated),
        Ok(value) if value.is_finite() && value > 0.0 => Ok(Capacity::Given(value)),
        _ => Err(format!("`{text}` is no capacity; give a number above 0, or `calibrated`")),
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a share; give a number from 0 to 1, such as 0.01")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bare_numbers_mean_seconds() {
        assert_eq!(duration("10"), Ok(Micros::from_secs(10)));
        assert_eq!(duration("1.5"), Ok(Micros::from_millis(1_500)));
        assert_eq!(rate("500"), Ok(Rate::per_second(500)));
        assert!(duration("").is_err() && rate("").is_err() && fraction("1.1").is_err());
    }

    #[test]
    fn every_flag_of_a_load_has_a_variable() {
        let command = Cli::command();
        for name in ["run", "master", "agent", "target"] {
            let sub = command.find_subcommand(name).expect("it is one of the commands");
            for arg in sub
                .get_arguments()
                .filter(|arg| arg.get_long().is_some_and(|long| long != "json" && long != "help"))
            {
                assert!(arg.get_env().is_some(), "{name} --{:?} has no variable", arg.get_long());
            }
        }
    }
}
