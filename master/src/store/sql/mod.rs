//! One SQL for both databases: statements that are written once, their values, and the rows that come back.
//!
//! Takes statements with `$1` placeholders in what SQLite and PostgreSQL have in common; gives rows, or how many were touched. What
//! differs (how a connection is opened, held and given up, and how the office is locked) is in [`sqlite`] and [`postgres`]. Invariant: in a
//! transaction of [`Pool::begin_as`] nobody but the leader of that epoch gets further than its beginning.

pub(super) mod postgres;
pub(super) mod sqlite;

use std::future::Future;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};
use volcanion_common::ids::Epoch;

use self::postgres::Session;
use self::sqlite::FileTransaction;
use super::StoreError;
use super::records::is_ours;

/// What a placeholder stands for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
    Bool(bool),
}

/// A statement with its values, in the order of their placeholders.
#[derive(Clone, Debug)]
pub(super) struct Query {
    text: &'static str,
    values: Vec<Value>,
}

/// A row of either database.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// The connections to one database.
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// What is written together or not at all; undone when it is dropped.
pub(super) enum Transaction {
    /// In memory, where the one connection must never be closed.
    Memory(sqlx::Transaction<'static, Sqlite>),
    File(FileTransaction),
    Postgres(Session),
}

impl Query {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, values: Vec::new() }
    }

    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// The statement as sqlx has it for one of its databases.
macro_rules! bound {
    ($database:ty, $query:expr) => {{
        let Query { text, values } = $query;
        let mut bound = sqlx::query::<$database>(text);
        for value in values {
            bound = match value {
                Value::Int(value) => bound.bind(value),
                Value::Text(value) => bound.bind(value),
                Value::Bytes(value) => bound.bind(value),
                Value::Bool(value) => bound.bind(value),
            };
        }
        bound
    }};
}
use bound;

impl Pool {
    /// Waits for those who use it still, and closes every connection.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    /// Every row. The statement may be done twice: where PostgreSQL's connection broke it is tried again on another one.
    pub(super) async fn all(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                Ok(bound!(Sqlite, query).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                self.again(|| async { Ok(Session::of(pool).await?.alone(query.clone()).await?.0) }).await
            }
        }
    }

    /// The row, where there is one.
    pub(super) async fn one(&self, query: Query) -> Result<Option<Row>, StoreError> {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// How many rows it touched. The statement may be done twice, as in [`Self::all`].
    pub(super) async fn run(&self, query: Query) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(pool) => Ok(bound!(Sqlite, query).execute(pool).await?.rows_affected()),
            Self::Postgres(pool) => {
                self.again(|| async { Ok(Session::of(pool).await?.alone(query.clone()).await?.1) }).await
            }
        }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        match self {
            Self::Sqlite(pool) if sqlite::is_memory(pool) => Ok(Transaction::Memory(pool.begin().await?)),
            Self::Sqlite(pool) => Ok(Transaction::File(FileTransaction::begin(pool).await?)),
            Self::Postgres(pool) => {
                let mut session = Session::of(pool).await?;
                session.simply("BEGIN").await?;
                Ok(Transaction::Postgres(session))
            }
        }
    }

    /// Begins a transaction in which nobody but the leader of `epoch` gets further than here: until its end the epoch cannot be raised.
    pub(super) async fn begin_as(&self, epoch: Epoch) -> Result<Transaction, StoreError> {
        let (transaction, row) = match self {
            Self::Sqlite(_) => {
                let mut transaction = self.begin().await?;
                let row = transaction.one(Query::new(sqlite::LOCK_OFFICE)).await?;
                (transaction, row)
            }
            Self::Postgres(pool) => {
                let mut session = Session::of(pool).await?;
                let row = session.simply(postgres::BEGIN_AND_LOCK_OFFICE).await?.into_iter().next();
                (Transaction::Postgres(session), row)
            }
        };
        let row = row.ok_or_else(|| StoreError::Unreadable("the office has no row".to_owned()))?;
        is_ours(row.get::<i64>("epoch")? as u64, epoch)?;
        Ok(transaction)
    }

    /// Does something that may be done twice once more, where the connection broke in the middle of it: PostgreSQL was restarted, say. One
    /// time is enough, because a new connection is waited for.
    pub(super) async fn again<T, F>(&self, what: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match what().await {
            Err(StoreError::Unavailable(error)) if postgres::is_cut(&error) => {
                tracing::warn!(%error, "the connection to the store broke; the statement is tried again");
                what().await
            }
            result => result,
        }
    }
}

impl Transaction {
    /// Every row.
    pub(super) async fn all(&mut self, query: Query) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Memory(transaction) => {
                let rows = bound!(Sqlite, query).fetch_all(&mut **transaction).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::File(transaction) => Ok(transaction.rows(query).await?),
            Self::Postgres(session) => Ok(session.within(query).await?.0),
        }
    }

    /// The row, where there is one.
    pub(super) async fn one(&mut self, query: Query) -> Result<Option<Row>, StoreError> {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// How many rows it touched.
    pub(super) async fn run(&mut self, query: Query) -> Result<u64, StoreError> {
        match self {
            Self::Memory(transaction) => {
                Ok(bound!(Sqlite, query).execute(&mut **transaction).await?.rows_affected())
            }
            Self::File(transaction) => Ok(transaction.run(query).await?),
            Self::Postgres(session) => Ok(session.within(query).await?.1),
        }
    }

    /// Makes it durable. An error may also mean that only the answer was lost.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Memory(transaction) => Ok(transaction.commit().await?),
            Self::File(transaction) => Ok(transaction.commit().await?),
            Self::Postgres(session) => Ok(session.commit().await?),
        }
    }
}

impl Row {
    pub(super) fn get<'r, T>(&'r self, column: &str) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
