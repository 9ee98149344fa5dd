//! `volcanion run`: one load, in this process or on a cluster, with its result at the end.

use std::path::Path;

use serde_json::Value;

use super::outcome::{Wishes, check_out, tell};
use super::{plan_file, quick};
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
    let document = document(args)?;
    let name = document["name"].as_str().unwrap_or("run").to_owned();
    let wishes =
        Wishes { name: &name, json: args.json, require_valid: args.require_valid, out: args.out.as_deref() };
    let followed = match &args.master {
        Some(master) => {
            let client = Client::new(&MasterRef { master: master.clone(), api_key: args.api_key.clone() })?;
            let run = client.start(&document).await?;
            follow(&client, run, true).await?
        }
        None => {
            let size = Size { agents: args.agents.unwrap_or(1), cores: args.cores };
            let embedded = Embedded::start(size, None).await?;
            let run = embedded.start(&document).await?;
            let followed = follow(&embedded, run, true).await;
            embedded.stop().await?;
            followed?
        }
    };
    tell(&followed, &wishes)
}

/// The plan's document, from the file or the flags, checked.
fn document(args: &RunArgs) -> Result<Value, Failure> {
    let is_url = args.what.starts_with("http://") || args.what.starts_with("https://");
    let mut document = if is_url {
        quick::document(args)?
    } else {
        let path = Path::new(&args.what);
        if !path.exists() {
            return Err(Failure::wrong(format!(
                "`{}` is neither a URL (http://…, https://…) nor a file",
                args.what
            )));
        }
        refuse_shape_flags(args)?;
        plan_file::read(path)?.source
    };
    quick::overrides(args, &mut document);
    plan_file::of_value(&document)?;
    Ok(document)
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
