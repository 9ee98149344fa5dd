//! The registry within one process: for `run` and `demo`, and for tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Candidacy, Candidate, Fleet, Member, Membership, Registry, RegistryError, Standing};
use crate::ids::{AgentId, Incarnation};

/// Members of this process. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct LocalRegistry {
    fleet: Arc<watch::Sender<Fleet>>,
    ballot: Ballot,
}

/// The candidates in the order of their coming; the first one that may leads.
type Ballot = Arc<Mutex<Vec<(Candidate, watch::Sender<Standing>)>>>;

impl LocalRegistry {
    /// A registry without members.
    pub fn new() -> Self {
        Self {
            fleet: Arc::new(watch::Sender::new(Fleet { connected: true, ..Fleet::default() })),
            ballot: Ballot::default(),
        }
    }
}

impl Default for LocalRegistry {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Registry for LocalRegistry {
    async fn join(&self, member: Member) -> Result<Box<dyn Membership>, RegistryError> {
        let (id, incarnation) = (member.id.clone(), member.incarnation);
        let is_entered = self.fleet.send_if_modified(|fleet| {
            if fleet.members.contains_key(&member.id) {
                return false;
            }
            Arc::make_mut(&mut fleet.members).insert(member.id.clone(), member);
            true
        });
        if !is_entered {
            return Err(RegistryError::NameTaken(id));
        }
        Ok(Box::new(LocalMembership { fleet: self.fleet.clone(), id, incarnation }))
    }

    async fn watch(&self) -> Result<watch::Receiver<Fleet>, RegistryError> {
        Ok(self.fleet.subscribe())
    }

    async fn campaign(&self, candidate: Candidate) -> Result<Box<dyn Candidacy>, RegistryError> {
        let (sender, standing) = watch::channel(Standing::Unknown);
        let id = candidate.id.clone();
        change(&self.ballot, |candidates| candidates.push((candidate, sender)));
        Ok(Box::new(LocalCandidacy { ballot: self.ballot.clone(), id, standing }))
    }
}

/// Changes who stands, and tells everybody where they stand then.
fn change(ballot: &Ballot, change: impl FnOnce(&mut Vec<(Candidate, watch::Sender<Standing>)>)) {
    // A list of candidates is whole after each change, whoever panicked.
    let mut candidates = ballot.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut candidates);
    let is_barred = |standing: &watch::Sender<Standing>| matches!(&*standing.borrow(), Standing::Barred(_));
    // Whoever saw a leader of another store does not lead after it.
    let leading = candidates.iter().position(|(_, standing)| !is_barred(standing));
    let leader = leading.and_then(|place| candidates.get(place)).map(|(leader, _)| leader.clone());
    for (place, (candidate, standing)) in candidates.iter().enumerate() {
        let now = match &leader {
            Some(_) if Some(place) == leading => Standing::Leads,
            Some(leader) if candidate.is_of_another_store(leader) => Standing::Barred(leader.clone()),
            Some(leader) => Standing::Follows(leader.clone()),
            None => continue,
        };
        standing.send_replace(now);
    }
}

struct LocalCandidacy {
    ballot: Ballot,
    id: String,
    standing: watch::Receiver<Standing>,
}

impl LocalCandidacy {
    fn withdraw(&self) {
        change(&self.ballot, |candidates| {
            candidates.retain(|(candidate, standing)| {
                let is_ours = candidate.id == self.id;
                if is_ours {
                    standing.send_replace(Standing::Unknown);
                }
                !is_ours
            });
        });
    }
}

#[async_trait]
impl Candidacy for LocalCandidacy {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn resign(&self) {
        self.withdraw();
    }
}

impl Drop for LocalCandidacy {
    fn drop(&mut self) {
        self.withdraw();
    }
}

struct LocalMembership {
    fleet: Arc<watch::Sender<Fleet>>,
    id: AgentId,
    incarnation: Incarnation,
}

impl LocalMembership {
    /// Whether the entry is still this membership's, and not that of a later one under the same name.
    fn owns(&self, fleet: &Fleet) -> bool {
        fleet.members.get(&self.id).is_some_and(|member| member.incarnation == self.incarnation)
    }

    fn remove(&self) {
        self.fleet.send_if_modified(|fleet| {
            let is_there = self.owns(fleet);
            if is_there {
                Arc::make_mut(&mut fleet.members).remove(&self.id);
            }
            is_there
        });
    }
}

#[async_trait]
impl Membership for LocalMembership {
    fn update(&self, member: Member) {
        self.fleet.send_if_modified(|fleet| {
            let is_there = self.owns(fleet);
            if is_there {
                Arc::make_mut(&mut fleet.members).insert(self.id.clone(), member);
            }
            is_there
        });
    }

    fn alive_until(&self) -> Option<Instant> {
        None
    }

    async fn leave(&self) {
        self.remove();
    }
}

impl Drop for LocalMembership {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::contract;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::join_update_and_leave(&LocalRegistry::new()).await;
        contract::a_late_watcher_sees_all(&LocalRegistry::new()).await;
        contract::a_member_that_dies_vanishes(&LocalRegistry::new()).await;
        contract::a_name_is_taken_while_its_owner_lives(&LocalRegistry::new()).await;
        contract::one_leads_and_the_next_follows(&LocalRegistry::new()).await;
        contract::a_candidate_of_another_store_does_not_lead(&LocalRegistry::new()).await;
    }
}
