//! Plans.

use volcanion_common::ids::PlanId;

use super::super::records::{Page, PlanPage, StoredPlan};
use super::super::sql::{Pool, Query};
use super::super::{PAGE_MAX, StoreError, rows};
use super::{cursor, cut_page};

pub(super) async fn insert(pool: &Pool, plan: &StoredPlan) -> Result<(), StoreError> {
    // An id is given once, so the same one again is the same plan, tried again because its answer was lost.
    let query = Query::new(
        "INSERT INTO plans (id, name, source, is_simple, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(plan.id.to_string())
    .bind(&*plan.plan.name)
    .bind(plan.source.to_string())
    .bind(plan.is_simple)
    .bind(plan.created_at.as_microsecond())
    .bind(plan.updated_at.as_microsecond());
    pool.run(query).await?;
    Ok(())
}

pub(super) async fn one(pool: &Pool, id: PlanId) -> Result<Option<StoredPlan>, StoreError> {
    let query = Query::new("SELECT id, source, is_simple, created_us, updated_us FROM plans WHERE id = $1");
    pool.one(query.bind(id.to_string())).await?.as_ref().map(rows::plan).transpose()
}

pub(super) async fn page(pool: &Pool, page: &PlanPage) -> Result<Page<StoredPlan>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let query = Query::new(
        "SELECT id, source, is_simple, created_us, updated_us FROM plans WHERE ($1 IS NULL OR id < $1) \
         ORDER BY id DESC LIMIT $2",
    )
    .bind(cursor(page.cursor.as_deref())?)
    .bind(i64::from(limit) + 1);
    let rows = pool.all(query).await?;
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

pub(super) async fn replace(pool: &Pool, plan: &StoredPlan) -> Result<bool, StoreError> {
    let query =
        Query::new("UPDATE plans SET name = $1, source = $2, is_simple = $3, updated_us = $4 WHERE id = $5")
            .bind(&*plan.plan.name)
            .bind(plan.source.to_string())
            .bind(plan.is_simple)
            .bind(plan.updated_at.as_microsecond())
            .bind(plan.id.to_string());
    Ok(pool.run(query).await? == 1)
}

/// In a transaction, which is never tried again by itself: a second time there would be none.
pub(super) async fn delete(pool: &Pool, id: PlanId) -> Result<bool, StoreError> {
    let mut transaction = pool.begin().await?;
    let done = transaction.run(Query::new("DELETE FROM plans WHERE id = $1").bind(id.to_string())).await?;
    transaction.commit().await?;
    Ok(done == 1)
}
