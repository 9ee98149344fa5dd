//! What keeps wrong orders out: the agent's identity, the highest epoch, seals, expiry, tombstones, the kill switch.
//!
//! One fence stands before all runs of an agent. No I/O, no clock. The highest epoch only rises, and only by a leader that holds the cluster's key; a run that was
//! forgotten is never taken again, as far back as [`TOMBSTONES_MAX`] runs; one that was made before the kill switch was thrown is not taken after it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId, Seq};
use volcanion_common::session::command::{COMMAND_BYTES_MAX, Command, KILLED, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Hello, SealedHello};
use volcanion_common::shard::Shard;

use super::seals::Seals;

/// How many orders are remembered, each for the minute in which it is of use; further ones are refused meanwhile.
pub const OBEYED_MAX: usize = 4_096;
/// How many Hellos are; they have a memory of their own, so that a busy leader's do not stand in the way of an order.
pub const GREETED_MAX: usize = 16_384;
/// How many forgotten runs are remembered; the oldest gives way.
pub const TOMBSTONES_MAX: usize = 4_096;

/// Who this process is, and what proves an order.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The agent's name.
    pub agent: AgentId,
    /// This process.
    pub incarnation: Incarnation,
    /// Opens what masters of this cluster sealed.
    pub key: ClusterKey,
    /// Seals of orders that were obeyed.
    obeyed: Arc<Mutex<Seals>>,
    /// Seals of Hellos that were taken.
    greeted: Arc<Mutex<Seals>>,
}

impl Identity {
    /// A process that has obeyed nothing yet.
    pub fn new(agent: AgentId, incarnation: Incarnation, key: ClusterKey) -> Self {
        let memory = |max| Arc::new(Mutex::new(Seals::new(max)));
        Self { agent, incarnation, key, obeyed: memory(OBEYED_MAX), greeted: memory(GREETED_MAX) }
    }

    /// Takes an order whose seal is good, once: its seal is remembered until the order expires.
    pub(super) fn obey_once(
        &self,
        seal: &[u8],
        expires_unix_ms: u64,
        now_unix_ms: u64,
    ) -> Result<(), Refusal> {
        // Every change under the lock is whole.
        let mut obeyed = self.obeyed.lock().unwrap_or_else(PoisonError::into_inner);
        obeyed.take(seal, expires_unix_ms, now_unix_ms)
    }

    fn greet_once(&self, seal: &[u8], expires_unix_ms: u64, now_unix_ms: u64) -> Result<(), Refusal> {
        let mut greeted = self.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        greeted.take(seal, expires_unix_ms, now_unix_ms)
    }

    fn is_meant(&self, agent: &AgentId, incarnation: Incarnation) -> Result<(), Refusal> {
        if *agent != self.agent {
            return Err(Refusal::WrongAgent { asked: agent.clone(), us: self.agent.clone() });
        }
        if incarnation != self.incarnation {
            return Err(Refusal::OtherIncarnation { asked: incarnation, us: self.incarnation });
        }
        Ok(())
    }

    fn check_seal(&self, sealed: &[u8], seal: &[u8]) -> Result<(), Refusal> {
        if self.key.is_sealed(sealed, seal) { Ok(()) } else { Err(Refusal::BadSeal) }
    }
}

/// Why a stream or an order is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The stream was meant for an agent of another name.
    #[error("this is agent `{us}`, not `{asked}`")]
    WrongAgent {
        /// Who was asked for.
        asked: AgentId,
        /// Who answers.
        us: AgentId,
    },
    /// The stream was meant for another process of this name.
    #[error("this is incarnation {us} of the agent, not {asked}; it was started again")]
    OtherIncarnation {
        /// Which was asked for.
        asked: Incarnation,
        /// Which answers.
        us: Incarnation,
    },
    /// A leader of a higher epoch was here.
    #[error("epoch {asked} is over; a leader of epoch {highest} was here")]
    StaleEpoch {
        /// The leader's.
        asked: Epoch,
        /// The highest seen.
        highest: Epoch,
    },
    /// The run was here and was forgotten.
    #[error("run {0} is over on this agent and was forgotten")]
    RunOver(RunId),
    /// The agent is leaving.
    #[error("the agent is leaving and takes no new run")]
    Leaving,
    /// The agent was told to drain.
    #[error("the agent is draining and takes no new run until it is started again")]
    Draining,
    /// The leader speaks of deltas that this process never sent.
    #[error("{0}")]
    NeverSent(#[from] crate::delta::outbox::NeverSent),
    /// The seal is not by this cluster's key over these bytes.
    #[error("the seal is not of this cluster's key; give master and agent the same key")]
    BadSeal,
    /// Sealed, but nothing that this version reads.
    #[error("what was sealed cannot be read: {0}; is the master of another version?")]
    Unreadable(String),
    /// A good seal on a shard of another run, epoch, agent or process.
    #[error("the shard's {0} is not this stream's")]
    NotOurs(&'static str),
    /// A good seal, too late.
    #[error("the order's time was over {late_ms} ms ago; are the clocks of master and agent set?")]
    Expired {
        /// By so much.
        late_ms: u64,
    },
    /// A good seal that was here before.
    #[error("the order was obeyed before, and is not obeyed again")]
    Replayed,
    /// More good seals than can be remembered came within the time that they are of use.
    #[error(
        "{max} orders came within a minute, which is the most that can be told from repeated ones; ask again in a minute"
    )]
    TooMany {
        /// So many are remembered.
        max: usize,
    },
    /// The run was made before the kill switch was thrown.
    #[error("the kill switch was thrown after run {0} was made; start another")]
    Killed(RunId),
    /// The run has another shard already.
    #[error("the run has a shard here already, and this is another one")]
    SecondShard,
    /// An order that the shard's state does not allow.
    #[error("{order} came before the shard was prepared")]
    NotPrepared {
        /// The order's name.
        order: &'static str,
    },
}

impl Refusal {
    /// Every word that [`Refusal::code`] says.
    pub const CODES: [&str; 16] = [
        "wrong_agent",
        "other_incarnation",
        "stale_epoch",
        "run_over",
        "leaving",
        "draining",
        "never_sent",
        "bad_seal",
        "unreadable",
        "not_ours",
        "expired",
        "replayed",
        "too_many_orders",
        KILLED,
        "second_shard",
        "not_prepared",
    ];

    /// A word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongAgent { .. } => "wrong_agent",
            Self::OtherIncarnation { .. } => "other_incarnation",
            Self::StaleEpoch { .. } => "stale_epoch",
            Self::RunOver(_) => "run_over",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::NeverSent(_) => "never_sent",
            Self::BadSeal => "bad_seal",
            Self::Unreadable(_) => "unreadable",
            Self::NotOurs(_) => "not_ours",
            Self::Expired { .. } => "expired",
            Self::Replayed => "replayed",
            Self::TooMany { .. } => "too_many_orders",
            Self::Killed(_) => KILLED,
            Self::SecondShard => "second_shard",
            Self::NotPrepared { .. } => "not_prepared",
        }
    }
}

/// What is left of a run that was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// All of its deltas up to the last were durable: a leader that asks again is told so.
    Durable {
        /// The last one.
        last_seq: Seq,
    },
    /// It was given up with deltas that nobody had acknowledged; a leader that asks again is refused.
    GivenUp,
}

/// See the module.
#[derive(Debug)]
pub struct Fence {
    identity: Identity,
    highest: Epoch,
    tombstones: HashMap<RunId, Tombstone>,
    /// The order in which they came.
    burials: VecDeque<RunId>,
    /// When the kill switch was last thrown, in milliseconds since 1970; 0: never.
    killed_unix_ms: u64,
}

impl Fence {
    /// A fence that has seen nothing yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            highest: Epoch(0),
            tombstones: HashMap::new(),
            burials: VecDeque::new(),
            killed_unix_ms: 0,
        }
    }

    /// The highest epoch seen.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// Looks at the first order of a stream: its seal before all else. Where it is admitted, the highest epoch is raised to its own, and it is
    /// not admitted again.
    ///
    /// # Errors
    /// The seal is not good, or came before; it is meant for another agent or process; its time is over; it comes from a leader that was replaced.
    pub fn admit(&mut self, sealed: &SealedHello, now_unix_ms: u64) -> Result<Hello, Refusal> {
        self.identity.check_seal(&sealed.sealed_hello, &sealed.seal)?;
        let (hello, expires_unix_ms) =
            sealed.read().map_err(|error| Refusal::Unreadable(error.to_string()))?;
        self.identity.is_meant(&hello.agent, hello.incarnation)?;
        check_time(expires_unix_ms, now_unix_ms)?;
        if hello.epoch < self.highest {
            return Err(Refusal::StaleEpoch { asked: hello.epoch, highest: self.highest });
        }
        self.identity.greet_once(&sealed.seal, expires_unix_ms, now_unix_ms)?;
        self.highest = hello.epoch;
        Ok(hello)
    }

    /// The kill switch was thrown.
    pub fn kill(&mut self, now_unix_ms: u64) {
        self.killed_unix_ms = now_unix_ms;
    }

    /// Looks at a run that is not here: one that was on its way when the kill switch was thrown does not begin afterwards, however long its leader
    /// took. A run's id says when it was made.
    ///
    /// # Errors
    /// It was made before that.
    pub fn check_killed(&self, run: RunId) -> Result<(), Refusal> {
        let is_before = run.made_unix_ms().is_some_and(|made| made <= self.killed_unix_ms);
        if is_before { Err(Refusal::Killed(run)) } else { Ok(()) }
    }

    /// What is left of a run, where it was here and was forgotten.
    pub fn tombstone(&self, run: RunId) -> Option<Tombstone> {
        self.tombstones.get(&run).copied()
    }

    /// Remembers that a run was forgotten.
    pub fn bury(&mut self, run: RunId, tombstone: Tombstone) {
        if self.tombstones.insert(run, tombstone).is_none() {
            self.burials.push_back(run);
        }
        while self.burials.len() > TOMBSTONES_MAX {
            if let Some(oldest) = self.burials.pop_front() {
                self.tombstones.remove(&oldest);
            }
        }
    }
}

/// Opens a Prepare: the seal is checked over the bytes exactly as they came, and only then is the shard read and compared with
/// the stream that brought it.
///
/// # Errors
/// The seal is not good, or the shard is of another run, epoch, agent or process, or its time is over.
pub fn open_shard(
    identity: &Identity,
    run: RunId,
    epoch: Epoch,
    sealed_shard: &[u8],
    seal: &[u8],
    now_unix_ms: u64,
) -> Result<Shard, Refusal> {
    identity.check_seal(sealed_shard, seal)?;
    let shard: Shard =
        serde_json::from_slice(sealed_shard).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let comparisons = [
        (shard.run == run, "run"),
        (shard.epoch == epoch, "epoch"),
        (shard.agent == identity.agent, "agent"),
        (shard.incarnation == identity.incarnation, "incarnation"),
    ];
    if let Some((_, what)) = comparisons.into_iter().find(|(same, _)| !same) {
        return Err(Refusal::NotOurs(what));
    }
    check_time(shard.expires_unix_ms, now_unix_ms)?;
    Ok(shard)
}

/// Looks at an order outside of a run's stream: as with a Prepare the seal comes first, and only then is the order read. It is obeyed once.
///
/// # Errors
/// The seal is not good, or what it seals is no order for this purpose, or one to another agent or process, or its time is over, or it
/// came before.
pub fn check_command(
    identity: &Identity,
    purpose: Purpose,
    sealed_order: &[u8],
    seal: &[u8],
    now_unix_ms: u64,
) -> Result<(), Refusal> {
    if sealed_order.len() > COMMAND_BYTES_MAX {
        return Err(Refusal::Unreadable(format!("{} bytes are no order", sealed_order.len())));
    }
    identity.check_seal(sealed_order, seal)?;
    let order: Command =
        serde_json::from_slice(sealed_order).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if order.purpose != purpose {
        return Err(Refusal::NotOurs("purpose"));
    }
    identity.is_meant(&order.agent, order.incarnation)?;
    check_time(order.expires_unix_ms, now_unix_ms)?;
    identity.obey_once(seal, order.expires_unix_ms, now_unix_ms)
}

fn check_time(expires_unix_ms: u64, now_unix_ms: u64) -> Result<(), Refusal> {
    match now_unix_ms.checked_sub(expires_unix_ms) {
        None | Some(0) => Ok(()),
        Some(late_ms) => Err(Refusal::Expired { late_ms }),
    }
}

#[cfg(test)]
mod tests;
