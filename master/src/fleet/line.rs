//! The line of runs that wait for agents which other runs hold: who came first is served first.
//!
//! A run waits where enough agents are registered that fit it, and too many of them carry other runs or are reserved. While it waits it claims all that fit
//! it: nobody behind it, no new run and no elastic one takes one of them. Invariants: at most [`LINE_MAX`] runs stand in it; whoever leaves it, or gives agents
//! back, has everybody look again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use volcanion_common::ids::RunId;
use volcanion_common::plan::AgentChoice;
use volcanion_common::registry::Fleet;

use super::Agents;
use super::choose::{self, Held, NoAgents, Reservation};

/// The most runs that wait for agents.
pub const LINE_MAX: usize = 64;

/// A run's place in the line; given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    held: Arc<Mutex<Held>>,
    fleet: watch::Receiver<Fleet>,
    news: watch::Receiver<u64>,
    run: RunId,
    choice: AgentChoice,
}

impl Agents {
    /// Has a run wait for agents, behind all that wait already.
    ///
    /// # Errors
    /// Too many wait.
    pub fn wait_in_line(&self, run: RunId, choice: &AgentChoice) -> Result<Place, NoAgents> {
        let mut held = self.held();
        if held.waiting() >= LINE_MAX {
            return Err(NoAgents::of_a_full_line(held.waiting()));
        }
        Ok(self.place(&mut held, run, choice))
    }

    /// The same for one that waited before, under another master.
    pub fn stand_in_line(&self, run: RunId, choice: &AgentChoice) -> Place {
        self.place(&mut self.held(), run, choice)
    }

    fn place(&self, held: &mut Held, run: RunId, choice: &AgentChoice) -> Place {
        held.stand(run, choice);
        Place {
            held: Arc::clone(&self.held),
            fleet: self.subscribe(),
            news: held.news(),
            run,
            choice: choice.clone(),
        }
    }
}

impl Place {
    /// Takes the agents, where it is this run's turn and they are free.
    pub fn try_take(&mut self) -> Option<Reservation> {
        // What changes from now on is looked at next time.
        self.news.mark_unchanged();
        let fleet = self.fleet.borrow_and_update().clone();
        choose::take(&self.held, &self.choice, &fleet, Some(self.run)).ok()
    }

    /// Waits until there may be other agents to take.
    pub async fn changed(&mut self) {
        let fleet = async {
            if self.fleet.changed().await.is_err() {
                // The registry tells nothing more; agents may still be given back.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = self.news.changed() => {}
            () = fleet => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).leave(self.run);
    }
}
