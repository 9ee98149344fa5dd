//! One run on this agent: `handle(event, now) → actions`. No I/O, no clock; the driver connects it to stream, engine and time.
//!
//! - Only the newest stream is heard. A stream of an equal or higher epoch replaces the one before; a lower one is refused.
//! - An order that comes again changes nothing and is answered with what is true.
//! - Load goes on while a leader was heard within the orphan timeout **and** there is a live stream or a live lease; else it stops
//!   at once (`Tick` looks, and the engine holds the same limit). A stream is live for [`STREAM_TRUST`] after its leader's last word was *said*: a word
//!   that was held up on its way, or lay here while this process was frozen, says when that was by our own clock. A lease that ran out and was taken anew
//!   counts only once a leader has spoken since: till then others may have been given the agent's part.
//! - A shard whose load is over is kept until all its deltas are durable, for a bounded time.
//! - An agent that leaves a run which is elastic hands its lanes over first and loads on until then.
//! - A run is forgotten exactly once, by the last action ever given: [`Action::Forget`].

mod adjust;
mod event;
mod leave;
mod moves;
mod orphan;
mod prepare;

use std::sync::Arc;

use ring::digest::Digest;
use volcanion_common::delta::{Delta, Warning};
use volcanion_common::ids::{AgentId, Epoch, RunId, Seq};
use volcanion_common::session::{DeltaFrame, Hello, Order, Report, ShardState, Welcome};
use volcanion_common::units::{Micros, RunTime};

pub use event::{Action, Event, Now, StreamId};
pub use leave::{HAND_OVER_MAX, HAND_OVER_WAIT, HANDED_OVER_GRACEFUL, LEAVE_GRACEFUL};

use super::fence::{Identity, Refusal, Tombstone};
use super::load::{Adjustment, Fault, LoadEvent};
use crate::delta::outbox::{Outbox, Sent};

/// How long a stream counts as live after its leader's last word. A leader says something each second, and gives up a stream
/// that does not answer for this long.
pub const STREAM_TRUST: Micros = Micros::from_secs(4);
/// No order makes the orphan timeout shorter than this: a leader says something each second.
const ORPHAN_TIMEOUT_MIN: Micros = Micros::from_secs(1);
/// How long an orphaned shard's unacknowledged deltas are kept for a leader that comes back, after the orphan timeout.
pub const ORPHAN_KEEP: Micros = Micros::from_secs(600);

#[derive(Debug)]
enum Phase {
    /// Nothing is known of the run.
    New,
    Compiling,
    Prepared {
        cores: u32,
    },
    /// Started, or waiting for the start's instant.
    Running {
        /// Where run time begins, on our monotonic clock.
        at_ns: u64,
        /// When the last core began.
        started_ns: Option<u64>,
    },
    /// Load is over, or never was.
    Finished,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    epoch: Epoch,
    is_finish_said: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    identity: Arc<Identity>,
    run: RunId,
    /// This process's own, until the order names a lesser one.
    orphan_timeout: Micros,
    phase: Phase,
    stream: Option<Stream>,
    /// The highest that was seen.
    epoch: Epoch,
    outbox: Outbox,
    /// When a leader was last heard, whenever it said so.
    heard_ns: u64,
    /// When a leader spoke last, or later than this.
    spoken_ns: u64,
    /// When anything happened last; a tick comes five times a second.
    seen_ns: u64,
    /// Until when the registry entry was sure to be there, as of the last look; 0: nobody looked yet.
    lease_until_ns: u64,
    /// When it was last not sure to be; 0: never.
    lease_lapsed_ns: u64,
    /// What the engine was last told.
    allowed_until_ns: u64,
    /// Of the shard that is held, without what a repetition may change.
    fingerprint: Option<Digest>,
    attempts: u32,
    /// Every change of level that was taken, by its number from 1 on.
    adjustments: Vec<Adjustment>,
    /// The shard's lanes, and every move of them that was taken.
    lanes: moves::Lanes,
    /// Present once the agent is to hand its part over.
    hand_over: Option<leave::HandOver>,
    /// Why load ended early, for every leader that asks.
    fault: Option<Fault>,
    /// Go up with the next delta, one of a code.
    warnings: Vec<Warning>,
    /// The end of the last delta.
    reported: RunTime,
    is_leaving: bool,
    /// Whether load was stopped because no leader could be heard.
    is_orphaned: bool,
    is_forgotten: bool,
}

impl Machine {
    /// A run of which nothing is known yet.
    pub fn new(identity: Arc<Identity>, run: RunId, orphan_timeout: Micros) -> Self {
        Self {
            identity,
            run,
            orphan_timeout,
            phase: Phase::New,
            stream: None,
            epoch: Epoch(0),
            outbox: Outbox::default(),
            heard_ns: 0,
            spoken_ns: 0,
            seen_ns: u64::MAX,
            lease_until_ns: 0,
            lease_lapsed_ns: 0,
            allowed_until_ns: 0,
            fingerprint: None,
            attempts: 0,
            adjustments: Vec::new(),
            lanes: moves::Lanes::default(),
            hand_over: None,
            fault: None,
            warnings: Vec::new(),
            reported: RunTime::START,
            is_leaving: false,
            is_orphaned: false,
            is_forgotten: false,
        }
    }

    /// A run that was forgotten after all of its deltas were durable, so that a leader that asks again is told so.
    pub fn ended(identity: Arc<Identity>, run: RunId, orphan_timeout: Micros, last: Seq) -> Self {
        Self {
            phase: Phase::Finished,
            outbox: Outbox::ended(last),
            ..Self::new(identity, run, orphan_timeout)
        }
    }

    /// Whose part of the run this is.
    pub fn agent(&self) -> &AgentId {
        &self.identity.agent
    }

    /// What waits for its acknowledgement.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// How far the shard is.
    pub fn state(&self) -> ShardState {
        match self.phase {
            Phase::New | Phase::Compiling => ShardState::New,
            Phase::Prepared { .. } => ShardState::Prepared,
            Phase::Running { .. } => ShardState::Running,
            Phase::Finished => ShardState::Finished,
        }
    }

    /// Takes an event and says what is to be done, in order. After [`Action::Forget`] nothing is done any more.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_forgotten {
            return actions;
        }
        self.see_pause(now, &mut actions);
        match event {
            Event::Opened { stream, hello } => self.on_opened(stream, &hello, now, &mut actions),
            Event::Order { stream, order } => {
                if self.stream.as_ref().is_some_and(|ours| ours.id == stream) {
                    self.heard_ns = now.monotonic_ns;
                    self.on_order(order, now, &mut actions);
                }
            }
            Event::Lost { stream } => {
                if self.stream.as_ref().is_some_and(|ours| ours.id == stream) {
                    self.stream = None;
                }
            }
            Event::EpochSeen(epoch) => self.on_epoch(epoch, &mut actions),
            Event::Compiled { attempt, result } => self.on_compiled(attempt, result, &mut actions),
            Event::Load(event) => self.on_load(event, now, &mut actions),
            Event::Leave => self.on_leave(now, &mut actions),
            Event::Drain => self.on_drain(now, &mut actions),
            Event::Kill => self.on_kill(&mut actions),
            Event::Tick { lease_until_ns } => self.on_tick(lease_until_ns, now, &mut actions),
        }
        self.see_hand_over(now, &mut actions);
        self.settle(&mut actions);
        actions
    }

    /// After a pause of the whole process what still comes down the stream may be from before it, and its leader may have given this agent up: before
    /// load begins it is to say anew that it wants it. (Load that goes has a fence, which has come meanwhile.)
    fn see_pause(&mut self, now: Now, actions: &mut Vec<Action>) {
        let paused = Micros(now.monotonic_ns.saturating_sub(self.seen_ns) / 1_000);
        self.seen_ns = now.monotonic_ns;
        let waits = matches!(self.phase, Phase::Compiling | Phase::Prepared { .. });
        if waits && paused >= STREAM_TRUST {
            self.close(format!("this process was held up for {paused}"), actions);
        }
    }

    fn on_opened(&mut self, stream: StreamId, hello: &Hello, now: Now, actions: &mut Vec<Action>) {
        if hello.epoch < self.epoch {
            let refusal = Refusal::StaleEpoch { asked: hello.epoch, highest: self.epoch };
            return actions.push(Action::Refuse { stream, refusal });
        }
        if self.is_leaving && matches!(self.phase, Phase::New) {
            return actions.push(Action::Refuse { stream, refusal: Refusal::Leaving });
        }
        if let Err(error) = self.outbox.ack(hello.last_seq) {
            return actions.push(Action::Refuse { stream, refusal: error.into() });
        }
        self.epoch = hello.epoch;
        self.heard_ns = now.monotonic_ns;
        self.stream = Some(Stream { id: stream, epoch: hello.epoch, is_finish_said: false });
        actions.push(Action::Adopt { stream });
        actions.push(Action::Send(Report::Welcome(Welcome {
            incarnation: self.identity.incarnation,
            state: self.state(),
            run_time: self.run_time(now),
            first_unacked: self.outbox.first_unacked(),
            adjusted: self.adjustments.len() as u64,
            moved: self.lanes.held(),
            monotonic_ns: now.monotonic_ns,
        })));
        self.say_late_adjustments(actions);
        match self.phase {
            Phase::Prepared { cores } => self.send(Report::Prepared { cores }, actions),
            Phase::Running { started_ns: Some(monotonic_ns), .. } => {
                self.send(Report::Started { monotonic_ns }, actions);
            }
            _ => {}
        }
        if let Some(fault) = &self.fault {
            self.send(fault.report(), actions);
        }
        if self.is_leaving || self.hand_over.is_some() {
            self.send(Report::Draining, actions);
        }
        for sent in self.outbox.unacked() {
            send_delta(sent, actions);
        }
    }

    fn on_order(&mut self, order: Order, now: Now, actions: &mut Vec<Action>) {
        match order {
            Order::Hello(_) => self.close("a second hello on one stream".to_owned(), actions),
            Order::Prepare { sealed_shard, seal } => {
                if let Err(refusal) = self.on_prepare(&sealed_shard, &seal, now, actions) {
                    self.refuse("Prepare", refusal, actions);
                }
            }
            Order::StartAt { monotonic_ns } => self.on_start_at(monotonic_ns, now, actions),
            Order::Stop { why, graceful } => self.stop(graceful, &format!("ordered: {why:?}"), actions),
            Order::Adjust(change) => self.on_adjust(change, now, actions),
            Order::Move(order) => {
                self.lanes_move(now);
                self.on_move(order, actions);
            }
            Order::Ack(seq) => {
                if let Err(error) = self.outbox.ack(seq) {
                    self.close(error.to_string(), actions);
                }
            }
            Order::Alive { monotonic_ns } => {
                self.spoken_ns = self.spoken_ns.max(monotonic_ns.min(now.monotonic_ns));
            }
            Order::Release => {
                actions.push(Action::Discard);
                let last_seq = self.outbox.last();
                let is_durable = self.outbox.is_empty() && !matches!(self.phase, Phase::Running { .. });
                let tombstone = if is_durable { Tombstone::Durable { last_seq } } else { Tombstone::GivenUp };
                self.forget(Some(tombstone), actions);
            }
        }
    }

    fn on_epoch(&mut self, epoch: Epoch, actions: &mut Vec<Action>) {
        self.epoch = self.epoch.max(epoch);
        if self.stream.as_ref().is_some_and(|stream| stream.epoch < self.epoch) {
            self.close(format!("a leader of epoch {} has taken office", self.epoch), actions);
        }
    }

    fn on_load(&mut self, event: LoadEvent, now: Now, actions: &mut Vec<Action>) {
        let Phase::Running { at_ns, .. } = self.phase else { return };
        match event {
            LoadEvent::Started { monotonic_ns } => {
                // Who joins has the run's own zero, however long ago that was.
                let monotonic_ns = if self.lanes.joins { at_ns } else { monotonic_ns };
                self.phase = Phase::Running { at_ns, started_ns: Some(monotonic_ns) };
                self.send(Report::Started { monotonic_ns }, actions);
            }
            LoadEvent::Delta(delta) => {
                // The load looks at its fence itself, and may have come there before this looked.
                if self.allowed_until_ns > 0 && self.allowed_until_ns <= now.monotonic_ns && !self.is_orphaned
                {
                    self.warn(
                        "orphaned",
                        "load was stopped: neither a leader's stream nor a live registry entry",
                    );
                }
                self.on_delta(delta);
            }
            LoadEvent::Moved { number, from } => self.on_moved(number, from, actions),
            LoadEvent::Finished => {
                self.phase = Phase::Finished;
                self.hold_all_moves(actions);
            }
            LoadEvent::Failed(message) => {
                let fault = Fault { code: "engine".to_owned(), message };
                self.send(fault.report(), actions);
                self.fault = Some(fault);
                self.phase = Phase::Finished;
                self.hold_all_moves(actions);
            }
        }
    }

    fn on_delta(&mut self, mut delta: Delta) {
        delta.warnings.append(&mut self.warnings);
        self.reported = delta.to;
        self.outbox.push(delta);
    }

    /// What follows from the state whatever the event was: deltas that may go, the end that may be said, the run that may be
    /// forgotten.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        if self.is_forgotten {
            return;
        }
        let is_over = matches!(self.phase, Phase::Finished);
        if let Some(stream) = &mut self.stream {
            while let Some(sent) = self.outbox.send_next() {
                send_delta(&sent, actions);
            }
            if is_over && self.outbox.all_sent() && !stream.is_finish_said {
                stream.is_finish_said = true;
                actions.push(Action::Send(Report::Finished { last_seq: self.outbox.last() }));
            }
        }
        if is_over && self.outbox.is_empty() && (self.is_leaving || self.stream.is_none()) {
            self.forget(Some(Tombstone::Durable { last_seq: self.outbox.last() }), actions);
        } else if matches!(self.phase, Phase::New) && self.stream.is_none() {
            self.forget(None, actions);
        }
    }

    fn stop(&mut self, graceful: Micros, reason: &str, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::New => self.phase = Phase::Finished,
            Phase::Compiling | Phase::Prepared { .. } => {
                actions.push(Action::Discard);
                self.phase = Phase::Finished;
            }
            Phase::Running { .. } => actions.push(Action::Stop { graceful, reason: reason.to_owned() }),
            Phase::Finished => {}
        }
    }

    fn forget(&mut self, tombstone: Option<Tombstone>, actions: &mut Vec<Action>) {
        self.is_forgotten = true;
        actions.push(Action::Forget { tombstone });
    }

    fn close(&mut self, reason: String, actions: &mut Vec<Action>) {
        if self.stream.take().is_some() {
            actions.push(Action::Close { reason });
        }
    }

    /// Says to the leader that an order is not obeyed, and has it noted.
    fn refuse(&self, order: &'static str, refusal: Refusal, actions: &mut Vec<Action>) {
        self.send(Fault::from(&refusal).report(), actions);
        actions.push(Action::Refused { order, refusal });
    }

    fn send(&self, report: Report, actions: &mut Vec<Action>) {
        if self.stream.is_some() {
            actions.push(Action::Send(report));
        }
    }

    fn warn(&mut self, code: &str, message: &str) {
        let is_said = self.warnings.iter().any(|warning| warning.code == code);
        if matches!(self.phase, Phase::Running { .. }) && !is_said {
            self.warnings.push(Warning {
                code: code.to_owned(),
                message: message.to_owned(),
                since: self.reported,
                until: self.reported,
                ..Warning::default()
            });
        }
    }

    fn run_time(&self, now: Now) -> RunTime {
        match self.phase {
            Phase::Running { started_ns: Some(started_ns), .. } => {
                RunTime(now.monotonic_ns.saturating_sub(started_ns) / 1_000)
            }
            Phase::Running { started_ns: None, .. } => RunTime::START,
            _ => self.reported,
        }
    }
}

fn send_delta(sent: &Sent, actions: &mut Vec<Action>) {
    let frames = DeltaFrame::cut(sent.seq, sent.bytes.clone());
    actions.extend(frames.into_iter().map(|frame| Action::Send(Report::Delta(frame))));
}

#[cfg(test)]
mod tests;
