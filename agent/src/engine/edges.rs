//! Tests of the executors' edges, by k6's documentation: who may end an iteration, who is counted, who is spared.

use std::time::Duration;

use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::{Arrival, Executor, Stage, WhenBusy};
use volcanion_common::units::Rate;

use super::testing::*;
use super::*;
use crate::prepare::{Item, Program};

fn ramping(start_vus: u64, stages: &[(u64, u64)], graceful_ramp_down_ms: u64) -> Executor {
    let stage = |&(ms, target): &(u64, u64)| Stage { duration: Micros::from_millis(ms), target };
    Executor::RampingVus {
        start_vus,
        stages: stages.iter().map(stage).collect(),
        graceful_ramp_down: Micros::from_millis(graceful_ramp_down_ms),
    }
}

/// An iteration that is one request that is never answered.
async fn with_a_silent_target(executor: Executor) -> Said {
    let target = Target::start(Duration::from_secs(60)).await;
    let mut scenario = scenario(executor);
    scenario.graceful_stop = Micros::ZERO;
    run(program(target.address, scenario), 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_is_no_longer_wanted_ends_its_iteration_within_its_grace_and_begins_no_other() {
    let target = Target::start(Duration::from_millis(250)).await;
    // All are wanted for 100 ms, one stays until a second is over.
    let executor = ramping(5, &[(100, 5), (0, 1), (900, 1)], 10_000);
    let said = run(program(target.address, scenario(executor)), 1).await;
    let (started, completed, interrupted, _) = said.iterations();
    assert_eq!((completed, interrupted), (started, 0));
    assert_eq!(started, target.requests());
    // Four do one iteration, and one at most four.
    assert!((5..=8).contains(&started), "{started}");
    assert_eq!(said.deltas.last().unwrap().scenarios[&0].vus, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_is_wanted_again_within_its_grace_goes_on_as_if_nothing_had_been() {
    let said = with_a_silent_target(ramping(4, &[(100, 4), (0, 0), (50, 0), (0, 4), (150, 4)], 10_000)).await;
    assert_eq!(said.iterations(), (4, 0, 4, 0));
    let interrupted: u64 = said.deltas.iter().take(2).map(|delta| delta.scenarios[&0].interrupted).sum();
    assert_eq!(interrupted, 0, "only the end cuts them off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_of_a_ramp_down_ends_also_when_the_scenario_has_ended_meanwhile() {
    let target = Target::start(Duration::from_secs(60)).await;
    // The scenario's own grace of 30 s is for those that were wanted until its end: here for none.
    let executor = ramping(4, &[(100, 4), (0, 0), (50, 0)], 200);
    let said = run(program(target.address, scenario(executor)), 1).await;
    assert_eq!(said.iterations(), (4, 0, 4, 0));
    assert!(
        said.took >= Duration::from_millis(300) && said.took < Duration::from_secs(10),
        "{:?}",
        said.took
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_is_wanted_again_after_its_cut_begins_anew() {
    let said = with_a_silent_target(ramping(4, &[(100, 4), (0, 0), (100, 0), (0, 4), (100, 4)], 0)).await;
    assert_eq!(said.iterations(), (8, 0, 8, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iterations_that_max_duration_left_no_time_for_are_dropped_and_counted() {
    let max_duration = Micros::from_millis(250);
    for executor in [
        Executor::PerVuIterations { vus: 4, iterations: 100, max_duration },
        Executor::SharedIterations { vus: 4, iterations: 400, max_duration },
    ] {
        let target = Target::start(Duration::from_millis(20)).await;
        let said = run(program(target.address, scenario(executor)), 2).await;
        let (started, completed, interrupted, dropped) = said.iterations();
        assert_eq!((started + dropped, completed, interrupted), (400, started, 0));
        assert!((4..=60).contains(&started), "{started}");
        assert_eq!(target.requests(), started);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_by_hand_leaves_nothing_to_drop() {
    let target = Target::start(Duration::from_millis(20)).await;
    let executor =
        Executor::SharedIterations { vus: 2, iterations: 1_000_000, max_duration: Micros::from_secs(60) };
    let said = run_with(program(target.address, scenario(executor)), 2, |handle| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        handle.stop(Micros::from_secs(1));
    })
    .await;
    let (started, completed, interrupted, dropped) = said.iterations();
    assert_eq!((completed, interrupted, dropped), (started, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ramp_starts_what_its_area_says() {
    let target = Target::start(Duration::ZERO).await;
    let stage = |ms, rate| Stage { duration: Micros::from_millis(ms), target: Rate::per_second(rate) };
    let open =
        OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 5, max_vus: 60, when_busy: WhenBusy::Queue };
    let executor = Executor::RampingArrivalRate {
        start_rate: Rate::ZERO,
        // 0.4 × 300 / 2 + 0.1 × 300 + a jump + 0.2 × 50
        stages: vec![stage(400, 300), stage(100, 300), stage(0, 50), stage(200, 50)],
        open,
    };
    let said = run(program(target.address, scenario(executor)), 2).await;
    assert_eq!(said.iterations(), (100, 100, 0, 0));
    assert_eq!(target.requests(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_side_by_side_keep_their_own_time_and_counts() {
    let target = Target::start(Duration::ZERO).await;
    let mut program = program(target.address, scenario(arrivals(100, 300, 20, WhenBusy::Queue)));
    let max_duration = Micros::from_secs(20);
    let mut late = scenario(Executor::PerVuIterations { vus: 3, iterations: 4, max_duration });
    (late.name, late.items, late.start_time) =
        ("late".to_owned(), vec![Item::Request(1)], Micros::from_millis(450));
    program.scenarios.push(late);
    let said = run(program, 2).await;
    assert_eq!(said.iterations(), (30, 30, 0, 0));
    assert_eq!((said.total.scenarios[&1].started, said.total.scenarios[&1].completed), (12, 12));
    let before: u64 = said.deltas[..4].iter().map(|delta| delta.scenarios[&1].started).sum();
    assert_eq!((before, target.requests()), (0, 42));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_vus_as_are_made_in_many_looks_are_all_there_and_end_when_their_work_is_done() {
    let vus = 5_000;
    let executor = Executor::PerVuIterations { vus, iterations: 2, max_duration: Micros::from_secs(60) };
    let mut scenario = scenario(executor);
    // Without requests: what counts is that none is forgotten and that the end is not taken for reached before all were there.
    scenario.items = vec![Item::Think { least: Micros(1), most: Micros(1) }];
    let said = run(nobody(scenario), 2).await;
    assert_eq!(said.iterations(), (2 * vus, 2 * vus, 0, 0));
}

/// A program that sends nothing.
fn nobody(scenario: crate::prepare::Scenario) -> Program {
    program(std::net::SocketAddr::from(([127, 0, 0, 1], 9)), scenario)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_polls_busily_counts_the_same_and_is_not_taken_for_overloaded() {
    let target = Target::start(Duration::ZERO).await;
    let settings = EngineSettings { busy_poll: true, ..EngineSettings::new(1) };
    let program = program(target.address, scenario(arrivals(200, 600, 20, WhenBusy::Drop)));
    let said = run_as(program, settings, |_| async {}).await;
    let (started, completed, _, dropped) = said.iterations();
    assert_eq!((started + dropped, completed), (120, started));
    assert_eq!(target.requests(), started);
    assert!(
        said.total.warnings.iter().all(|warning| warning.code != "core_use"),
        "{:?}",
        said.total.warnings
    );
}
