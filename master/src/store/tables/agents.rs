//! Where each agent of a run stands.

use std::sync::LazyLock;

use volcanion_common::ids::RunId;

use super::super::sql::{Pool, Query, Transaction};
use super::super::{StoreError, rows};
use super::text;
use crate::merge::AgentState;

/// Rows of one statement: a thousand agents are not a thousand round trips to the database.
const ROWS: usize = 32;

/// The statement for [`ROWS`] rows.
static PUT_MANY: LazyLock<String> = LazyLock::new(|| put_statement(ROWS));
/// The statement for one.
static PUT_ONE: LazyLock<String> = LazyLock::new(|| put_statement(1));

fn put_statement(rows: usize) -> String {
    let row = |n: usize| {
        let places: Vec<String> = (1..=5).map(|column| format!("${}", n * 5 + column)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!(
        "INSERT INTO run_agents (run_id, agent_id, incarnation, seq, state) VALUES {} \
         ON CONFLICT (run_id, agent_id, incarnation) DO UPDATE SET seq = excluded.seq, state = excluded.state \
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
                .bind(text(agent)?);
        }
        transaction.run(query).await?;
    }
    Ok(())
}

pub(super) async fn all(pool: &Pool, run: RunId) -> Result<Vec<AgentState>, StoreError> {
    let query = Query::new("SELECT state FROM run_agents WHERE run_id = $1 ORDER BY agent_id, incarnation");
    pool.all(query.bind(run.to_string())).await?.iter().map(|row| rows::json(row, "state")).collect()
}
