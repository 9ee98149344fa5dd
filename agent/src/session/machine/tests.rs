mod moves;

use volcanion_common::delta::ScenarioDelta;
use volcanion_common::ids::Incarnation;
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::session::{Change, StopWhy};
use volcanion_common::shard::Shard;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;
const ORPHAN: Micros = Micros::from_secs(30);

/// A machine with a clock of its own, and what a test reads of its actions.
struct Bench {
    identity: Arc<Identity>,
    machine: Machine,
    now: Now,
    streams: u64,
}

impl Bench {
    fn new() -> Self {
        let key = ClusterKey::new("0123456789abcdef").unwrap();
        let identity = Arc::new(Identity::new("a".into(), Incarnation(7), key));
        let machine = Machine::new(identity.clone(), RunId::new(), ORPHAN);
        Self { identity, machine, now: Now { monotonic_ns: 1_000 * SECOND_NS, unix_ms: 5_000 }, streams: 0 }
    }

    fn running() -> Self {
        let mut bench = Self::new();
        bench.open(1, 0);
        bench.prepare(1, 1);
        bench.event(Event::Compiled { attempt: 1, result: Ok(2) });
        bench.alive();
        bench.order(Order::StartAt { monotonic_ns: 0 });
        bench.load(LoadEvent::Started { monotonic_ns: 1_000 * SECOND_NS });
        bench.alive();
        bench
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        let actions = self.machine.handle(event, self.now);
        let is_order =
            |action: &&Action| !matches!(action, Action::AllowUntil { .. } | Action::Refused { .. });
        actions.iter().filter(is_order).map(word).collect()
    }

    fn open(&mut self, epoch: u64, last_seq: u64) -> Vec<String> {
        self.streams += 1;
        let hello = Hello {
            run: self.machine.run,
            epoch: Epoch(epoch),
            agent: "a".into(),
            incarnation: Incarnation(7),
            last_seq: Seq(last_seq),
        };
        self.event(Event::Opened { stream: StreamId(self.streams), hello })
    }

    fn order(&mut self, order: Order) -> Vec<String> {
        let stream = StreamId(self.streams);
        self.event(Event::Order { stream, order })
    }

    /// The leader is there, and says so now.
    fn alive(&mut self) {
        self.alive_since(0);
    }

    /// A sign of life comes that was said so many seconds ago.
    fn alive_since(&mut self, seconds: u64) {
        let monotonic_ns = self.now.monotonic_ns - seconds * SECOND_NS;
        assert!(self.order(Order::Alive { monotonic_ns }).is_empty());
    }

    fn lose(&mut self) -> Vec<String> {
        self.event(Event::Lost { stream: StreamId(self.streams) })
    }

    fn load(&mut self, event: LoadEvent) -> Vec<String> {
        self.event(Event::Load(event))
    }

    fn tick(&mut self, seconds: u64, lease_alive: bool) -> Vec<String> {
        self.now.monotonic_ns += seconds * SECOND_NS;
        let lease_until_ns = if lease_alive { u64::MAX } else { 0 };
        self.event(Event::Tick { lease_until_ns })
    }

    fn sealed(&self, epoch: u64, seed: u64) -> Order {
        self.seal(&self.shard(epoch, seed))
    }

    fn shard(&self, epoch: u64, seed: u64) -> Shard {
        Shard {
            run: self.machine.run,
            epoch: Epoch(epoch),
            agent: "a".into(),
            incarnation: Incarnation(7),
            expires_unix_ms: 10_000 + epoch,
            seed,
            plan: serde_json::json!({"name": "p"}),
            scenarios: Vec::new(),
            first_vu: 0,
            ready_for: Vec::new(),
            orphan_timeout: None,
            trace: None,
        }
    }

    fn seal(&self, shard: &Shard) -> Order {
        let bytes = serde_json::to_vec(shard).unwrap();
        let seal = self.identity.key.seal(&bytes);
        Order::Prepare { sealed_shard: bytes.into(), seal: seal.into() }
    }

    fn prepare(&mut self, epoch: u64, seed: u64) -> Vec<String> {
        let order = self.sealed(epoch, seed);
        self.order(order)
    }
}

fn delta(number: u64) -> LoadEvent {
    let mut delta =
        Delta { from: RunTime(number * 100), to: RunTime(number * 100 + 100), ..Delta::default() };
    delta.scenarios.insert(0, ScenarioDelta { started: 1, ..ScenarioDelta::default() });
    LoadEvent::Delta(delta)
}

/// An action in a word, for comparison.
fn word(action: &Action) -> String {
    match action {
        Action::Refuse { refusal, .. } => format!("refuse {}", refusal.code()),
        Action::Refused { order, refusal } => format!("note {order} {}", refusal.code()),
        Action::Adopt { stream } => format!("adopt {}", stream.0),
        Action::Close { .. } => "close".to_owned(),
        Action::Compile { attempt, .. } => format!("compile {attempt}"),
        Action::Start { at_ns } => format!("start {}", at_ns / SECOND_NS),
        Action::Stop { graceful, .. } => format!("stop {graceful}"),
        Action::Adjust(told) => {
            format!("adjust {} to {} from {}", told.change.number, told.change.level, told.from.0 / 1_000)
        }
        Action::Move(order) => format!("move {} from {}", order.number, order.from.0 / 1_000_000),
        Action::AllowUntil { monotonic_ns } => format!("until {}", monotonic_ns / SECOND_NS),
        Action::Discard => "discard".to_owned(),
        Action::Forget { tombstone: None } => "forget".to_owned(),
        Action::Forget { tombstone: Some(Tombstone::GivenUp) } => "give up".to_owned(),
        Action::Forget { tombstone: Some(Tombstone::Durable { last_seq }) } => format!("durable {last_seq}"),
        Action::Send(report) => match report {
            Report::Welcome(w) => {
                let moved = w.moved.iter().map(|moved| format!(" {}", moved.number)).collect::<String>();
                let moved = if moved.is_empty() { moved } else { format!(" moved{moved}") };
                format!("welcome {:?} at {} from {}{moved}", w.state, w.run_time.0, w.first_unacked)
            }
            Report::Prepared { cores } => format!("prepared {cores}"),
            Report::Started { monotonic_ns } => format!("started {}", monotonic_ns / SECOND_NS),
            Report::Adjusted { number, from } => format!("adjusted {number} from {}", from.0 / 1_000),
            Report::Moved(moved) => format!("moved {} from {}", moved.number, moved.from.0 / 1_000_000),
            Report::Delta(frame) => format!("delta {}", frame.seq),
            Report::Finished { last_seq } => format!("finished {last_seq}"),
            Report::Fault { code, .. } => format!("fault {code}"),
            Report::Draining => "draining".to_owned(),
        },
    }
}

#[test]
fn a_run_goes_its_whole_way() {
    let mut bench = Bench::new();
    assert_eq!(bench.open(1, 0), ["adopt 1", "welcome New at 0 from 0"]);
    assert_eq!(bench.prepare(1, 1), ["compile 1"]);
    assert_eq!(bench.event(Event::Compiled { attempt: 1, result: Ok(2) }), ["prepared 2"]);
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 1_002 * SECOND_NS }), ["start 1002"]);
    assert_eq!(bench.load(LoadEvent::Started { monotonic_ns: 1_002 * SECOND_NS }), ["started 1002"]);
    assert_eq!(bench.load(delta(0)), ["delta 1"]);
    assert_eq!(bench.load(delta(1)), ["delta 2"]);
    assert!(bench.order(Order::Ack(Seq(1))).is_empty());
    assert_eq!(bench.load(LoadEvent::Finished), ["finished 2"]);
    assert!(bench.order(Order::Ack(Seq(2))).is_empty());
    assert_eq!(bench.order(Order::Release), ["discard", "durable 2"]);
    assert!(bench.tick(1, true).is_empty() && bench.open(9, 0).is_empty(), "nothing follows");
}

fn change(number: u64, at_ms: u64, vus: u64) -> Order {
    let (at, level) = (RunTime(at_ms * 1_000), volcanion_common::plan::Level::Vus(vus));
    Order::Adjust(Change { number, scenario: 0, at, level })
}

#[test]
fn a_change_is_taken_once_and_in_its_turn() {
    let mut bench = Bench::running();
    assert_eq!(bench.order(change(1, 500, 5)), ["adjust 1 to 5 VUs from 500", "adjusted 1 from 500"]);
    assert_eq!(bench.order(change(1, 500, 5)), ["adjusted 1 from 500"], "again: the same answer");
    assert_eq!(bench.order(change(2, 700, 6)), ["adjust 2 to 6 VUs from 700", "adjusted 2 from 700"]);
    assert_eq!(bench.order(change(4, 900, 7)), ["close"], "what is missing comes on a new stream");
    bench.open(1, 0);
    assert_eq!(bench.order(change(3, 800, 7)), ["adjust 3 to 7 VUs from 800", "adjusted 3 from 800"]);
    bench.load(LoadEvent::Finished);
    assert_eq!(bench.order(change(4, 900, 8)), ["adjusted 4 from 900"], "there is no load to tell");
}

#[test]
fn a_change_that_comes_late_holds_from_now_on_and_every_leader_hears_of_it() {
    let mut bench = Bench::running();
    bench.tick(2, true);
    assert_eq!(bench.order(change(1, 1_500, 5)), ["adjust 1 to 5 VUs from 2100", "adjusted 1 from 2100"]);
    // In time by itself, but not before the one before it.
    assert_eq!(bench.order(change(2, 2_050, 6)), ["adjust 2 to 6 VUs from 2100", "adjusted 2 from 2100"]);
    assert_eq!(bench.order(change(3, 2_600, 7)), ["adjust 3 to 7 VUs from 2600", "adjusted 3 from 2600"]);
    let opened = bench.open(2, 0);
    let told: Vec<_> = opened.iter().filter(|word| word.starts_with("adjusted")).collect();
    assert_eq!(
        told,
        ["adjusted 1 from 2100", "adjusted 2 from 2100"],
        "the third is in the Welcome's number"
    );
    let hello = Hello {
        run: bench.machine.run,
        epoch: Epoch(3),
        agent: "a".into(),
        incarnation: Incarnation(7),
        last_seq: Seq(0),
    };
    let actions = bench.machine.handle(Event::Opened { stream: StreamId(99), hello }, bench.now);
    let knows = |action: &Action| matches!(action, Action::Send(Report::Welcome(w)) if w.adjusted == 3);
    assert!(actions.iter().any(knows), "{actions:?}");
}

#[test]
fn a_change_before_the_start_is_told_with_it() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    assert_eq!(bench.order(change(1, 0, 5)), ["fault not_prepared"]);
    bench.event(Event::Compiled { attempt: 1, result: Ok(2) });
    assert_eq!(bench.order(change(1, 0, 5)), ["adjusted 1 from 0"]);
    let start = bench.order(Order::StartAt { monotonic_ns: 1_002 * SECOND_NS });
    assert_eq!(start, ["start 1002", "adjust 1 to 5 VUs from 0"]);
    // The start's instant is still to come.
    assert_eq!(bench.order(change(2, 0, 6)), ["adjust 2 to 6 VUs from 0", "adjusted 2 from 0"]);
}

#[test]
fn a_start_in_the_past_starts_now_and_says_so() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    bench.event(Event::Compiled { attempt: 1, result: Ok(1) });
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 3 }), ["start 1000"]);
    assert_eq!(bench.load(LoadEvent::Started { monotonic_ns: 1_000 * SECOND_NS }), ["started 1000"]);
}

#[test]
fn repeated_orders_change_nothing_and_are_answered_with_what_is_true() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    assert_eq!(bench.prepare(1, 1), ["compile 1"]);
    assert!(bench.prepare(1, 1).is_empty());
    bench.event(Event::Compiled { attempt: 1, result: Ok(2) });
    assert_eq!(bench.prepare(1, 1), ["prepared 2"]);
    bench.order(Order::StartAt { monotonic_ns: 0 });
    assert!(bench.order(Order::StartAt { monotonic_ns: 0 }).is_empty());
    bench.load(LoadEvent::Started { monotonic_ns: 1_000 * SECOND_NS });
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 0 }), ["started 1000"]);
    assert_eq!(bench.prepare(1, 1), ["started 1000"]);
    assert_eq!(bench.prepare(1, 2), ["fault second_shard"]);
    let stop = Order::Stop { why: StopWhy::Cancelled, graceful: Micros::from_secs(1) };
    assert_eq!(bench.order(stop.clone()), ["stop 1s"]);
    assert_eq!(bench.order(stop.clone()), ["stop 1s"]);
    bench.load(LoadEvent::Finished);
    assert!(bench.order(stop).is_empty());
    assert_eq!(bench.prepare(1, 1), ["fault run_over"]);
}

#[test]
fn a_cut_before_the_start_replaces_the_one_before() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    assert_eq!(bench.prepare(1, 2), ["compile 2"]);
    assert!(bench.event(Event::Compiled { attempt: 1, result: Ok(1) }).is_empty());
    assert_eq!(bench.event(Event::Compiled { attempt: 2, result: Ok(2) }), ["prepared 2"]);
    assert_eq!(bench.prepare(1, 3), ["discard", "compile 3"]);
    bench.lose();
    assert_eq!(bench.open(2, 0), ["adopt 2", "welcome New at 0 from 0"]);
    assert!(bench.prepare(2, 3).is_empty(), "the same shard, sealed by the next leader");
}

#[test]
fn a_shard_that_does_not_compile_is_a_fault_and_another_may_come() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    let fault = Fault { code: "file_limit".to_owned(), message: String::new() };
    let compiled = Event::Compiled { attempt: 1, result: Err(fault) };
    assert_eq!(bench.event(compiled), ["fault file_limit"]);
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 0 }), ["fault not_prepared"]);
    assert_eq!(bench.prepare(1, 1), ["fault replayed"], "what was obeyed once is not obeyed again");
    assert_eq!(bench.prepare(1, 2), ["compile 2"]);
    assert_eq!(bench.lose(), Vec::<String>::new());
}

#[test]
fn forged_stale_and_expired_orders_are_refused() {
    let mut bench = Bench::new();
    bench.open(5, 0);
    assert_eq!(bench.prepare(4, 1), ["fault not_ours"]);
    let Order::Prepare { sealed_shard, seal } = bench.sealed(5, 1) else { unreachable!() };
    let forged = Order::Prepare { sealed_shard, seal: seal.slice(1..) };
    assert_eq!(bench.order(forged), ["fault bad_seal"]);
    bench.now.unix_ms = 20_000;
    assert_eq!(bench.prepare(5, 1), ["fault expired"]);
    assert_eq!(bench.open(4, 0), ["refuse stale_epoch"]);
    assert_eq!(bench.open(5, 3), ["refuse never_sent"]);
    assert_eq!(bench.machine.state(), ShardState::New);
}

#[test]
fn an_order_that_is_refused_is_noted_once_beside_the_fault() {
    let mut bench = Bench::new();
    bench.open(5, 0);
    let stream = StreamId(bench.streams);
    for (order, name, code) in [
        (bench.sealed(4, 1), "Prepare", "not_ours"),
        (Order::StartAt { monotonic_ns: 0 }, "StartAt", "not_prepared"),
    ] {
        let actions = bench.machine.handle(Event::Order { stream, order }, bench.now);
        let words: Vec<_> = actions.iter().map(word).collect();
        assert_eq!(words, [format!("fault {code}"), format!("note {name} {code}")]);
    }
}

#[test]
fn a_newer_stream_replaces_the_older_and_the_older_is_not_heard_any_more() {
    let mut bench = Bench::running();
    let old = StreamId(bench.streams);
    let opened = bench.open(1, 0);
    assert_eq!(opened, ["adopt 2", "welcome Running at 0 from 0", "started 1000"]);
    let stop = Order::Stop { why: StopWhy::Cancelled, graceful: Micros::ZERO };
    assert!(bench.event(Event::Order { stream: old, order: stop }).is_empty());
    assert!(bench.event(Event::Lost { stream: old }).is_empty());
    assert_eq!(bench.load(delta(0)), ["delta 1"], "the newer stream is there");
    assert_eq!(bench.event(Event::EpochSeen(Epoch(2))), ["close"]);
    assert!(bench.order(Order::Release).is_empty(), "an older leader's word");
    assert_eq!(bench.open(1, 0), ["refuse stale_epoch"]);
    assert_eq!(bench.open(2, 0), ["adopt 4", "welcome Running at 0 from 1", "started 1000", "delta 1"]);
}

#[test]
fn after_a_cut_what_is_not_durable_is_sent_again_and_the_rest_folded() {
    let mut bench = Bench::running();
    for number in 0..3 {
        bench.load(delta(number));
    }
    bench.lose();
    for number in 3..6 {
        assert!(bench.load(delta(number)).is_empty());
    }
    assert!(bench.load(LoadEvent::Finished).is_empty());
    let opened = bench.open(1, 2);
    assert_eq!(opened, ["adopt 2", "welcome Finished at 600 from 3", "delta 3", "delta 4", "finished 4"]);
    assert!(bench.order(Order::Ack(Seq(4))).is_empty());
    assert_eq!(bench.lose(), ["durable 4"]);
}

#[test]
fn the_end_is_said_only_once_everything_was_sent() {
    let mut bench = Bench::running();
    for number in 0..10 {
        bench.load(delta(number));
    }
    assert!(bench.load(LoadEvent::Finished).is_empty());
    assert_eq!(bench.order(Order::Ack(Seq(1))), ["delta 9", "finished 9"]);
    assert_eq!(bench.order(Order::Ack(Seq(50))), ["close"], "an ack of what was never sent");
}

#[test]
fn silence_of_the_leader_stops_load_and_keeps_the_deltas_for_a_time() {
    let mut bench = Bench::running();
    bench.load(delta(0));
    assert!(bench.tick(29, true).is_empty());
    bench.alive();
    assert!(bench.tick(29, true).is_empty());
    assert_eq!(bench.tick(1, true), ["close", "stop 0s"]);
    assert!(bench.tick(1, true).is_empty());
    bench.load(delta(1));
    bench.load(LoadEvent::Finished);
    assert!(bench.tick(500, false).is_empty());
    let opened = bench.open(1, 0);
    assert_eq!(opened, ["adopt 2", "welcome Finished at 200 from 1", "delta 1", "delta 2", "finished 2"]);
    let kept = bench.machine.outbox().unacked().last().unwrap();
    assert_eq!(Delta::from_bytes(&kept.bytes).unwrap().warnings[0].code, "orphaned");
    bench.lose();
    assert_eq!(bench.tick(630, true), ["give up"]);
}

#[test]
fn without_stream_and_lease_load_stops_at_once() {
    let mut bench = Bench::running();
    assert!(bench.tick(3, false).is_empty(), "a stream is enough");
    assert!(bench.tick(0, true).is_empty());
    bench.alive();
    bench.now.monotonic_ns += SECOND_NS;
    bench.alive();
    bench.lose();
    assert!(bench.tick(20, true).is_empty(), "a lease is enough");
    assert_eq!(bench.tick(0, false), ["stop 0s"]);
}

#[test]
fn a_stream_on_which_nothing_comes_is_no_stream_once_the_lease_is_gone_too() {
    let mut bench = Bench::running();
    assert!(bench.tick(3, false).is_empty());
    assert_eq!(bench.tick(1, false), ["stop 0s"]);
}

#[test]
fn a_word_that_was_held_up_on_its_way_counts_from_when_it_was_said() {
    let mut bench = Bench::running();
    bench.now.monotonic_ns += 3 * SECOND_NS;
    bench.alive_since(2);
    assert!(bench.tick(1, false).is_empty());
    // A Hello may have been held up as well, and says nothing of when it was sent.
    bench.open(1, 0);
    assert_eq!(bench.tick(1, false), ["stop 0s"], "5 s after it was said, though it came 2 s ago");
    // One from a clock that runs ahead is believed as far as can be.
    let mut bench = Bench::running();
    let monotonic_ns = u64::MAX;
    bench.order(Order::Alive { monotonic_ns });
    assert_eq!(bench.tick(4, false), ["stop 0s"]);
}

#[test]
fn an_agent_that_was_frozen_and_counted_as_dead_does_not_load_on_under_a_new_lease() {
    let tick = |bench: &mut Bench, lease_s: u64| {
        bench.event(Event::Tick { lease_until_ns: bench.now.monotonic_ns + lease_s * SECOND_NS })
    };
    let frozen = || {
        let mut bench = Bench::running();
        assert!(tick(&mut bench, 3).is_empty());
        bench.now.monotonic_ns += 6 * SECOND_NS;
        bench
    };
    let mut bench = frozen();
    bench.lose();
    assert_eq!(tick(&mut bench, 3), ["stop 0s"], "the entry was made anew before anybody looked");
    // What the leader had said before it gave the agent up is read only now.
    let mut bench = frozen();
    bench.alive_since(5);
    assert_eq!(tick(&mut bench, 3), ["stop 0s"]);
    // A leader that goes on speaking has not given it up.
    let mut bench = frozen();
    bench.alive_since(5);
    bench.alive();
    assert!(tick(&mut bench, 3).is_empty());
    bench.now.monotonic_ns += SECOND_NS;
    bench.alive();
    bench.lose();
    assert!(tick(&mut bench, 3).is_empty());
}

#[test]
fn a_shard_that_was_never_started_is_given_up_with_its_leader() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    bench.event(Event::Compiled { attempt: 1, result: Ok(1) });
    bench.lose();
    assert!(bench.tick(29, true).is_empty());
    assert_eq!(bench.tick(1, true), ["discard", "give up"]);
}

#[test]
fn a_stream_that_says_hello_and_no_more_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    assert_eq!(bench.lose(), ["forget"]);
    let mut bench = Bench::new();
    bench.open(1, 0);
    assert_eq!(bench.tick(30, true), ["close", "forget"]);
}

#[test]
fn a_stop_before_the_start_ends_the_shard_without_a_delta() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    let stop = Order::Stop { why: StopWhy::Failed, graceful: Micros::ZERO };
    assert_eq!(bench.order(stop), ["discard", "finished 0"]);
    assert_eq!(bench.event(Event::Compiled { attempt: 1, result: Ok(1) }), ["discard"]);
    assert!(bench.order(Order::StartAt { monotonic_ns: 0 }).is_empty());
    assert_eq!(bench.order(Order::Release), ["discard", "durable 0"]);
}

#[test]
fn an_engine_that_fails_is_a_fault_and_what_it_counted_still_goes_up() {
    let mut bench = Bench::running();
    bench.load(delta(0));
    assert_eq!(bench.load(LoadEvent::Failed("a core panicked".to_owned())), ["fault engine", "finished 1"]);
    bench.lose();
    let opened = bench.open(1, 0);
    assert_eq!(
        opened,
        ["adopt 2", "welcome Finished at 100 from 1", "fault engine", "delta 1", "finished 1"]
    );
}

#[test]
fn an_agent_that_leaves_says_so_stops_and_forgets_once_all_is_durable() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(Event::Leave), ["draining", "stop 1s"]);
    assert!(bench.event(Event::Leave).is_empty());
    assert_eq!(bench.load(delta(0)), ["delta 1"]);
    assert_eq!(bench.load(LoadEvent::Finished), ["finished 1"]);
    assert_eq!(bench.order(Order::Ack(Seq(1))), ["durable 1"]);

    let mut bench = Bench::new();
    bench.open(1, 0);
    assert_eq!(bench.event(Event::Leave), ["draining", "finished 0", "durable 0"]);
}

#[test]
fn all_that_ended_the_load_goes_up_with_the_next_delta_each_once() {
    let mut bench = Bench::running();
    bench.tick(1, true);
    assert_eq!(bench.event(Event::Leave), ["draining", "stop 1s"]);
    // The lease ends meanwhile, and the leader falls silent.
    assert_eq!(bench.tick(10, false), ["stop 0s"]);
    bench.load(delta(0));
    bench.load(delta(1));
    let codes = |sent: &Sent| -> Vec<String> {
        let delta = Delta::from_bytes(&sent.bytes).unwrap();
        delta.warnings.into_iter().map(|warning| warning.code).collect()
    };
    let sent: Vec<_> = bench.machine.outbox().unacked().map(codes).collect();
    assert_eq!(sent, [vec!["draining".to_owned(), "orphaned".to_owned()], Vec::new()]);
}

#[test]
fn a_leader_that_asks_after_a_durable_run_is_told_its_end() {
    let mut bench = Bench::new();
    bench.machine = Machine::ended(bench.identity.clone(), bench.machine.run, ORPHAN, Seq(4));
    assert_eq!(bench.open(3, 4), ["adopt 1", "welcome Finished at 0 from 0", "finished 4"]);
    assert_eq!(bench.prepare(3, 1), ["fault run_over"]);
    assert_eq!(bench.order(Order::Release), ["discard", "durable 4"]);
}

#[test]
fn a_release_in_mid_run_drops_the_load() {
    let mut bench = Bench::running();
    bench.load(delta(0));
    assert_eq!(bench.order(Order::Release), ["discard", "give up"]);
}

#[test]
fn a_shard_that_waited_through_a_pause_of_the_process_is_started_by_a_new_stream_only() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    bench.event(Event::Compiled { attempt: 1, result: Ok(1) });
    bench.now.monotonic_ns += 8 * SECOND_NS;
    let start = || Order::StartAt { monotonic_ns: 1_002 * SECOND_NS };
    assert_eq!(bench.order(start()), ["close"], "it may be from before its leader gave the agent up");
    bench.open(1, 0);
    assert_eq!(bench.order(start()), ["start 1008"]);
}

#[test]
fn the_lesser_of_the_orders_orphan_timeout_and_the_agents_own_holds() {
    for (ordered_ms, held_s) in [(2_000, 2), (60_000, 30), (10, 1)] {
        let mut bench = Bench::new();
        bench.open(1, 0);
        let shard = Shard { orphan_timeout: Some(Micros::from_millis(ordered_ms)), ..bench.shard(1, 1) };
        bench.order(bench.seal(&shard));
        bench.event(Event::Compiled { attempt: 1, result: Ok(1) });
        bench.order(Order::StartAt { monotonic_ns: 0 });
        assert!(bench.tick(held_s - 1, true).is_empty(), "{ordered_ms} ms were ordered");
        assert_eq!(bench.tick(1, true), ["close", "stop 0s"], "{ordered_ms} ms were ordered");
    }
}

#[test]
fn the_engine_is_told_how_long_it_may_go_on_by_itself() {
    let mut bench = Bench::running();
    let tick = |bench: &mut Bench, lease_s: u64| -> Vec<String> {
        let event = Event::Tick { lease_until_ns: lease_s * SECOND_NS };
        bench.machine.handle(event, bench.now).iter().map(word).collect()
    };
    assert_eq!(
        bench.machine.allowed_until_ns,
        1_004 * SECOND_NS,
        "by the stream alone, before anybody looked at the lease"
    );
    assert!(tick(&mut bench, 1_003).is_empty(), "with a stream: as long as it is trusted");
    assert_eq!(tick(&mut bench, 1_005), ["until 1005"], "or the lease, where that is longer");
    bench.lose();
    assert_eq!(tick(&mut bench, 1_003), ["until 1003"], "without a stream: the lease");
    assert_eq!(tick(&mut bench, 1_090), ["until 1030"], "the orphan timeout at most");
}

#[test]
fn the_kill_switch_ends_a_load_at_once_and_tells_the_leader_why() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    bench.prepare(1, 1);
    bench.event(Event::Compiled { attempt: 1, result: Ok(1) });
    bench.order(Order::StartAt { monotonic_ns: 0 });
    let killed = bench.event(Event::Kill);
    assert_eq!(killed[0], "fault killed");
    assert!(killed[1].starts_with("stop"), "{killed:?}");
    // A leader that comes later hears it too.
    assert!(bench.open(2, 0).contains(&"fault killed".to_owned()));

    let mut waiting = Bench::new();
    waiting.open(1, 0);
    waiting.prepare(1, 1);
    waiting.event(Event::Compiled { attempt: 1, result: Ok(1) });
    let killed = waiting.event(Event::Kill);
    assert!(killed.contains(&"discard".to_owned()), "{killed:?}");
    assert_eq!(
        waiting.order(Order::StartAt { monotonic_ns: 0 }),
        Vec::<String>::new(),
        "nothing starts any more"
    );
}
