//! What keeps wrong orders out: the agent's identity, the highest epoch, seals, expiry, tombstones.
//!
//! One fence stands before all runs of an agent. No I/O, no clock. The highest epoch only rises; a run that was
//! forgotten is never taken again, as far back as [`TOMBSTONES_MAX`] runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId, Seq};
use volcanion_common::session::Hello;
use volcanion_common::session::command::{Command, Purpose};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::shard::Shard;

/// How many orders are remembered; each is of use for a minute only.
pub const OBEYED_MAX: usize = 1_024;
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
    obeyed: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Identity {
    /// A process that has obeyed nothing yet.
    pub fn new(agent: AgentId, incarnation: Incarnation, key: ClusterKey) -> Self {
        Self { agent, incarnation, key, obeyed: Arc::default() }
    }

    /// Takes an order whose seal is good, once: its seal is remembered, as far back as [`OBEYED_MAX`] orders.
    pub(super) fn obey_once(&self, seal: &[u8]) -> Result<(), Refusal> {
        let mut obeyed = self.obeyed.lock().unwrap_or_else(PoisonError::into_inner);
        if obeyed.iter().any(|known| known == seal) {
            return Err(Refusal::Replayed);
        }
        if obeyed.len() >= OBEYED_MAX {
            obeyed.pop_front();
        }
        obeyed.push_back(seal.to_owned());
        Ok(())
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
}

impl Fence {
    /// A fence that has seen nothing yet.
    pub fn new(identity: Identity) -> Self {
        Self { identity, highest: Epoch(0), tombstones: HashMap::new(), burials: VecDeque::new() }
    }

    /// The highest epoch seen.
    pub fn highest(&self) -> Epoch {
        self.highest
    }

    /// Looks at the first order of a stream. Where it is admitted, the highest epoch is raised to its own.
    ///
    /// # Errors
    /// It is meant for another agent or process, or comes from a leader that was replaced.
    pub fn admit(&mut self, hello: &Hello) -> Result<(), Refusal> {
        let is_any = hello.incarnation == Incarnation(0);
        let asked = if is_any { self.identity.incarnation } else { hello.incarnation };
        self.identity.is_meant(&hello.agent, asked)?;
        if hello.epoch < self.highest {
            return Err(Refusal::StaleEpoch { asked: hello.epoch, highest: self.highest });
        }
        self.highest = hello.epoch;
        Ok(())
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
    identity.check_seal(sealed_order, seal)?;
    let order: Command =
        serde_json::from_slice(sealed_order).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    if order.purpose != purpose {
        return Err(Refusal::NotOurs("purpose"));
    }
    identity.is_meant(&order.agent, order.incarnation)?;
    check_time(order.expires_unix_ms, now_unix_ms)?;
    identity.obey_once(seal)
}

fn check_time(expires_unix_ms: u64, now_unix_ms: u64) -> Result<(), Refusal> {
    match now_unix_ms.checked_sub(expires_unix_ms) {
        None | Some(0) => Ok(()),
        Some(late_ms) => Err(Refusal::Expired { late_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new("a".into(), Incarnation(7), ClusterKey::new("0123456789abcdef").unwrap())
    }

    fn hello(epoch: u64) -> Hello {
        Hello {
            run: RunId::new(),
            epoch: Epoch(epoch),
            agent: "a".into(),
            incarnation: Incarnation(7),
            last_seq: Seq(0),
        }
    }

    #[test]
    fn the_epoch_only_rises_and_a_refused_stream_does_not_raise_it() {
        let mut fence = Fence::new(identity());
        fence.admit(&hello(3)).unwrap();
        fence.admit(&hello(3)).unwrap();
        assert_eq!(fence.admit(&hello(2)).unwrap_err().code(), "stale_epoch");
        assert_eq!(fence.admit(&Hello { agent: "b".into(), ..hello(9) }).unwrap_err().code(), "wrong_agent");
        assert_eq!(
            fence.admit(&Hello { incarnation: Incarnation(8), ..hello(9) }).unwrap_err().code(),
            "other_incarnation"
        );
        assert_eq!(fence.highest(), Epoch(3));
        fence.admit(&Hello { incarnation: Incarnation(0), ..hello(4) }).unwrap();
        assert_eq!(fence.highest(), Epoch(4));
    }

    #[test]
    fn tombstones_are_bounded_and_the_newest_stay() {
        let mut fence = Fence::new(identity());
        let runs: Vec<RunId> = (0..TOMBSTONES_MAX + 10).map(|_| RunId::new()).collect();
        for run in &runs {
            fence.bury(*run, Tombstone::GivenUp);
            fence.bury(*run, Tombstone::Durable { last_seq: Seq(1) });
        }
        assert_eq!(fence.tombstones.len(), TOMBSTONES_MAX);
        assert_eq!(fence.tombstone(runs[9]), None);
        assert_eq!(fence.tombstone(runs[10]), Some(Tombstone::Durable { last_seq: Seq(1) }));
    }

    #[test]
    fn a_shard_is_opened_only_where_seal_and_names_and_time_are_right() {
        let identity = identity();
        let shard = Shard {
            run: RunId::new(),
            epoch: Epoch(3),
            agent: "a".into(),
            incarnation: Incarnation(7),
            expires_unix_ms: 1_000,
            seed: 1,
            plan: serde_json::json!({}),
            scenarios: Vec::new(),
            first_vu: 0,
            ready_for: Vec::new(),
            trace: None,
        };
        let open = |shard: &Shard, now_unix_ms| {
            let bytes = serde_json::to_vec(shard).unwrap();
            let seal = identity.key.seal(&bytes);
            open_shard(&identity, shard.run, Epoch(3), &bytes, &seal, now_unix_ms)
        };
        assert_eq!(open(&shard, 1_000), Ok(shard.clone()));
        assert_eq!(open(&shard, 1_500), Err(Refusal::Expired { late_ms: 500 }));
        let check = |wrong: Shard, what| assert_eq!(open(&wrong, 0), Err(Refusal::NotOurs(what)));
        check(Shard { epoch: Epoch(2), ..shard.clone() }, "epoch");
        check(Shard { agent: "b".into(), ..shard.clone() }, "agent");
        check(Shard { incarnation: Incarnation(8), ..shard.clone() }, "incarnation");
        let bytes = serde_json::to_vec(&shard).unwrap();
        let seal = identity.key.seal(&bytes);
        let other = open_shard(&identity, RunId::new(), Epoch(3), &bytes, &seal, 0);
        assert_eq!(other, Err(Refusal::NotOurs("run")));
        let mut altered = bytes.clone();
        altered[10] ^= 1;
        let altered = open_shard(&identity, shard.run, Epoch(3), &altered, &seal, 0);
        assert_eq!(altered, Err(Refusal::BadSeal));
        assert_eq!(
            check_command(&identity, Purpose::Drain, &bytes, &seal, 0).unwrap_err().code(),
            "unreadable"
        );
    }

    #[test]
    fn an_order_to_drain_is_obeyed_only_where_seal_and_names_and_time_are_right() {
        let identity = identity();
        let order = Command::new(Purpose::Drain, "a".into(), Incarnation(7), 1_000);
        let check = |order: &Command, key: &ClusterKey, now_unix_ms| {
            let (bytes, seal) = order.sealed(key).unwrap();
            check_command(&identity, Purpose::Drain, &bytes, &seal, now_unix_ms)
                .map_err(|refusal| refusal.code())
        };
        assert_eq!(check(&order, &identity.key, 1_000), Ok(()));
        assert_eq!(check(&order, &identity.key, 1_000), Err("replayed"));
        let kill = Command::new(Purpose::Kill, "a".into(), Incarnation(7), 1_000);
        assert_eq!(check(&kill, &identity.key, 0), Err("not_ours"));
        assert_eq!(check(&order, &identity.key, 1_001), Err("expired"));
        assert_eq!(check(&order, &ClusterKey::open(), 0), Err("bad_seal"));
        let other = Command::new(Purpose::Drain, "b".into(), Incarnation(7), 1_000);
        assert_eq!(check(&other, &identity.key, 0), Err("wrong_agent"));
        let other = Command::new(Purpose::Drain, "a".into(), Incarnation(0), 1_000);
        assert_eq!(check(&other, &identity.key, 0), Err("other_incarnation"));
        let (bytes, seal) = order.sealed(&identity.key).unwrap();
        let as_shard = open_shard(&identity, RunId::new(), Epoch(3), &bytes, &seal, 0);
        assert_eq!(as_shard.unwrap_err().code(), "unreadable");
    }
}
