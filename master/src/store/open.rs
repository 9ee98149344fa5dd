//! Which store: its URL, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::sqlite::SqliteStore;
use super::{Store, StoreError};

/// Where plans, runs and histories are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// An SQLite file; made where it is not there.
    SqliteFile(PathBuf),
    /// In this process only: everything is gone when it ends.
    Memory,
}

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Known, but not there yet.
    #[error("PostgreSQL is not available in this version; use sqlite:PATH")]
    Postgres,
    /// Not known at all.
    #[error(
        "`{0}` names no store; use sqlite:PATH, or sqlite::memory: for one that is gone with the process"
    )]
    Unknown(String),
}

impl StoreUrl {
    /// Whether a next master finds what this one stored.
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::SqliteFile(_))
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let unknown = || StoreUrlError::Unknown(text.to_owned());
        match text.split_once(':').ok_or_else(unknown)? {
            ("postgres" | "postgresql", _) => Err(StoreUrlError::Postgres),
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
            Self::Memory => f.write_str("sqlite::memory:"),
        }
    }
}

/// Opens a store and brings it up to date.
///
/// # Errors
/// It cannot be opened, is damaged, or was written by a later version.
pub async fn open(url: &StoreUrl) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(url).await?))
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
        check("postgres://db/volcanion", Err(StoreUrlError::Postgres));
        for wrong in ["", "sqlite:", "runs.db", "mysql://x"] {
            assert_eq!(wrong.parse::<StoreUrl>(), Err(StoreUrlError::Unknown(wrong.to_owned())));
        }
    }
}
