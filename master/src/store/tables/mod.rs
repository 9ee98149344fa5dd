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

use super::calls::Calls;
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
    calls: Calls,
}

impl TableStore {
    /// Over a database whose tables are up to date.
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, health: Health::default(), calls: Calls::default() }
    }

    /// Awaits an operation that reads, and notes how it went.
    async fn read<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.health.read(self.calls.timed(operation, call).await)
    }

    /// Awaits an operation that writes so many bytes, and notes how it went.
    async fn write<T>(
        &self,
        operation: &'static str,
        bytes: usize,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.health.wrote(bytes, self.calls.timed(operation, call).await)
    }

    async fn epoch_after(&self, query: &'static str) -> Result<Epoch, StoreError> {
        let row = self.pool.one(Query::new(query)).await?;
        let row = row.ok_or_else(|| StoreError::Unreadable("the office has no row".to_owned()))?;
        Ok(Epoch(row.get::<i64>("epoch")? as u64))
    }

    async fn find_id(&self) -> Result<String, StoreError> {
        // Of masters that ask at once one makes it.
        let made = Query::new("UPDATE office SET store_id = $1 WHERE one = 1 AND store_id IS NULL");
        self.pool.run(made.bind(Uuid::new_v4().to_string())).await?;
        let row = self.pool.one(Query::new("SELECT store_id FROM office WHERE one = 1")).await?;
        let row = row.ok_or_else(|| StoreError::Unreadable("the office has no row".to_owned()))?;
        Ok(row.get("store_id")?)
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
    async fn close(&self) {
        self.pool.close().await;
    }

    async fn raise_epoch(&self) -> Result<Epoch, StoreError> {
        // Should it be done twice, nobody ever has the epoch in between.
        let raising = self.epoch_after("UPDATE office SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch");
        self.write("raise_epoch", 0, raising).await
    }

    async fn epoch(&self) -> Result<Epoch, StoreError> {
        self.read("epoch", self.epoch_after("SELECT epoch FROM office WHERE one = 1")).await
    }

    async fn id(&self) -> Result<String, StoreError> {
        self.health.wrote(0, self.pool.again(|| self.find_id()).await)
    }

    async fn insert_plan(&self, plan: &StoredPlan) -> Result<(), StoreError> {
        self.write("insert_plan", 0, plans::insert(&self.pool, plan)).await
    }

    async fn plan(&self, id: PlanId) -> Result<Option<StoredPlan>, StoreError> {
        self.read("plan", plans::one(&self.pool, id)).await
    }

    async fn plans(&self, page: &PlanPage) -> Result<Page<StoredPlan>, StoreError> {
        self.read("plans", plans::page(&self.pool, page)).await
    }

    async fn replace_plan(&self, plan: &StoredPlan) -> Result<bool, StoreError> {
        self.write("replace_plan", 0, plans::replace(&self.pool, plan)).await
    }

    async fn delete_plan(&self, id: PlanId) -> Result<bool, StoreError> {
        self.write("delete_plan", 0, plans::delete(&self.pool, id)).await
    }

    async fn insert_run(
        &self,
        epoch: Epoch,
        run: &RunRecord,
        key: Option<&IdempotencyKey>,
    ) -> Result<Inserted, StoreError> {
        let inserting = self.pool.again(|| runs::insert(&self.pool, epoch, run, key));
        self.write("insert_run", 0, inserting).await
    }

    async fn idempotency_key(&self, key: &str) -> Result<Option<(IdempotencyKey, RunId)>, StoreError> {
        self.read("idempotency_key", runs::known_key(&self.pool, key)).await
    }

    async fn update_run(&self, epoch: Epoch, run: RunId, progress: &Progress) -> Result<(), StoreError> {
        self.write("update_run", 0, runs::update(&self.pool, epoch, run, progress)).await
    }

    async fn change_run(
        &self,
        epoch: Epoch,
        run: RunId,
        change: &Change,
        levels: &[LevelView],
    ) -> Result<(), StoreError> {
        self.write("change_run", 0, levels::change(&self.pool, epoch, run, change, levels)).await
    }

    async fn join_run(
        &self,
        epoch: Epoch,
        run: RunId,
        first: &[Member],
        joined: &[Member],
    ) -> Result<(), StoreError> {
        self.write("join_run", 0, runs::join(&self.pool, epoch, run, first, joined)).await
    }

    async fn move_run(&self, epoch: Epoch, run: RunId, moves: &[AgentMove]) -> Result<(), StoreError> {
        self.write("move_run", 0, moves::put(&self.pool, epoch, run, moves)).await
    }

    async fn commit(&self, epoch: Epoch, run: RunId, part: &Part) -> Result<(), StoreError> {
        let body = part.delta.to_bytes();
        let bytes = body.len();
        self.write("commit", bytes, parts::commit(&self.pool, epoch, run, part, body)).await
    }

    async fn end_run(&self, epoch: Epoch, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        self.write("end_run", 0, runs::end(&self.pool, epoch, run, end)).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunView>, StoreError> {
        self.read("run", runs::view(&self.pool, id)).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page<RunView>, StoreError> {
        self.read("runs", runs::page(&self.pool, filter)).await
    }

    async fn run_record(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.read("run_record", runs::record(&self.pool, id)).await
    }

    async fn unended_runs(&self) -> Result<Vec<RunId>, StoreError> {
        self.read("unended_runs", runs::unended(&self.pool)).await
    }

    async fn metrics(&self, id: RunId) -> Result<Option<Metrics>, StoreError> {
        self.read("metrics", runs::metrics(&self.pool, id)).await
    }

    async fn last_event(&self, id: RunId) -> Result<Option<u64>, StoreError> {
        self.health.read(runs::last_event(&self.pool, id).await)
    }

    async fn history(
        &self,
        run: RunId,
        from: Option<RunTime>,
        to: Option<RunTime>,
        after: Option<PartAt>,
    ) -> Result<(Vec<Delta>, Option<PartAt>), StoreError> {
        self.read("history", parts::history(&self.pool, run, from, to, after)).await
    }

    async fn newest_parts(&self, run: RunId, before: u64) -> Result<Vec<Delta>, StoreError> {
        self.read("newest_parts", parts::newest(&self.pool, run, before)).await
    }

    async fn total(&self, run: RunId) -> Result<Delta, StoreError> {
        self.read("total", parts::total(&self.pool, run)).await
    }

    async fn insert_audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.write("insert_audit", 0, audit::insert(&self.pool, record)).await
    }

    async fn audits(&self, filter: &AuditFilter) -> Result<Page<AuditRecord>, StoreError> {
        self.read("audits", audit::page(&self.pool, filter)).await
    }

    async fn forget_audits(&self, before: Timestamp) -> Result<bool, StoreError> {
        self.write("forget_audits", 0, audit::forget(&self.pool, before)).await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        self.write("insert_key", 0, keys::insert(&self.pool, key)).await
    }

    async fn keys(&self, limit: u32) -> Result<Vec<StoredKey>, StoreError> {
        self.read("keys", keys::newest(&self.pool, limit)).await
    }

    async fn key(&self, hash: &str) -> Result<Option<StoredKey>, StoreError> {
        self.read("key", keys::of_hash(&self.pool, hash)).await
    }

    async fn revoke_key(&self, id: KeyId, at: Timestamp) -> Result<Option<StoredKey>, StoreError> {
        self.write("revoke_key", 0, keys::revoke(&self.pool, id, at)).await
    }

    async fn use_key(&self, id: KeyId, at: Timestamp) -> Result<(), StoreError> {
        self.write("use_key", 0, keys::used(&self.pool, id, at)).await
    }

    async fn forget_runs(&self, epoch: Epoch, keep: &Keep, now: Timestamp) -> Result<bool, StoreError> {
        self.write("forget_runs", 0, retention::step(&self.pool, epoch, keep, now)).await
    }

    fn failure(&self) -> Option<Failure> {
        self.health.failure()
    }

    fn failures(&self) -> u64 {
        self.health.failures()
    }

    fn calls(&self) -> &Calls {
        &self.calls
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let bytes = self.health.probe_bytes();
        self.write("probe", bytes, self.try_probe(bytes)).await
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
