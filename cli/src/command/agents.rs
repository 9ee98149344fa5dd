//! `volcanion agents`: who is registered, or drain one.

use volcanion_common::view::AgentView;

use super::outcome::print;
use super::plans::pretty;
use crate::args::AgentsArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::terminal::table::Column::{Number, Text};
use crate::terminal::table::table;

/// Does what the flags say.
pub async fn agents(args: &AgentsArgs) -> Result<Exit, Failure> {
    let client = Client::new(&args.list.master)?;
    if let Some(id) = &args.drain {
        let agent: AgentView = client.post(&format!("agents/{id}/drain"), None).await?;
        print(&if args.list.json { pretty(&agent)? } else { format!("{} is {}\n", agent.id, agent.state) });
        return Ok(Exit::Done);
    }
    let agents: Vec<AgentView> = client.get("agents", &[]).await?;
    if args.list.json {
        print(&pretty(&agents)?);
        return Ok(Exit::Done);
    }
    let row = |agent: &AgentView| {
        [
            agent.id.to_string(),
            agent.address.clone(),
            agent.state.to_string(),
            agent.cores.to_string(),
            agent.capacity.to_string(),
            agent.load.to_string(),
            agent.version.clone(),
        ]
    };
    let head = [
        Text("ID"),
        Text("ADDRESS"),
        Text("STATE"),
        Number("CORES"),
        Number("CAPACITY"),
        Number("RUNS"),
        Text("VERSION"),
    ];
    print(&table(head, &agents.iter().map(row).collect::<Vec<_>>()));
    Ok(Exit::Done)
}
