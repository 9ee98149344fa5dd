//! Who is there: agents join under their name, masters watch, and stand for election.
//!
//! Two implementations: [`etcd`] for a cluster, [`local`] within one process. No other code knows which it has.

#[cfg(test)]
pub(crate) mod contract;
pub mod counts;
pub mod election;
pub mod etcd;
pub mod local;
pub mod member;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::ids::AgentId;
pub use counts::RegistryCounts;
pub use election::{Candidacy, Candidate, Standing};
pub use member::{Member, MemberState};

/// The registry as its users see it.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Enters a member and keeps its entry alive until [`Membership::leave`] or the end of the process. Where the registry cannot
    /// be reached it is tried again, with pauses, until it can; only what trying again cannot mend is an error.
    async fn join(&self, member: Member) -> Result<Box<dyn Membership>, RegistryError>;

    /// The members, now and from now on. The receiver's value is replaced as they come, change and go.
    async fn watch(&self) -> Result<watch::Receiver<Fleet>, RegistryError>;

    /// Stands for election, until [`Candidacy::resign`] or the end of the process. Where the registry cannot be reached the
    /// standing is unknown until it can.
    async fn campaign(&self, candidate: Candidate) -> Result<Box<dyn Candidacy>, RegistryError>;

    /// What went wrong with it so far, for metrics; nothing ever does within one process.
    fn counts(&self) -> Arc<RegistryCounts> {
        Arc::default()
    }
}

/// One member's own entry. Dropped without [`Membership::leave`], as in a process that dies, the entry stays until its lease ends.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Replaces the entry's value; where the registry cannot be reached now, as soon as it can.
    fn update(&self, member: Member);

    /// Until when the entry is sure to be there: counted from the sending of the last renewal that was answered. `None`: it
    /// cannot run out (in-process).
    fn alive_until(&self) -> Option<Instant>;

    /// Takes the entry away at once.
    async fn leave(&self);
}

/// The members as last seen.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// By name.
    pub members: Arc<BTreeMap<AgentId, Member>>,
    /// Whether the registry answers: while it does not, the members are those last seen, and nobody may be declared dead.
    pub connected: bool,
}

/// Why the registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached with these settings, and will not be.
    #[error("the registry cannot be used: {0}")]
    Settings(String),
    /// Another live process has this name.
    #[error("an agent named `{0}` is registered already and alive; give this one another --id")]
    NameTaken(AgentId),
    /// It did not answer, or answered with an error.
    #[error("the registry does not answer: {0}")]
    Unavailable(String),
}
