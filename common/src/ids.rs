//! The names of things: runs, plans, agents, and the numbers that fence and order what they say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id: UUIDv7, so that ids sort by the time of their making.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One execution of a plan.
    RunId
);
uuid_id!(
    /// A stored plan.
    PlanId
);
uuid_id!(
    /// A key for clients of REST; not the key itself.
    KeyId
);

impl RunId {
    /// When it was made, in milliseconds since 1970 by the clock of who made it; none for an id that does not say.
    pub fn made_unix_ms(self) -> Option<u64> {
        let (secs, nanos) = self.0.get_timestamp()?.to_unix();
        Some(secs.saturating_mul(1_000).saturating_add(u64::from(nanos / 1_000_000)))
    }
}

/// An agent's name, unique in its cluster; it outlives the process, see [`Incarnation`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentId(pub String);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for AgentId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// One life of an agent's process: random and never 0, new at each start, so that a process that comes
    /// back under its old name is never taken for the old one. Within 53 bits, so that JSON keeps it.
    Incarnation
);
number_id!(
    /// A leader's term. Raised in the store's own transaction; whoever carries a lower one is refused.
    Epoch
);
number_id!(
    /// A delta's number within one incarnation and run: 1, 2, 3 … without gaps; 0 stands for "none yet".
    Seq
);

impl Incarnation {
    /// A new random incarnation.
    pub fn random() -> Self {
        // A version 4 UUID holds 122 random bits; the low 53 of them are taken, and never 0.
        Self(((Uuid::new_v4().as_u128() as u64) & ((1 << 53) - 1)).max(1))
    }
}

impl Seq {
    /// The one after.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
