//! Keys of clients, by their hashes.

use jiff::Timestamp;
use volcanion_common::ids::KeyId;

use super::super::records::StoredKey;
use super::super::sql::{Pool, Query};
use super::super::{PAGE_MAX, StoreError, rows};

pub(super) async fn insert(pool: &Pool, key: &StoredKey) -> Result<(), StoreError> {
    let query = Query::new(
        "INSERT INTO api_keys (id, name, role, hash, created_us, expires_us) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(key.id.to_string())
    .bind(&*key.name)
    .bind(key.role.name())
    .bind(&*key.hash)
    .bind(key.created_at.as_microsecond())
    .bind(key.expires_at.map(Timestamp::as_microsecond));
    pool.run(query).await?;
    Ok(())
}

pub(super) async fn newest(pool: &Pool, limit: u32) -> Result<Vec<StoredKey>, StoreError> {
    let query = Query::new(
        "SELECT id, name, role, hash, created_us, expires_us, revoked_us, used_us FROM api_keys ORDER BY id DESC LIMIT $1",
    );
    let found = pool.all(query.bind(i64::from(limit.clamp(1, PAGE_MAX)))).await?;
    found.iter().map(rows::key).collect()
}

pub(super) async fn of_hash(pool: &Pool, hash: &str) -> Result<Option<StoredKey>, StoreError> {
    let query = Query::new(
        "SELECT id, name, role, hash, created_us, expires_us, revoked_us, used_us FROM api_keys WHERE hash = $1",
    );
    pool.one(query.bind(hash)).await?.as_ref().map(rows::key).transpose()
}

pub(super) async fn revoke(pool: &Pool, id: KeyId, at: Timestamp) -> Result<Option<StoredKey>, StoreError> {
    let query = Query::new("UPDATE api_keys SET revoked_us = $1 WHERE id = $2 AND revoked_us IS NULL");
    pool.run(query.bind(at.as_microsecond()).bind(id.to_string())).await?;
    let query = Query::new(
        "SELECT id, name, role, hash, created_us, expires_us, revoked_us, used_us FROM api_keys WHERE id = $1",
    );
    pool.one(query.bind(id.to_string())).await?.as_ref().map(rows::key).transpose()
}

pub(super) async fn used(pool: &Pool, id: KeyId, at: Timestamp) -> Result<(), StoreError> {
    let query =
        Query::new("UPDATE api_keys SET used_us = $1 WHERE id = $2 AND (used_us IS NULL OR used_us < $1)");
    pool.run(query.bind(at.as_microsecond()).bind(id.to_string())).await?;
    Ok(())
}
