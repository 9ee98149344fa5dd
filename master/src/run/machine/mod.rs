//! The coordinator of one run, without I/O: `handle(event, now) -> actions`.
//!
//! Takes what its driver hears (streams, the registry, clock measurements, the store, the user) and gives what the driver is to do.
//! It merges deltas, evaluates thresholds and knows when the run is over. The driver is wiring only.
//!
//! Rules for the driver:
//! - Events of one run are handled one at a time, actions carried out in order. `now` never goes back.
//! - A stream is named by its number: [`Action::Connect`] gives it, all events and actions of that stream carry it, and events of a stream
//!   that is not the newest one of its agent are ignored here. After `Connect` exactly one of `Opened`, `Refused` or `StreamLost` comes, within a deadline of
//!   the driver's; after `Opened`, at the end of the stream, `StreamLost` (also where the connection's keep-alive fails).
//! - [`Action::Send`] must not wait: the orders are few and small. An order that finds no stream is dropped; this machine sends again what matters.
//! - [`Action::Disconnect`] closes after the orders before it went out.
//! - The registry: at each change of the fleet while `connected`, and once after [`RunMachine::resume`], the driver says of each agent of the run whether its
//!   entry is there with that incarnation ([`Event::MemberGone`], [`Event::MemberBack`]); repeated ones do no harm. Of an elastic run it
//!   says too who could join ([`Event::Candidates`]).
//! - One durable write of a kind ([`Action::Save`] or [`Action::End`], [`Action::Commit`], [`Action::SaveChange`], [`Action::SaveMoves`], [`Action::SaveJoins`]) is asked for at a time; each is answered.
//!
//! Invariants: an Ack goes out only for deltas whose commit was confirmed; one commit is in flight at most; final figures hold committed deltas
//! only; repeated, lost, late and reordered reports change nothing but time; after [`Action::StepDown`] or [`Action::Done`] nothing follows.

mod action;
mod adjust;
mod deal;
mod event;
mod grants;
mod joins;
mod link;
mod loss;
mod moves;
mod peer;
mod prepare;
mod returns;
mod saving;
mod start;
mod steady;
mod stop;
mod take_over;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use volcanion_common::ids::{AgentId, Epoch, RunId};
use volcanion_common::plan::{Load, Plan};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Report, StopWhy};
use volcanion_common::shard::ShardTrace;
use volcanion_common::shard::split::{Weight, split};
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{RunStatus, StopReason};

use crate::evaluate::Judge;
pub use crate::merge::Part;
use crate::merge::commits::CommitQueue;
use crate::merge::complete::Collector;
pub use action::{Action, Ending, NotAdjusted, PeerMove, Save, SaveChange, SaveJoins, SaveMoves};
use adjust::Adjusting;
pub use event::{Event, NewRun, Now, TakenUp};
use joins::Joining;
use moves::Moving;
use peer::Peer;
use saving::Saving;

/// How long agents may take to compile their shards.
const PREPARE_WITHIN_NS: u64 = seconds(30);
/// How long, after the end of all grace, the last deltas are awaited.
const LAST_DELTAS_WITHIN: Micros = Micros::from_secs(10);
/// The most warnings of the master's own that a run has; further ones are not said.
const WARNINGS_MAX: usize = 1_000;
/// How long requests in flight may go on after a stop.
const STOP_GRACEFUL_MAX: Micros = Micros::from_secs(1);

const fn seconds(seconds: u64) -> u64 {
    seconds * 1_000_000_000
}

/// The coordinator of one run.
pub struct RunMachine {
    run: RunId,
    epoch: Epoch,
    key: ClusterKey,
    seed: u64,
    orphan_timeout: Option<Micros>,
    trace: Option<ShardTrace>,
    /// As split: for `per_agent` multiplied.
    plan: Plan,
    /// Of each step, whether its scenario is a closed loop.
    closed_steps: Vec<bool>,
    peers: Vec<Peer>,
    by_name: BTreeMap<AgentId, usize>,
    phase: Phase,
    /// The run's start, once it is fixed.
    start: Option<Start>,
    /// What is added to the start's lead for making it durable; grows where the store was slower.
    save_margin_ns: u64,
    /// Why the run ends otherwise than as planned.
    stop: Option<Stop>,
    status: RunStatus,
    collector: Collector,
    commits: CommitQueue,
    judge: Judge,
    saving: Saving,
    adjusting: Adjusting,
    moving: Moving,
    joining: Joining,
    warnings: Vec<WarningView>,
    /// Some of them are in no part yet.
    has_unsaid: bool,
    next_stream: u64,
    /// Intervals are not closed before this time: after a take-over the agents first get a chance to be heard.
    hold_until_ns: u64,
    now: Now,
    wake_at_ns: Option<u64>,
    /// Intervals that were closed before every awaited agent was in.
    intervals_late: u64,
    out: Vec<Action>,
}

/// What a machine has counted since its beginning, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Intervals that were closed before every awaited agent was in.
    pub intervals_late: u64,
    /// Moves of lanes that are durable, with those of earlier masters.
    pub moves_ordered: u64,
    /// Those of them that agents have confirmed.
    pub moves_settled: u64,
}

/// How far the run is, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Agents compile their shards and their clocks are measured.
    Preparing { deadline_ns: u64 },
    /// The start's instant is being made durable; nobody knows it yet.
    Starting { save: u64 },
    /// The start's instant was sent; load goes.
    Running,
    /// No new iterations; the last deltas come in.
    Stopping { deadline_ns: u64 },
    /// A run that was left before its start: its agents are told to forget it.
    Releasing { deadline_ns: u64 },
    /// Nothing more is awaited of the agents; the last parts become durable.
    Draining,
    /// The end becomes durable.
    Ending,
    /// Nothing follows.
    Over,
}

/// The instant from which run time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    /// On our monotonic clock; negative where the run is older than this machine's clock.
    at_ns: i64,
    unix_us: u64,
}

/// Why a run ends otherwise than as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stop {
    reason: StopReason,
    message: Option<String>,
    /// What agents are told.
    why: StopWhy,
    /// Since when nothing new is to start.
    at: RunTime,
}

impl RunMachine {
    /// Begins a run: the first actions connect to its agents.
    pub fn new(run: NewRun, now: Now) -> (Self, Vec<Action>) {
        let mut machine = Self::of(run, now);
        machine.advance();
        let actions = machine.take_actions();
        (machine, actions)
    }

    /// Takes one event and says what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        self.now = now;
        if self.phase != Phase::Over {
            self.take(event);
        }
        if self.phase != Phase::Over {
            self.advance();
        }
        self.take_actions()
    }

    /// How far the run is.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// Whether nothing follows any more.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        let (moves_ordered, moves_settled) = self.moving.counts();
        Tally { intervals_late: self.intervals_late, moves_ordered, moves_settled }
    }

    fn of(run: NewRun, now: Now) -> Self {
        let weights: Vec<Weight> =
            run.members.iter().map(|m| Weight { cores: m.cores, capacity: m.capacity }).collect();
        let (plan, shares) = split(&run.plan, &weights);
        let mut peers: Vec<Peer> =
            run.members.iter().zip(shares).map(|(member, shares)| Peer::new(member, shares, &plan)).collect();
        if plan.load == Load::PerAgent {
            let factor = peers.len() as u64;
            peers.iter_mut().for_each(|peer| peer.factor = factor);
        }
        let closed_steps = plan
            .steps()
            .map(|step| {
                plan.scenarios.get(step.scenario as usize).is_some_and(|s| !s.executor.is_open_loop())
            })
            .collect();
        let joining = Joining::new(&run);
        Self {
            run: run.run,
            epoch: run.epoch,
            key: run.key,
            seed: run.seed,
            orphan_timeout: run.orphan_timeout,
            trace: run.trace,
            closed_steps,
            by_name: peers.iter().enumerate().map(|(i, peer)| (peer.id().clone(), i)).collect(),
            phase: Phase::Preparing { deadline_ns: now.monotonic_ns + PREPARE_WITHIN_NS },
            start: None,
            save_margin_ns: start::SAVE_MARGIN_NS,
            stop: None,
            status: RunStatus::Preparing,
            collector: Collector::new(plan.interval, peers.len()),
            commits: CommitQueue::default(),
            judge: Judge::new(&plan),
            saving: Saving::default(),
            joining,
            adjusting: Adjusting::new(run.plan),
            moving: Moving::default(),
            warnings: Vec::new(),
            has_unsaid: false,
            next_stream: 1,
            hold_until_ns: 0,
            now,
            wake_at_ns: None,
            intervals_late: 0,
            out: Vec::new(),
            plan,
            peers,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened { agent, stream, welcome } => {
                if let Some(i) = self.on_stream(&agent, stream) {
                    self.opened(i, stream, &welcome);
                }
            }
            Event::Refused { agent, stream, reason, fatal } => {
                if let Some(i) = self.on_stream(&agent, stream) {
                    self.refused(i, &reason, fatal);
                }
            }
            Event::StreamLost { agent, stream } => {
                if let Some(i) = self.on_stream(&agent, stream) {
                    self.stream_lost(i);
                }
            }
            Event::Report { agent, stream, report } => {
                if let Some(i) = self.on_stream(&agent, stream) {
                    self.reported(i, report);
                }
            }
            Event::MemberGone { agent, incarnation } => self.member(&agent, incarnation, true),
            Event::MemberBack { agent, incarnation } => self.member(&agent, incarnation, false),
            Event::ClockMeasured { agent, offset_ns, round_trip_ns } => {
                self.clock_measured(&agent, offset_ns, round_trip_ns);
            }
            Event::Committed { part } => self.committed(part),
            Event::CommitFailed { part, fenced } => self.commit_failed(part, fenced),
            Event::Saved { save } => self.saved(save),
            Event::SaveFailed { save, fenced } => self.save_failed(save, fenced),
            Event::ChangeSaved { change } => self.change_saved(change),
            Event::ChangeFailed { change, fenced } => self.change_failed(change, fenced),
            Event::MovesSaved { batch } => self.moves_saved(batch),
            Event::MovesFailed { batch, fenced } => self.moves_failed(batch, fenced),
            Event::Candidates { members } => self.candidates(members),
            Event::JoinsSaved { batch } => self.joins_saved(batch),
            Event::JoinsFailed { batch, fenced } => self.joins_failed(batch, fenced),
            Event::StopRequested => self.stop_requested(),
            Event::AdjustRequested { request, scenario, level } => {
                self.adjust_requested(request, scenario, level);
            }
            // The wake that was asked for is used up, even where it came early.
            Event::Tick => self.wake_at_ns = None,
        }
    }

    fn reported(&mut self, i: usize, report: Report) {
        self.peers[i].link.heard();
        match report {
            // The stream's first report; it comes as `Opened`.
            Report::Welcome(_) => {}
            Report::Prepared { .. } => self.prepared(i),
            Report::Started { monotonic_ns } => self.started(i, monotonic_ns),
            Report::Adjusted { number, from } => self.adjusted(i, number, from),
            Report::Moved(moved) => self.moved(i, moved),
            Report::Delta(frame) => self.frame(i, frame),
            Report::Finished { last_seq } => self.finished(i, last_seq),
            Report::Fault { code, message } => self.fault(i, &code, &message),
            Report::Draining => self.draining(i),
        }
    }

    /// What follows from the state and the time, whatever the event was.
    fn advance(&mut self) {
        match self.phase {
            Phase::Preparing { deadline_ns } => self.advance_preparing(deadline_ns),
            Phase::Starting { .. } => {}
            Phase::Running => self.advance_running(),
            Phase::Stopping { deadline_ns } => self.advance_stopping(deadline_ns),
            Phase::Releasing { deadline_ns } => self.advance_releasing(deadline_ns),
            Phase::Draining | Phase::Ending | Phase::Over => {}
        }
        self.advance_joins();
        self.advance_links();
        self.advance_changes();
        self.advance_moves();
        self.advance_writes();
        self.plan_wake();
    }

    /// The agent of a name, where `stream` is its newest stream.
    fn on_stream(&self, agent: &AgentId, stream: u64) -> Option<usize> {
        let i = *self.by_name.get(agent)?;
        (self.peers[i].link.stream() == Some(stream)).then_some(i)
    }

    /// Run time now; the start where that is still to come.
    fn run_now(&self) -> RunTime {
        let since_ns =
            self.start.map_or(0, |start| i128::from(self.now.monotonic_ns) - i128::from(start.at_ns));
        RunTime(u64::try_from(since_ns / 1_000).unwrap_or(0))
    }

    /// When a moment of run time is, on our monotonic clock.
    fn at_run_time(&self, time: RunTime) -> u64 {
        let start_ns = self.start.map_or(i128::from(self.now.monotonic_ns), |start| i128::from(start.at_ns));
        u64::try_from(start_ns + i128::from(time.0) * 1_000).unwrap_or(0)
    }

    fn warn(&mut self, code: &str, agent: Option<usize>, message: String) {
        let agent = agent.map(|i| self.peers[i].id().to_string());
        let is_known =
            self.warnings.iter().any(|w| w.code == code && w.agent == agent && w.message == message);
        if !is_known && self.warnings.len() < WARNINGS_MAX {
            let warning = WarningView {
                code: code.to_owned(),
                since_ms: self.run_now().as_millis_f64(),
                agent,
                message,
            };
            self.warnings.push(warning.clone());
            self.has_unsaid = true;
            self.out.push(Action::Warn(warning));
        }
    }

    /// The next time at which something is due without an event.
    fn plan_wake(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let phase = match self.phase {
            Phase::Preparing { deadline_ns }
            | Phase::Stopping { deadline_ns }
            | Phase::Releasing { deadline_ns } => Some(deadline_ns),
            _ => None,
        };
        let writes =
            [self.saving.wake_ns(), self.adjusting.wake_ns(), self.moving.wake_ns(), self.joining.wake_ns()];
        let due = [phase, self.steady_wake_ns(), self.links_wake_ns()].into_iter().chain(writes);
        // What is due now was done now; a millisecond keeps a mistake here from becoming a busy loop.
        let earliest = self.now.monotonic_ns + 1_000_000;
        let wake = due.flatten().min().map(|due| due.max(earliest));
        if let Some(monotonic_ns) = wake
            && self.wake_at_ns != wake
        {
            self.wake_at_ns = wake;
            self.out.push(Action::WakeAt { monotonic_ns });
        }
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }
}
