//! Where each agent of a run stands.

use std::sync::LazyLock;

use volcanion_common::ids::RunId;

use super::super::sql::{Pool, Query, Row, Transaction};
use super::super::{StoreError, rows};
use super::text;
use crate::merge::AgentState;

/// Rows of one statement: a thousand agents are not a thousand round trips to the database.
const ROWS: usize = 32;

/// Values of a row.
const COLUMNS: usize = 6;

/// The statement for [`ROWS`] rows.
static PUT_MANY: LazyLock<String> = LazyLock::new(|| put_statement(ROWS));
/// The statement for one.
static PUT_ONE: LazyLock<String> = LazyLock::new(|| put_statement(1));

fn put_statement(rows: usize) -> String {
    let row = |n: usize| {
        let places: Vec<String> = (1..=COLUMNS).map(|column| format!("${}", n * COLUMNS + column)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!(
        "INSERT INTO run_agents (run_id, agent_id, incarnation, seq, state, lag) VALUES {} \
         ON CONFLICT (run_id, agent_id, incarnation) DO UPDATE SET seq = excluded.seq, state = excluded.state, \
         lag = CASE WHEN length(excluded.lag) > 0 THEN excluded.lag ELSE run_agents.lag END \
         WHERE excluded.seq >= run_agents.seq",
        rows.join(", ")
    )
}

/// No agent is there twice.
pub(super) async fn put(
    transaction: &mut Transaction,
    run: RunId,
    agents: &[AgentState],
) -> Result<(), StoreError> {
    let run = run.to_string();
    let (many, rest) = agents.as_chunks::<ROWS>();
    let many = many.iter().map(|some| (PUT_MANY.as_str(), some.as_slice()));
    for (statement, some) in many.chain(rest.chunks(1).map(|one| (PUT_ONE.as_str(), one))) {
        let mut query = Query::new(statement);
        for agent in some {
            query = query
                .bind(&*run)
                .bind(&*agent.agent.0)
                .bind(agent.incarnation.0 as i64)
                .bind(agent.seq.0 as i64)
                .bind(text(agent)?)
                .bind(agent.lag.clone());
        }
        transaction.run(query).await?;
    }
    Ok(())
}

pub(super) async fn all(pool: &Pool, run: RunId) -> Result<Vec<AgentState>, StoreError> {
    let query =
        Query::new("SELECT state, lag FROM run_agents WHERE run_id = $1 ORDER BY agent_id, incarnation");
    let read = |row: &Row| {
        let state: AgentState = rows::json(row, "state")?;
        let lag: Option<Vec<u8>> = row.get("lag")?;
        Ok(AgentState { lag: lag.unwrap_or_default(), ..state })
    };
    pool.all(query.bind(run.to_string())).await?.iter().map(read).collect()
}
