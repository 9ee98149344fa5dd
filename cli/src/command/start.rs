//! `volcanion start`, `stop` and `watch`: a run on a cluster.

use serde_json::json;
use volcanion_common::view::RunView;

use super::outcome::{Wishes, print, tell};
use super::plans::pretty;
use crate::args::{RunRef, StartArgs, WatchArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::follow::follow;

/// Starts a stored plan, and follows it where asked.
pub async fn start(args: &StartArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.master)?;
    let run: RunView = client.post("test-runs/start", Some(&json!({ "plan_id": args.plan_id }))).await?;
    if args.watch {
        return watch_run(&client, run, true, args.json, false).await;
    }
    print(&if args.json { pretty(&run)? } else { format!("{}\n", run.id) });
    Ok(Exit::Done)
}

/// Stops a run.
pub async fn stop(args: &RunRef) -> Result<Exit, Failure> {
    let client = Client::new(&args.master)?;
    let run: RunView = client.post(&format!("test-runs/{}/stop", args.run), None).await?;
    print(&format!("{} is {}\n", run.id, run.status.name()));
    Ok(Exit::Done)
}

/// Follows a run; Ctrl-C ends the following, not the run.
pub async fn watch(args: &WatchArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.master)?;
    let run: RunView = client.get(&format!("test-runs/{}", args.run), &[]).await?;
    watch_run(&client, run, false, args.json, args.require_valid).await
}

async fn watch_run(
    client: &Client,
    run: RunView,
    may_stop: bool,
    json: bool,
    require_valid: bool,
) -> Result<Exit, Failure> {
    let name = run.plan_name.clone();
    let followed = follow(client, run, may_stop).await?;
    tell(&followed, &Wishes { name: &name, json, require_valid, out: None })
}
