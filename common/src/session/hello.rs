//! The first order of a stream, and its seal.
//!
//! Whoever an agent believes here raises its epoch and gives the orders that follow, so the Hello is sealed as a Prepare is, over its bytes exactly
//! as they are sent. It names one process, holds for a short time, and has a nonce: no two are the same, so an agent can take each once. Neither
//! a shard nor a [`super::command::Command`] passes for one: it says its purpose, and has no field besides its own.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::seal::ClusterKey;
use crate::ids::{AgentId, Epoch, Incarnation, RunId, Seq};

/// What is longer is no Hello; whoever sends it has not shown yet that it may speak, so no more is looked at.
pub const HELLO_BYTES_MAX: usize = 4_096;

/// The first order of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The run.
    pub run: RunId,
    /// The leader's term.
    pub epoch: Epoch,
    /// Who is meant.
    pub agent: AgentId,
    /// Which process is meant; no other listens.
    pub incarnation: Incarnation,
    /// The highest durable delta of it; 0: none.
    pub last_seq: Seq,
}

/// A Hello as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHello {
    /// Its JSON, exactly as sealed.
    pub sealed_hello: Bytes,
    /// See [`super::seal`].
    pub seal: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    purpose: Purpose,
    run: RunId,
    epoch: Epoch,
    agent: AgentId,
    incarnation: Incarnation,
    last_seq: Seq,
    expires_unix_ms: u64,
    nonce: Uuid,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    Hello,
}

impl Hello {
    /// Its bytes and their seal, good for one stream until `expires_unix_ms` (milliseconds since 1970).
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn sealed(self, key: &ClusterKey, expires_unix_ms: u64) -> Result<SealedHello, serde_json::Error> {
        let Self { run, epoch, agent, incarnation, last_seq } = self;
        let (purpose, nonce) = (Purpose::Hello, Uuid::new_v4());
        let document = Document { purpose, run, epoch, agent, incarnation, last_seq, expires_unix_ms, nonce };
        let bytes = serde_json::to_vec(&document)?;
        let seal = key.seal(&bytes);
        Ok(SealedHello { sealed_hello: bytes.into(), seal: seal.into() })
    }
}

impl SealedHello {
    /// What it says and when it expires (milliseconds since 1970). Its seal is still to be checked.
    ///
    /// # Errors
    /// It is no Hello.
    pub fn read(&self) -> Result<(Hello, u64), serde_json::Error> {
        let Document {
            purpose: Purpose::Hello,
            run,
            epoch,
            agent,
            incarnation,
            last_seq,
            expires_unix_ms,
            ..
        } = serde_json::from_slice(&self.sealed_hello)?;
        Ok((Hello { run, epoch, agent, incarnation, last_seq }, expires_unix_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::command::{Command, Purpose};
    use crate::shard::Shard;

    fn hello() -> Hello {
        Hello {
            run: RunId::new(),
            epoch: Epoch(3),
            agent: "a".into(),
            incarnation: Incarnation(7),
            last_seq: Seq(9),
        }
    }

    #[test]
    fn a_hello_is_read_as_it_was_sealed_and_no_two_are_the_same() {
        let (key, hello) = (ClusterKey::open(), hello());
        let [one, two] = [(); 2].map(|()| hello.clone().sealed(&key, 1_000).unwrap());
        assert_eq!(one.read().unwrap(), (hello, 1_000));
        assert!(key.is_sealed(&one.sealed_hello, &one.seal));
        assert_ne!(one.seal, two.seal, "a nonce tells them apart");
    }

    #[test]
    fn a_hello_passes_for_no_other_order_and_none_for_a_hello() {
        let key = ClusterKey::open();
        let hello = hello().sealed(&key, 1_000).unwrap();
        assert!(serde_json::from_slice::<Command>(&hello.sealed_hello).is_err());
        assert!(serde_json::from_slice::<Shard>(&hello.sealed_hello).is_err());
        let (bytes, seal) =
            Command::new(Purpose::Kill, "a".into(), Incarnation(7), 1_000).sealed(&key).unwrap();
        let command = SealedHello { sealed_hello: bytes.into(), seal: seal.into() };
        assert!(command.read().is_err());
        let mut with_more: serde_json::Value = serde_json::from_slice(&hello.sealed_hello).unwrap();
        with_more["plan"] = serde_json::json!({});
        let with_more = SealedHello { sealed_hello: with_more.to_string().into(), ..hello };
        assert!(with_more.read().is_err());
    }
}
