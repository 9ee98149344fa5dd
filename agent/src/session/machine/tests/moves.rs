//! Lanes that are moved to and from this agent, agents that join a run that goes, and agents that hand over before they leave.

use volcanion_common::session::Move;
use volcanion_common::shard::ScenarioShare;

use super::*;
use crate::session::machine::{HAND_OVER_MAX, HAND_OVER_WAIT};

impl Bench {
    /// Prepared for an elastic run of two scenarios, of which the second does a fixed number of iterations.
    fn elastic(owned: &[u32]) -> Self {
        let mut bench = Self::new();
        bench.open(1, 0);
        let shard = Shard {
            run: bench.machine.run,
            epoch: Epoch(1),
            agent: "a".into(),
            incarnation: Incarnation(7),
            expires_unix_ms: 10_000,
            seed: 1,
            plan: serde_json::json!({
                "elastic": true,
                "scenarios": { "z": { "executor": "constant-vus" }, "a": { "executor": "shared-iterations" } },
            }),
            scenarios: vec![ScenarioShare { lanes: 8, owned: owned.to_vec() }; 2],
            first_vu: 0,
            ready_for: Vec::new(),
            orphan_timeout: None,
            trace: None,
        };
        let bytes = serde_json::to_vec(&shard).unwrap();
        let seal = bench.identity.key.seal(&bytes);
        bench.order(Order::Prepare { sealed_shard: bytes.into(), seal: seal.into() });
        bench.event(Event::Compiled { attempt: 1, result: Ok(2) });
        bench
    }

    /// One that has run for ten seconds.
    fn going(owned: &[u32]) -> Self {
        let mut bench = Self::elastic(owned);
        bench.order(Order::StartAt { monotonic_ns: 1_000 * SECOND_NS });
        bench.load(LoadEvent::Started { monotonic_ns: 1_000 * SECOND_NS });
        bench.now.monotonic_ns += 10 * SECOND_NS;
        bench.alive();
        bench
    }

    fn moved(&mut self, number: u64, from_s: u64) -> Vec<String> {
        self.load(LoadEvent::Moved { number, from: RunTime(from_s * 1_000_000) })
    }
}

fn lanes(number: u64, from_s: u64, release: &[u32], take: &[u32]) -> Order {
    let (release, take) = (release.to_vec(), take.to_vec());
    Order::Move(Move { number, scenario: 0, from: RunTime(from_s * 1_000_000), release, take })
}

#[test]
fn a_move_is_done_once_and_confirmed_with_the_same_moment_for_ever() {
    let mut bench = Bench::going(&[0, 1, 2, 3]);
    assert_eq!(bench.order(lanes(7, 11, &[1, 2], &[])), ["move 7 from 11"]);
    assert!(bench.order(lanes(7, 11, &[1, 2], &[])).is_empty(), "it is answered when it holds");
    assert_eq!(bench.order(lanes(3, 12, &[], &[6])), ["move 3 from 12"], "numbers come in any order");
    assert_eq!(bench.moved(3, 12), ["moved 3 from 12"]);
    bench.lose();
    let opened = bench.open(2, 0);
    assert_eq!(opened[1], "welcome Running at 10000000 from 0 moved 3");
    assert_eq!(bench.moved(7, 13), ["moved 7 from 13"], "later than asked: VUs ended their iterations first");
    assert!(bench.moved(7, 14).is_empty());
    assert_eq!(bench.order(lanes(7, 11, &[1, 2], &[])), ["moved 7 from 13"]);
    assert_eq!(bench.order(lanes(3, 12, &[], &[6])), ["moved 3 from 12"]);
    assert_eq!(bench.open(3, 0)[1], "welcome Running at 10000000 from 0 moved 3 7");
}

#[test]
fn a_move_before_the_start_is_told_with_it_and_one_after_the_end_holds_at_once() {
    let mut bench = Bench::new();
    bench.open(1, 0);
    assert_eq!(bench.order(lanes(1, 1, &[0], &[])), ["fault not_prepared"]);
    let mut bench = Bench::elastic(&[0, 1]);
    assert!(bench.order(lanes(1, 5, &[0], &[])).is_empty());
    let started = bench.order(Order::StartAt { monotonic_ns: 1_001 * SECOND_NS });
    assert_eq!(started, ["start 1001", "move 1 from 5"]);
    bench.load(LoadEvent::Started { monotonic_ns: 1_001 * SECOND_NS });
    // The load ends before the move was said to hold.
    let ended = bench.load(LoadEvent::Finished);
    assert_eq!(ended, ["moved 1 from 5", "finished 0"]);
    assert_eq!(bench.order(lanes(2, 3, &[1], &[])), ["moved 2 from 3"]);
    let mut bench = Bench::going(&[0]);
    bench.load(LoadEvent::Delta(Delta { to: RunTime(20_000_000), ..Delta::default() }));
    bench.load(LoadEvent::Finished);
    assert_eq!(bench.order(lanes(2, 3, &[0], &[])), ["moved 2 from 20"], "until then it did its part");
}

#[test]
fn lanes_of_a_fixed_number_of_iterations_do_not_move() {
    let mut bench = Bench::going(&[0, 1]);
    let Order::Move(order) = lanes(1, 11, &[0], &[]) else { unreachable!() };
    let fixed = Order::Move(Move { scenario: 1, ..order.clone() });
    assert_eq!(bench.order(fixed), ["fault not_movable"]);
    assert_eq!(bench.order(Order::Move(Move { scenario: 2, ..order })), ["fault no_scenario"]);
}

#[test]
fn who_joins_a_run_that_goes_takes_over_its_time() {
    let mut bench = Bench::elastic(&[]);
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 400 * SECOND_NS }), ["start 400"]);
    let started = bench.load(LoadEvent::Started { monotonic_ns: 1_000 * SECOND_NS });
    assert_eq!(started, ["started 400"], "the zero of its run time, not its own beginning");
    assert_eq!(bench.order(lanes(4, 601, &[], &[0, 5])), ["move 4 from 601"]);
    bench.moved(4, 601);
    assert_eq!(bench.open(2, 0)[1], "welcome Running at 600000000 from 0 moved 4");
    // Whoever owns something from the start on begins where it can.
    let mut bench = Bench::elastic(&[3]);
    assert_eq!(bench.order(Order::StartAt { monotonic_ns: 400 * SECOND_NS }), ["start 1000"]);
}

#[test]
fn an_agent_that_leaves_an_elastic_run_loads_on_until_others_have_its_lanes() {
    let mut bench = Bench::going(&[0, 1]);
    assert_eq!(bench.event(Event::Leave), ["draining"]);
    assert!(bench.event(Event::Leave).is_empty() && bench.machine.is_handing_over());
    assert!(bench.tick(5, true).is_empty());
    // A leader that takes office meanwhile hears of it.
    assert!(bench.open(2, 0).contains(&"draining".to_owned()));
    assert_eq!(bench.order(lanes(1, 16, &[0], &[])), ["move 1 from 16"]);
    assert_eq!(bench.moved(1, 16), ["moved 1 from 16"]);
    assert!(bench.tick(1, true).is_empty());
    assert_eq!(bench.order(lanes(2, 17, &[1], &[])), ["move 2 from 17"]);
    assert_eq!(bench.moved(2, 18), ["moved 2 from 18"], "which is still to come");
    assert!(bench.tick(1, true).is_empty());
    assert_eq!(bench.tick(1, true), ["stop 10s"]);
    assert!(bench.tick(1, true).is_empty(), "once is enough");
    assert_eq!(bench.load(delta(0)), ["delta 1"]);
    assert_eq!(bench.load(LoadEvent::Finished), ["finished 1"]);
    assert!(!bench.machine.is_handing_over());
    assert_eq!(bench.order(Order::Ack(Seq(1))), ["durable 1"]);
}

#[test]
fn an_agent_that_drains_hands_over_stays_and_waits_for_its_release() {
    let mut bench = Bench::going(&[0]);
    assert_eq!(bench.event(Event::Drain), ["draining"]);
    assert!(bench.event(Event::Drain).is_empty());
    bench.order(lanes(1, 16, &[0], &[]));
    bench.moved(1, 16);
    assert_eq!(bench.load(LoadEvent::Finished), ["finished 0"]);
    assert_eq!(bench.order(Order::Release), ["discard", "durable 0"]);
    // A run that is not elastic goes on as if nothing was.
    let mut bench = Bench::running();
    assert!(bench.event(Event::Drain).is_empty() && !bench.machine.is_handing_over());
}

#[test]
fn an_agent_whose_lanes_nobody_takes_leaves_all_the_same() {
    let wait_s = HAND_OVER_WAIT.0 / 1_000_000;
    let mut bench = Bench::going(&[0]);
    bench.event(Event::Leave);
    bench.alive();
    assert!(bench.tick(wait_s - 1, true).is_empty());
    assert_eq!(bench.tick(1, true), ["stop 1s"]);
    // A leader that is away meanwhile has its time once it is back.
    let mut bench = Bench::going(&[0]);
    bench.event(Event::Leave);
    bench.lose();
    (0..wait_s + 5).for_each(|_| assert!(bench.tick(1, true).is_empty()));
    bench.open(2, 0);
    bench.alive();
    assert!(bench.tick(wait_s - 1, true).is_empty());
    assert_eq!(bench.tick(1, true), ["stop 1s"]);
    // One that is waited for is waited for longer, but not for ever.
    let mut bench = Bench::going(&[0]);
    bench.event(Event::Leave);
    bench.order(lanes(1, 16, &[0], &[]));
    let mut said = Vec::new();
    for _ in 0..HAND_OVER_MAX.0 / 10_000_000 {
        bench.alive();
        assert!(said.is_empty());
        said = bench.tick(10, true);
    }
    assert_eq!(said, ["stop 1s"]);
}

#[test]
fn an_agent_that_lost_stream_and_lease_while_frozen_starts_nothing_that_was_given_to_it_or_to_others() {
    let mut bench = Bench::going(&[0, 1]);
    bench.tick(1, true);
    // Frozen past its lease: the stream is gone, and the entry was made anew.
    bench.now.monotonic_ns += 10 * SECOND_NS;
    bench.lose();
    assert_eq!(bench.event(Event::Tick { lease_until_ns: 1_015 * SECOND_NS }), ["stop 0s"]);
    // A leader that comes back cannot make it go on.
    bench.open(2, 0);
    assert_eq!(bench.load(LoadEvent::Finished), ["finished 0"]);
    let given = bench.order(lanes(1, 30, &[], &[4]));
    assert_eq!(given, ["moved 1 from 30"], "the load is over: nothing is told to it");
    assert_eq!(bench.event(Event::Leave), ["draining", "durable 0"]);
}
