//! The store: plans, runs, and each run's history as merged deltas, kept so that any window can be read again exactly.
//!
//! Takes what the run's driver commits; gives it back to REST and to the next master. Invariants: every write that belongs
//! to a run holds the writer's epoch against the store's in the same transaction, so a master that was replaced writes
//! nothing; a part and the high-water marks that it moves are written together or not at all; an ended run never changes.

mod calls;
#[cfg(test)]
mod contract;
mod health;
mod open;
mod records;
mod rows;
#[cfg(test)]
pub(crate) mod samples;
mod sql;
mod tables;
mod window;

use async_trait::async_trait;
use jiff::Timestamp;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{Epoch, KeyId, PlanId, RunId};
use volcanion_common::registry::Member;
use volcanion_common::session::Change;
use volcanion_common::units::RunTime;
use volcanion_common::view::{LevelView, Metrics, RunView};

use crate::merge::Part;
pub use calls::Calls;
pub use health::{Failure, keep_probing};
pub use open::{PostgresUrl, StoreUrl, StoreUrlError, open};
pub use records::{
    AgentMove, AuditFilter, AuditRecord, IdempotencyKey, Inserted, Keep, Page, PartAt, PlanPage, Progress,
    RunEnd, RunFilter, RunRecord, StoredKey, StoredPlan, now,
};
pub(crate) use rows::STATUSES;
pub use window::Rows;

/// The longest page of a list.
pub const PAGE_MAX: u32 = 1_000;

/// Where plans, runs and histories are kept. Lists come newest first.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Lets go of it, once nobody uses it any more: of SQLite all is in the one file then.
    async fn close(&self);

    /// Takes office: raises the epoch and gives the new one. All older epochs are fenced from then on.
    async fn raise_epoch(&self) -> Result<Epoch, StoreError>;
    /// The epoch of whoever leads.
    async fn epoch(&self) -> Result<Epoch, StoreError>;
    /// Which store this is: made at the first look, the same ever after, in its copies too.
    async fn id(&self) -> Result<String, StoreError>;

    /// Adds a plan.
    async fn insert_plan(&self, plan: &StoredPlan) -> Result<(), StoreError>;
    /// A plan, where there is one.
    async fn plan(&self, id: PlanId) -> Result<Option<StoredPlan>, StoreError>;
    /// A page of plans.
    async fn plans(&self, page: &PlanPage) -> Result<Page<StoredPlan>, StoreError>;
    /// Replaces a plan's document; its id and `created_at` stay. `false`: there is none.
    async fn replace_plan(&self, plan: &StoredPlan) -> Result<bool, StoreError>;
    /// Removes a plan; its runs keep their copies. `false`: there was none.
    async fn delete_plan(&self, id: PlanId) -> Result<bool, StoreError>;

    /// Adds a run, and its idempotency key with it, unless that key was used before. The same run again changes nothing.
    async fn insert_run(
        &self,
        epoch: Epoch,
        run: &RunRecord,
        key: Option<&IdempotencyKey>,
    ) -> Result<Inserted, StoreError>;
    /// What an idempotency key was used for, if ever.
    async fn idempotency_key(&self, key: &str) -> Result<Option<(IdempotencyKey, RunId)>, StoreError>;
    /// Says how far a run is.
    async fn update_run(&self, epoch: Epoch, run: RunId, progress: &Progress) -> Result<(), StoreError>;
    /// Keeps a change of level, and what all levels of the run come to with it. One of a number that is there already is replaced: nobody has heard of it.
    async fn change_run(
        &self,
        epoch: Epoch,
        run: RunId,
        change: &Change,
        levels: &[LevelView],
    ) -> Result<(), StoreError>;
    /// Keeps who takes part, where others joined: those it began with, and all who joined since.
    async fn join_run(
        &self,
        epoch: Epoch,
        run: RunId,
        first: &[Member],
        joined: &[Member],
    ) -> Result<(), StoreError>;
    /// Keeps moves of lanes, all of these or none. One of a number that is there already is replaced: nobody has heard of it.
    async fn move_run(&self, epoch: Epoch, run: RunId, moves: &[AgentMove]) -> Result<(), StoreError>;
    /// Appends a part and replaces the states of its agents, in one transaction. A number that is there already is the same part, tried
    /// again because its answer was lost.
    async fn commit(&self, epoch: Epoch, run: RunId, part: &Part) -> Result<(), StoreError>;
    /// Ends a run for ever, with its final metrics. The same end again changes nothing.
    async fn end_run(&self, epoch: Epoch, run: RunId, end: &RunEnd) -> Result<(), StoreError>;

    /// A run as REST shows it.
    async fn run(&self, id: RunId) -> Result<Option<RunView>, StoreError>;
    /// A page of runs.
    async fn runs(&self, filter: &RunFilter) -> Result<Page<RunView>, StoreError>;
    /// All that is kept of a run but its history: for a take-over.
    async fn run_record(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;
    /// The runs that have not ended, oldest first.
    async fn unended_runs(&self) -> Result<Vec<RunId>, StoreError>;
    /// An ended run's final metrics.
    async fn metrics(&self, id: RunId) -> Result<Option<Metrics>, StoreError>;
    /// The id of an ended run's last event; `None`: it goes, or ended under a version that did not keep it.
    async fn last_event(&self, id: RunId) -> Result<Option<u64>, StoreError>;
    /// The merged deltas that begin in [from, to), in the order of their beginning; for the whole run where neither is given. A few at a
    /// time, because histograms are large once they are read: the ones after `after`, and where to go on if there may be more.
    async fn history(
        &self,
        run: RunId,
        from: Option<RunTime>,
        to: Option<RunTime>,
        after: Option<PartAt>,
    ) -> Result<(Vec<Delta>, Option<PartAt>), StoreError>;
    /// The newest parts of those before this number, a few dozen, in the order of their numbers.
    async fn newest_parts(&self, run: RunId, before: u64) -> Result<Vec<Delta>, StoreError>;
    /// The sum of all parts.
    async fn total(&self, run: RunId) -> Result<Delta, StoreError>;

    /// Adds a record of a change. The same one again changes nothing.
    async fn insert_audit(&self, record: &AuditRecord) -> Result<(), StoreError>;
    /// A page of changes, newest first.
    async fn audits(&self, filter: &AuditFilter) -> Result<Page<AuditRecord>, StoreError>;
    /// Forgets some of the changes before a time; whether there are more.
    async fn forget_audits(&self, before: Timestamp) -> Result<bool, StoreError>;

    /// Adds a key. The same one again changes nothing.
    async fn insert_key(&self, key: &StoredKey) -> Result<(), StoreError>;
    /// The newest keys, so many at most, revoked and expired ones too.
    async fn keys(&self, limit: u32) -> Result<Vec<StoredKey>, StoreError>;
    /// The key of this hash, where there is one.
    async fn key(&self, hash: &str) -> Result<Option<StoredKey>, StoreError>;
    /// Revokes a key, unless it was revoked before; gives it as it is then. `None`: there is none.
    async fn revoke_key(&self, id: KeyId, at: Timestamp) -> Result<Option<StoredKey>, StoreError>;
    /// Notes that a key was used.
    async fn use_key(&self, id: KeyId, at: Timestamp) -> Result<(), StoreError>;

    /// Does a small step of forgetting ended runs that are not to be kept, and idempotency keys whose time is over; says whether there is more
    /// to do. A forgotten run is gone for readers at once, its parts go step by step.
    async fn forget_runs(&self, epoch: Epoch, keep: &Keep, now: Timestamp) -> Result<bool, StoreError>;

    /// What is wrong with the store, while it does not work.
    fn failure(&self) -> Option<Failure>;
    /// How many operations failed because the store did not work.
    fn failures(&self) -> u64;
    /// How its operations went so far.
    fn calls(&self) -> &Calls;
    /// Writes something that means nothing, to see whether the store works again.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// Why the store did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, written or read at this moment.
    #[error("the store does not work: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// It could not be opened or brought up to date.
    #[error("the store cannot be opened: {0}")]
    Open(String),
    /// Another master took office since.
    #[error("another master leads (epoch {store}, ours is {ours}); this one writes nothing any more")]
    Fenced {
        /// The epoch in the store.
        store: Epoch,
        /// The writer's.
        ours: Epoch,
    },
    /// The run ended; it never changes any more.
    #[error("run {0} has ended, or is not in the store")]
    NotGoing(RunId),
    /// A page's cursor is not one of ours.
    #[error("`{0}` is not a cursor")]
    Cursor(String),
    /// What is stored cannot be read by this version.
    #[error("what the store holds cannot be read: {0}")]
    Unreadable(String),
}
