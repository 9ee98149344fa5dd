//! The `volcanion` binary: reads words, starts the libraries, prints. No logic of theirs lives here.

mod args;
mod client;
mod cluster;
mod command;
mod embedded;
mod exit;
mod serve;
mod target;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use volcanion_common::telemetry::log;

use args::{Cli, Command, LogFormat};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // TLS of every part goes through this one provider; it is installed before any of them is made.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed already");
        return Exit::CouldNotRun.into();
    }
    let is_server = matches!(cli.command, Command::Master(_) | Command::Agent(_) | Command::Target(_));
    let format = match cli.log_format {
        Some(LogFormat::Json) => log::Format::Json,
        Some(LogFormat::Text) => log::Format::Text,
        None if is_server => log::Format::Json,
        None => log::Format::Text,
    };
    let level = cli.log.as_deref().unwrap_or(if is_server { "info" } else { "error" });
    if let Err(error) = log::init(format, level) {
        eprintln!("error: --log: {error}");
        return Exit::Wrong.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::CouldNotRun.into();
        }
    };
    match runtime.block_on(command(cli.command)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.into()
        }
    }
}

async fn command(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => command::demo::demo(&args).await,
        Command::Run(args) => command::run::run(&args).await,
        Command::Master(args) => serve::master(&args).await,
        Command::Agent(args) => serve::agent(&args).await,
        Command::Target(args) => serve::target(&args).await,
        Command::Calibrate(args) => command::calibrate::calibrate(&args).await,
        Command::Validate(args) => command::validate::validate(&args).await,
        Command::Plans(args) => command::plans::plans(&args).await,
        Command::Runs(args) => command::runs::runs(&args).await,
        Command::Start(args) => command::start::start(&args).await,
        Command::Adjust(args) => command::adjust::adjust(&args).await,
        Command::Stop(args) => command::start::stop(&args).await,
        Command::Watch(args) => command::start::watch(&args).await,
        Command::Agents(args) => command::agents::agents(&args).await,
        Command::Kill(args) => command::kill::kill(&args).await,
        Command::Health(args) => command::local::health(&args).await,
        Command::Leave(args) => command::local::leave(&args).await,
        Command::Keys(args) => command::keys::keys(&args).await,
    }
}
