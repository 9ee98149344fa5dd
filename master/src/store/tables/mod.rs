//! The store in tables of SQLite or PostgreSQL: one set of statements, a file for each thing that is kept.

mod agents;
mod audit;
mod keys;
mod levels;
mod moves;
mod parts;
mod plans;
mod retention;
mod runs;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{Epoch, KeyId, PlanId, RunId};
use volcanion_common::registry::Member;
use volcanion_common::session::Change;
use volcanion_common::units::RunTime;
use volcanion_common::view::{LevelView, Metrics, RunView};

use super::health::{Failure, Health};
use super::records::{
    AgentMove, AuditFilter, AuditRecord, IdempotencyKey, Inserted, Keep, Page, PartAt, PlanPage, Progress,
    RunEnd, RunFilter, RunRecord, StoredKey, StoredPlan,
};
use super::sql::{Pool, Query};
use super::{Store, StoreError};
use crate::merge::Part;

/// A store that keeps its word by tables.
pub(super) struct TableStore {
    pub(super) pool: Pool,
    health: Health,
}

impl TableStore {
    /// Over a database whose tables are up to date.
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, health: Health::default() }
    }

    async fn epoch_after(&self, query: &'static str) -> Result<Epoch, StoreError> {
        let row = self.pool.one(Query::new(query)).await?;
        let row = row.ok_or_else(|| StoreError::Unreadable("the office has no row".to_owned()))?;
        Ok(Epoch(row.get::<i64>("epoch")? as u64))
    }

    async fn try_probe(&self, bytes: usize) -> Result<(), StoreError> {
        self.pool
            .run(
                Query::new(
                    "INSERT INTO probe (one, body) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET body = excluded.body",
                )
                .bind(vec![0; bytes]),
            )
            .await?;
        self.pool.run(Query::new("DELETE FROM probe")).await?;
        Ok(())
    }
}

#[async_trait]
impl Store for TableStore {
    async fn raise_epoch(&self) -> Result<Epoch, StoreError> {
        // Should it be done twice, nobody ever has the epoch in between.
        let raised =
            self.epoch_after("UPDATE office SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch").await;
        self.health.wrote(0, raised)
    }

    async fn epoch(&self) -> Result<Epoch, StoreError> {
        self.health.read(self.epoch_after("SELECT epoch FROM office WHERE one = 1").await)
    }

    async fn insert_plan(&self, plan: &StoredPlan) -> Result<(), StoreError> {
        self.health.wrote(0, plans::insert(&self.pool, plan).await)
    }

    async fn plan(&self, id: PlanId) -> Result<Option<StoredPlan>, StoreError> {
        self.health.read(plans::one(&self.pool, id).await)
    }

    async fn plans(&self, page: &PlanPage) -> Result<Page<StoredPlan>, StoreError> {
        self.health.read(plans::page(&self.pool, page).await)
    }

    async fn replace_plan(&self, plan: &StoredPlan) -> Result<bool, StoreError> {
        self.health.wrote(0, plans::replace(&self.pool, plan).await)
    }

    async fn delete_plan(&self, id: PlanId) -> Result<bool, StoreError> {
        self.health.wrote(0, plans::delete(&self.pool, id).await)
    }

    async fn insert_run(
        &self,
        epoch: Epoch,
        run: &RunRecord,
        key: Option<&IdempotencyKey>,
    ) -> Result<Inserted, StoreError> {
        let inserted = self.pool.again(|| runs::insert(&self.pool, epoch, run, key)).await;
        self.health.wrote(0, inserted)
    }

    async fn idempotency_key(&self, key: &str) -> Result<Option<(IdempotencyKey, RunId)>, StoreError> {
        self.health.read(runs::known_key(&self.pool, key).await)
    }

    async fn update_run(&self, epoch: Epoch, run: RunId, progress: &Progress) -> Result<(), StoreError> {
        self.health.wrote(0, runs::update(&self.pool, epoch, run, progress).await)
    }

    async fn change_run(
        &self,
        epoch: Epoch,
        run: RunId,
        change: &Change,
        levels: &[LevelView],
    ) -> Result<(), StoreError> {
        self.health.wrote(0, levels::change(&self.pool, epoch, run, change, levels).await)
    }

    async fn join_run(
        &self,
        epoch: Epoch,
        run: RunId,
        first: &[Member],
        joined: &[Member],
    ) -> Result<(), StoreError> {
        self.health.wrote(0, runs::join(&self.pool, epoch, run, first, joined).await)
    }

    async fn move_run(&self, epoch: Epoch, run: RunId, moves: &[AgentMove]) -> Result<(), StoreError> {
        self.health.wrote(0, moves::put(&self.pool, epoch, run, moves).await)
    }

    async fn commit(&self, epoch: Epoch, run: RunId, part: &Part) -> Result<(), StoreError> {
        let body = part.delta.to_bytes();
        let bytes = body.len();
        self.health.wrote(bytes, parts::commit(&self.pool, epoch, run, part, body).await)
    }

    async fn end_run(&self, epoch: Epoch, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        self.health.wrote(0, runs::end(&self.pool, epoch, run, end).await)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunView>, StoreError> {
        self.health.read(runs::view(&self.pool, id).await)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page<RunView>, StoreError> {
        self.health.read(runs::page(&self.pool, filter).await)
    }

    async fn run_record(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.health.read(runs::record(&self.pool, id).await)
    }

    async fn unended_runs(&self) -> Result<Vec<RunId>, StoreError> {
        self.health.read(runs::unended(&self.pool).await)
    }

    async fn metrics(&self, id: RunId) -> Result<Option<Metrics>, StoreError> {
        self.health.read(runs::metrics(&self.pool, id).await)
    }

    async fn history(
        &self,
        run: RunId,
        from: Option<RunTime>,
        to: Option<RunTime>,
        after: Option<PartAt>,
    ) -> Result<(Vec<Delta>, Option<PartAt>), StoreError> {
        self.health.read(parts::history(&self.pool, run, from, to, after).await)
    }

    async fn total(&self, run: RunId) -> Result<Delta, StoreError> {
        self.health.read(parts::total(&self.pool, run).await)
    }

    async fn insert_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.health.wrote(0, audit::insert(&self.pool, record).await)
    }

    async fn audits(&self, filter: &AuditFilter) -> Result<Page<AuditRecord>, StoreError> {
        self.health.read(audit::page(&self.pool, filter).await)
    }

    async fn forget_audits(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.health.wrote(0, audit::forget(&self.pool, before).await)
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        self.health.wrote(0, keys::insert(&self.pool, key).await)
    }

    async fn keys(&self, limit: u32) -> Result<Vec<StoredKey>, StoreError> {
        self.health.read(keys::newest(&self.pool, limit).await)
    }

    async fn key(&self, hash: &str) -> Result<Option<StoredKey>, StoreError> {
        self.health.read(keys::of_hash(&self.pool, hash).await)
    }

    async fn revoke_key(&self, id: KeyId, at: Timestamp) -> Result<Option<StoredKey>, StoreError> {
        self.health.wrote(0, keys::revoke(&self.pool, id, at).await)
    }

    async fn use_key(&self, id: KeyId, at: Timestamp) -> Result<(), StoreError> {
        self.health.wrote(0, keys::used(&self.pool, id, at).await)
    }

    async fn forget_runs(&self, epoch: Epoch, keep: &Keep, now: Timestamp) -> Result<bool, StoreError> {
        self.health.wrote(0, retention::step(&self.pool, epoch, keep, now).await)
    }

    fn failure(&self) -> Option<Failure> {
        self.health.failure()
    }

    fn failures(&self) -> u64 {
        self.health.failures()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let bytes = self.health.probe_bytes();
        self.health.wrote(bytes, self.try_probe(bytes).await)
    }
}

/// A value as a column of text holds it.
fn text<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Unreadable(format!("a value to be stored: {error}")))
}

/// A moment of run time as a column holds it; what is later than that can say is as late as can be.
fn micros(time: RunTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// A cursor is the id of the last item of the page before.
fn cursor(text: Option<&str>) -> Result<Option<String>, StoreError> {
    text.map(|text| {
        let id: Uuid = text.parse().map_err(|_| StoreError::Cursor(text.to_owned()))?;
        Ok(id.to_string())
    })
    .transpose()
}

/// One item more than the page holds was asked for: whether it came tells whether there is a next page.
fn cut_page<T>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = more.then(|| items.last().map(id)).flatten();
    Page { items, next }
}

#[cfg(test)]
mod tests;
