//! The flags of what asks a master, and of which one is asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use volcanion_common::units::{Micros, Rate};
use volcanion_common::view::Role;

use super::value::{duration, rate};

/// Which master is spoken to.
#[derive(Clone, Debug, Args)]
pub struct MasterRef {
    /// URL of the master
    #[arg(long, env = "VOLCANION_MASTER", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub master: String,
    /// API key
    #[arg(long, env = "VOLCANION_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Authority of the master's certificate (PEM) [default: the system's]
    #[arg(long, env = "VOLCANION_MASTER_CA", value_name = "FILE")]
    pub master_ca: Option<PathBuf>,
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
    /// Authority of the master's certificate (PEM) [default: the system's]
    #[arg(long, env = "VOLCANION_MASTER_CA", value_name = "FILE")]
    pub master_ca: Option<PathBuf>,
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
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once
    Create {
        /// What it lets do: viewer, operator or admin
        #[arg(long)]
        role: Role,
        /// Whose it is, or what for
        #[arg(long)]
        name: String,
        /// How long it is of use, as in 90d [default: until it is revoked]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<Micros>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List all keys, revoked and expired ones too
    List(ListArgs),
    /// Revoke a key, for ever
    Revoke {
        /// The key's id
        id: String,
        #[command(flatten)]
        master: MasterRef,
    },
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
