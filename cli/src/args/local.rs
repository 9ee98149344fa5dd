//! The flags of what asks a process of ours, as probes and hooks do.

use std::path::PathBuf;

use clap::Args;
use volcanion_common::units::Micros;

use super::value::duration;

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// What is asked, such as http://127.0.0.1:8080/readyz
    pub url: String,
    /// Authority of its certificate (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// How long it may take to answer
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub timeout: Micros,
}

#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Where the agent serves its metrics; it must be on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    pub metrics: String,
    /// How long handing over may take
    #[arg(long, default_value = "50s", value_parser = duration)]
    pub wait: Micros,
}
