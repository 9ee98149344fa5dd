//! What the store keeps, as its users see it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use volcanion_common::ids::{AgentId, Epoch, Incarnation, KeyId, PlanId, RunId};
use volcanion_common::registry::Member;
use volcanion_common::session::{Change, Move};
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{Metrics, Role, RunStatus, RunView, StopReason};

use crate::merge::AgentState;

/// How long an idempotency key is remembered.
pub(super) const KEY_AGE_MAX_US: i64 = 24 * 3_600 * 1_000_000;

/// A plan with its name in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    /// Its id.
    pub id: PlanId,
    /// The document as its user wrote it, as JSON.
    pub source: serde_json::Value,
    /// What it means.
    pub plan: ValidPlan,
    /// Whether the document is a simple plan.
    pub is_simple: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its document was last replaced; at first the same as `created_at`.
    pub updated_at: Timestamp,
}

/// A key of a client; the key itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is, or what for.
    pub name: String,
    /// What it lets do.
    pub role: Role,
    /// SHA-256 of the key, in hex.
    pub hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is of no use.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, about.
    pub used_at: Option<Timestamp>,
}

/// A change that somebody made over REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id; later ones are greater.
    pub id: Uuid,
    /// When it was answered.
    pub at: Timestamp,
    /// The name of whoever made it.
    pub who: String,
    /// What tells that one from others: a key's id, or an issuer's name for it.
    pub who_id: String,
    /// What that one may do.
    pub role: Role,
    /// The call, as method and route.
    pub action: String,
    /// What was asked, without its query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// What was made, where something was.
    pub made: Option<String>,
    /// The client's address.
    pub from: Option<String>,
    /// As in the logs.
    pub request_id: String,
}

/// Which changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Of whoever has this name or id.
    pub who: Option<String>,
    /// Most of them.
    pub limit: u32,
    /// From the page before.
    pub cursor: Option<String>,
}

/// A part of a list, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last.
    pub next: Option<String>,
}

/// A place in a run's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartAt {
    /// The part's first moment.
    pub from: RunTime,
    /// Its number.
    pub number: u64,
}

/// Which plans are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPage {
    /// At most so many; held within 1 to [`super::PAGE_MAX`].
    pub limit: u32,
    /// From the page before.
    pub cursor: Option<String>,
}

impl Default for PlanPage {
    fn default() -> Self {
        Self { limit: 100, cursor: None }
    }
}

/// Which runs are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this plan only.
    pub plan_id: Option<PlanId>,
    /// In this state only.
    pub status: Option<RunStatus>,
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub to: Option<Timestamp>,
    /// At most so many; held within 1 to [`super::PAGE_MAX`].
    pub limit: u32,
    /// From the page before.
    pub cursor: Option<String>,
}

impl Default for RunFilter {
    fn default() -> Self {
        Self { plan_id: None, status: None, from: None, to: None, limit: 100, cursor: None }
    }
}

/// A client's promise that two requests of one key are the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client sent it.
    pub key: String,
    /// What was asked for, hashed.
    pub request: String,
}

/// What became of a run to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the store.
    New,
    /// Its key was used for the same request before: this is that run, and nothing was inserted.
    Known(RunId),
    /// Its key was used for another request; nothing was inserted.
    OtherRequest,
}

/// All that is kept of a run but its history.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// As REST shows it.
    pub view: RunView,
    /// The run's own copy of the plan, in full form.
    pub plan: serde_json::Value,
    /// Seeds whatever is drawn by chance.
    pub seed: u64,
    /// The chosen agents as they were then, in the order that the shards were cut by.
    pub members: Vec<Member>,
    /// Microseconds since 1970 at the start of the load; absent before.
    pub start_at_unix_us: Option<u64>,
    /// Why it is being stopped, while it is.
    pub stop_reason: Option<StopReason>,
    /// The newest stored state of each agent that has one.
    pub agents: Vec<AgentState>,
    /// The number after the highest stored part's.
    pub next_part: u64,
    /// Every change of level, in the order of their numbers.
    pub changes: Vec<Change>,
    /// Every move of lanes, in the order of their numbers.
    pub moves: Vec<AgentMove>,
    /// Everybody who joined since it began, in the order of their joining.
    pub joined: Vec<Member>,
    /// What its masters had to say of it, as of the newest part.
    pub warnings: Vec<WarningView>,
}

/// A move of lanes, and the process that is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentMove {
    /// Whose lanes go or come.
    pub agent: AgentId,
    /// Which process of it.
    pub incarnation: Incarnation,
    /// What it is told.
    pub order: Move,
}

/// Which ended runs are kept: those that no limit shuts out. All of them, where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones, so many.
    pub runs: Option<u64>,
    /// Those that ended within this time.
    pub age: Option<Micros>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Not an ended one: that is [`RunEnd`]'s.
    pub status: RunStatus,
    /// When the load begins or began, in microseconds since 1970.
    pub start_at_unix_us: Option<u64>,
    /// Why it is being stopped, while it is.
    pub stop_reason: Option<StopReason>,
}

/// A run's end.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEnd {
    /// An ended one.
    pub status: RunStatus,
    /// Why.
    pub reason: StopReason,
    /// What there is to say about it.
    pub message: Option<String>,
    /// When.
    pub ended_at: Timestamp,
    /// The final document.
    pub metrics: Arc<Metrics>,
    /// The id of the run's last event.
    pub last_event: u64,
}

impl Keep {
    /// What ended before this is not kept; `None`: nothing is too old.
    pub(super) fn ended_before(&self, now: Timestamp) -> Option<Timestamp> {
        // Older than time itself can say, nothing is.
        let age = Duration::from_micros(self.age?.0);
        Some(now.checked_sub(age).unwrap_or(Timestamp::MIN))
    }
}

impl RunRecord {
    /// The run's id.
    pub fn id(&self) -> RunId {
        RunId(self.view.id)
    }
}

/// The time as the store keeps it, to the microsecond: so that what is answered at once is what is read again later.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Who may write: an epoch is held against the store's.
pub(super) fn is_ours(store: u64, ours: Epoch) -> Result<(), super::StoreError> {
    if store == ours.0 { Ok(()) } else { Err(super::StoreError::Fenced { store: Epoch(store), ours }) }
}
