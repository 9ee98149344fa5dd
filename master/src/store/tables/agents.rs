//! Where each agent of a run stands.

use volcanion_common::ids::RunId;

use super::super::sql::{Pool, Query, Transaction};
use super::super::{StoreError, rows};
use super::text;
use crate::merge::AgentState;

pub(super) async fn put(
    transaction: &mut Transaction,
    run: RunId,
    agents: &[AgentState],
) -> Result<(), StoreError> {
    for agent in agents {
        let query = Query::new(
            "INSERT INTO run_agents (run_id, agent_id, incarnation, seq, state) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (run_id, agent_id, incarnation) DO UPDATE SET seq = excluded.seq, state = excluded.state \
             WHERE excluded.seq >= run_agents.seq",
        )
        .bind(run.to_string())
        .bind(&*agent.agent.0)
        .bind(agent.incarnation.0 as i64)
        .bind(agent.seq.0 as i64)
        .bind(text(agent)?);
        transaction.run(query).await?;
    }
    Ok(())
}

pub(super) async fn all(pool: &Pool, run: RunId) -> Result<Vec<AgentState>, StoreError> {
    let query = Query::new("SELECT state FROM run_agents WHERE run_id = $1 ORDER BY agent_id, incarnation");
    pool.all(query.bind(run.to_string())).await?.iter().map(|row| rows::json(row, "state")).collect()
}
