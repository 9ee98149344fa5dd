//! Which store: its URL, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use volcanion_common::net::host_and_port;

use super::sql::{Pool, postgres, sqlite};
use super::tables::TableStore;
use super::{Store, StoreError};

static SQLITE_TABLES: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES_TABLES: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Where plans, runs and histories are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// An SQLite file; made where it is not there.
    SqliteFile(PathBuf),
    /// A database of PostgreSQL, for several masters; it is there already, its tables are made.
    Postgres(PostgresUrl),
    /// In this process only: everything is gone when it ends.
    Memory,
}

/// Where a database of PostgreSQL is, and as whom it is opened. Never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// One of PostgreSQL that cannot be read. The text may hold a password, so it is not shown.
    #[error(
        "this is no URL of PostgreSQL; write postgres://USER@HOST:PORT/DATABASE, with signs such as @ or / in it as %40, %2F"
    )]
    Postgres,
    /// Not known at all.
    #[error(
        "`{0}` names no store; use sqlite:PATH, postgres://USER@HOST/DATABASE, or sqlite::memory: for one that is gone with the process"
    )]
    Unknown(String),
}

impl StoreUrl {
    /// Whether a next master finds what this one stored.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let unknown = || StoreUrlError::Unknown(text.to_owned());
        match text.split_once(':').ok_or_else(unknown)? {
            ("postgres" | "postgresql", _) => {
                // A password with a bare /, ? or # in it ends the host too early, and its rest would be taken for something that is shown.
                let place = text.split_once("://").map_or("", |(_, place)| place);
                if place.split(['/', '?', '#']).skip(1).any(|after| after.contains('@')) {
                    return Err(StoreUrlError::Postgres);
                }
                let read: Result<PgConnectOptions, _> = text.parse();
                read.map(|_| Self::Postgres(PostgresUrl(text.to_owned())))
                    .map_err(|_| StoreUrlError::Postgres)
            }
            ("sqlite", ":memory:") => Ok(Self::Memory),
            ("sqlite", path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() { Err(unknown()) } else { Ok(Self::SqliteFile(PathBuf::from(path))) }
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SqliteFile(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
            Self::Memory => f.write_str("sqlite::memory:"),
        }
    }
}

impl PostgresUrl {
    fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        self.0.parse()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options() {
            Ok(options) => {
                let place = host_and_port(options.get_host(), options.get_port());
                write!(f, "postgres://{place}/{}", options.get_database().unwrap_or_default())
            }
            // It was read before.
            Err(_) => f.write_str("postgres://"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Opens a store and brings it up to date. A PostgreSQL that is just being started is waited for, some seconds.
///
/// # Errors
/// It cannot be opened, is damaged, or was written by a later version.
pub async fn open(url: &StoreUrl) -> Result<Arc<dyn Store>, StoreError> {
    let cannot = |error: &dyn fmt::Display| StoreError::Open(format!("{url}: {error}"));
    let opened = match url {
        StoreUrl::SqliteFile(path) => sqlite::open_file(path).await.map(Pool::Sqlite),
        StoreUrl::Memory => sqlite::open_memory().await.map(Pool::Sqlite),
        StoreUrl::Postgres(url) => match url.options() {
            Ok(options) => postgres::open(options).await.map(Pool::Postgres),
            Err(error) => Err(error),
        },
    };
    let pool = opened.map_err(|error| cannot(&error))?;
    make_tables(url, &pool).await?;
    Ok(Arc::new(TableStore::new(pool)))
}

/// Makes the tables, or brings those of an earlier version up to date. Masters that start at once wait for each other.
pub(super) async fn make_tables(url: &StoreUrl, pool: &Pool) -> Result<(), StoreError> {
    let made = match pool {
        Pool::Sqlite(pool) => SQLITE_TABLES.run(pool).await,
        Pool::Postgres(pool) => POSTGRES_TABLES.run(pool).await,
    };
    made.map_err(|error| {
        let why = match error {
            MigrateError::VersionMissing(version) => format!(
                "its tables have the change {version}, which this version does not know: they are of a newer one, or of another program; start the newer one, or restore the backup that was made before it"
            ),
            error => error.to_string(),
        };
        StoreError::Open(format!("{url}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_as_users_write_them() {
        let file = |path: &str| Ok(StoreUrl::SqliteFile(PathBuf::from(path)));
        let check = |text: &str, expected| assert_eq!(text.parse::<StoreUrl>(), expected, "{text}");
        check("sqlite:runs.db", file("runs.db"));
        check("sqlite:/var/lib/runs.db", file("/var/lib/runs.db"));
        check("sqlite:///var/lib/runs.db", file("/var/lib/runs.db"));
        check("sqlite::memory:", Ok(StoreUrl::Memory));
        check("postgres://db:65536/volcanion", Err(StoreUrlError::Postgres));
        check("postgres://volcanion:s@cret/1@db:5432/volcanion", Err(StoreUrlError::Postgres));
        for bare in ['/', '?', '#'] {
            for password in [format!("s{bare}ecret"), format!("12{bare}ecret"), format!("1/a{bare}b")] {
                check(
                    &format!("postgres://volcanion:{password}@db:5432/volcanion"),
                    Err(StoreUrlError::Postgres),
                );
            }
        }
        for right in
            ["postgres:///volcanion?host=/run/postgresql&user=me", "postgres://me@db", "postgres://me@db/"]
        {
            assert!(matches!(right.parse(), Ok(StoreUrl::Postgres(_))), "{right}");
        }
        for wrong in ["", "sqlite:", "runs.db", "mysql://x"] {
            assert_eq!(wrong.parse::<StoreUrl>(), Err(StoreUrlError::Unknown(wrong.to_owned())));
        }
    }

    #[tokio::test]
    async fn tables_of_a_newer_version_are_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volcanion.db");
        let url = StoreUrl::SqliteFile(path.clone());
        open(&url).await.unwrap().close().await;
        let pool = sqlite::open_file(&path).await.unwrap();
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (29990101000000, 'later', TRUE, x'00', 1)";
        sqlx::query(later).execute(&pool).await.unwrap();
        pool.close().await;
        let Err(StoreError::Open(error)) = open(&url).await else { panic!("it is refused") };
        assert!(error.contains("of a newer one") && error.contains("29990101000000"), "{error}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: StoreUrl = "postgresql://me:s%40cret@db.example:5433/load?sslmode=require".parse().unwrap();
        for shown in [url.to_string(), format!("{url:?}")] {
            assert!(shown.contains("postgres://db.example:5433/load"), "{shown}");
            assert!(!shown.contains("cret") && !shown.contains("me:"), "{shown}");
        }
        assert!(url.is_durable());
    }
}
