//! `volcanion run`: one load, in this process or on a cluster, with its result at the end.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::outcome::{Wishes, check_out, tell};
use super::quick::Given;
use super::{files::Files, http_flags, plan_file, quick};
use crate::args::{MasterRef, RunArgs};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::embedded::{Embedded, Size};
use crate::exit::{Exit, Failure};
use crate::terminal::follow::follow;

/// Runs it.
pub async fn run(args: &RunArgs) -> Result<Exit, Failure> {
    if let Some(path) = &args.out {
        check_out(path)?;
    }
    let (document, files) = document(args)?;
    let name = document["name"].as_str().unwrap_or("run").to_owned();
    let wishes =
        Wishes { name: &name, json: args.json, require_valid: args.require_valid, out: args.out.as_deref() };
    let followed = match &args.master {
        Some(master) => {
            let idle = idle_flags(args);
            if !idle.is_empty() {
                eprintln!(
                    "note: {} has no effect with --master: it is for agents in this process",
                    idle.join(", ")
                );
            }
            let client = Client::new(&MasterRef {
                master: master.clone(),
                api_key: args.api_key.clone(),
                master_ca: args.master_ca.clone(),
            })?;
            let run = client.start(&document).await?;
            follow(&client, run, true).await?
        }
        None => {
            let agents = args.agents.unwrap_or(1);
            if args.pacing.pin && agents > 1 {
                return Err(Failure::wrong(
                    "--pin: several agents of one process would be bound to the same CPUs; leave out --agents",
                ));
            }
            let size = Size {
                agents,
                cores: args.cores,
                pacing: args.pacing,
                collector: args.otlp.collector().map_err(Failure::wrong)?,
                trace_sample: args.trace_sample.unwrap_or_default(),
            };
            let embedded = Embedded::start(size, None, files.folder(), &args.secrets.sources()).await?;
            let run = embedded.start(&document).await?;
            let followed = follow(&embedded, run, true).await;
            embedded.stop().await?;
            followed?
        }
    };
    tell(&followed, &wishes)
}

/// The plan's document, from the file or the flags, checked; and where the files lie that it names.
fn document(args: &RunArgs) -> Result<(Value, Files), Failure> {
    let is_url = args.what.starts_with("http://") || args.what.starts_with("https://");
    let (mut document, files) = if is_url {
        let body = args.body.as_deref().map(Given::read).transpose()?;
        let files = files(args, None, body.as_ref())?;
        (quick::document(args, body.as_ref(), &files)?, files)
    } else {
        let path = Path::new(&args.what);
        if !path.exists() {
            return Err(Failure::wrong(format!(
                "`{}` is neither a URL (http://…, https://…) nor a file",
                args.what
            )));
        }
        refuse_shape_flags(args)?;
        (plan_file::read(path)?.source, files(args, Some(path), None)?)
    };
    quick::overrides(args, &mut document);
    if let Some(plan) = document.as_object_mut() {
        http_flags::apply(&args.http, plan, &files)?;
    }
    plan_file::of_value(&document)?;
    Ok((document, files))
}

/// Where agents read files: those of this process below the folder that the flags, the plan or its files say.
fn files(args: &RunArgs, plan: Option<&Path>, body: Option<&Given>) -> Result<Files, Failure> {
    if args.master.is_some() {
        return Ok(Files::OfTheAgents);
    }
    let body = match body {
        Some(Given::File(path)) => Some(path),
        _ => None,
    };
    let named = [("--body", body), ("--cert", args.http.cert.as_ref()), ("--key", args.http.key.as_ref())];
    let named = named.into_iter().filter_map(|(flag, path)| Some((flag, path.map(PathBuf::as_path)?)));
    Files::here(args.http.files.as_deref(), plan, &named.collect::<Vec<_>>())
}

/// What a plan's file says cannot be said again by flags: nobody could tell which holds.
fn refuse_shape_flags(args: &RunArgs) -> Result<(), Failure> {
    let given = [
        ("--vus", args.vus.is_some()),
        ("--iterations", args.iterations.is_some()),
        ("--duration", args.duration.is_some()),
        ("--rate", args.rate.is_some()),
        ("--ramp-up", args.ramp_up.is_some()),
        ("--method", args.method.is_some()),
        ("--header", !args.headers.is_empty()),
        ("--body", args.body.is_some()),
    ];
    let flags: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    if flags.is_empty() {
        return Ok(());
    }
    Err(Failure::wrong(format!(
        "{} go with a URL; with a plan's file, write it in the plan",
        flags.join(", ")
    )))
}

/// What was given and is for agents in this process alone.
fn idle_flags(args: &RunArgs) -> Vec<&'static str> {
    let given = [
        ("--cores", args.cores.is_some()),
        ("--pin", args.pacing.pin),
        ("--busy-poll", args.pacing.busy_poll),
        ("--quantum", args.pacing.quantum.is_some()),
        ("--files", args.http.files.is_some()),
        ("--secrets", args.secrets.secrets.is_some()),
        ("--otlp-endpoint", args.otlp.otlp_endpoint.is_some()),
        ("--trace-sample", args.trace_sample.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn flags_that_a_cluster_does_not_heed_are_named() {
        let idle = |flags: &str| {
            let words =
                ["volcanion", "run", "http://127.0.0.1:1/"].into_iter().chain(flags.split_whitespace());
            let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("it is `run`")
            };
            idle_flags(&args)
        };
        assert_eq!(idle("--agents 2 --vus 3"), [""; 0]);
        assert_eq!(
            idle(
                "--cores 1 --pin --busy-poll --quantum 0us --files . --secrets . --otlp-endpoint http://a:4317 --trace-sample 1%"
            ),
            [
                "--cores",
                "--pin",
                "--busy-poll",
                "--quantum",
                "--files",
                "--secrets",
                "--otlp-endpoint",
                "--trace-sample"
            ]
        );
    }
}
