//! PostgreSQL: for several masters on one store.
//!
//! A connection that was in the middle of something when it was given up (an error, a timeout, a dropped future) is closed, never used
//! again: so no transaction of a past holds a lock, and a server that does not answer any more keeps no place in the pool. On its side the server
//! ends what waits or idles too long, so that a master that was frozen in mid-transaction does not keep the next one from taking office.

use std::io;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{Either, Executor, Postgres};

use super::{Query, Row, Value, bound};

/// How long a query waits for a connection: for a free one, or for a server that is just being restarted.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one master at most. Whoever finds none free waits.
const CONNECTIONS_MAX: u32 = 8;
/// How long an answer may take. Longer than the server lets a statement go on, so that mostly its error is what comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(22);
/// What the server holds each session to: a statement, a lock that it waits for, a client that falls silent within a transaction, a
/// client that is not reached any more. Answers are waited for until they are on the disk.
const SET_LIMITS: &str = "SET statement_timeout = '20s'; SET lock_timeout = '8s'; SET idle_in_transaction_session_timeout = '5s'; \
     SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET synchronous_commit = on";

/// Leaders of one epoch write side by side; whoever raises it waits for them, and they for whoever raises it.
pub(super) const BEGIN_AND_LOCK_OFFICE: &str = "BEGIN; SELECT epoch FROM office WHERE one = 1 FOR SHARE";

/// Opens a database, which is there already.
pub(in super::super) async fn open(options: PgConnectOptions) -> Result<PgPool, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool.after_connect(|connection, _| {
        Box::pin(async move { connection.execute(sqlx::raw_sql(SET_LIMITS)).await.map(drop) })
    });
    pool.connect_with(options.application_name("volcanion master")).await
}

/// Whether the connection is what failed, rather than the statement: another one may do better.
pub(super) fn is_cut(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != io::ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Shut down by an administrator or a crash, starting up, idle for too long, or a connection's failure.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "25P03"),
        _ => false,
    }
}

/// A connection that goes back to the pool only when nothing is left open on it.
pub(in super::super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
    is_clean: bool,
}

impl Session {
    pub(super) async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: Some(pool.acquire().await?), is_clean: true })
    }

    /// A statement by itself: rows, and how many it touched.
    pub(super) async fn alone(mut self, query: Query) -> Result<(Vec<Row>, u64), sqlx::Error> {
        let result = self.within(query).await?;
        self.is_clean = true;
        Ok(result)
    }

    /// A statement of a transaction.
    pub(super) async fn within(&mut self, query: Query) -> Result<(Vec<Row>, u64), sqlx::Error> {
        self.is_clean = false;
        let bound = bound!(Postgres, without_nul(query));
        let connection = self.connection()?;
        answered(async {
            let (mut rows, mut touched) = (Vec::new(), 0);
            let mut answer = connection.fetch_many(bound);
            while let Some(item) = answer.try_next().await? {
                match item {
                    Either::Left(done) => touched += done.rows_affected(),
                    Either::Right(row) => rows.push(Row::Postgres(row)),
                }
            }
            Ok((rows, touched))
        })
        .await
    }

    /// Statements without values, in one go; gives their rows.
    pub(super) async fn simply(&mut self, statements: &'static str) -> Result<Vec<Row>, sqlx::Error> {
        self.is_clean = false;
        let connection = self.connection()?;
        let rows: Vec<PgRow> = answered(connection.fetch_all(sqlx::raw_sql(statements))).await?;
        Ok(rows.into_iter().map(Row::Postgres).collect())
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.simply("COMMIT").await?;
        self.is_clean = true;
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut sqlx::PgConnection, sqlx::Error> {
        // It is taken in `drop` only.
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_clean
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}

/// PostgreSQL's texts cannot hold the character 0; it is shown as unknown.
fn without_nul(mut query: Query) -> Query {
    for value in &mut query.values {
        if let Value::Text(Some(text)) = value
            && text.contains('\0')
        {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    query
}

async fn answered<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| {
        let message = format!("PostgreSQL did not answer within {} s", ANSWER_TIMEOUT.as_secs());
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
    })
}
