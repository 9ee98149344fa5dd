//! `volcanion runs`: list them, or show one.

use volcanion_common::view::{Metrics, RunView};

use super::outcome::print;
use super::plans::pretty;
use crate::args::RunsArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::summary;
use crate::terminal::table::Column::Text;
use crate::terminal::table::table;

/// Does what the flags say.
pub async fn runs(args: &RunsArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.list.master)?;
    if let Some(id) = &args.id {
        let run: RunView = client.get(&format!("test-runs/{id}"), &[]).await?;
        let metrics: Metrics = client.get(&format!("test-runs/{id}/metrics"), &[]).await?;
        print(&if args.list.json {
            pretty(&metrics)?
        } else {
            summary::text(&run.plan_name, run.message.as_deref(), &metrics)
        });
        return Ok(Exit::Done);
    }
    let mut query = vec![("limit", "200".to_owned())];
    query.extend(args.plan.clone().map(|plan| ("plan_id", plan)));
    query.extend(args.status.clone().map(|status| ("status", status)));
    let runs: Vec<RunView> = client.get("test-runs", &query).await?;
    if args.list.json {
        print(&pretty(&runs)?);
        return Ok(Exit::Done);
    }
    let row = |run: &RunView| {
        [run.id.to_string(), run.status.name().to_owned(), run.created_at.clone(), run.plan_name.clone()]
    };
    let head = [Text("ID"), Text("STATUS"), Text("CREATED"), Text("PLAN")];
    print(&table(head, &runs.iter().map(row).collect::<Vec<_>>()));
    Ok(Exit::Done)
}
