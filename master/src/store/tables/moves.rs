//! Lanes of a run that change hands.

use serde::{Deserialize, Serialize};
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::session::Move;
use volcanion_common::units::RunTime;

use super::super::records::AgentMove;
use super::super::sql::{Pool, Query, Row};
use super::super::{StoreError, rows};
use super::{micros, text};

/// As their column holds them.
#[derive(Serialize, Deserialize)]
struct Lanes<T> {
    release: T,
    take: T,
}

/// All of them or none.
pub(super) async fn put(
    pool: &Pool,
    epoch: Epoch,
    run: RunId,
    moves: &[AgentMove],
) -> Result<(), StoreError> {
    let mut transaction = pool.begin_as(epoch).await?;
    // It is not to end in between.
    let going = Query::new("UPDATE runs SET next_part = next_part WHERE id = $1 AND ended_us IS NULL");
    if transaction.run(going.bind(run.to_string())).await? == 0 {
        return Err(StoreError::NotGoing(run));
    }
    for AgentMove { agent, incarnation, order } in moves {
        let query = Query::new(
            "INSERT INTO run_moves (run_id, number, agent_id, incarnation, scenario, from_us, lanes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (run_id, number) DO UPDATE SET agent_id = excluded.agent_id, \
             incarnation = excluded.incarnation, scenario = excluded.scenario, from_us = excluded.from_us, \
             lanes = excluded.lanes",
        )
        .bind(run.to_string())
        .bind(order.number as i64)
        .bind(&*agent.0)
        .bind(incarnation.0 as i64)
        .bind(i64::from(order.scenario))
        .bind(micros(order.from))
        .bind(text(&Lanes { release: &order.release, take: &order.take })?);
        transaction.run(query).await?;
    }
    transaction.commit().await
}

pub(super) async fn all(pool: &Pool, run: RunId) -> Result<Vec<AgentMove>, StoreError> {
    let query = Query::new(
        "SELECT number, agent_id, incarnation, scenario, from_us, lanes FROM run_moves WHERE run_id = $1 \
         ORDER BY number",
    );
    pool.all(query.bind(run.to_string())).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<AgentMove, StoreError> {
    let Lanes { release, take }: Lanes<Vec<u32>> = rows::json(row, "lanes")?;
    Ok(AgentMove {
        agent: AgentId::from(row.get::<&str>("agent_id")?),
        incarnation: Incarnation(row.get::<i64>("incarnation")? as u64),
        order: Move {
            number: row.get::<i64>("number")? as u64,
            scenario: row.get::<i64>("scenario")? as u32,
            from: RunTime(row.get::<i64>("from_us")? as u64),
            release,
            take,
        },
    })
}
