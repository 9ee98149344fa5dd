//! Runs: their rows, from the start to the end.

use serde::{Deserialize, Serialize};
use volcanion_common::ids::{Epoch, RunId};
use volcanion_common::registry::Member;
use volcanion_common::view::{Metrics, RunView};

use super::super::records::{
    IdempotencyKey, Inserted, KEY_AGE_MAX_US, Page, Progress, RunEnd, RunFilter, RunRecord,
};
use super::super::sql::{Pool, Query, Transaction};
use super::super::{PAGE_MAX, StoreError, rows};
use super::{agents, cursor, cut_page, levels, moves, text};

pub(super) async fn insert(
    pool: &Pool,
    epoch: Epoch,
    run: &RunRecord,
    key: Option<&IdempotencyKey>,
) -> Result<Inserted, StoreError> {
    let mut transaction = pool.begin_as(epoch).await?;
    let created_us = rows::micros_of(&run.view.created_at)?;
    if let Some(key) = key
        && let Some(known) = look_up(&mut transaction, key, run.id(), created_us).await?
    {
        return Ok(known);
    }
    if put(&mut transaction, run, created_us).await?
        && let Some(key) = key
    {
        let query = Query::new(
            "INSERT INTO idempotency_keys (key, request, run_id, created_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO NOTHING",
        )
        .bind(&*key.key)
        .bind(&*key.request)
        .bind(run.view.id.to_string())
        .bind(created_us);
        if transaction.run(query).await? == 0 {
            // Another request of this key was quicker by less than a transaction; what it started is the answer.
            drop(transaction);
            let mut transaction = pool.begin_as(epoch).await?;
            let known = look_up(&mut transaction, key, run.id(), created_us).await?;
            return known.ok_or_else(|| StoreError::Unreadable(format!("the key {} came and went", key.key)));
        }
    }
    transaction.commit().await?;
    Ok(Inserted::New)
}

/// What the key was used for, where it was.
async fn look_up(
    transaction: &mut Transaction,
    key: &IdempotencyKey,
    run: RunId,
    now_us: i64,
) -> Result<Option<Inserted>, StoreError> {
    let too_old = Query::new("DELETE FROM idempotency_keys WHERE created_us < $1");
    transaction.run(too_old.bind(now_us.saturating_sub(KEY_AGE_MAX_US))).await?;
    let query = Query::new("SELECT request, run_id FROM idempotency_keys WHERE key = $1");
    let Some(row) = transaction.one(query.bind(&*key.key)).await? else { return Ok(None) };
    let is_same = row.get::<&str>("request")? == key.request;
    let known: RunId = rows::id(&row, "run_id")?;
    Ok(Some(match is_same {
        // This very insert, tried again because its answer was lost.
        true if known == run => Inserted::New,
        true => Inserted::Known(known),
        false => Inserted::OtherRequest,
    }))
}

/// `false`: it is there already. An id is given once, so that is this very insert.
async fn put(transaction: &mut Transaction, run: &RunRecord, created_us: i64) -> Result<bool, StoreError> {
    let view = &run.view;
    let query = Query::new(
        "INSERT INTO runs (id, plan_id, plan_name, plan, status, message, created_us, started_us, planned_ms, \
         seed, members, next_part, levels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(view.id.to_string())
    .bind(view.plan_id.to_string())
    .bind(&*view.plan_name)
    .bind(run.plan.to_string())
    .bind(view.status.name())
    .bind(view.message.as_deref())
    .bind(created_us)
    .bind(run.start_at_unix_us.map(|us| us as i64))
    .bind(view.planned_duration_ms as i64)
    .bind(run.seed as i64)
    .bind(text(&takers(&run.members, &run.joined))?)
    .bind(run.next_part as i64)
    .bind(levels::text_of(&view.levels)?);
    Ok(transaction.run(query).await? == 1)
}

pub(super) async fn known_key(pool: &Pool, key: &str) -> Result<Option<(IdempotencyKey, RunId)>, StoreError> {
    let query = Query::new("SELECT request, run_id FROM idempotency_keys WHERE key = $1");
    let Some(row) = pool.one(query.bind(key)).await? else { return Ok(None) };
    let known = IdempotencyKey { key: key.to_owned(), request: row.get("request")? };
    Ok(Some((known, rows::id(&row, "run_id")?)))
}

pub(super) async fn update(
    pool: &Pool,
    epoch: Epoch,
    run: RunId,
    progress: &Progress,
) -> Result<(), StoreError> {
    let query = Query::new(
        "UPDATE runs SET status = $1, started_us = $2, stop_reason = $3 WHERE id = $4 AND ended_us IS NULL",
    )
    .bind(progress.status.name())
    .bind(progress.start_at_unix_us.map(|us| us as i64))
    .bind(progress.stop_reason.map(rows::reason_name))
    .bind(run.to_string());
    change(pool, epoch, run, query).await
}

pub(super) async fn join(
    pool: &Pool,
    epoch: Epoch,
    run: RunId,
    first: &[Member],
    joined: &[Member],
) -> Result<(), StoreError> {
    let query = Query::new("UPDATE runs SET members = $1 WHERE id = $2 AND ended_us IS NULL")
        .bind(text(&takers(first, joined))?)
        .bind(run.to_string());
    change(pool, epoch, run, query).await
}

pub(super) async fn end(pool: &Pool, epoch: Epoch, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
    let query = Query::new(
        "UPDATE runs SET status = $1, stop_reason = $2, message = $3, ended_us = $4, metrics = $5, last_event = $6, \
         warnings = NULL WHERE id = $7 AND (ended_us IS NULL OR (ended_us = $4 AND status = $1))",
    )
    .bind(end.status.name())
    .bind(rows::reason_name(end.reason))
    .bind(end.message.as_deref())
    .bind(end.ended_at.as_microsecond())
    .bind(text(&*end.metrics)?)
    .bind(end.last_event as i64)
    .bind(run.to_string());
    change(pool, epoch, run, query).await
}

/// A statement that touches the run's row, unless the run is not going.
async fn change(pool: &Pool, epoch: Epoch, run: RunId, query: Query) -> Result<(), StoreError> {
    let mut transaction = pool.begin_as(epoch).await?;
    if transaction.run(query).await? == 0 {
        return Err(StoreError::NotGoing(run));
    }
    transaction.commit().await
}

pub(super) async fn view(pool: &Pool, id: RunId) -> Result<Option<RunView>, StoreError> {
    let query = Query::new(
        "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
         planned_ms, levels FROM runs WHERE id = $1 AND NOT is_forgotten",
    );
    pool.one(query.bind(id.to_string())).await?.as_ref().map(rows::run_view).transpose()
}

pub(super) async fn page(pool: &Pool, filter: &RunFilter) -> Result<Page<RunView>, StoreError> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let query = Query::new(
        "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
         planned_ms, levels FROM runs WHERE ($1 IS NULL OR plan_id = $1) AND ($2 IS NULL OR status = $2) \
         AND ($3 IS NULL OR created_us >= $3) AND ($4 IS NULL OR created_us < $4) \
         AND ($5 IS NULL OR id < $5) AND NOT is_forgotten ORDER BY id DESC LIMIT $6",
    )
    .bind(filter.plan_id.map(|id| id.to_string()))
    .bind(filter.status.map(|status| status.name()))
    .bind(filter.from.map(|time| time.as_microsecond()))
    .bind(filter.to.map(|time| time.as_microsecond()))
    .bind(cursor(filter.cursor.as_deref())?)
    .bind(i64::from(limit) + 1);
    let rows = pool.all(query).await?;
    let items = rows.iter().map(rows::run_view).collect::<Result<_, _>>()?;
    Ok(cut_page(items, limit, |run: &RunView| run.id.to_string()))
}

pub(super) async fn record(pool: &Pool, id: RunId) -> Result<Option<RunRecord>, StoreError> {
    let query = Query::new(
        "SELECT id, plan_id, plan_name, status, stop_reason, message, created_us, started_us, ended_us, \
         planned_ms, levels, plan, seed, members, next_part, warnings FROM runs WHERE id = $1 AND NOT is_forgotten",
    );
    let Some(row) = pool.one(query.bind(id.to_string())).await? else { return Ok(None) };
    let takers: Vec<Taker> = rows::json(&row, "members")?;
    let (joined, first): (Vec<Taker>, Vec<Taker>) = takers.into_iter().partition(|taker| taker.joined);
    let members = |takers: Vec<Taker>| takers.into_iter().map(|taker| taker.member).collect();
    Ok(Some(RunRecord {
        view: rows::run_view(&row)?,
        plan: rows::json(&row, "plan")?,
        seed: row.get::<i64>("seed")? as u64,
        members: members(first),
        start_at_unix_us: row.get::<Option<i64>>("started_us")?.map(|us| us as u64),
        stop_reason: rows::stop_reason(&row)?,
        agents: agents::all(pool, id).await?,
        next_part: row.get::<i64>("next_part")? as u64,
        changes: levels::changes(pool, id).await?,
        moves: moves::all(pool, id).await?,
        joined: members(joined),
        warnings: match row.get::<Option<&str>>("warnings")? {
            Some(_) => rows::json(&row, "warnings")?,
            None => Vec::new(),
        },
    }))
}

pub(super) async fn unended(pool: &Pool) -> Result<Vec<RunId>, StoreError> {
    let rows = pool.all(Query::new("SELECT id FROM runs WHERE ended_us IS NULL ORDER BY id")).await?;
    rows.iter().map(|row| rows::id(row, "id")).collect()
}

pub(super) async fn metrics(pool: &Pool, id: RunId) -> Result<Option<Metrics>, StoreError> {
    let query =
        Query::new("SELECT metrics FROM runs WHERE id = $1 AND metrics IS NOT NULL AND NOT is_forgotten");
    let row = pool.one(query.bind(id.to_string())).await?;
    row.as_ref().map(|row| rows::json(row, "metrics")).transpose()
}

pub(super) async fn last_event(pool: &Pool, id: RunId) -> Result<Option<u64>, StoreError> {
    let query = Query::new("SELECT last_event FROM runs WHERE id = $1 AND NOT is_forgotten");
    let Some(row) = pool.one(query.bind(id.to_string())).await? else { return Ok(None) };
    Ok(row.get::<Option<i64>>("last_event")?.map(|id| id as u64))
}

/// One who takes part, as it is kept.
#[derive(Serialize, Deserialize)]
struct Taker {
    #[serde(flatten)]
    member: Member,
    /// While the run went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    joined: bool,
}

fn takers(first: &[Member], joined: &[Member]) -> Vec<Taker> {
    let first = first.iter().map(|member| Taker { member: member.clone(), joined: false });
    first.chain(joined.iter().map(|member| Taker { member: member.clone(), joined: true })).collect()
}
