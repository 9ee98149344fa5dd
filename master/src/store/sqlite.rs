//! The store in an SQLite file, or in memory for a run within one process.
//!
//! WAL with `synchronous=FULL`: what was committed is on the disk. A transaction that writes begins with a write (the fence), so it
//! never has to turn from reader to writer half-way, which SQLite would refuse without waiting.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};
use uuid::Uuid;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{Epoch, PlanId, RunId};
use volcanion_common::session::Change;
use volcanion_common::units::RunTime;
use volcanion_common::view::{LevelView, Metrics, RunView};

use super::records::{
    IdempotencyKey, Inserted, Page, PartAt, PlanPage, Progress, RunEnd, RunFilter, RunRecord, StoredPlan,
    is_ours,
};
use super::{PAGE_MAX, Store, StoreError, StoreUrl, rows};
use crate::merge::{AgentState, Part};

mod levels;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers beside the one writer that SQLite has at any time.
const CONNECTIONS_MAX: u32 = 4;
/// Parts of a history that are read at once: of one step some tens of kilobytes each.
const HISTORY_PAGE: usize = 64;
/// How long an idempotency key is remembered.
const KEY_AGE_MAX_US: i64 = 24 * 3_600 * 1_000_000;

/// The store in SQLite.
pub(super) struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    pub(super) async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        let (options, pool) = match url {
            StoreUrl::SqliteFile(path) => (
                options.filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal),
                pool.max_connections(CONNECTIONS_MAX),
            ),
            // Each connection has a memory of its own: there is one, and it is never given up.
            StoreUrl::Memory => (
                options.in_memory(true),
                pool.min_connections(1).max_connections(1).idle_timeout(None).max_lifetime(None),
            ),
        };
        let cannot = |error: &dyn std::fmt::Display| StoreError::Open(format!("{url}: {error}"));
        let pool = pool.connect_with(options).await.map_err(|error| cannot(&error))?;
        MIGRATIONS.run(&pool).await.map_err(|error| cannot(&error))?;
        Ok(Self { pool })
    }

    /// Begins a transaction in which nobody but the leader of `epoch` gets further than here.
    async fn begin_as(&self, epoch: Epoch) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // The update changes nothing, but takes the write lock, so the epoch cannot be raised before the end.
        sqlx::query("UPDATE office SET epoch = epoch WHERE one = 1").execute(&mut *transaction).await?;
        let row = sqlx::query("SELECT epoch FROM office WHERE one = 1").fetch_one(&mut *transaction).await?;
        is_ours(row.try_get::<i64, _>("epoch")? as u64, epoch)?;
        Ok(transaction)
    }

    async fn agents(&self, run: RunId) -> Result<Vec<AgentState>, StoreError> {
        let rows =
            sqlx::query("SELECT state FROM run_agents WHERE run_id = ? ORDER BY agent_id, incarnation")
                .bind(run.to_string())
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(|row| rows::json(row, "state")).collect()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn raise_epoch(&self) -> Result<Epoch, StoreError> {
        let row = sqlx::query("UPDATE office SET epoch = epoch + 1 WHERE one = 1 RETURNING epoch")
            .fetch_one(&self.pool)
            .await?;
        Ok(Epoch(row.try_get::<i64, _>("epoch")? as u64))
    }

    async fn epoch(&self) -> Result<Epoch, StoreError> {
        let row = sqlx::query("SELECT epoch FROM office WHERE one = 1").fetch_one(&self.pool).await?;
        Ok(Epoch(row.try_get::<i64, _>("epoch")? as u64))
    }

    async fn insert_plan(&self, plan: &StoredPlan) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO plans (id, name, source, is_simple, created_us, updated_us) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(plan.id.to_string())
        .bind(&plan.plan.name)
        .bind(plan.source.to_string())
        .bind(plan.is_simple)
        .bind(plan.created_at.as_microsecond())
        .bind(plan.updated_at.as_microsecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn plan(&self, id: PlanId) -> Result<Option<StoredPlan>, StoreError> {
        let row = sqlx::query("SELECT id, source, is_simple, created_us, updated_us FROM plans WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(rows::plan).transpose()
    }

    async fn plans(&self, page: &PlanPage) -> Result<Page<StoredPlan>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let rows = sqlx::query(
            "SELECT id, source, is_simple, created_us, updated_us FROM plans WHERE (?1 IS NULL OR id < ?1) \
             ORDER BY id DESC LIMIT ?2",
        )
        .bind(cursor(page.cursor.as_deref())?)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await?;
        let ids = rows.iter().map(|row| rows::id(row, "id")).collect::<Result<Vec<PlanId>, _>>()?;
        let next = cut_page(ids, limit, PlanId::to_string).next;
        let mut items = Vec::new();
        for row in rows.iter().take(limit as usize) {
            match rows::plan(row) {
                Ok(plan) => items.push(plan),
                // One that this version cannot read does not hide the others; asked for by its id, it says why.
                Err(StoreError::Unreadable(reason)) => {
                    tracing::error!(reason, "a stored plan is left out of the list")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Page { items, next })
    }

    async fn replace_plan(&self, plan: &StoredPlan) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE plans SET name = ?, source = ?, is_simple = ?, updated_us = ? WHERE id = ?")
                .bind(&plan.plan.name)
                .bind(plan.source.to_string())
                .bind(plan.is_simple)
                .bind(plan.updated_at.as_microsecond())
                .bind(plan.id.to_string())
                .execute(&self.pool)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_plan(&self, id: PlanId) -> Result<bool, StoreError> {
        let done =
            sqlx::query("DELETE FROM plans WHERE id = ?").bind(id.to_string()).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn insert_run(
        &self,
        epoch: Epoch,
        run: &RunRecord,
        key: Option<&IdempotencyKey>,
    ) -> Result<Inserted, StoreError> {
        let mut transaction = self.begin_as(epoch).await?;
        let view = &run.view;
        let created_us = rows::micros_of(&view.created_at)?;
        if let Some(key) = key {
            sqlx::query("DELETE FROM idempotency_keys WHERE created_us < ?")
                .bind(created_us - KEY_AGE_MAX_US)
                .execute(&mut *transaction)
                .await?;
            let known = sqlx::query("SELECT request, run_id FROM idempotency_keys WHERE key = ?")
                .bind(&key.key)
                .fetch_optional(&mut *transaction)
                .await?;
            if let Some(row) = known {
                let is_same = row.try_get::<&str, _>("request")? == key.request;
                return Ok(if is_same {
                    Inserted::Known(rows::id(&row, "run_id")?)
                } else {
                    Inserted::OtherRequest
                });
            }
        }
        sqlx::query(
            "INSERT INTO runs (id, plan_id, plan_name, plan, status, message, created_us, started_us, planned_ms, \
             seed, members, next_part, levels) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(view.id.to_string())
        .bind(view.plan_id.to_string())
        .bind(&view.plan_name)
        .bind(run.plan.to_string())
        .bind(view.status.name())
        .bind(view.message.as_deref())
        .bind(created_us)
        .bind(run.start_at_unix_us.map(|us| us as i64))
        .bind(view.planned_duration_ms as i64)
        .bind(run.seed as i64)
        .bind(text(&run.members)?)
        .bind(run.next_part as i64)
        .bind(levels::text_of(&view.levels)?)
        .execute(&mut *transaction)
        .await?;
        if let Some(key) = key {
            sqlx::query(
                "INSERT INTO idempotency_keys (key, request, run_id, created_us) VALUES (?, ?, ?, ?)",
            )
            .bind(&key.key)
            .bind(&key.request)
            .bind(view.id.to_string())
            .bind(created_us)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(Inserted::New)
    }

    async fn idempotency_key(&self, key: &str) -> Result<Option<(IdempotencyKey, RunId)>, StoreError> {
        let row = sqlx::query("SELECT request, run_id FROM idempotency_keys WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let known = IdempotencyKey { key: key.to_owned(), request: row.try_get("request")? };
        Ok(Some((known, rows::id(&row, "run_id")?)))
    }

    async fn update_run(&self, epoch: Epoch, run: RunId, progress: &Progress) -> Result<(), StoreError> {
        let mut transaction = self.begin_as(epoch).await?;
        let done = sqlx::query(
            "UPDATE runs SET status = ?, started_us = ?, stop_reason = ? WHERE id = ? AND ended_us IS NULL",
        )
        .bind(progress.status.name())
        .bind(progress.start_at_unix_us.map(|us| us as i64))
        .bind(progress.stop_reason.map(rows::reason_name))
        .bind(run.to_string())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotGoing(run));
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn change_run(
        &self,
        epoch: Epoch,
        run: RunId,
        change: &Change,
        levels: &[LevelView],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_as(epoch).await?;
        levels::put_change(&mut transaction, run, change, levels).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn commit(&self, epoch: Epoch, run: RunId, part: &Part) -> Result<(), StoreError> {
        let (body, agents) = (part.delta.to_bytes(), text(&part.agents)?);
        let total = part.checkpoint.as_ref().map(|total| total.to_bytes());
        let mut transaction = self.begin_as(epoch).await?;
        let done =
            sqlx::query("UPDATE runs SET next_part = MAX(next_part, ?) WHERE id = ? AND ended_us IS NULL")
                .bind(part.number as i64 + 1)
                .bind(run.to_string())
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotGoing(run));
        }
        let done = sqlx::query(
            "INSERT INTO parts (run_id, number, from_us, to_us, body, agents) VALUES (?, ?, ?, ?, ?, ?) \
             ON CONFLICT (run_id, number) DO NOTHING",
        )
        .bind(run.to_string())
        .bind(part.number as i64)
        .bind(part.delta.from.0 as i64)
        .bind(part.delta.to.0 as i64)
        .bind(body)
        .bind(agents)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        put_agents(&mut transaction, run, &part.agents).await?;
        if let Some(total) = total {
            sqlx::query(
                "INSERT INTO totals (run_id, part, body) VALUES (?, ?, ?) \
                 ON CONFLICT (run_id) DO UPDATE SET part = excluded.part, body = excluded.body",
            )
            .bind(run.to_string())
            .bind(part.number as i64)
            .bind(total)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn end_run(&self, epoch: Epoch, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        let metrics = text(&*end.metrics)?;
        let mut transaction = self.begin_as(epoch).await?;
        let done = sqlx::query(
            "UPDATE runs SET status = ?1, stop_reason = ?2, message = ?3, ended_us = ?4, metrics = ?5 \
             WHERE id = ?6 AND (ended_us IS NULL OR (ended_us = ?4 AND status = ?1))",
        )
        .bind(end.status.name())
        .bind(rows::reason_name(end.reason))
        .bind(end.message.as_deref())
        .bind(end.ended_at.as_microsecond())
        .bind(metrics)
        .bind(run.to_string())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NotGoing(run));
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunView>, StoreError> {
        let row = sqlx::query(
            "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
             planned_ms, levels FROM runs WHERE id = ?",
        )
        .bind(id.to_string())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(rows::run_view).transpose()
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page<RunView>, StoreError> {
        let limit = filter.limit.clamp(1, PAGE_MAX);
        let rows = sqlx::query(
            "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
             planned_ms, levels FROM runs WHERE (?1 IS NULL OR plan_id = ?1) AND (?2 IS NULL OR status = ?2) \
             AND (?3 IS NULL OR created_us >= ?3) AND (?4 IS NULL OR created_us < ?4) \
             AND (?5 IS NULL OR id < ?5) ORDER BY id DESC LIMIT ?6",
        )
        .bind(filter.plan_id.map(|id| id.to_string()))
        .bind(filter.status.map(|status| status.name()))
        .bind(filter.from.map(|time| time.as_microsecond()))
        .bind(filter.to.map(|time| time.as_microsecond()))
        .bind(cursor(filter.cursor.as_deref())?)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await?;
        let items = rows.iter().map(rows::run_view).collect::<Result<_, _>>()?;
        Ok(cut_page(items, limit, |run: &RunView| run.id.to_string()))
    }

    async fn run_record(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
             planned_ms, levels, plan, seed, members, next_part FROM runs WHERE id = ?",
        )
        .bind(id.to_string())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(RunRecord {
            view: rows::run_view(&row)?,
            plan: rows::json(&row, "plan")?,
            seed: row.try_get::<i64, _>("seed")? as u64,
            members: rows::json(&row, "members")?,
            start_at_unix_us: row.try_get::<Option<i64>, _>("started_us")?.map(|us| us as u64),
            stop_reason: rows::stop_reason(&row)?,
            agents: self.agents(id).await?,
            next_part: row.try_get::<i64, _>("next_part")? as u64,
            changes: levels::changes(&self.pool, id).await?,
        }))
    }

    async fn unended_runs(&self) -> Result<Vec<RunId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM runs WHERE ended_us IS NULL ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| rows::id(row, "id")).collect()
    }

    async fn metrics(&self, id: RunId) -> Result<Option<Metrics>, StoreError> {
        let row = sqlx::query("SELECT metrics FROM runs WHERE id = ? AND metrics IS NOT NULL")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(|row| rows::json(row, "metrics")).transpose()
    }

    async fn history(
        &self,
        run: RunId,
        from: Option<RunTime>,
        to: Option<RunTime>,
        after: Option<PartAt>,
    ) -> Result<(Vec<Delta>, Option<PartAt>), StoreError> {
        let bound = |time: RunTime| i64::try_from(time.0).unwrap_or(i64::MAX);
        let from_us = from.map_or(0, bound).max(after.map_or(0, |after| bound(after.from)));
        // A part without a span moved agents' states only.
        let parts = sqlx::query(
            "SELECT from_us, number, body FROM parts WHERE run_id = ?1 AND from_us >= ?2 AND from_us < ?3 \
             AND to_us > from_us AND (?4 IS NULL OR (from_us, number) > (?4, ?5)) ORDER BY from_us, number LIMIT ?6",
        )
        .bind(run.to_string())
        .bind(from_us)
        .bind(to.map_or(i64::MAX, bound))
        .bind(after.map(|after| bound(after.from)))
        .bind(after.map(|after| after.number as i64))
        .bind(HISTORY_PAGE as i64)
        .fetch_all(&self.pool)
        .await?;
        let next = match parts.last().filter(|_| parts.len() == HISTORY_PAGE) {
            Some(last) => Some(PartAt {
                from: RunTime(last.try_get::<i64, _>("from_us")? as u64),
                number: last.try_get::<i64, _>("number")? as u64,
            }),
            None => None,
        };
        Ok((rows::deltas(parts).await?, next))
    }

    async fn total(&self, run: RunId) -> Result<Delta, StoreError> {
        let sum = sqlx::query("SELECT part, body FROM totals WHERE run_id = ?")
            .bind(run.to_string())
            .fetch_optional(&self.pool)
            .await?;
        let up_to: i64 = sum.as_ref().map_or(Ok(0), |row| row.try_get("part"))?;
        let later = sqlx::query("SELECT body FROM parts WHERE run_id = ? AND number > ? ORDER BY number")
            .bind(run.to_string())
            .bind(up_to)
            .fetch_all(&self.pool)
            .await?;
        let summands = rows::deltas(sum.into_iter().chain(later).collect()).await?;
        let mut total = Delta::default();
        summands.iter().for_each(|delta| total.add(delta));
        Ok(total)
    }
}

async fn put_agents(
    transaction: &mut Transaction<'static, Sqlite>,
    run: RunId,
    agents: &[AgentState],
) -> Result<(), StoreError> {
    for agent in agents {
        sqlx::query(
            "INSERT INTO run_agents (run_id, agent_id, incarnation, seq, state) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (run_id, agent_id, incarnation) DO UPDATE SET seq = excluded.seq, state = excluded.state \
             WHERE excluded.seq >= run_agents.seq",
        )
        .bind(run.to_string())
        .bind(&agent.agent.0)
        .bind(agent.incarnation.0 as i64)
        .bind(agent.seq.0 as i64)
        .bind(text(agent)?)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

fn text<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Unreadable(format!("a value to be stored: {error}")))
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
