//! Types to rows and back. What a row holds and this version cannot read is an error that names it, never a panic.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use volcanion_common::delta::Delta;
use volcanion_common::ids::{KeyId, PlanId};
use volcanion_common::plan::{Level, document};
use volcanion_common::session::Change;
use volcanion_common::units::{Rate, RunTime};
use volcanion_common::view::key::NoRole;
use volcanion_common::view::{RunStatus, RunView, StopReason};

use super::StoreError;
use super::records::{AuditRecord, StoredKey, StoredPlan};
use super::sql::Row;

/// All there are.
pub(crate) const STATUSES: [RunStatus; 7] = [
    RunStatus::Queued,
    RunStatus::Preparing,
    RunStatus::Running,
    RunStatus::Stopping,
    RunStatus::Completed,
    RunStatus::Cancelled,
    RunStatus::Failed,
];

const REASONS: [(StopReason, &str); 5] = [
    (StopReason::Completed, "completed"),
    (StopReason::Cancelled, "cancelled"),
    (StopReason::Failed, "failed"),
    (StopReason::Threshold, "threshold"),
    (StopReason::Lost, "lost"),
];

pub(super) fn plan(row: &Row) -> Result<StoredPlan, StoreError> {
    let id: PlanId = id(row, "id")?;
    let document: serde_json::Value = json(row, "source")?;
    let read = document::from_json(&document).map_err(|problems| unreadable("plan", id, problems))?;
    Ok(StoredPlan {
        id,
        source: document,
        plan: read.plan,
        is_simple: row.get("is_simple")?,
        created_at: time(row.get("created_us")?)?,
        updated_at: time(row.get("updated_us")?)?,
    })
}

pub(super) fn audit(row: &Row) -> Result<AuditRecord, StoreError> {
    let id: Uuid = id(row, "id")?;
    let role: String = row.get("role")?;
    let status: i64 = row.get("status")?;
    Ok(AuditRecord {
        id,
        at: time(row.get("at_us")?)?,
        who: row.get("who")?,
        who_id: row.get("who_id")?,
        role: role.parse().map_err(|error: NoRole| unreadable("change", id, error))?,
        action: row.get("action")?,
        path: row.get("path")?,
        status: u16::try_from(status).map_err(|error| unreadable("change", id, error))?,
        made: row.get("made")?,
        from: row.get("from_address")?,
        request_id: row.get("request_id")?,
    })
}

pub(super) fn key(row: &Row) -> Result<StoredKey, StoreError> {
    let id: KeyId = id(row, "id")?;
    let time_of = |column| -> Result<Option<Timestamp>, StoreError> {
        let micros: Option<i64> = row.get(column)?;
        micros.map(time).transpose()
    };
    let role: String = row.get("role")?;
    Ok(StoredKey {
        id,
        name: row.get("name")?,
        role: role.parse().map_err(|error: NoRole| unreadable("key", id, error))?,
        hash: row.get("hash")?,
        created_at: time(row.get("created_us")?)?,
        expires_at: time_of("expires_us")?,
        revoked_at: time_of("revoked_us")?,
        used_at: time_of("used_us")?,
    })
}

pub(super) fn run_view(row: &Row) -> Result<RunView, StoreError> {
    let time_text = |column| -> Result<Option<String>, StoreError> {
        let micros: Option<i64> = row.get(column)?;
        micros.map(|micros| time(micros).map(|time| time.to_string())).transpose()
    };
    let status = status(row.get("status")?)?;
    Ok(RunView {
        id: id(row, "id")?,
        plan_id: id(row, "plan_id")?,
        plan_name: row.get("plan_name")?,
        status,
        stop_reason: stop_reason(row)?.filter(|_| status.is_ended()),
        message: row.get("message")?,
        created_at: time(row.get("created_us")?)?.to_string(),
        start_at: time_text("started_us")?,
        ended_at: time_text("ended_us")?,
        planned_duration_ms: row.get::<i64>("planned_ms")? as u64,
        levels: match row.get::<Option<&str>>("levels")? {
            Some(_) => json(row, "levels")?,
            None => Vec::new(),
        },
    })
}

pub(super) fn change(row: &Row) -> Result<Change, StoreError> {
    let number: i64 = row.get("number")?;
    let (vus, rate): (Option<i64>, Option<i64>) = (row.get("vus")?, row.get("rate")?);
    let level = match (vus, rate) {
        (Some(vus), None) => Level::Vus(vus as u64),
        (None, Some(rate)) => Level::Rate(Rate::from_micro_per_hour(rate as u64)),
        _ => return Err(unreadable("change", number, "it has neither VUs nor a rate, or both")),
    };
    Ok(Change {
        number: number as u64,
        scenario: row.get::<i64>("scenario")? as u32,
        at: RunTime(row.get::<i64>("at_us")? as u64),
        level,
    })
}

/// Why a run was stopped, or is being stopped.
pub(super) fn stop_reason(row: &Row) -> Result<Option<StopReason>, StoreError> {
    row.get::<Option<&str>>("stop_reason")?.map(reason).transpose()
}

/// Reads deltas aside: their histograms take a while, and nobody is to wait for it on this thread.
pub(super) async fn deltas(rows: Vec<Row>) -> Result<Vec<Delta>, StoreError> {
    let bodies = rows.iter().map(|row| Ok(row.get("body")?)).collect::<Result<Vec<Vec<u8>>, StoreError>>()?;
    let read = tokio::task::spawn_blocking(move || bodies.iter().map(|body| delta(body)).collect());
    read.await.map_err(|error| unreadable("part", "", error))?
}

fn delta(body: &[u8]) -> Result<Delta, StoreError> {
    Delta::from_bytes(body).map_err(|error| unreadable("part", "of a run's history", error))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text: &str = row.get(column)?;
    serde_json::from_str(text).map_err(|error| unreadable("column", column, error))
}

pub(super) fn id<T: std::str::FromStr>(row: &Row, column: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    let text: &str = row.get(column)?;
    text.parse().map_err(|error| unreadable("id", text, error))
}

pub(super) fn time(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| unreadable("time", micros, error))
}

pub(super) fn micros_of(time: &str) -> Result<i64, StoreError> {
    let read: Timestamp = time.parse().map_err(|error| unreadable("time", time, error))?;
    Ok(read.as_microsecond())
}

pub(super) const fn reason_name(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Completed => REASONS[0].1,
        StopReason::Cancelled => REASONS[1].1,
        StopReason::Failed => REASONS[2].1,
        StopReason::Threshold => REASONS[3].1,
        StopReason::Lost => REASONS[4].1,
    }
}

fn status(name: &str) -> Result<RunStatus, StoreError> {
    let known = STATUSES.into_iter().find(|status| status.name() == name);
    known.ok_or_else(|| unreadable("status", name, "this version knows no such state"))
}

fn reason(name: &str) -> Result<StopReason, StoreError> {
    let known = REASONS.into_iter().find(|(_, known)| *known == name).map(|(reason, _)| reason);
    known.ok_or_else(|| unreadable("stop reason", name, "this version knows no such reason"))
}

fn unreadable(what: &str, which: impl std::fmt::Display, why: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("{what} {which}: {why}"))
}
