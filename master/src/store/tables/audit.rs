//! Changes that were made over REST.

use jiff::Timestamp;

use super::super::records::{AuditFilter, AuditRecord, Page};
use super::super::sql::{Pool, Query};
use super::super::{PAGE_MAX, StoreError, rows};
use super::cursor;

/// Forgotten at a time.
const FORGET_MAX: i64 = 500;

pub(super) async fn insert(pool: &Pool, record: &AuditRecord) -> Result<(), StoreError> {
    let query = Query::new(
        "INSERT INTO audit_logs (id, at_us, who, who_id, role, action, path, status, made, from_address, request_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING",
    )
    .bind(record.id.to_string())
    .bind(record.at.as_microsecond())
    .bind(&*record.who)
    .bind(&*record.who_id)
    .bind(record.role.name())
    .bind(&*record.action)
    .bind(&*record.path)
    .bind(i64::from(record.status))
    .bind(record.made.clone())
    .bind(record.from.clone())
    .bind(&*record.request_id);
    pool.run(query).await?;
    Ok(())
}

pub(super) async fn page(pool: &Pool, filter: &AuditFilter) -> Result<Page<AuditRecord>, StoreError> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let query = Query::new(
        "SELECT id, at_us, who, who_id, role, action, path, status, made, from_address, request_id FROM audit_logs \
         WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR at_us >= $2) AND ($3 IS NULL OR at_us < $3) \
         AND ($4 IS NULL OR who = $4 OR who_id = $4) ORDER BY id DESC LIMIT $5",
    )
    .bind(cursor(filter.cursor.as_deref())?)
    .bind(filter.from.map(Timestamp::as_microsecond))
    .bind(filter.to.map(Timestamp::as_microsecond))
    .bind(filter.who.clone())
    .bind(i64::from(limit) + 1);
    let mut items = pool.all(query).await?.iter().map(rows::audit).collect::<Result<Vec<_>, _>>()?;
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| has_more).map(|last| last.id.to_string());
    Ok(Page { items, next })
}

/// In small steps, so that nobody waits for it.
pub(super) async fn forget(pool: &Pool, before: Timestamp) -> Result<bool, StoreError> {
    let query = Query::new(
        "DELETE FROM audit_logs WHERE id IN (SELECT id FROM audit_logs WHERE at_us < $1 ORDER BY id LIMIT $2)",
    );
    let done = pool.run(query.bind(before.as_microsecond()).bind(FORGET_MAX)).await?;
    Ok(done == FORGET_MAX as u64)
}
