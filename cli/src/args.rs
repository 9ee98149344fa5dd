//! The flags and their `VOLCANION_` variables: raw words, resolved by the commands.

mod agent;
mod client;
mod cluster;
pub mod http;
mod local;
mod master;
mod run;
mod value;

use clap::{Parser, Subcommand, ValueEnum};

pub use agent::{AgentArgs, PacingArgs};
pub use client::{
    AdjustArgs, AgentsArgs, KeysArgs, KeysCommand, ListArgs, MasterRef, PlansArgs, RunRef, RunsArgs,
    StartArgs, ValidateArgs, WatchArgs,
};
pub use cluster::{EtcdArgs, KeyArgs, TargetsArgs};
pub use local::{HealthArgs, LeaveArgs};
pub use master::{MasterArgs, PublicWord};
pub use run::{ArrivalWord, CalibrateArgs, DemoArgs, RunArgs, TargetArgs};

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
    /// The kill switch: end the load of every run on every agent at once
    Kill(ListArgs),
    /// Ask a server of ours whether it is well: code 0 when the URL answers 200
    Health(HealthArgs),
    /// Have the agent on this machine hand over its load and take no more, before it is stopped
    Leave(LeaveArgs),
    /// List, make or revoke keys for clients of a master; for admins
    Keys(KeysArgs),
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
