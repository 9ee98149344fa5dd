//! Parts of a run's history, with the marks that they move, and their sum.

use volcanion_common::delta::Delta;
use volcanion_common::ids::{Epoch, RunId};
use volcanion_common::units::RunTime;

use super::super::records::PartAt;
use super::super::sql::{Pool, Query};
use super::super::{StoreError, rows};
use super::{agents, micros, text};
use crate::merge::Part;

/// Parts of a history that are read at once: of one step some tens of kilobytes each.
const PAGE: usize = 64;

pub(super) async fn commit(
    pool: &Pool,
    epoch: Epoch,
    run: RunId,
    part: &Part,
    body: Vec<u8>,
) -> Result<(), StoreError> {
    let total = part.checkpoint.as_ref().map(|total| total.to_bytes());
    let mut transaction = pool.begin_as(epoch).await?;
    let query = Query::new(
        "UPDATE runs SET next_part = CASE WHEN next_part > $1 THEN next_part ELSE $1 END \
         WHERE id = $2 AND ended_us IS NULL",
    )
    .bind(part.number as i64 + 1)
    .bind(run.to_string());
    if transaction.run(query).await? == 0 {
        return Err(StoreError::NotGoing(run));
    }
    let query = Query::new(
        "INSERT INTO parts (run_id, number, from_us, to_us, body) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (run_id, number) DO NOTHING",
    )
    .bind(run.to_string())
    .bind(part.number as i64)
    .bind(micros(part.delta.from))
    .bind(micros(part.delta.to))
    .bind(body);
    let is_new = transaction.run(query).await? == 1;
    if is_new {
        agents::put(&mut transaction, run, &part.agents).await?;
    }
    if let Some(warnings) = part.warnings.as_deref().filter(|_| is_new) {
        let query = Query::new("UPDATE runs SET warnings = $1 WHERE id = $2");
        transaction.run(query.bind(text(warnings)?).bind(run.to_string())).await?;
    }
    if let Some(total) = total.filter(|_| is_new) {
        let query = Query::new(
            "INSERT INTO totals (run_id, part, body) VALUES ($1, $2, $3) \
             ON CONFLICT (run_id) DO UPDATE SET part = excluded.part, body = excluded.body",
        )
        .bind(run.to_string())
        .bind(part.number as i64)
        .bind(total);
        transaction.run(query).await?;
    }
    transaction.commit().await
}

pub(super) async fn history(
    pool: &Pool,
    run: RunId,
    from: Option<RunTime>,
    to: Option<RunTime>,
    after: Option<PartAt>,
) -> Result<(Vec<Delta>, Option<PartAt>), StoreError> {
    let from_us = from.map_or(0, micros).max(after.map_or(0, |after| micros(after.from)));
    // A part without a span moved agents' states only.
    let query = Query::new(
        "SELECT from_us, number, body FROM parts WHERE run_id = $1 AND from_us >= $2 AND from_us < $3 \
         AND to_us > from_us AND ($4 IS NULL OR (from_us, number) > ($4, $5)) ORDER BY from_us, number LIMIT $6",
    )
    .bind(run.to_string())
    .bind(from_us)
    .bind(to.map_or(i64::MAX, micros))
    .bind(after.map(|after| micros(after.from)))
    .bind(after.map(|after| after.number as i64))
    .bind(PAGE as i64);
    let parts = pool.all(query).await?;
    let next = match parts.last().filter(|_| parts.len() == PAGE) {
        Some(last) => Some(PartAt {
            from: RunTime(last.get::<i64>("from_us")? as u64),
            number: last.get::<i64>("number")? as u64,
        }),
        None => None,
    };
    Ok((rows::deltas(parts).await?, next))
}

pub(super) async fn newest(pool: &Pool, run: RunId, before: u64) -> Result<Vec<Delta>, StoreError> {
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let query = Query::new(
        "SELECT body FROM parts WHERE run_id = $1 AND number >= $2 AND number < $3 AND to_us > from_us ORDER BY number",
    );
    let query = query.bind(run.to_string()).bind(before.saturating_sub(PAGE as i64)).bind(before);
    rows::deltas(pool.all(query).await?).await
}

pub(super) async fn total(pool: &Pool, run: RunId) -> Result<Delta, StoreError> {
    let query = Query::new("SELECT part, body FROM totals WHERE run_id = $1");
    let sum = pool.one(query.bind(run.to_string())).await?;
    let up_to: i64 = sum.as_ref().map_or(Ok(0), |row| row.get("part"))?;
    let query = Query::new("SELECT body FROM parts WHERE run_id = $1 AND number > $2 ORDER BY number");
    let later = pool.all(query.bind(run.to_string()).bind(up_to)).await?;
    let summands = rows::deltas(sum.into_iter().chain(later).collect()).await?;
    let mut total = Delta::default();
    summands.iter().for_each(|delta| total.add(delta));
    Ok(total)
}
