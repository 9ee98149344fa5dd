//! The store in memory, with the meaning of the real one: each write holds its writer's epoch against the store's, a part and the marks that it moves go
//! in together, a number that is there already is the same part sent again, an ended run never changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use volcanion_common::delta::Delta;
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId};
use volcanion_common::registry::Member;
use volcanion_common::session::Change;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::{RunStatus, StopReason};
use volcanion_master::merge::{AgentState, Part};
use volcanion_master::run::machine::{
    Ending, NewRun, PeerMove, Save, SaveChange, SaveJoins, SaveMoves, TakenUp,
};

/// See the module.
#[derive(Default)]
pub struct Store {
    pub epoch: u64,
    pub runs: BTreeMap<RunId, Stored>,
}

/// One run.
pub struct Stored {
    pub plan: Arc<ValidPlan>,
    pub members: Vec<Member>,
    pub joined: Vec<Member>,
    pub seed: u64,
    pub status: RunStatus,
    pub stop_reason: Option<StopReason>,
    pub start_at_unix_us: Option<u64>,
    pub agents: BTreeMap<(AgentId, Incarnation), AgentState>,
    pub parts: BTreeMap<u64, Arc<Part>>,
    /// The newest total that came with a part, and that part's number.
    pub checkpoint: Option<(u64, Arc<Delta>)>,
    pub changes: BTreeMap<u64, Change>,
    pub moves: BTreeMap<u64, PeerMove>,
    pub ending: Option<Ending>,
    /// The highest epoch that ever wrote here.
    pub writer: u64,
}

/// What is to be made durable.
#[derive(Clone)]
pub enum Write {
    Insert(Box<NewRun>),
    Save(Save),
    Change(SaveChange),
    Moves(SaveMoves),
    Joins(SaveJoins),
    Part(Arc<Part>),
    End(Box<Ending>),
}

impl Write {
    pub fn name(&self) -> String {
        match self {
            Self::Insert(_) => "insert".to_owned(),
            Self::Save(save) => format!("save {} ({})", save.number, save.status.name()),
            Self::Change(save) => format!("change {}", save.change.number),
            Self::Moves(save) => format!("{} moves", save.moves.len()),
            Self::Joins(save) => format!("{} joiners", save.joined.len()),
            Self::Part(part) => {
                let marks: Vec<String> =
                    part.agents.iter().map(|state| format!("{}:{}", state.agent, state.seq)).collect();
                format!("part {} ({})", part.number, marks.join(" "))
            }
            Self::End(ending) => format!("end ({})", ending.status.name()),
        }
    }
}

impl Store {
    pub fn raise_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Whether the write is in.
    ///
    /// # Errors
    /// Another master leads, or the run has ended.
    pub fn apply(&mut self, epoch: u64, is_fenced: bool, run: RunId, write: &Write) -> Result<(), ()> {
        if is_fenced && epoch != self.epoch {
            return Err(());
        }
        if let Write::Insert(new) = write {
            self.runs.entry(run).or_insert_with(|| Stored::new(new));
        }
        let stored = self.runs.get_mut(&run).ok_or(())?;
        if let (Some(ended), Write::End(ending)) = (&stored.ending, write) {
            let is_same = (ended.status, ended.ended_at_unix_ms) == (ending.status, ending.ended_at_unix_ms);
            return if is_same { Ok(()) } else { Err(()) };
        }
        if stored.ending.is_some() {
            return Err(());
        }
        stored.writer = stored.writer.max(epoch);
        match write {
            Write::Insert(_) => {}
            Write::Save(save) => {
                stored.status = save.status;
                stored.stop_reason = save.stop_reason;
                stored.start_at_unix_us = save.start_at_unix_us;
            }
            Write::Change(save) => {
                stored.changes.insert(save.change.number, save.change);
            }
            Write::Joins(save) => stored.joined.clone_from(&save.joined),
            Write::Moves(save) => {
                stored.moves.extend(save.moves.iter().map(|kept| (kept.order.number, kept.clone())));
            }
            Write::Part(part) => stored.append(part),
            Write::End(ending) => {
                stored.status = ending.status;
                stored.ending = Some((**ending).clone());
            }
        }
        Ok(())
    }

    /// Breaks a promise: the newest part once more, as another one.
    pub fn append_again(&mut self, run: RunId) {
        let Some(stored) = self.runs.get_mut(&run) else { return };
        let Some((number, part)) = stored.parts.last_key_value() else { return };
        let again = Part { number: number + 1, ..(**part).clone() };
        stored.append(&Arc::new(again));
    }

    pub fn unended(&self) -> Vec<RunId> {
        self.runs.iter().filter(|(_, stored)| stored.ending.is_none()).map(|(run, _)| *run).collect()
    }

    /// What the next master reads.
    pub fn taken_up(&self, run: RunId, epoch: u64, key: &ClusterKey) -> Option<TakenUp> {
        let stored = self.runs.get(&run)?;
        Some(TakenUp {
            run: NewRun {
                run,
                epoch: Epoch(epoch),
                plan: Arc::clone(&stored.plan),
                members: stored.members.clone(),
                key: key.clone(),
                seed: stored.seed,
                orphan_timeout: None,
                trace: None,
            },
            status: stored.status,
            stop_reason: stored.stop_reason,
            start_at_unix_us: stored.start_at_unix_us,
            total: stored.total(),
            agents: stored.agents.values().cloned().collect(),
            next_part: stored.parts.last_key_value().map_or(1, |(number, _)| number + 1),
            changes: stored.changes.values().copied().collect(),
            moves: stored.moves.values().cloned().collect(),
            joined: stored.joined.clone(),
            warnings: stored.parts.values().rev().find_map(|part| part.warnings.clone()).unwrap_or_default(),
        })
    }
}

impl Stored {
    fn new(new: &NewRun) -> Self {
        Self {
            plan: Arc::clone(&new.plan),
            members: new.members.clone(),
            joined: Vec::new(),
            seed: new.seed,
            status: RunStatus::Preparing,
            stop_reason: None,
            start_at_unix_us: None,
            agents: BTreeMap::new(),
            parts: BTreeMap::new(),
            checkpoint: None,
            changes: BTreeMap::new(),
            moves: BTreeMap::new(),
            ending: None,
            writer: 0,
        }
    }

    fn append(&mut self, part: &Arc<Part>) {
        if self.parts.contains_key(&part.number) {
            return;
        }
        self.parts.insert(part.number, Arc::clone(part));
        for state in &part.agents {
            let key = (state.agent.clone(), state.incarnation);
            if self.agents.get(&key).is_none_or(|kept| kept.seq <= state.seq) {
                self.agents.insert(key, state.clone());
            }
        }
        if let Some(total) = &part.checkpoint {
            self.checkpoint = Some((part.number, Arc::clone(total)));
        }
    }

    /// The newest checkpoint and the parts since.
    pub fn total(&self) -> Delta {
        let (up_to, mut total) = match &self.checkpoint {
            Some((number, total)) => (*number, (**total).clone()),
            None => (0, Delta::default()),
        };
        self.parts.range(up_to + 1..).for_each(|(_, part)| total.add(&part.delta));
        total
    }
}
