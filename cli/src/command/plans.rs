//! `volcanion plans`: list, store, show, delete.

use serde_json::Value;

use super::outcome::print;
use super::plan_file;
use crate::args::PlansArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::table::Column::Text;
use crate::terminal::table::table;

/// Does what the flags say.
pub async fn plans(args: &PlansArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.list.master)?;
    if let Some(path) = &args.add {
        let document = plan_file::read(path)?;
        let stored: Value = client.post("test-plans", Some(&document.source)).await?;
        print(&if args.list.json { pretty(&stored)? } else { format!("{}\n", text(&stored, "id")) });
    } else if let Some(id) = &args.show {
        let stored: Value = client.get(&format!("test-plans/{id}"), &[]).await?;
        print(&pretty(&stored)?);
    } else if let Some(id) = &args.delete {
        client.delete(&format!("test-plans/{id}")).await?;
    } else {
        let plans: Vec<Value> = client.get("test-plans", &[("limit", "200".to_owned())]).await?;
        if args.list.json {
            print(&pretty(&plans)?);
        } else {
            let row = |plan: &Value| ["id", "created_at", "name"].map(|key| text(plan, key).to_owned());
            print(&table(
                [Text("ID"), Text("CREATED"), Text("NAME")],
                &plans.iter().map(row).collect::<Vec<_>>(),
            ));
        }
    }
    Ok(Exit::Done)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

/// JSON with a line end.
pub fn pretty(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(Failure::could_not_run)
}
