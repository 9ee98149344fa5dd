//! `volcanion agents`: who is registered, or drain one.

use volcanion_common::view::AgentView;

use super::outcome::print;
use super::plans::pretty;
use crate::args::AgentsArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};

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
    print(&format!(
        "{:<28}{:<24}{:<10}{:>6}{:>10}{:>6}  {}\n",
        "ID", "ADDRESS", "STATE", "CORES", "CAPACITY", "RUNS", "VERSION"
    ));
    for agent in &agents {
        print(&format!(
            "{:<28}{:<24}{:<10}{:>6}{:>10}{:>6}  {}\n",
            agent.id, agent.address, agent.state, agent.cores, agent.capacity, agent.load, agent.version
        ));
    }
    Ok(Exit::Done)
}
