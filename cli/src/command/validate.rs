//! `volcanion validate`: all problems of a plan; nothing is sent.

use serde_json::Value;

use super::outcome::print;
use super::plan_file;
use crate::args::{MasterRef, ValidateArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::text::count;

/// Checks it.
pub async fn validate(args: &ValidateArgs) -> Result<Exit, Failure> {
    let document = plan_file::read(&args.plan)?;
    if let Some(master) = &args.master {
        let client = Client::new(&MasterRef {
            master: master.clone(),
            api_key: args.api_key.clone(),
            master_ca: args.master_ca.clone(),
        })?;
        client.post::<Value>("test-plans/validate", Some(&document.source)).await?;
    }
    let plan = document.plan.plan();
    print(&format!("{} is valid: {} lasts {}\n", args.plan.display(), plan.name, plan.duration()));
    for scenario in &plan.scenarios {
        print(&format!(
            "  {}: {}, at most {} VUs, {} steps\n",
            scenario.name,
            scenario.executor.name(),
            count(scenario.executor.max_vus()),
            scenario.steps.len()
        ));
    }
    Ok(Exit::Done)
}
