//! The agents as the registry shows them, which of them carry runs, and how their clocks stand to ours.
//!
//! Takes the registry's watch; gives REST its list, a run its agents, a driver its word on who is gone. Invariant: while the
//! registry cannot be asked, its last members stand, and nobody is said to be gone.

pub mod choose;
pub mod clock;
pub mod dial;
pub mod drain;
pub mod kill;
pub mod look;
pub mod line;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use volcanion_common::ids::{AgentId, Incarnation};
use volcanion_common::plan::AgentChoice;
use volcanion_common::registry::{Fleet, Member, MemberState, Registry, RegistryCounts, RegistryError};
use volcanion_common::view::AgentView;

use choose::{Held, NoAgents, Reservation};
use clock::Clocks;

/// The agents. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    fleet: watch::Receiver<Fleet>,
    held: Arc<Mutex<Held>>,
    clocks: Clocks,
    registry: Arc<RegistryCounts>,
}

impl Agents {
    /// Begins to watch.
    ///
    /// # Errors
    /// The registry cannot be used with its settings.
    pub async fn watch(registry: &dyn Registry) -> Result<Self, RegistryError> {
        Ok(Self { registry: registry.counts(), ..Self::of(registry.watch().await?) })
    }

    /// Agents from a watch that somebody else began.
    pub fn of(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet, held: Arc::default(), clocks: Clocks::default(), registry: Arc::default() }
    }

    /// The members as last seen.
    pub fn fleet(&self) -> Fleet {
        self.fleet.borrow().clone()
    }

    /// A receiver that tells of each change.
    pub fn subscribe(&self) -> watch::Receiver<Fleet> {
        self.fleet.clone()
    }

    /// The entry of this very process, where it has one.
    pub fn member(&self, id: &AgentId, incarnation: Incarnation) -> Option<Member> {
        self.fleet.borrow().members.get(id).filter(|member| member.incarnation == incarnation).cloned()
    }

    /// What went wrong with the registry.
    pub fn registry(&self) -> &RegistryCounts {
        &self.registry
    }

    /// What was measured of the agents' clocks.
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    /// Takes agents for a run, until the reservation is dropped.
    ///
    /// # Errors
    /// There are not enough that fit; says what was looked for and what is there.
    pub fn reserve(&self, choice: &AgentChoice) -> Result<Reservation, NoAgents> {
        choose::take(&self.held, choice, &self.fleet(), None)
    }

    /// Takes the agents of a run that was begun before, there or not.
    pub fn reserve_again(&self, members: Vec<Member>, exclusive: bool) -> Reservation {
        Reservation::new(&self.held, members, exclusive)
    }

    /// Agents that could join a run that goes.
    pub fn free_for(&self, choice: &AgentChoice, run: &Reservation) -> Vec<Member> {
        choose::free_for(choice, &self.fleet(), &self.held(), run)
    }

    /// Waits until every one of these processes has its entry, but not longer than `most`.
    pub async fn wait_for(&self, members: &[Member], most: Duration) {
        let mut fleet = self.fleet.clone();
        let all_there = |fleet: &Fleet| {
            members.iter().all(|member| {
                fleet.members.get(&member.id).is_some_and(|m| m.incarnation == member.incarnation)
            })
        };
        // Whoever is not there by then is told to the run as gone.
        let _ = tokio::time::timeout(most, fleet.wait_for(all_there)).await;
    }

    /// The agents as clients see them, by name.
    pub fn views(&self) -> Vec<AgentView> {
        let fleet = self.fleet();
        let held = self.held();
        fleet.members.values().map(|member| self.view(member, held.runs(&member.id))).collect()
    }

    fn view(&self, member: &Member, load: u32) -> AgentView {
        let clock = self.clocks.of(&member.id, member.incarnation);
        let state = match member.state {
            MemberState::Ready => "ready",
            MemberState::Busy => "busy",
            MemberState::Draining => "draining",
        };
        AgentView {
            id: member.id.0.clone(),
            incarnation: member.incarnation.0,
            address: member.address.clone(),
            version: member.version.clone(),
            labels: member.labels.clone(),
            cores: member.cores,
            capacity: member.capacity,
            requests_per_s: member.requests_per_s,
            state: state.to_owned(),
            load,
            clock_offset_us: clock.map(|clock| clock.offset_ns / 1_000),
            round_trip_us: clock.map(|clock| clock.round_trip_ns / 1_000),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change under the lock is whole, so a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
