//! The registry within one process: for `run` and `demo`, and for tests.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Fleet, Member, Membership, Registry, RegistryError};
use crate::ids::{AgentId, Incarnation};

/// Members of this process. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct LocalRegistry {
    fleet: Arc<watch::Sender<Fleet>>,
}

impl LocalRegistry {
    /// A registry without members.
    pub fn new() -> Self {
        Self { fleet: Arc::new(watch::Sender::new(Fleet { connected: true, ..Fleet::default() })) }
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
    }
}
