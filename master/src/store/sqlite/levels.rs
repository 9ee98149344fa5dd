//! A run's levels, and the changes that led to them.

use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction};
use volcanion_common::ids::RunId;
use volcanion_common::plan::Level;
use volcanion_common::session::Change;
use volcanion_common::view::LevelView;

use super::super::{StoreError, rows};
use super::text;

pub(super) async fn put_change(
    transaction: &mut Transaction<'static, Sqlite>,
    run: RunId,
    change: &Change,
    levels: &[LevelView],
) -> Result<(), StoreError> {
    let (vus, rate) = match change.level {
        Level::Vus(vus) => (Some(vus as i64), None),
        Level::Rate(rate) => (None, Some(rate.micro_per_hour() as i64)),
    };
    let done = sqlx::query("UPDATE runs SET levels = ? WHERE id = ? AND ended_us IS NULL")
        .bind(text_of(levels)?)
        .bind(run.to_string())
        .execute(&mut **transaction)
        .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NotGoing(run));
    }
    sqlx::query(
        "INSERT INTO run_changes (run_id, number, scenario, at_us, vus, rate) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (run_id, number) DO UPDATE SET scenario = excluded.scenario, at_us = excluded.at_us, \
         vus = excluded.vus, rate = excluded.rate",
    )
    .bind(run.to_string())
    .bind(change.number as i64)
    .bind(i64::from(change.scenario))
    .bind(change.at.0 as i64)
    .bind(vus)
    .bind(rate)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn changes(pool: &SqlitePool, run: RunId) -> Result<Vec<Change>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, scenario, at_us, vus, rate FROM run_changes WHERE run_id = ? ORDER BY number",
    )
    .bind(run.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter().map(rows::change).collect()
}

/// As a column holds them: nothing where there are none.
pub(super) fn text_of(levels: &[LevelView]) -> Result<Option<String>, StoreError> {
    if levels.is_empty() { Ok(None) } else { text(levels).map(Some) }
}
