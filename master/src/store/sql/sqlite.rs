//! SQLite: a file, or memory for a run within one process.
//!
//! WAL with `synchronous=FULL`: what was committed is on the disk. A transaction that writes begins with a write (the fence), so it
//! never has to turn from reader to writer half-way, which SQLite would refuse without waiting.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::Sqlite;

use super::{Query, Row, Value, bound};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a query waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers beside the one writer that SQLite has at any time. Whoever finds none free waits.
pub(in super::super) const CONNECTIONS_MAX: u32 = 4;

/// Changes nothing, but takes the write lock, so the epoch cannot be raised before the transaction's end.
pub(super) const LOCK_OFFICE: &str = "UPDATE office SET epoch = epoch WHERE one = 1 RETURNING epoch";

/// Opens a file; makes it where it is not there.
pub(in super::super) async fn open_file(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    // Plans are in it: whoever else is on the machine is not to read them. What SQLite makes beside it has the same rights.
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(sqlx::Error::Io(error));
    }
    let options = options().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    pool().max_connections(CONNECTIONS_MAX).connect_with(options).await
}

/// Opens one in memory. Each connection has a memory of its own: there is one, and it is never given up.
pub(in super::super) async fn open_memory() -> Result<SqlitePool, sqlx::Error> {
    let pool = pool().min_connections(1).max_connections(1).idle_timeout(None).max_lifetime(None);
    pool.connect_with(options().in_memory(true)).await
}

/// Whether it is one of [`open_memory`].
pub(super) fn is_memory(pool: &SqlitePool) -> bool {
    pool.options().get_max_connections() == 1
}

/// A transaction in a file. After a write that the disk refused, a connection may be left with its transaction open, and what is committed on it later
/// would be durable in appearance only. So one that failed is undone and looked at; where that is not to be had, its connection is closed.
pub(in super::super) struct FileTransaction {
    connection: Option<PoolConnection<Sqlite>>,
    /// Nothing is open on the connection any more.
    is_over: bool,
}

impl FileTransaction {
    pub(super) async fn begin(pool: &SqlitePool) -> Result<Self, sqlx::Error> {
        let mut begun = Self { connection: Some(pool.acquire().await?), is_over: false };
        begun.simply("BEGIN").await?;
        Ok(begun)
    }

    pub(super) async fn rows(&mut self, query: Query) -> Result<Vec<Row>, sqlx::Error> {
        let rows = bound!(Sqlite, query).fetch_all(self.connection()?).await;
        self.undone_unless_well(rows).await.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
    }

    pub(super) async fn run(&mut self, query: Query) -> Result<u64, sqlx::Error> {
        let done = bound!(Sqlite, query).execute(self.connection()?).await;
        self.undone_unless_well(done).await.map(|done| done.rows_affected())
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let done = self.simply("COMMIT").await;
        self.undone_unless_well(done).await?;
        self.is_over = true;
        Ok(())
    }

    async fn undone_unless_well<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if result.is_err() {
            // SQLite may have undone it already; then this is the error. Whether nothing is open shows in that one can be begun.
            let _ = self.simply("ROLLBACK").await;
            self.is_over = self.simply("BEGIN").await.is_ok() && self.simply("ROLLBACK").await.is_ok();
        }
        result
    }

    async fn simply(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement).execute(self.connection()?).await.map(drop)
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        // It is taken in `drop` only.
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for FileTransaction {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}

fn options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .synchronous(SqliteSynchronous::Full)
}

fn pool() -> SqlitePoolOptions {
    SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT)
}
