//! One run's task: the machine connected to its stream, its engine and the clock. Only wiring is here.
//!
//! The task never waits for a slow leader: reports queue here, and the machine's rules bound the queue (at most `UNACKED_MAX` deltas and a
//! few words a stream; a delta's bytes are shared with the outbox). A new stream has a queue of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tonic::{Status, Streaming};
use tracing::{Span, debug, info, warn};
use volcanion_common::ids::{AgentId, Epoch, RunId};
use volcanion_common::session::{Hello, Order, Report};
use volcanion_common::shard::Shard;
use volcanion_common::telemetry::queue::Queue;
use volcanion_common::telemetry::trace::Tracer;
use volcanion_common::units::Micros;
use volcanion_proto::v1 as pb;

use super::fence::{Refusal, Tombstone};
use super::lease::Lease;
use super::load::{Fault, Load, LoadEvent, Loader, Running};
use super::machine::{Action, Event, Machine, Now, StreamId};
use super::performance::Performance;
use super::spans::RunSpans;
use super::tally::Tally;
use crate::expose::seen::Seen;
use crate::send::clock::now_ns;

/// How often a run looks whether it may still load.
const TICK: Duration = Duration::from_millis(200);
/// How long the last reports of a run that is forgotten may take to leave.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// How long a load that was dropped may take to end its threads.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// Reports on their way to a leader; a full channel makes them wait in the run's queue.
pub type ReportSender = mpsc::Sender<Result<pb::Report, Status>>;

/// What a run's task is told.
pub enum RunMessage {
    /// A stream began.
    Open {
        /// Its first order.
        hello: Hello,
        /// The others.
        orders: Box<Streaming<pb::Order>>,
        /// What goes up.
        reports: ReportSender,
    },
    /// The agent leaves.
    Leave,
    /// The agent drains.
    Drain,
    /// The kill switch was thrown.
    Kill,
}

/// What every run's task is given.
pub struct Surroundings {
    /// Compiles shards.
    pub loader: Arc<dyn Loader>,
    /// Whether the registry entry lives.
    pub lease: Lease,
    /// What the agent's metrics show.
    pub seen: Arc<Seen>,
    /// Takes the spans of its runs.
    pub tracer: Tracer,
    /// What they show of streams, orders and queues.
    pub tally: Arc<Tally>,
}

/// What a compilation gives.
struct Compiled {
    attempt: u32,
    result: Result<Box<dyn Load>, Fault>,
}

/// A stream's two halves.
struct Halves {
    id: StreamId,
    orders: Box<Streaming<pb::Order>>,
    reports: ReportSender,
}

struct Driver {
    run: RunId,
    machine: Machine,
    around: Arc<Surroundings>,
    /// The newest stream, until the machine has judged it.
    candidate: Option<Halves>,
    stream: Option<Halves>,
    streams: u64,
    /// For the stream, in order.
    queue: VecDeque<Report>,
    compilations: JoinSet<Compiled>,
    /// The newest compilation's number.
    attempt: u32,
    compiled: Option<Box<dyn Load>>,
    running: Option<Running>,
    performance: Performance,
    spans: RunSpans,
    /// Set once the run is forgotten.
    end: Option<Option<Tombstone>>,
}

/// What woke the task.
enum Turn {
    Message(Option<RunMessage>),
    Epoch,
    Order(Result<Option<pb::Order>, Status>),
    Written,
    Load(Option<LoadEvent>),
    Compiled(Compiled),
    Tick,
}

/// Drives a run until it is forgotten; gives what is to be remembered of it.
pub async fn drive(
    run: RunId,
    machine: Machine,
    around: Arc<Surroundings>,
    mut inbox: mpsc::Receiver<RunMessage>,
    mut epochs: watch::Receiver<Epoch>,
) -> Option<Tombstone> {
    let mut driver = Driver {
        run,
        machine,
        spans: RunSpans::new(run, around.tracer.clone()),
        around,
        candidate: None,
        stream: None,
        streams: 0,
        queue: VecDeque::new(),
        compilations: JoinSet::new(),
        attempt: 0,
        compiled: None,
        running: None,
        performance: Performance::new(run),
        end: None,
    };
    // What the run was begun for goes before any look at the clock, which would find nobody to serve; the look comes right behind it, for load that
    // begins before it would find no lease.
    driver.turn(Turn::Message(inbox.recv().await));
    driver.step(Turn::Tick, &mut epochs);
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while driver.end.is_none() {
        let (orders, reports) = match &mut driver.stream {
            Some(stream) => (Some(stream.orders.as_mut()), Some(&stream.reports)),
            None => (None, None),
        };
        // Every branch is cancel-safe: channels, a watch, an interval, and a stream whose state is in itself.
        let turn = tokio::select! {
            message = inbox.recv() => Turn::Message(message),
            Ok(()) = epochs.changed() => Turn::Epoch,
            order = next_order(orders) => Turn::Order(order),
            written = write_one(reports, &mut driver.queue) => {
                if written { Turn::Written } else { Turn::Order(Ok(None)) }
            }
            event = next_event(driver.running.as_mut()) => Turn::Load(event),
            Some(compiled) = driver.compilations.join_next() => match compiled {
                Ok(compiled) => Turn::Compiled(compiled),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Turn::Tick,
            },
            _ = ticks.tick() => Turn::Tick,
        };
        driver.step(turn, &mut epochs);
    }
    driver.wind_up(inbox).await
}

async fn next_order(orders: Option<&mut Streaming<pb::Order>>) -> Result<Option<pb::Order>, Status> {
    match orders {
        Some(orders) => orders.message().await,
        None => std::future::pending().await,
    }
}

/// Hands the queue's first report over as soon as there is room; false: the other side is gone.
async fn write_one(reports: Option<&ReportSender>, queue: &mut VecDeque<Report>) -> bool {
    let Some(reports) = reports.filter(|_| !queue.is_empty()) else { return std::future::pending().await };
    let Ok(permit) = reports.reserve().await else { return false };
    if let Some(report) = queue.pop_front() {
        permit.send(Ok(report.into()));
    }
    true
}

async fn next_event(running: Option<&mut Running>) -> Option<LoadEvent> {
    match running {
        Some(running) => running.events.recv().await,
        None => std::future::pending().await,
    }
}

impl Driver {
    fn step(&mut self, turn: Turn, epochs: &mut watch::Receiver<Epoch>) {
        // A higher epoch counts before whatever an older leader still says.
        if epochs.has_changed().unwrap_or(false) || matches!(turn, Turn::Epoch) {
            let epoch = *epochs.borrow_and_update();
            self.take(Event::EpochSeen(epoch));
        }
        self.turn(turn);
        self.around.seen.unacked(self.run, self.machine.outbox().unacked_count());
        self.around.seen.hands_over(self.run, self.machine.is_handing_over());
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Message(Some(RunMessage::Open { hello, orders, reports })) => {
                self.streams += 1;
                let stream = StreamId(self.streams);
                self.candidate = Some(Halves { id: stream, orders, reports });
                self.take(Event::Opened { stream, hello });
            }
            // Without its desk a run has nobody left to serve; it ends as on leaving.
            Turn::Message(Some(RunMessage::Leave) | None) => self.take(Event::Leave),
            Turn::Message(Some(RunMessage::Drain)) => self.take(Event::Drain),
            Turn::Message(Some(RunMessage::Kill)) => self.take(Event::Kill),
            Turn::Epoch | Turn::Written => {}
            Turn::Order(order) => self.on_order(order),
            Turn::Load(event) => self.on_load(event),
            Turn::Compiled(Compiled { attempt, result }) => {
                if attempt == self.attempt {
                    self.spans.prepared(result.is_ok());
                }
                let result = result.map(|load| {
                    let cores = load.cores();
                    if attempt == self.attempt {
                        self.around.seen.began(self.run, load.names());
                        self.compiled = Some(load);
                    }
                    cores
                });
                self.take(Event::Compiled { attempt, result });
            }
            Turn::Tick => {
                let lease_until_ns = self.around.lease.alive_until_ns();
                self.take(Event::Tick { lease_until_ns });
            }
        }
    }

    fn on_order(&mut self, order: Result<Option<pb::Order>, Status>) {
        let Some(stream) = self.stream.as_ref().map(|stream| stream.id) else { return };
        match order.map(|order| order.map(Order::try_from)) {
            Ok(Some(Ok(order))) => self.take(Event::Order { stream, order }),
            Ok(Some(Err(unreadable))) => {
                warn!(run_id = %self.run, error = %unreadable, "an order cannot be read; the stream ends");
                self.end_stream(Status::invalid_argument(unreadable.to_string()));
                self.take(Event::Lost { stream });
            }
            ended => {
                match ended {
                    Err(status) => info!(run_id = %self.run, error = %status.message(), "the stream broke"),
                    _ => info!(run_id = %self.run, "the leader ended the stream"),
                }
                self.stream = None;
                self.queue.clear();
                self.take(Event::Lost { stream });
            }
        }
    }

    fn on_load(&mut self, event: Option<LoadEvent>) {
        let event = event.unwrap_or_else(|| LoadEvent::Failed("the engine ended without a word".to_owned()));
        match &event {
            LoadEvent::Started { monotonic_ns } => {
                self.spans.load();
                info!(run_id = %self.run, monotonic_ns, "load has started");
            }
            LoadEvent::Delta(delta) => {
                self.around.seen.delta(self.run, delta);
                self.performance.add(delta);
            }
            LoadEvent::Moved { number, from } => {
                info!(run_id = %self.run, number, from_ms = from.as_millis_f64(), "lanes have moved");
            }
            LoadEvent::Finished => info!(run_id = %self.run, "load is over"),
            LoadEvent::Failed(message) => warn!(run_id = %self.run, error = message, "the engine failed"),
        }
        if matches!(event, LoadEvent::Finished | LoadEvent::Failed(_)) {
            self.spans.finish(matches!(event, LoadEvent::Finished));
            self.running = None;
            self.performance.flush();
        }
        self.take(Event::Load(event));
    }

    /// Hands an event to the machine and does what it says.
    fn take(&mut self, event: Event) {
        let now = Now { monotonic_ns: now_ns(), unix_ms: unix_ms() };
        let mut failed_start = None;
        for action in self.machine.handle(event, now) {
            match action {
                Action::Send(report) => self.queue.push_back(report),
                Action::Refused { order, refusal } => {
                    note_refusal(order, Some(self.run), self.machine.agent(), &refusal);
                    self.around.tally.refused(refusal.code());
                }
                Action::Refuse { stream, refusal } => {
                    note_refusal("Hello", Some(self.run), self.machine.agent(), &refusal);
                    self.around.tally.refused(refusal.code());
                    if let Some(halves) = self.candidate.take_if(|candidate| candidate.id == stream) {
                        // A channel of a stream that said nothing yet has room.
                        let _ = halves.reports.try_send(Err(refused(refusal.code(), &refusal.to_string())));
                    }
                }
                Action::Adopt { stream } => {
                    self.end_stream(Status::aborted("a newer stream has replaced this one"));
                    self.stream = self.candidate.take_if(|candidate| candidate.id == stream);
                    if let Some(halves) = &self.stream {
                        self.around.tally.opened(self.run, Queue::of(&halves.reports));
                    }
                    info!(run_id = %self.run, state = ?self.machine.state(), "a leader's stream is open");
                }
                Action::Close { reason } => {
                    info!(run_id = %self.run, reason, "the stream is ended");
                    self.end_stream(Status::aborted(reason));
                }
                Action::Compile { attempt, shard } => self.compile(attempt, shard),
                Action::Start { at_ns } => failed_start = self.start(at_ns),
                Action::Stop { graceful, reason } => {
                    info!(run_id = %self.run, reason, graceful = %graceful, "load is stopped");
                    if let Some(running) = &self.running {
                        running.control.stop(graceful);
                    }
                }
                Action::Adjust(adjustment) => {
                    let (change, from_ms) = (adjustment.change, adjustment.from.as_millis_f64());
                    info!(run_id = %self.run, change.number, change.scenario, to = %change.level, from_ms, "the level changes");
                    if let Some(running) = &self.running {
                        running.control.adjust(adjustment);
                    }
                }
                Action::Move(order) => {
                    let (release, take) = (order.release.len(), order.take.len());
                    info!(run_id = %self.run, order.number, order.scenario, release, take, from_ms = order.from.as_millis_f64(), "lanes move");
                    if let Some(running) = &self.running {
                        running.control.move_lanes(&order);
                    }
                }
                Action::AllowUntil { monotonic_ns } => {
                    if let Some(running) = &self.running {
                        running.control.allow_until(monotonic_ns);
                    }
                }
                Action::Discard => {
                    self.compiled = None;
                    if let Some(running) = &self.running {
                        running.control.stop(Micros::ZERO);
                    }
                }
                Action::Forget { tombstone } => self.end = Some(tombstone),
            }
        }
        if let Some(fault) = failed_start {
            self.take(Event::Load(LoadEvent::Failed(fault.message)));
        }
    }

    fn compile(&mut self, attempt: u32, mut shard: Box<Shard>) {
        self.attempt = attempt;
        self.compiled = None;
        self.spans.prepare(&mut shard);
        let (around, span) = (self.around.clone(), Span::current());
        self.compilations.spawn_blocking(move || {
            let _in_run = span.enter();
            let result = around.loader.prepare(&shard);
            if let Err(fault) = &result {
                warn!(run_id = %shard.run, agent_id = %shard.agent, code = fault.code, reason = fault.message, "the shard cannot be carried");
            }
            Compiled { attempt, result }
        });
    }

    fn start(&mut self, at_ns: u64) -> Option<Fault> {
        let load = self.compiled.take()?;
        self.spans.start();
        match load.start(at_ns) {
            Ok(running) => {
                self.running = Some(running);
                None
            }
            Err(fault) => {
                self.spans.finish(false);
                Some(fault)
            }
        }
    }

    fn end_stream(&mut self, status: Status) {
        self.queue.clear();
        if let Some(stream) = self.stream.take() {
            self.around.tally.closed(self.run);
            // Where the leader does not read there is no room for the reason; the stream's end says enough.
            let _ = stream.reports.try_send(Err(status));
        }
    }

    /// Lets the last reports out, sends away who came too late, and waits for the engine's threads.
    async fn wind_up(mut self, mut inbox: mpsc::Receiver<RunMessage>) -> Option<Tombstone> {
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            if let RunMessage::Open { reports, .. } = message {
                let _ =
                    reports.try_send(Err(Status::unavailable("the run is just being forgotten; ask again")));
            }
        }
        if let Some(stream) = self.stream.take() {
            let flush = async {
                for report in self.queue.drain(..) {
                    if stream.reports.send(Ok(report.into())).await.is_err() {
                        break;
                    }
                }
            };
            let _ = timeout(FLUSH_WAIT, flush).await;
        }
        if let Some(mut running) = self.running.take() {
            running.control.stop(Micros::ZERO);
            let _ = timeout(WIND_DOWN, async { while running.events.recv().await.is_some() {} }).await;
        }
        self.around.seen.ended(self.run);
        let tombstone = self.end.flatten();
        info!(run_id = %self.run, ?tombstone, "the run is forgotten");
        debug!(run_id = %self.run, last_seq = %self.machine.outbox().last(), "its last delta");
        tombstone
    }
}

/// Notes that an order was not obeyed; the run is what the order says, where it can be read.
pub fn note_refusal(order: &str, run: Option<RunId>, agent: &AgentId, refusal: &Refusal) {
    let run_id = run.map(tracing::field::display);
    warn!(order, run_id, agent_id = %agent, code = refusal.code(), reason = %refusal, "an order was refused");
}

/// How a refusal looks to a leader.
pub fn refused(code: &str, message: &str) -> Status {
    Status::failed_precondition(format!("{code}: {message}"))
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
