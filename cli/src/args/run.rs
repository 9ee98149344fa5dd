//! The flags of loading from here: `run`, `demo`, `calibrate`, and the `target` to load.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use volcanion_common::units::{Micros, Rate, Share};

use super::agent::{PacingArgs, SecretsArgs};
use super::cluster::OtlpArgs;
use super::http;
use super::value::{duration, fraction, rate, share};

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
    #[command(flatten)]
    pub secrets: SecretsArgs,
    /// Run on a cluster instead of in this process
    #[arg(long, env = "VOLCANION_MASTER", value_name = "URL")]
    pub master: Option<String>,
    /// API key of the master
    #[arg(long, env = "VOLCANION_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Authority of the master's certificate (PEM) [default: the system's]
    #[arg(long, env = "VOLCANION_MASTER_CA", value_name = "FILE", requires = "master")]
    pub master_ca: Option<PathBuf>,
    /// Also write the result to a file; its ending says the form (.json)
    #[arg(long, env = "VOLCANION_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result alone, as JSON
    #[arg(long)]
    pub json: bool,
    /// End with code 98 when the run's numbers cannot be vouched for
    #[arg(long, env = "VOLCANION_REQUIRE_VALID")]
    pub require_valid: bool,
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// Share of the requests to the target that carries a traceparent, and is spans of the agents, unless the plan says `trace`: 1%, or 0 to 1
    #[arg(long, env = "VOLCANION_TRACE_SAMPLE", value_name = "SHARE", value_parser = share)]
    pub trace_sample: Option<Share>,
    // Last: its heading in the help holds for all that follows.
    #[command(flatten)]
    pub http: http::HttpArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ArrivalWord {
    Uniform,
    Poisson,
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
