//! `kill`: the kill switch.

use volcanion_common::view::KillView;

use super::outcome::print;
use super::plans::pretty;
use crate::args::ListArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};

/// Ends the load of every run on every agent, and says on which it did not.
pub async fn kill(args: &ListArgs) -> Result<Exit, Failure> {
    let view: KillView = Client::new(&args.master)?.post("kill", None).await?;
    if args.json {
        print(&pretty(&view)?);
    } else {
        for agent in &view.agents {
            match &agent.message {
                None => print(&format!("{}: killed, {} runs\n", agent.id, agent.runs)),
                Some(why) => print(&format!("{}: NOT REACHED: {why}\n", agent.id)),
            }
        }
    }
    if view.all_killed { Ok(Exit::Done) } else { Err(Failure::could_not_run("not every agent was reached")) }
}
