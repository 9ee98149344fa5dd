//! Keys of clients, and what they let do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a client may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read everything but keys.
    Viewer,
    /// Change plans; start, change and stop runs.
    Operator,
    /// Drain agents; make and revoke keys.
    Admin,
}

impl Role {
    /// All of them, ascending.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role; give viewer, operator or admin")]
pub struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| NoRole(text.chars().take(100).collect()))
    }
}

/// A key, without the key itself: that is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// What it is revoked by.
    pub id: Uuid,
    /// Whose it is, or what for.
    pub name: String,
    /// What it lets do.
    pub role: Role,
    /// When it was made.
    pub created_at: String,
    /// From when on it is of no use; absent: never.
    pub expires_at: Option<String>,
    /// When it was revoked; absent: it was not.
    pub revoked_at: Option<String>,
    /// When it was last used, to a minute; absent: never.
    pub last_used_at: Option<String>,
}

/// A key that was just made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKeyView {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub about: KeyView,
    /// The key itself. It is shown this once, and kept as a hash only.
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_ascend_and_are_read_by_their_words() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        let wrong = "root".parse::<Role>().unwrap_err().to_string();
        assert!(wrong.contains("root") && wrong.contains("operator"), "{wrong}");
    }
}
