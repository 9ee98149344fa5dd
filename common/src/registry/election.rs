//! Who leads: masters stand as candidates, and at most one at a time is told to lead.
//!
//! An election says who shall try; it is no lock. Whoever is told to lead raises the epoch in the store, and the
//! store refuses every older one. So a leader whose registry is away goes on: nobody else can be elected meanwhile either.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One who would lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Unique to the process: a master that comes back under its address is another candidate.
    pub id: String,
    /// Where its REST API is reached, as `http://HOST:PORT`; absent where it has none.
    pub rest: Option<String>,
    /// Which store it leads; absent from versions that do not say it, which are taken to mean ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

impl Candidate {
    /// Whether the two cannot be of one cluster: each has a store of its own.
    pub fn is_of_another_store(&self, other: &Self) -> bool {
        self.store.is_some() && other.store.is_some() && self.store != other.store
    }
}

/// Where a candidate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// The registry has not answered yet, or nobody leads.
    #[default]
    Unknown,
    /// It leads.
    Leads,
    /// Another one leads. While the registry is away, the last one known.
    Follows(Candidate),
    /// One with another store leads, or did when it was last seen. This candidate does not stand beside it, and not after it either: whoever
    /// leads would find none of the other's runs. That ends with the candidacy, or with a leader of our own store.
    Barred(Candidate),
}

/// A candidate's own entry. Dropped without [`Candidacy::resign`], as in a process that dies, it counts until its lease ends.
#[async_trait]
pub trait Candidacy: Send + Sync {
    /// Its standing, now and from now on. One that leads is only told otherwise once another one leads or may.
    fn standing(&self) -> watch::Receiver<Standing>;

    /// Stands no longer; where it led, another one leads at once.
    async fn resign(&self);
}
