//! Tests of lanes that come and go while a load goes: what two loads start together is the plan, each part of it once.

use std::time::Duration;

use tokio::sync::mpsc;
use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Arrival, Executor, WhenBusy};
use volcanion_common::shard::segments::Segments;
use volcanion_common::shard::split::over_cores;

use super::testing::*;
use super::*;

fn moves(number: u64, ms: u64, release: &[u32], take: &[u32]) -> Move {
    let (release, take) = (release.to_vec(), take.to_vec());
    Move { number, scenario: 0, from: RunTime(ms * 1_000), release, take }
}

/// A load of this part of a scenario, in an elastic run.
fn part(target: std::net::SocketAddr, executor: &Executor, share: &ScenarioShare) -> Program {
    let mut scenario = scenario(executor.clone());
    scenario.share = share.clone();
    Program { is_elastic: true, may_get_lanes: true, ..program(target, scenario) }
}

/// What an owner was to start, by the moments from which its moves really held.
fn owned(executor: &Executor, share: &ScenarioShare, orders: &[Move], said: &Said) -> u64 {
    let mut segments = Segments::of(Profile::of_arrivals(executor).unwrap(), share);
    assert_eq!(said.moved.len(), orders.len(), "each move is said to hold once: {:?}", said.moved);
    for order in orders {
        let (_, from) = said.moved.iter().find(|(number, _)| *number == order.number).unwrap();
        assert!(*from >= order.from);
        segments.moved(from.since(RunTime::START), &order.release, &order.take);
    }
    segments.count_before(u64::MAX)
}

fn tell(orders: &[Move]) -> impl FnOnce(EngineHandle) -> std::future::Ready<()> {
    move |handle| {
        orders.iter().for_each(|order| handle.move_lanes(order));
        std::future::ready(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrivals_of_lanes_that_go_to_and_fro_are_started_by_the_owner_of_their_moment() {
    let target = Target::start(Duration::from_millis(2)).await;
    let executor = arrivals(400, 1_500, 64, WhenBusy::Queue);
    let shares = over_cores(&ScenarioShare::whole(64), 2);
    let (a, b) = (&shares[0], &shares[1]);
    let some: Vec<u32> = a.owned.iter().copied().step_by(3).collect();
    let of_a = [moves(1, 500, &some, &[]), moves(4, 1_000, &[], &b.owned)];
    let of_b = [moves(2, 500, &[], &some), moves(3, 1_000, &b.owned, &[])];
    let (said_a, said_b) = tokio::join!(
        run_with(part(target.address, &executor, a), 2, tell(&of_a)),
        run_with(part(target.address, &executor, b), 1, tell(&of_b)),
    );
    let mut all = 0;
    for (said, share, orders) in [(&said_a, a, &of_a), (&said_b, b, &of_b)] {
        let (started, completed, interrupted, dropped) = said.iterations();
        assert_eq!((completed, interrupted), (started, 0));
        assert_eq!(started + dropped, owned(&executor, share, orders, said));
        all += started;
    }
    assert_eq!(target.requests(), all);
    // Where nobody was late, nothing was missed and nothing was done twice.
    let is_late = |said: &Said, orders: &[Move]| {
        orders.iter().any(|order| !said.moved.contains(&(order.number, order.from)))
    };
    if !is_late(&said_a, &of_a) && !is_late(&said_b, &of_b) {
        assert_eq!(
            said_a.iterations().0 + said_a.iterations().3 + said_b.iterations().0 + said_b.iterations().3,
            600
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisson_arrivals_of_a_load_without_lanes_are_none() {
    let target = Target::start(Duration::ZERO).await;
    let mut executor = arrivals(400, 600, 64, WhenBusy::Queue);
    if let Executor::ConstantArrivalRate { open, .. } = &mut executor {
        open.arrival = Arrival::Poisson;
    }
    let all: Vec<u32> = (0..64).collect();
    let orders = [moves(1, 200, &all, &[])];
    let said = run_with(part(target.address, &executor, &ScenarioShare::whole(64)), 2, tell(&orders)).await;
    let until = said.moved[0].1;
    let late = said.deltas.iter().filter(|delta| delta.from > until);
    assert_eq!(late.map(|delta| delta.scenarios[&0].started + delta.scenarios[&0].dropped).sum::<u64>(), 0);
    assert!(said.iterations().0 > 0 && said.iterations().0 == target.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vus_of_lanes_that_go_end_their_iteration_before_that_is_confirmed() {
    let target = Target::start(Duration::from_millis(150)).await;
    let executor = Executor::ConstantVus { vus: 6, duration: Micros::from_millis(1_200) };
    let orders = [moves(1, 200, &[0, 1, 5], &[]), moves(2, 800, &[], &[1])];
    let program = part(target.address, &executor, &ScenarioShare::whole(6));
    let said = run_with(program, 2, tell(&orders)).await;
    let (started, completed, interrupted, _) = said.iterations();
    assert_eq!((completed, interrupted), (started, 0));
    assert_eq!(target.requests(), started);
    let from = |number| said.moved.iter().find(|(other, _)| *other == number).unwrap().1;
    assert!(from(1) > RunTime(200_000), "{:?}: an iteration takes 150 ms and none begins just then", from(1));
    let at = |time: RunTime| said.deltas.iter().find(|delta| delta.from >= time).unwrap().scenarios[&0].vus;
    assert_eq!(at(from(1)), 3);
    let end = RunTime(1_100_000);
    assert_eq!(said.deltas.iter().rfind(|delta| delta.to <= end).unwrap().scenarios[&0].vus, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_does_not_come_to_rest_is_cut_off_after_the_graceful_stop() {
    let target = Target::start(Duration::from_secs(60)).await;
    let executor = Executor::ConstantVus { vus: 4, duration: Micros::from_millis(900) };
    let mut program = part(target.address, &executor, &ScenarioShare::whole(4));
    program.scenarios[0].graceful_stop = Micros::from_millis(200);
    let orders = [moves(1, 200, &[2, 3], &[])];
    let said = run_with(program, 1, tell(&orders)).await;
    assert_eq!(said.iterations(), (4, 0, 4, 0));
    let (_, from) = said.moved[0];
    assert!(from >= RunTime(400_000), "{from:?}");
    if from < RunTime(800_000) {
        let early = said.deltas.iter().filter(|delta| delta.to <= RunTime(900_000));
        assert_eq!(early.map(|delta| delta.scenarios[&0].interrupted).sum::<u64>(), 2);
    }
}

/// Joins a run that began some time ago, and gives what it said.
async fn join(program: Program, cores: usize, ago: Duration, orders: &[Move]) -> Said {
    let prepared = prepare(Arc::new(program), EngineSettings::new(cores)).unwrap();
    assert_eq!(prepared.cores() as usize, cores, "lanes may come for all of them");
    let (handle, mut events) = prepared.start(now_ns() - ago.as_nanos() as u64);
    orders.iter().for_each(|order| handle.move_lanes(order));
    collect(&mut events).await
}

async fn collect(events: &mut mpsc::Receiver<EngineEvent>) -> Said {
    let mut said = Said::default();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        match event.expect("an event in time").expect("a last event before the end") {
            EngineEvent::Started { .. } => {}
            EngineEvent::Moved { number, from } => said.moved.push((number, from)),
            EngineEvent::Delta(delta) => {
                assert_eq!(delta.from, said.deltas.last().map_or(delta.from, |last: &Delta| last.to));
                said.total.add(&delta);
                said.deltas.push(delta);
            }
            EngineEvent::Finished => return said,
            EngineEvent::Failed(reason) => panic!("{reason}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_has_the_arrivals_from_its_first_move_on_and_none_before() {
    let target = Target::start(Duration::ZERO).await;
    let executor = arrivals(200, 3_000, 64, WhenBusy::Queue);
    let none = ScenarioShare { lanes: 64, owned: vec![] };
    let half: Vec<u32> = (0..64).step_by(2).collect();
    let orders = [moves(1, 2_400, &[], &half)];
    let said = join(part(target.address, &executor, &none), 2, Duration::from_millis(2_050), &orders).await;
    let (started, completed, _, dropped) = said.iterations();
    assert_eq!(started + dropped, owned(&executor, &none, &orders, &said));
    assert_eq!((completed, target.requests()), (started, started));
    assert!(started > 0);
    assert!(said.deltas[0].from >= RunTime(2_000_000), "what was before is not its own to report");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_ramp_of_vus_has_those_that_are_wanted_then_under_numbers_of_its_own() {
    let target = Target::start(Duration::from_millis(20)).await;
    let executor = Executor::ConstantVus { vus: 8, duration: Micros::from_millis(2_800) };
    let mut program = part(target.address, &executor, &ScenarioShare { lanes: 8, owned: vec![] });
    program.first_vu = 100;
    let said = join(program, 2, Duration::from_millis(2_000), &[moves(1, 2_200, &[], &[1, 2, 6])]).await;
    let (started, completed, interrupted, _) = said.iterations();
    assert!(started > 3 && target.requests() == started);
    assert_eq!((completed, interrupted), (started, 0));
    assert_eq!(said.deltas.iter().map(|delta| delta.scenarios[&0].vus).max(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_has_handed_over_everything_waits_for_its_stop() {
    let target = Target::start(Duration::ZERO).await;
    let executor = arrivals(100, 60_000, 8, WhenBusy::Queue);
    let all: Vec<u32> = (0..8).collect();
    let orders = [moves(1, 300, &all, &[])];
    let program = part(target.address, &executor, &ScenarioShare::whole(8));
    let said = run_with(program, 2, |handle| async move {
        handle.move_lanes(&moves(1, 300, &(0..8).collect::<Vec<u32>>(), &[]));
        tokio::time::sleep(Duration::from_millis(700)).await;
        handle.stop(Micros::from_secs(1));
    })
    .await;
    let (started, completed, interrupted, dropped) = said.iterations();
    assert_eq!((completed, interrupted, dropped), (started, 0, 0));
    assert_eq!(started, owned(&executor, &ScenarioShare::whole(8), &orders, &said));
    assert!(said.total.to >= RunTime(600_000), "it was there until it was stopped");
}
