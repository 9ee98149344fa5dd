//! A fleet as a process: it says when its agents are there, and when all their parts of a run are over.
#![allow(clippy::print_stdout)] // a program that tells by its output

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use volcanion_fleet::Fleet;

/// Agents without an engine.
#[derive(Parser)]
struct Args {
    /// Where etcd is.
    #[arg(long)]
    etcd: String,
    /// How many agents.
    #[arg(long, default_value_t = 10)]
    agents: u32,
    /// The number of the first; their names are `fleet-NUMBER`.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Series of each agent: the steps of the plan that they are to be given.
    #[arg(long, default_value_t = 20)]
    series: u32,
    /// Answers that each series of an agent counts in an interval.
    #[arg(long, default_value_t = 100)]
    samples: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // One thread: what the fleet costs is seen as this process's, and is never more than a core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(serve(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &Args) -> Result<(), String> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is there already")?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .map_err(|error| format!("the limit of open files: {error}"))?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let numbers = args.first..args.first.saturating_add(args.agents);
    let fleet = Fleet::start(&args.etcd, numbers, args.series, args.samples).await?;
    println!("{} agents are there", args.agents);
    let mut ended = fleet.ended();
    let all_over = async {
        if let Ok(all) = ended.wait_for(|ended| ended.parts == u64::from(args.agents)).await {
            println!("all parts are over, {} requests were counted", all.requests);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = terminated.recv() => {}
        () = all_over => {}
    }
    fleet.leave().await;
    Ok(())
}
