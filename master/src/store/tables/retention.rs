//! Forgetting old runs, one small step at a time.
//!
//! A run that is to go is hidden first, with all its kin, in one small write; then its parts are deleted, so few at a time that the writes of runs
//! that are going never wait long; its row goes last, and what still hangs on it with it. Whoever stops in between goes on later. Invariant: a run
//! that has not ended is never touched.

use jiff::Timestamp;
use volcanion_common::ids::Epoch;

use super::super::StoreError;
use super::super::records::{KEY_AGE_MAX_US, Keep};
use super::super::sql::{Pool, Query, Transaction};

/// Runs that are hidden at once.
const RUNS_A_STEP: i64 = 100;
/// Parts that are deleted at once.
const PARTS_A_STEP: i64 = 16;

/// Whether there is more to do.
pub(super) async fn step(pool: &Pool, epoch: Epoch, keep: &Keep, now: Timestamp) -> Result<bool, StoreError> {
    let mut transaction = pool.begin_as(epoch).await?;
    let hidden = transaction.one(Query::new("SELECT id FROM runs WHERE is_forgotten LIMIT 1")).await?;
    let goes_on = match hidden {
        Some(row) => {
            delete_some(&mut transaction, row.get::<String>("id")?).await?;
            true
        }
        None => hide(&mut transaction, keep, now).await? > 0,
    };
    transaction.commit().await?;
    Ok(goes_on)
}

async fn hide(transaction: &mut Transaction, keep: &Keep, now: Timestamp) -> Result<u64, StoreError> {
    let too_old = Query::new("DELETE FROM idempotency_keys WHERE created_us < $1");
    transaction.run(too_old.bind(now.as_microsecond().saturating_sub(KEY_AGE_MAX_US))).await?;
    let one_too_many = match keep.runs {
        Some(runs) => {
            let query = Query::new(
                "SELECT id FROM runs WHERE ended_us IS NOT NULL AND NOT is_forgotten ORDER BY id DESC LIMIT 1 OFFSET $1",
            );
            let row = transaction.one(query.bind(i64::try_from(runs).unwrap_or(i64::MAX))).await?;
            row.map(|row| row.get::<String>("id")).transpose()?
        }
        None => None,
    };
    let ended_before = keep.ended_before(now).map(|time| time.as_microsecond());
    if one_too_many.is_none() && ended_before.is_none() {
        return Ok(0);
    }
    let query = Query::new(
        "UPDATE runs SET is_forgotten = TRUE WHERE id IN (SELECT id FROM runs WHERE ended_us IS NOT NULL \
         AND NOT is_forgotten AND (id <= $1 OR ended_us < $2) ORDER BY id LIMIT $3)",
    )
    .bind(one_too_many)
    .bind(ended_before)
    .bind(RUNS_A_STEP);
    let hidden = transaction.run(query).await?;
    if hidden > 0 {
        let keys = "DELETE FROM idempotency_keys WHERE run_id IN (SELECT id FROM runs WHERE is_forgotten)";
        transaction.run(Query::new(keys)).await?;
        tracing::info!(runs = hidden, "runs whose time is over are forgotten");
    }
    Ok(hidden)
}

async fn delete_some(transaction: &mut Transaction, run: String) -> Result<(), StoreError> {
    let query = Query::new(
        "DELETE FROM parts WHERE run_id = $1 AND number IN \
         (SELECT number FROM parts WHERE run_id = $1 ORDER BY number LIMIT $2)",
    );
    if transaction.run(query.bind(&*run).bind(PARTS_A_STEP)).await? == 0 {
        transaction.run(Query::new("DELETE FROM runs WHERE id = $1 AND is_forgotten").bind(run)).await?;
    }
    Ok(())
}
