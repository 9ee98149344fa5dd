//! One task a run: its machine's actions into I/O, and what comes of them back into events.
//!
//! It decides nothing. It never waits for I/O either: streams, the store and clocks have tasks of their own, which answer through one
//! bounded inbox (a full one makes them wait). Invariants: the store's writes of a run go out in the order in which the machine asked for
//! them; an end is shown only once it is durable; nothing is written or sent after the machine stepped down.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use volcanion_common::ids::{AgentId, RunId};
use volcanion_common::plan::Load;
use volcanion_common::registry::{Fleet, Member};
use volcanion_common::session::{Hello, Order, Report};
use volcanion_common::telemetry::queue::Queue;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{LevelView, Metrics, RunView};

use super::adjust::AdjustRequest;
use super::inside::{DriverQueues, INBOX_MAX, WRITES_MAX};
use super::live::Live;
use super::machine::{Action, Ending, Event, NotAdjusted, Now, PeerMove, RunMachine, Save, SaveJoins};
use super::origin::Origin;
use super::outgoing::{Feed, TakenUpAt};
use super::table::Shared;
use super::writer::{self, Write};
use crate::fleet::choose::Reservation;
use crate::fleet::clock::monotonic_ns;
use crate::session::{self, Session, SessionEvent};

/// How long the last orders and tasks may take once the run is over.
const WIND_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a going run says in the log how it performs.
const PERFORMANCE_LINE_EVERY: Duration = Duration::from_secs(5);

/// What a driver needs of the world.
pub(crate) struct RunContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: RunId,
    pub(crate) live: Arc<Live>,
    /// Cancelled when somebody asks for the run's end.
    pub(crate) stop: CancellationToken,
    /// Levels that are asked for.
    pub(crate) asked: mpsc::Receiver<AdjustRequest>,
    /// The run's agents, held until it is over.
    pub(crate) reservation: Reservation,
    /// What asked for it, and its spans.
    pub(crate) origin: Origin,
}

/// A run's machine in the world.
pub(super) struct Driver {
    context: RunContext,
    machine: RunMachine,
    /// The run's agents as they were chosen.
    members: Vec<Member>,
    fleet: watch::Receiver<Fleet>,
    /// The registry tells nothing more.
    is_watch_over: bool,
    events: mpsc::Receiver<Event>,
    inbox: mpsc::Sender<Event>,
    /// What this driver itself has to say; goes before the inbox.
    own_events: VecDeque<Event>,
    sessions: HashMap<AgentId, (u64, Session)>,
    writes: mpsc::Sender<Write>,
    tasks: JoinSet<()>,
    wake_at_ns: Option<u64>,
    last_performance_line: Instant,
    is_stop_said: bool,
    /// Who waits for a change of level, by the request's number.
    asking: HashMap<u64, oneshot::Sender<Result<(), NotAdjusted>>>,
    requests: u64,
    /// Agents that were not reached when they were last tried, and why: said once.
    unreached: HashMap<AgentId, String>,
    is_over: bool,
}

impl Driver {
    pub(super) fn new(
        context: RunContext,
        machine: RunMachine,
        members: Vec<Member>,
        taken_up_at: Option<TakenUpAt>,
    ) -> Self {
        let (inbox, events) = mpsc::channel(INBOX_MAX);
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let queues = DriverQueues { inbox: Queue::of(&inbox), writes: Queue::of(&writes) };
        context.live.inside().driven(queues);
        let mut tasks = JoinSet::new();
        let (shared, live) = (Arc::clone(&context.shared), Arc::clone(&context.live));
        let outgoing = shared.outgoing.clone();
        let feed = outgoing.map(|outgoing| Feed::new(outgoing, context.run, Arc::clone(&live), taken_up_at));
        let written = writer::write(shared, context.run, live, feed, queue, inbox.clone());
        tasks.spawn(written.in_current_span());
        Self {
            fleet: context.shared.agents.subscribe(),
            is_watch_over: false,
            context,
            machine,
            members,
            events,
            inbox,
            own_events: VecDeque::new(),
            sessions: HashMap::new(),
            writes,
            tasks,
            wake_at_ns: None,
            last_performance_line: Instant::now(),
            is_stop_said: false,
            asking: HashMap::new(),
            requests: 0,
            unreached: HashMap::new(),
            is_over: false,
        }
    }

    pub(super) async fn run(&mut self) {
        while !self.is_over {
            let Some(event) = self.next_event().await else { return };
            let actions = self.handle(event);
            self.act_all(actions);
        }
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let inside = self.context.live.inside();
        match &event {
            Event::Opened { agent, stream, .. } => {
                inside.opened(agent, *stream);
                self.unreached.remove(agent);
            }
            Event::StreamLost { agent, stream } => inside.closed(agent, *stream),
            Event::Refused { agent, stream, reason, .. } => {
                inside.closed(agent, *stream);
                if self.unreached.insert(agent.clone(), reason.clone()).as_ref() != Some(reason) {
                    tracing::warn!(run_id = %self.context.run, agent_id = %agent, reason, "an agent is not reached");
                }
            }
            _ => {}
        }
        let is_delta = matches!(event, Event::Report { report: Report::Delta(_), .. });
        let began = Instant::now();
        let actions = self.machine.handle(event, now());
        if is_delta {
            inside.merged(began.elapsed());
        }
        inside.counted(self.machine.tally());
        actions
    }

    /// The next thing that happens to the run; `None`: this master is to leave it as it is.
    async fn next_event(&mut self) -> Option<Event> {
        let shared = Arc::clone(&self.context.shared);
        loop {
            if let Some(event) = self.own_events.pop_front() {
                return Some(event);
            }
            // Every branch may be dropped half-way: each is a wait that takes nothing out before it is done.
            tokio::select! {
                biased;
                () = shared.deposed.cancelled() => return None,
                () = shared.stop.cancelled(), if !shared.stops_runs_on_exit() => return None,
                () = self.context.stop.cancelled(), if !self.is_stop_said => {
                    self.is_stop_said = true;
                    return Some(Event::StopRequested);
                }
                () = sleep_until(self.wake_at_ns), if self.wake_at_ns.is_some() => {
                    self.wake_at_ns = None;
                    return Some(Event::Tick);
                }
                Some(request) = self.context.asked.recv() => return Some(self.asked(request)),
                // This driver holds a sender, so the inbox does not close.
                event = self.events.recv() => match event {
                    Some(event) if !self.is_awaited(&event) => {}
                    event => return event,
                },
                changed = self.fleet.changed(), if !self.is_watch_over => match changed {
                    Ok(()) => self.look_at_fleet(),
                    // As at the process's end: nobody is declared dead any more.
                    Err(_) => self.is_watch_over = true,
                },
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                },
            }
        }
    }

    fn asked(&mut self, AdjustRequest { scenario, level, answer }: AdjustRequest) -> Event {
        self.requests += 1;
        self.asking.insert(self.requests, answer);
        Event::AdjustRequested { request: self.requests, scenario, level }
    }

    /// Shows the levels, then answers whoever asked for them.
    fn adjusted(&mut self, request: u64, result: Result<Vec<LevelView>, NotAdjusted>) {
        let result = result.map(|levels| {
            let view = self.context.live.view();
            self.context.live.publish_view(RunView { levels, ..view });
        });
        if let Some(answer) = self.asking.remove(&request) {
            // Whoever asked may have gone.
            let _ = answer.send(result);
        }
    }

    /// Events of streams that were closed or replaced are not.
    fn is_awaited(&self, event: &Event) -> bool {
        match event {
            Event::Opened { agent, stream, .. }
            | Event::Refused { agent, stream, .. }
            | Event::StreamLost { agent, stream }
            | Event::Report { agent, stream, .. } => {
                self.sessions.get(agent).is_some_and(|(newest, _)| newest == stream)
            }
            _ => true,
        }
    }

    /// Without those that would make more copies of the plan than this master allows a run.
    fn within_caps(&self, members: Vec<Member>) -> Vec<Member> {
        let plan = self.context.live.plan();
        if plan.load != Load::PerAgent {
            return members;
        }
        let own = self.context.reservation.members();
        let is_own = |member: &Member| own.iter().any(|own| own.id == member.id);
        let mut room = self.context.shared.config.caps.copies_max(plan).saturating_sub(own.len() as u64);
        let mut has_room = |member: &Member| {
            let may = is_own(member) || room > 0;
            room -= u64::from(!is_own(member) && room > 0);
            may
        };
        members.into_iter().filter(|member| has_room(member)).collect()
    }

    /// Says of each of the run's agents whether it is in the registry, where that can be known.
    pub(super) fn look_at_fleet(&mut self) {
        let fleet = self.fleet.borrow_and_update().clone();
        if !fleet.connected {
            return;
        }
        let choice = &self.context.live.plan().agents;
        if self.context.live.plan().elastic {
            let members = self.context.shared.agents.free_for(choice, &self.context.reservation);
            let members = self.within_caps(members);
            self.own_events.push_back(Event::Candidates { members });
        }
        for Member { id, incarnation, .. } in &self.members {
            let is_there = fleet.members.get(id).is_some_and(|member| member.incarnation == *incarnation);
            let (agent, incarnation) = (id.clone(), *incarnation);
            self.own_events.push_back(if is_there {
                Event::MemberBack { agent, incarnation }
            } else {
                Event::MemberGone { agent, incarnation }
            });
        }
    }

    pub(super) fn act_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { agent, stream, hello } => self.connect(agent, stream, hello),
            Action::Disconnect { agent, stream } => {
                if self.sessions.get(&agent).is_some_and(|(newest, _)| *newest == stream) {
                    self.sessions.remove(&agent);
                    self.context.live.inside().closed(&agent, stream);
                }
            }
            Action::Send { agent, stream, order } => self.send(&agent, stream, order),
            Action::MeasureClock { agent } => self.measure_clock(agent),
            Action::Save(save) => self.save(save),
            Action::SaveChange(change) => {
                let (number, level, at_ms) =
                    (change.change.number, change.change.level, change.change.at.as_millis_f64());
                tracing::info!(run_id = %self.context.run, number, to = %level, at_ms, "the level is to change");
                self.write(Write::Change(change));
            }
            Action::SaveMoves(save) => {
                for PeerMove { agent, order, .. } in &save.moves {
                    let (release, take) = (order.release.len(), order.take.len());
                    let from_ms = order.from.as_millis_f64();
                    tracing::info!(run_id = %self.context.run, number = order.number, agent_id = %agent, release, take, from_ms, "lanes are to move");
                }
                self.write(Write::Moves(save));
            }
            Action::SaveJoins(save) => self.join(save),
            Action::Adjusted { request, result } => self.adjusted(request, result),
            Action::Commit(part) => self.write(Write::Part(part)),
            Action::Publish { metrics, totals } => {
                self.say_performance(&metrics);
                self.context.live.publish_metrics(metrics, totals);
            }
            Action::Warn(warning) => self.warn(warning),
            Action::WakeAt { monotonic_ns } => self.wake_at_ns = Some(monotonic_ns),
            Action::End(ending) => self.end(*ending),
            Action::StepDown => {
                tracing::warn!(run_id = %self.context.run, "another master leads; this one leaves the run to it");
                self.context.shared.deposed.cancel();
                self.is_over = true;
            }
            Action::Done => self.is_over = true,
        }
    }

    fn connect(&mut self, agent: AgentId, stream: u64, hello: Hello) {
        // The machine names only the run's own agents.
        let Some(member) = self.member(&agent) else { return };
        let shared = &self.context.shared;
        let sealed = hello.sealed(&shared.config.cluster_key, now().unix_ms + session::HELLO_EXPIRES_MS);
        let client = shared.dialer.client(&member.address);
        let (client, sealed) = match (client, sealed) {
            (Ok(client), Ok(sealed)) => (client, sealed),
            (client, sealed) => {
                // No later try finds another address, unless the agent registers one: while the load goes that is waited for.
                let reasons = [
                    client.err().map(|error| error.to_string()),
                    sealed.err().map(|error| error.to_string()),
                ];
                let reason = reasons.into_iter().flatten().collect::<Vec<_>>().join("; ");
                return self.own_events.push_back(Event::Refused { agent, stream, reason, fatal: true });
            }
        };
        tracing::debug!(run_id = %self.context.run, agent_id = %agent, stream, "opening a stream");
        let wrap = {
            let agent = agent.clone();
            move |event| {
                let agent = agent.clone();
                match event {
                    SessionEvent::Opened(welcome) => Event::Opened { agent, stream, welcome },
                    SessionEvent::Refused { reason, fatal } => {
                        Event::Refused { agent, stream, reason, fatal }
                    }
                    SessionEvent::Report(report) => Event::Report { agent, stream, report },
                    SessionEvent::Lost => Event::StreamLost { agent, stream },
                }
            }
        };
        let request_id = self.context.origin.request_id.as_deref();
        let (session, task) =
            session::open(client, agent.clone(), sealed, request_id, self.inbox.clone(), wrap);
        self.tasks.spawn(task.in_current_span());
        self.context.live.inside().opening(agent.clone(), stream, session.queue());
        self.sessions.insert(agent, (stream, session));
    }

    fn send(&self, agent: &AgentId, stream: u64, order: Order) {
        if let Some((_, session)) = self.sessions.get(agent).filter(|(newest, _)| *newest == stream) {
            session.send(order);
        }
    }

    fn measure_clock(&mut self, agent: AgentId) {
        let Some(member) = self.member(&agent) else { return };
        let (shared, inbox) = (Arc::clone(&self.context.shared), self.inbox.clone());
        let measuring = async move {
            let measured = shared.agents.clocks().measure(&shared.dialer, &member).await;
            if let Some(clock) = measured {
                let event = Event::ClockMeasured {
                    agent,
                    offset_ns: clock.offset_ns,
                    round_trip_ns: clock.round_trip_ns,
                };
                // A closed inbox means that the run is over.
                let _ = inbox.send(event).await;
            }
        };
        self.tasks.spawn(measuring.in_current_span());
    }

    /// The run's agent with its newest address: the registry's where that knows this very process.
    fn member(&self, agent: &AgentId) -> Option<Member> {
        // Of two processes of a name the later one is meant.
        let chosen = self.members.iter().rev().find(|member| member.id == *agent)?;
        let now = self.context.shared.agents.member(agent, chosen.incarnation);
        Some(now.unwrap_or_else(|| chosen.clone()))
    }

    fn join(&mut self, save: SaveJoins) {
        let is_new = |member: &&Member| {
            let is_same = |known: &Member| (&known.id, known.incarnation) == (&member.id, member.incarnation);
            !self.members.iter().any(is_same)
        };
        let new: Vec<Member> = save.joined.iter().filter(is_new).cloned().collect();
        if !self.context.reservation.join(&new) {
            // Another run was quicker.
            return self.own_events.push_back(Event::JoinsFailed { batch: save.batch, fenced: false });
        }
        for Member { id, incarnation, .. } in &new {
            tracing::info!(run_id = %self.context.run, agent_id = %id, %incarnation, "an agent joins");
        }
        self.members.extend(new);
        self.write(Write::Joins(save));
    }

    fn save(&mut self, save: Save) {
        self.context.origin.saved(save.status, save.start_at_unix_us.is_some());
        let mut view = self.context.live.view();
        if view.status != save.status {
            tracing::info!(run_id = %self.context.run, status = save.status.name(), "run is {}", save.status.name());
        }
        view.status = save.status;
        view.start_at = save.start_at_unix_us.and_then(|us| {
            i64::try_from(us)
                .ok()
                .and_then(|us| Timestamp::from_microsecond(us).ok())
                .map(|at| at.to_string())
        });
        self.context.live.publish_view(view);
        self.write(Write::Save(save));
    }

    fn end(&mut self, ending: Ending) {
        self.context.origin.ended(ending.status);
        self.write(Write::End(Box::new(ending)));
    }

    fn write(&mut self, write: Write) {
        // The machine asks for no more than fits; should it, then the write failed, and is asked for again.
        if let Err(refused) = self.writes.try_send(write) {
            self.own_events.push_back(refused.into_inner().failed(false));
        }
    }

    fn warn(&self, warning: WarningView) {
        tracing::warn!(
            run_id = %self.context.run, code = warning.code, agent_id = warning.agent.as_deref(), since_ms = warning.since_ms,
            "{}", warning.message
        );
        self.context.live.publish_warning(warning);
    }

    fn say_performance(&mut self, metrics: &Metrics) {
        if self.last_performance_line.elapsed() < PERFORMANCE_LINE_EVERY {
            return;
        }
        self.last_performance_line = Instant::now();
        tracing::info!(
            run_id = %self.context.run,
            requests = metrics.total_requests,
            failed = metrics.failed_requests,
            rps = metrics.current_rps,
            p50_ms = metrics.p50_latency_ms,
            p95_ms = metrics.p95_latency_ms,
            p99_ms = metrics.p99_latency_ms,
            vus = metrics.active_workers,
            dropped = metrics.dropped_iterations,
            "performance"
        );
    }

    /// Closes what is open; the last orders get a moment.
    pub(super) async fn wind_up(mut self) {
        self.sessions.clear();
        self.context.live.inside().all_closed();
        drop(self.writes);
        // Whoever still has something to say says it to nobody, instead of waiting.
        drop(self.events);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        // What has not ended by then is cut off with the set.
        let _ = tokio::time::timeout(WIND_UP_TIMEOUT, all_ended).await;
    }
}

async fn sleep_until(wake_at_ns: Option<u64>) {
    if let Some(wake_at_ns) = wake_at_ns {
        tokio::time::sleep(Duration::from_nanos(wake_at_ns.saturating_sub(monotonic_ns()))).await;
    }
}

pub(super) fn now() -> Now {
    Now { monotonic_ns: monotonic_ns(), unix_ms: Timestamp::now().as_millisecond().max(0) as u64 }
}
