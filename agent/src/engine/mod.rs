//! The engine: the load cores of one run, from their start to their last delta.
//!
//! Takes a [`Program`], gives [`EngineEvent`]s. A core is a thread with a runtime, connections, VUs, schedules and a recorder of its own;
//! cores share nothing on the request path. One more thread folds what the cores hand over into the agent's deltas.
//!
//! Lanes may come and go while it goes: [`EngineHandle::move_lanes`].
//!
//! Invariants: every iteration that was started ends as completed or interrupted; every owned arrival that was due is
//! started or dropped; every sample is in exactly one delta. A core that panics ends the load with
//! [`EngineEvent::Failed`], never with silence (where panics unwind; a release build aborts the process instead).

mod collect;
mod core;
mod deal;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod handovers;
mod load;
pub mod pin;
mod steering;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod vu;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::Span;
use volcanion_common::delta::Delta;
use volcanion_common::session::Move;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::split::all_over_cores;
use volcanion_common::units::{Micros, RunTime};

use crate::prepare::Program;
use crate::schedule::Iterations;
use crate::schedule::pacer::QUANTUM;
use crate::send::clock::now_ns;
use collect::{Collector, Message};
use core::Setup;
pub use steering::Adjustment;
use steering::Steering;

/// Events that wait for their reader. When it is full, deltas are folded together until there is room: nothing is lost, and
/// no core ever waits.
const EVENTS_MAX: usize = 64;
/// Messages of a core that wait to be folded. When it is full, a core keeps what it has until the next boundary.
const MESSAGES_MAX: usize = 16;
/// How long a core may take to be ready.
const READY_WAIT: Duration = Duration::from_secs(20);

/// How a load is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// The most load cores; at least 1. No more are used than have something to do.
    pub cores: usize,
    /// Whether each core is pinned to a CPU.
    pub pin: bool,
    /// Whether a core spins while run time goes, rather than sleep until something is due: for CPUs that have nothing else to do.
    pub busy_poll: bool,
    /// The least distance at which a core's timer is armed, at most [`QUANTUM_MAX`](crate::schedule::pacer::QUANTUM_MAX): what falls due
    /// meanwhile is sent at one wake.
    pub quantum: Micros,
}

impl EngineSettings {
    /// So many cores, neither pinned nor spinning, with the usual quantum.
    pub fn new(cores: usize) -> Self {
        Self { cores, pin: false, busy_poll: false, quantum: QUANTUM }
    }
}

/// Why a load cannot be carried.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The system gives no thread.
    #[error("no thread for load core {core}: {source}; raise the limit on threads")]
    Thread {
        /// Which.
        core: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// A core cannot be made ready.
    #[error("load core {core} cannot be made ready: {reason}")]
    Core {
        /// Which.
        core: usize,
        /// Why.
        reason: String,
    },
}

impl EngineError {
    /// A word for machines.
    pub fn code(&self) -> &'static str {
        "engine"
    }
}

/// What a load tells, in this order: `Started`, a `Delta` an interval, and at last `Finished` or `Failed`.
#[derive(Debug)]
pub enum EngineEvent {
    /// All cores have begun.
    Started {
        /// When the last of them did, in nanoseconds of CLOCK_MONOTONIC.
        monotonic_ns: u64,
    },
    /// A move of lanes holds on every core.
    Moved {
        /// The move's number.
        number: u64,
        /// Since when, or from when on.
        from: RunTime,
    },
    /// What happened in a span of run time. Spans are gapless from 0, or from the boundary before the load joined; a slow reader gets longer ones.
    Delta(Delta),
    /// The load is over, and every delta was given.
    Finished,
    /// The load broke off; what was counted until then was given as far as it could be.
    Failed(String),
}

/// Cores that are ready and wait for their start. Dropped, they end.
#[derive(Debug)]
pub struct PreparedEngine {
    handle: EngineHandle,
    events: mpsc::Receiver<EngineEvent>,
    cores: u32,
    /// Whether it has no lane of its own yet, and so joins a run that may go already.
    joins: bool,
    interval: Micros,
}

/// Steers a load. When the last clone is dropped the load is stopped at once: it never outlives its owner.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    steering: Arc<Steering>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.steering.stop(now_ns());
    }
}

/// Makes the cores of a program ready: threads, runtimes, VUs that are there from the start. Blocks for some milliseconds. What the threads log
/// carries the fields of the caller's span.
///
/// # Errors
/// The system gives no thread, or no runtime.
pub fn prepare(program: Arc<Program>, settings: EngineSettings) -> Result<PreparedEngine, EngineError> {
    let shares = shares_of_cores(&program, settings.cores.max(1));
    let cores = shares.len();
    let iterations: Vec<Iterations> = program
        .scenarios
        .iter()
        .map(|scenario| Iterations::of(&scenario.executor, &scenario.share))
        .collect();
    let steering = Arc::new(Steering::new(&shares));
    // From here on an early return drops it, which ends the threads that are there.
    let handle = EngineHandle { owner: Arc::new(Owner { steering: steering.clone() }) };
    let (messages, inbox) = sync_channel(MESSAGES_MAX * cores);
    let (mut threads, mut spares) = (Vec::with_capacity(cores), Vec::with_capacity(cores));
    let possible: Vec<ScenarioShare> = program.scenarios.iter().map(|scenario| scenario.possible()).collect();
    let possible = all_over_cores(&possible, cores);
    for (core, (shares, possible)) in shares.into_iter().zip(possible).enumerate() {
        let (spare, own_spares) = sync_channel(2);
        let setup = Setup {
            core,
            settings,
            program: program.clone(),
            shares,
            possible,
            iterations: iterations.clone(),
            steering: steering.clone(),
            messages: messages.clone(),
            spares: own_spares,
        };
        let span = Span::current();
        let thread = thread::Builder::new()
            .name(format!("load-{core}"))
            .spawn(move || span.in_scope(|| core::run(setup)));
        threads.push(thread.map_err(|source| EngineError::Thread { core, source })?);
        spares.push(spare);
    }
    drop(messages);
    await_ready(&inbox, cores)?;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let joins = program.joins();
    let interval = Micros(program.interval.0.max(1));
    let collector = Collector::new(&program, inbox, spares, threads, steering, sender);
    let span = Span::current();
    let thread =
        thread::Builder::new().name("load-fold".to_owned()).spawn(move || span.in_scope(|| collector.run()));
    thread.map_err(|source| EngineError::Thread { core: cores, source })?;
    Ok(PreparedEngine { handle, events, cores: cores as u32, joins, interval })
}

/// Each core's share of each scenario, for as many cores as have one, or may get one; at least one core.
fn shares_of_cores(program: &Program, cores_max: usize) -> Vec<Vec<ScenarioShare>> {
    let shares: Vec<ScenarioShare> =
        program.scenarios.iter().map(|scenario| scenario.share.clone()).collect();
    let mut cores = all_over_cores(&shares, cores_max);
    let is_idle = |shares: &&Vec<ScenarioShare>| shares.iter().all(|share| share.owned.is_empty());
    let idle = cores.iter().rev().take_while(is_idle).count();
    let to_come = shares.iter().map(|share| share.lanes as usize).max().unwrap_or(0);
    let at_least = if program.is_elastic { to_come.min(cores.len()) } else { 1 };
    cores.truncate((cores.len() - idle).max(at_least).max(1));
    cores
}

fn await_ready(inbox: &Receiver<Message>, cores: usize) -> Result<(), EngineError> {
    for _ in 0..cores {
        match inbox.recv_timeout(READY_WAIT) {
            Ok(Message::Ended { core, result: Err(reason) }) => {
                return Err(EngineError::Core { core, reason });
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let reason = format!("it was not ready within {} s", READY_WAIT.as_secs());
                return Err(EngineError::Core { core: cores, reason });
            }
        }
    }
    Ok(())
}

impl PreparedEngine {
    /// Load cores that are used.
    pub fn cores(&self) -> u32 {
        self.cores
    }

    /// Lets run time begin at this instant of CLOCK_MONOTONIC. Where that has passed already: now, or, for a load without a lane, then all the same: it joins a run that
    /// goes.
    pub fn start(self, start_monotonic_ns: u64) -> (EngineHandle, mpsc::Receiver<EngineEvent>) {
        let now_ns = now_ns();
        let steering = &self.handle.owner.steering;
        if self.joins {
            let gone = Micros(now_ns.saturating_sub(start_monotonic_ns) / 1_000);
            let joined = RunTime(gone.0 / self.interval.0 * self.interval.0);
            steering.start(start_monotonic_ns, joined);
        } else {
            steering.start(start_monotonic_ns.max(now_ns), RunTime::START);
        }
        (self.handle, self.events)
    }
}

impl EngineHandle {
    /// From now on no iteration starts. Those in flight go on for `graceful` at most; the rest is interrupted. May be
    /// called again: the earliest end holds.
    pub fn stop(&self, graceful: Micros) {
        self.owner.steering.stop(now_ns().saturating_add(graceful.as_nanos()));
    }

    /// A scenario has another level from a moment of run time on. To be told some milliseconds before that moment: what was started before it was told
    /// cannot be taken back.
    pub fn adjust(&self, adjustment: Adjustment) {
        self.owner.steering.adjust(adjustment);
    }

    /// Lanes come and go from a moment of run time on; said by [`EngineEvent::Moved`] once that holds. To be told after the start, in the order in which the moves are to
    /// hold; what comes late holds later.
    pub fn move_lanes(&self, order: &Move) {
        self.owner.steering.move_lanes(order);
    }

    /// Fences the load: nothing is sent from this instant of CLOCK_MONOTONIC on, unless the fence was moved before. Looked at before
    /// each sending; when it is reached the load stops at once. Without a call there is none.
    pub fn allow_until(&self, monotonic_ns: u64) {
        self.owner.steering.allow_until(monotonic_ns);
    }
}
