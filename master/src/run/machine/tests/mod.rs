//! Event sequences, with a bench that plays the driver: it keeps the streams' numbers, answers durable writes when told to, and checks what must
//! hold after every step.

mod adjust;
mod faults;
mod joins;
mod life;
mod moves;
mod random;
mod returns;
mod take_over;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use volcanion_common::delta::{Delta, ScenarioDelta, Warning};
use volcanion_common::ids::{AgentId, Epoch, Incarnation, RunId, Seq};
use volcanion_common::plan::document;
use volcanion_common::registry::{Member, MemberState};
use volcanion_common::series::{Outcome, Series, SeriesKey};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{
    Change, DeltaFrame, Hello, Moved, Order, Report, ShardState, StopWhy, Welcome,
};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, RunTime};
use volcanion_common::validate::ValidPlan;
use volcanion_common::view::metrics::WarningView;
use volcanion_common::view::{RunStatus, StopReason};

use super::{Action, Ending, Event, NewRun, NotAdjusted, Now, Part, PeerMove, RunMachine, Save, TakenUp};
use crate::merge::AgentState;

const MS: u64 = 1_000_000;
/// Each agent's monotonic clock minus ours.
const OFFSET_NS: i64 = -7_000_000_000;
const UNIX_MS: u64 = 1_800_000_000_000;

/// A plan of one open loop: `rate` iterations of one request a second for `seconds`.
fn open_plan(rate: u64, seconds: u64, more: Value) -> Arc<ValidPlan> {
    plan(
        json!({ "executor": "constant-arrival-rate", "rate": format!("{rate}/s"), "duration": format!("{seconds}s"), "max_vus": 100 }),
        more,
    )
}

/// A plan of one closed loop.
fn closed_plan(seconds: u64, more: Value) -> Arc<ValidPlan> {
    plan(json!({ "executor": "constant-vus", "vus": 10, "duration": format!("{seconds}s") }), more)
}

fn plan(mut scenario: Value, more: Value) -> Arc<ValidPlan> {
    scenario["steps"] = json!([{ "name": "home", "get": "/" }]);
    scenario["graceful_stop"] = json!("2s");
    let mut document =
        json!({ "name": "t", "target": "http://127.0.0.1:1", "scenarios": { "main": scenario } });
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    Arc::new(document::from_json(&document).unwrap_or_else(|problems| panic!("{problems}")).plan)
}

fn member(name: &str, incarnation: u64) -> Member {
    Member {
        id: name.into(),
        incarnation: Incarnation(incarnation),
        address: "127.0.0.1:1".to_owned(),
        metrics_address: None,
        version: "0".to_owned(),
        labels: BTreeMap::new(),
        cores: 1,
        capacity: 1.0,
        requests_per_s: None,
        state: MemberState::Ready,
    }
}

fn new_run(plan: Arc<ValidPlan>, agents: &[&str]) -> NewRun {
    NewRun {
        run: RunId::new(),
        epoch: Epoch(3),
        plan,
        members: agents.iter().enumerate().map(|(i, name)| member(name, 100 + i as u64)).collect(),
        key: ClusterKey::new("a key of the tests").unwrap(),
        seed: 5,
        orphan_timeout: None,
        trace: None,
    }
}

/// So many requests of the first step, all of status 200, in [from, to) milliseconds; as many iterations.
fn delta(from_ms: u64, to_ms: u64, requests: u64) -> Delta {
    let mut series = Series { requests, ..Series::default() };
    (0..requests).for_each(|i| series.response_time.record(Micros(1_000 + i)));
    series.service_time = series.response_time.clone();
    let scenario =
        ScenarioDelta { started: requests, completed: requests, vus: 5, ..ScenarioDelta::default() };
    Delta {
        from: RunTime(from_ms * 1_000),
        to: RunTime(to_ms * 1_000),
        series: [(SeriesKey { step: 0, outcome: Outcome::Status(200) }, series)].into(),
        scenarios: [(0, scenario)].into(),
        ..Delta::default()
    }
}

fn frames(seq: u64, delta: &Delta) -> Vec<Report> {
    DeltaFrame::cut(Seq(seq), delta.to_bytes().into()).into_iter().map(Report::Delta).collect()
}

/// What a store would hold.
#[derive(Clone, Default)]
struct Stored {
    save: Option<Save>,
    total: Delta,
    next_part: u64,
    parts: Vec<Arc<Part>>,
    agents: BTreeMap<AgentId, AgentState>,
    changes: BTreeMap<u64, Change>,
    moves: BTreeMap<u64, PeerMove>,
    joined: Vec<Member>,
    warnings: Vec<WarningView>,
    ending: Option<Ending>,
}

/// Plays the driver.
struct Bench {
    machine: RunMachine,
    run: NewRun,
    now: Now,
    /// The wall clock where the monotonic one is 0.
    unix_ms_at_0: u64,
    stored: Stored,
    /// Whether durable writes are answered at once.
    store_answers: bool,
    /// Writes that wait for an answer.
    writes: Vec<Action>,
    /// The newest stream of each agent, with its Hello; gone when it was closed.
    streams: BTreeMap<AgentId, (u64, Hello)>,
    wake_at_ns: u64,
    /// All actions so far, durable writes' answers included.
    seen: Vec<Action>,
    is_over: bool,
}

impl Bench {
    fn new(plan: Arc<ValidPlan>, agents: &[&str]) -> Self {
        let run = new_run(plan, agents);
        let now = Now { monotonic_ns: 50_000 * MS, unix_ms: UNIX_MS };
        let (machine, actions) = RunMachine::new(run.clone(), now);
        Self::with(machine, actions, run, now, Stored { next_part: 1, ..Stored::default() })
    }

    fn with(machine: RunMachine, actions: Vec<Action>, run: NewRun, now: Now, stored: Stored) -> Self {
        let mut bench = Self {
            machine,
            run,
            now,
            unix_ms_at_0: now.unix_ms - now.monotonic_ns / MS,
            stored,
            store_answers: true,
            writes: Vec::new(),
            streams: BTreeMap::new(),
            wake_at_ns: 0,
            seen: Vec::new(),
            is_over: false,
        };
        bench.carry_out(actions);
        bench
    }

    /// A run of these agents whose load has begun.
    fn running(plan: Arc<ValidPlan>, agents: &[&str]) -> Self {
        let mut bench = Self::new(plan, agents);
        for agent in agents {
            bench.open(agent, ShardState::New);
            bench.clock(agent, 1);
            bench.report(agent, Report::Prepared { cores: 1 });
        }
        let start_ns = bench.start_ns();
        bench.at_ns(start_ns);
        for agent in agents {
            bench.report(agent, Report::Started { monotonic_ns: (start_ns as i64 + OFFSET_NS) as u64 });
        }
        bench.seen.clear();
        bench
    }

    /// The next master: knows what is stored, after so many milliseconds.
    fn taken_over(&self, after_ms: u64) -> Self {
        let stored = self.stored.clone();
        // Another process on another machine: another monotonic clock.
        let now = Now { monotonic_ns: 900 * MS, unix_ms: self.now.unix_ms + after_ms };
        let run = NewRun { epoch: Epoch(self.run.epoch.0 + 1), ..self.run.clone() };
        let taken = TakenUp {
            run: run.clone(),
            status: stored.save.as_ref().map_or(RunStatus::Preparing, |save| save.status),
            stop_reason: stored.save.as_ref().and_then(|save| save.stop_reason),
            start_at_unix_us: stored.save.as_ref().and_then(|save| save.start_at_unix_us),
            total: stored.total.clone(),
            agents: stored.agents.values().cloned().collect(),
            next_part: stored.next_part,
            changes: stored.changes.values().copied().collect(),
            moves: stored.moves.values().cloned().collect(),
            joined: stored.joined.clone(),
            warnings: stored.warnings.clone(),
        };
        let (machine, actions) = RunMachine::resume(taken, now);
        Self::with(machine, actions, run, now, stored)
    }

    fn event(&mut self, event: Event) {
        let actions = self.machine.handle(event, self.now);
        assert!(!self.is_over || actions.is_empty(), "nothing follows the end: {actions:?}");
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match &action {
                Action::Connect { agent, stream, hello } => {
                    self.streams.insert(agent.clone(), (*stream, hello.clone()));
                }
                Action::Disconnect { agent, stream } => {
                    let closed = self.streams.remove(agent);
                    assert_eq!(closed.map(|(ours, _)| ours), Some(*stream), "a stream is closed once");
                }
                Action::Send { agent, stream, order } => {
                    assert_eq!(self.streams.get(agent).map(|(ours, _)| *ours), Some(*stream), "{order:?}");
                    if let Order::Adjust(change) = order {
                        let kept = self.stored.changes.get(&change.number).map(|kept| kept.at);
                        assert_eq!(kept, Some(change.at), "ordered before it was durable");
                    }
                    if let Order::Move(order) = order {
                        let kept = self.stored.moves.get(&order.number).map(|kept| &kept.order);
                        assert_eq!(kept, Some(order), "ordered before it was durable");
                    }
                    if let Order::Ack(seq) = order {
                        let durable = self.stored.agents.get(agent).map(|state| state.seq);
                        assert!(
                            durable >= Some(*seq),
                            "{seq} of {agent} was acknowledged before it was durable"
                        );
                    }
                }
                Action::WakeAt { monotonic_ns } => self.wake_at_ns = *monotonic_ns,
                Action::Save(_)
                | Action::Commit(_)
                | Action::End(_)
                | Action::SaveChange(_)
                | Action::SaveMoves(_)
                | Action::SaveJoins(_) => {
                    self.writes.push(action.clone());
                }
                Action::StepDown | Action::Done => self.is_over = true,
                Action::MeasureClock { .. }
                | Action::Publish { .. }
                | Action::Warn(_)
                | Action::Adjusted { .. } => {}
            }
            self.seen.push(action);
        }
        if self.store_answers {
            self.answer_writes();
        }
    }

    fn answer_writes(&mut self) {
        while !self.writes.is_empty() {
            self.answer_write();
        }
    }

    /// Makes the oldest write durable and says so.
    fn answer_write(&mut self) {
        let answer = match self.writes.remove(0) {
            Action::Save(save) => {
                let number = save.number;
                self.stored.save = Some(save);
                Event::Saved { save: number }
            }
            Action::End(ending) => {
                let number = ending.number;
                self.stored.ending = Some(*ending);
                Event::Saved { save: number }
            }
            Action::Commit(part) => {
                let number = part.number;
                self.store(part);
                Event::Committed { part: number }
            }
            Action::SaveChange(save) => {
                let number = save.change.number;
                self.stored.changes.insert(number, save.change);
                Event::ChangeSaved { change: number }
            }
            Action::SaveMoves(save) => {
                self.store_moves(&save.moves);
                Event::MovesSaved { batch: save.batch }
            }
            Action::SaveJoins(save) => {
                self.stored.joined = save.joined;
                Event::JoinsSaved { batch: save.batch }
            }
            other => panic!("not a write: {other:?}"),
        };
        self.event(answer);
    }

    fn store_moves(&mut self, moves: &[PeerMove]) {
        self.stored.moves.extend(moves.iter().map(|kept| (kept.order.number, kept.clone())));
    }

    fn store(&mut self, part: Arc<Part>) {
        if part.number < self.stored.next_part {
            return;
        }
        assert_eq!(part.number, self.stored.next_part, "parts have no gaps");
        self.stored.next_part += 1;
        if part.from() < part.to() {
            self.stored.total.add(&part.delta);
        }
        for state in &part.agents {
            let before = self.stored.agents.insert(state.agent.clone(), state.clone());
            assert!(before.is_none_or(|before| before.seq <= state.seq), "marks never move down");
        }
        if let Some(warnings) = &part.warnings {
            self.stored.warnings.clone_from(warnings);
        }
        self.stored.parts.push(part);
    }

    /// Goes to a time of our clock, waking the machine as it asked for.
    fn at_ns(&mut self, time_ns: u64) {
        while self.wake_at_ns > self.now.monotonic_ns && self.wake_at_ns < time_ns && !self.is_over {
            self.set_ns(self.wake_at_ns);
            self.event(Event::Tick);
        }
        self.set_ns(time_ns.max(self.now.monotonic_ns));
        self.event(Event::Tick);
    }

    fn set_ns(&mut self, time_ns: u64) {
        self.now.monotonic_ns = time_ns;
        self.now.unix_ms = self.unix_ms_at_0 + time_ns / MS;
    }

    /// Goes to a moment of run time.
    fn at_ms(&mut self, run_ms: u64) {
        self.at_ns((self.start_ns_signed() + (run_ms * MS) as i64) as u64);
    }

    fn start_ns(&self) -> u64 {
        self.start_ns_signed() as u64
    }

    /// The start on our clock; negative where that clock is younger.
    fn start_ns_signed(&self) -> i64 {
        let start_us =
            self.stored.save.as_ref().and_then(|save| save.start_at_unix_us).expect("a start is stored");
        start_us as i64 * 1_000 - (self.unix_ms_at_0 * MS) as i64
    }

    fn stream(&self, agent: &str) -> u64 {
        self.streams.get(&agent.into()).expect("a stream").0
    }

    fn open(&mut self, agent: &str, state: ShardState) {
        self.open_with(agent, state, 0);
    }

    /// Opens a stream to an agent that has taken so many changes of level.
    fn open_with(&mut self, agent: &str, state: ShardState, adjusted: u64) {
        self.open_as(agent, state, adjusted, Vec::new());
    }

    /// Opens a stream to an agent for which these moves hold.
    fn open_moved(&mut self, agent: &str, state: ShardState, moved: Vec<Moved>) {
        self.open_as(agent, state, 0, moved);
    }

    fn open_as(&mut self, agent: &str, state: ShardState, adjusted: u64, moved: Vec<Moved>) {
        let incarnation = self.incarnation(agent);
        let monotonic_ns = self.theirs_ns(0);
        let (run_time, first_unacked) = (RunTime::START, Seq(0));
        let welcome = Welcome { incarnation, state, run_time, first_unacked, adjusted, moved, monotonic_ns };
        let stream = self.stream(agent);
        self.event(Event::Opened { agent: agent.into(), stream, welcome });
    }

    /// What an agent's clock showed so many milliseconds ago.
    fn theirs_ns(&self, ago_ms: u64) -> u64 {
        (self.now.monotonic_ns as i64 + OFFSET_NS) as u64 - ago_ms * MS
    }

    fn clock(&mut self, agent: &str, round_trip_ms: u64) {
        let (offset_ns, round_trip_ns) = (OFFSET_NS, round_trip_ms * MS);
        self.event(Event::ClockMeasured { agent: agent.into(), offset_ns, round_trip_ns });
    }

    fn report(&mut self, agent: &str, report: Report) {
        let stream = self.stream(agent);
        self.event(Event::Report { agent: agent.into(), stream, report });
    }

    fn delta(&mut self, agent: &str, seq: u64, delta: &Delta) {
        for report in frames(seq, delta) {
            self.report(agent, report);
        }
    }

    fn finished(&mut self, agent: &str, last_seq: u64) {
        self.report(agent, Report::Finished { last_seq: Seq(last_seq) });
    }

    fn lost(&mut self, agent: &str) {
        let stream = self.stream(agent);
        self.streams.remove(&agent.into());
        self.event(Event::StreamLost { agent: agent.into(), stream });
    }

    fn back(&mut self, agent: &str) {
        let incarnation = self.incarnation(agent);
        self.event(Event::MemberBack { agent: agent.into(), incarnation });
    }

    fn gone(&mut self, agent: &str) {
        let incarnation = self.incarnation(agent);
        self.event(Event::MemberGone { agent: agent.into(), incarnation });
    }

    /// Of the newest process of that name.
    fn incarnation(&self, agent: &str) -> Incarnation {
        let mut members = self.run.members.iter().chain(&self.stored.joined).rev();
        members.find(|member| member.id.0 == agent).expect("a member").incarnation
    }

    fn orders(&self, agent: &str) -> Vec<Order> {
        let of_agent = self.seen.iter().filter_map(|action| match action {
            Action::Send { agent: to, order, .. }
                if to.0 == agent && !matches!(order, Order::Alive { .. }) =>
            {
                Some(order.clone())
            }
            _ => None,
        });
        of_agent.collect()
    }

    fn acks(&self, agent: &str) -> Vec<u64> {
        let orders = self.orders(agent).into_iter();
        orders.filter_map(|order| if let Order::Ack(seq) = order { Some(seq.0) } else { None }).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.seen.iter();
        warnings.filter_map(|a| if let Action::Warn(w) = a { Some(w.code.clone()) } else { None }).collect()
    }

    fn ending(&self) -> &Ending {
        let ending = self.stored.ending.as_ref().expect("the run has ended");
        assert!(self.is_over, "an ended run leaves nothing to do");
        let m = &ending.metrics;
        assert_eq!(m.total_requests, m.status_codes.values().chain(m.errors.values()).sum::<u64>());
        assert_eq!(m.total_requests, m.success_requests + m.failed_requests);
        assert_eq!(m.total_requests, self.stored.total.requests(), "final figures are the durable ones");
        ending
    }

    fn verdict(&self) -> (RunStatus, StopReason) {
        (self.ending().status, self.ending().stop_reason)
    }

    fn is_released(&self, agent: &str) -> bool {
        self.orders(agent).last() == Some(&Order::Release)
    }
}
