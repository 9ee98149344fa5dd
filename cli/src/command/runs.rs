//! `volcanion runs`: list them, or show one.

use volcanion_common::view::{Metrics, RunView};

use super::outcome::print;
use super::plans::pretty;
use crate::args::RunsArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::summary;

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
    print(&line("ID", "STATUS", "CREATED", "PLAN"));
    for run in &runs {
        print(&of_run(run));
    }
    Ok(Exit::Done)
}

fn of_run(run: &RunView) -> String {
    // As text: an id as such takes no notice of a width.
    line(&run.id.to_string(), run.status.name(), &run.created_at, &run.plan_name)
}

fn line(id: &str, status: &str, created: &str, plan: &str) -> String {
    format!("{id:<38}{status:<11}{created:<28}{plan}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_columns_of_the_list_stand_apart() {
        let (id, created) = ("0198c0de-0000-7000-8000-000000000000", "2026-01-02T03:04:05.678901Z");
        let run = json!({
            "id": id, "plan_id": id, "plan_name": "home", "status": "completed", "created_at": created, "planned_duration_ms": 1,
        });
        let run: RunView = serde_json::from_value(run).unwrap();
        assert_eq!(of_run(&run).split_whitespace().collect::<Vec<_>>(), [id, "completed", created, "home"]);
        assert_eq!(of_run(&run).find("completed"), line("ID", "STATUS", "CREATED", "PLAN").find("STATUS"));
    }
}
