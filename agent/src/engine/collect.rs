//! The collector: what the cores hand over → the load's events, on a thread of its own.
//!
//! No core ever waits for it, and it waits for its reader only at the very end: while the reader is behind, deltas that
//! were not given out yet are folded into one. It also sees a core die, ends the others, and says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use volcanion_common::delta::Delta;
use volcanion_common::units::RunTime;

use super::EngineEvent;
use super::steering::Steering;
use crate::delta::cut::{Cut, Cutter, Part};
use crate::prepare::Program;
use crate::record::Recorder;
use crate::record::cgroup::Throttle;
use crate::record::process::{self, Steal};
use crate::record::saturation::Saturation;

/// What a core says.
#[derive(Debug)]
pub enum Message {
    /// It waits for its start.
    Ready,
    /// It has begun.
    Started { at_ns: u64 },
    /// A move of lanes holds on it.
    Moved { core: usize, number: u64, from: RunTime },
    /// What it did.
    Part(Box<Part>),
    /// Its thread ends; the last message.
    Ended { core: usize, result: Result<(), String> },
}

/// See the module.
pub struct Collector {
    inbox: Receiver<Message>,
    /// Back to each core.
    spares: Vec<SyncSender<Box<Recorder>>>,
    threads: Vec<JoinHandle<()>>,
    steering: Arc<Steering>,
    events: mpsc::Sender<EngineEvent>,
    cutter: Cutter,
    saturation: Saturation,
    throttle: Throttle,
    steal: Steal,
    /// What the reader had no room for yet.
    kept: Option<Box<Delta>>,
    /// Cores that have begun, and the last one's start.
    started: (usize, u64),
    is_start_told: bool,
    /// Cores that have ended.
    ended: Vec<bool>,
    /// Moves of lanes that do not hold on every core yet: on which they do, and since when.
    moves: BTreeMap<u64, (Vec<bool>, RunTime)>,
    /// Those that do, and of which the reader does not know yet; as many as there are moves at most.
    moved: VecDeque<(u64, RunTime)>,
}

impl Collector {
    /// For cores that are ready.
    pub fn new(
        program: &Program,
        inbox: Receiver<Message>,
        spares: Vec<SyncSender<Box<Recorder>>>,
        threads: Vec<JoinHandle<()>>,
        steering: Arc<Steering>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Self {
        Self {
            cutter: Cutter::new(program.interval, threads.len()),
            ended: vec![false; threads.len()],
            moves: BTreeMap::new(),
            moved: VecDeque::new(),
            inbox,
            spares,
            threads,
            steering,
            events,
            saturation: Saturation::new(&program.scenarios, &program.targets),
            throttle: Throttle::new(),
            steal: Steal::new(),
            kept: None,
            started: (0, 0),
            is_start_told: false,
        }
    }

    /// The thread's body: until every core has ended.
    pub fn run(mut self) {
        let (cores, mut ended, mut failure) = (self.threads.len(), 0, None);
        while ended < cores {
            let Ok(message) = self.inbox.recv() else { break };
            match message {
                Message::Ready => {}
                Message::Started { at_ns } => {
                    self.started = (self.started.0 + 1, self.started.1.max(at_ns));
                    if self.started.0 == cores {
                        self.tell_start();
                    }
                }
                Message::Moved { core, number, from } => self.moved(core, number, from),
                Message::Part(part) => self.fold(part),
                Message::Ended { core, result } => {
                    ended += 1;
                    self.cutter.core_ended(core);
                    self.ended[core] = true;
                    if let Err(reason) = result {
                        tracing::error!(core, reason, "a load core broke");
                        failure.get_or_insert(format!("load core {core} broke: {reason}"));
                        self.steering.stop(0);
                    }
                }
            }
            while let Some(cut) = self.cutter.next_whole() {
                self.give_delta(cut);
            }
            self.tell_moves();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                failure.get_or_insert("the thread of a load core broke".to_owned());
            }
        }
        if let Some(delta) = self.kept.take() {
            // Only here is the reader waited for. Where it has gone there is nobody to tell.
            let _ = self.events.blocking_send(EngineEvent::Delta(*delta));
        }
        for (number, from) in self.moved.drain(..) {
            let _ = self.events.blocking_send(EngineEvent::Moved { number, from });
        }
        let last = failure.map_or(EngineEvent::Finished, EngineEvent::Failed);
        let _ = self.events.blocking_send(last);
    }

    fn moved(&mut self, core: usize, number: u64, from: RunTime) {
        let cores = self.ended.len();
        let (cores, since) = self.moves.entry(number).or_insert_with(|| (vec![false; cores], from));
        cores[core] = true;
        *since = (*since).max(from);
    }

    /// Says which moves hold on every core that still goes.
    fn tell_moves(&mut self) {
        let Self { moves, moved, ended, .. } = self;
        moves.retain(|number, (cores, from)| {
            let is_whole = cores.iter().zip(ended.iter()).all(|(holds, has_ended)| *holds || *has_ended);
            if is_whole {
                moved.push_back((*number, *from));
            }
            !is_whole
        });
        // What the reader has no room for waits for the next message of a core.
        while let Some((number, from)) = self.moved.front().copied() {
            if self.events.try_send(EngineEvent::Moved { number, from }).is_err() {
                break;
            }
            self.moved.pop_front();
        }
    }

    fn fold(&mut self, mut part: Box<Part>) {
        self.cutter.begin_at(self.steering.joined());
        self.cutter.add(&part);
        part.recorder.clear();
        // A core that has its spares already, or has ended, needs no more.
        let _ = self.spares[part.core].try_send(part.recorder);
    }

    fn tell_start(&mut self) {
        if !self.is_start_told {
            self.is_start_told = true;
            self.give(EngineEvent::Started { monotonic_ns: self.started.1 });
        }
    }

    fn give_delta(&mut self, cut: Cut) {
        // A core that was stopped before it began leaves the start to the others.
        self.tell_start();
        let Cut { mut delta, mut strain } = cut;
        delta.process.cores = self.threads.len() as u32;
        delta.process.resident_bytes = process::resident_bytes();
        delta.process.open_files = process::open_files();
        strain.throttled = self.throttle.since_last_look();
        strain.stolen = self.steal.since_last_look();
        self.saturation.judge(&mut delta, &strain);
        let delta = match self.kept.take() {
            Some(mut kept) => {
                kept.add(&delta);
                *kept
            }
            None => delta,
        };
        self.give(EngineEvent::Delta(delta));
    }

    fn give(&mut self, event: EngineEvent) {
        match self.events.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(EngineEvent::Delta(delta))) => self.kept = Some(Box::new(delta)),
            // Other events come first, when there is room.
            Err(TrySendError::Full(_)) => {}
            // Nobody wants to know: a load whose numbers are lost is not to go on.
            Err(TrySendError::Closed(_)) => self.steering.stop(0),
        }
    }
}
