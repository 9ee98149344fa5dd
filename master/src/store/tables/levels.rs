//! A run's levels, and the changes that led to them.

use volcanion_common::ids::{Epoch, RunId};
use volcanion_common::plan::Level;
use volcanion_common::session::Change;
use volcanion_common::view::LevelView;

use super::super::sql::{Pool, Query};
use super::super::{StoreError, rows};
use super::{micros, text};

pub(super) async fn change(
    pool: &Pool,
    epoch: Epoch,
    run: RunId,
    change: &Change,
    levels: &[LevelView],
) -> Result<(), StoreError> {
    let (vus, rate) = match change.level {
        Level::Vus(vus) => (Some(vus as i64), None),
        Level::Rate(rate) => (None, Some(rate.micro_per_hour() as i64)),
    };
    let mut transaction = pool.begin_as(epoch).await?;
    let query = Query::new("UPDATE runs SET levels = $1 WHERE id = $2 AND ended_us IS NULL")
        .bind(text_of(levels)?)
        .bind(run.to_string());
    if transaction.run(query).await? == 0 {
        return Err(StoreError::NotGoing(run));
    }
    let query = Query::new(
        "INSERT INTO run_changes (run_id, number, scenario, at_us, vus, rate) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (run_id, number) DO UPDATE SET scenario = excluded.scenario, at_us = excluded.at_us, \
         vus = excluded.vus, rate = excluded.rate",
    )
    .bind(run.to_string())
    .bind(change.number as i64)
    .bind(i64::from(change.scenario))
    .bind(micros(change.at))
    .bind(vus)
    .bind(rate);
    transaction.run(query).await?;
    transaction.commit().await
}

pub(super) async fn changes(pool: &Pool, run: RunId) -> Result<Vec<Change>, StoreError> {
    let query = Query::new(
        "SELECT number, scenario, at_us, vus, rate FROM run_changes WHERE run_id = $1 ORDER BY number",
    );
    pool.all(query.bind(run.to_string())).await?.iter().map(rows::change).collect()
}

/// As a column holds them: nothing where there are none.
pub(super) fn text_of(levels: &[LevelView]) -> Result<Option<String>, StoreError> {
    if levels.is_empty() { Ok(None) } else { text(levels).map(Some) }
}
