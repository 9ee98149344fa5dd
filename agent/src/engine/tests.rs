use std::time::Duration;

use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::{Arrival, Control, Executor, Level, Stage, WhenBusy};
use volcanion_common::series::{Distribution, Outcome};
use volcanion_common::session::Change;
use volcanion_common::shard::split::over_cores;
use volcanion_common::units::{Rate, RunTime};

use super::testing::*;
use super::*;
use crate::prepare::Item;

fn constant(vus: u64, duration_ms: u64) -> Executor {
    Executor::ConstantVus { vus, duration: Micros::from_millis(duration_ms) }
}

fn times(said: &Said, of: impl Fn(&volcanion_common::series::Series) -> &Distribution) -> Distribution {
    let mut all = Distribution::default();
    said.total.series.values().for_each(|series| all.add(of(series)));
    all
}

/// What holds after every run, however it ended.
fn check_sums(said: &Said, target: &Target) {
    let (started, completed, interrupted, _) = said.iterations();
    assert_eq!(said.failed, None);
    assert_eq!(started, completed + interrupted);
    assert_eq!(said.total.requests(), target.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_counts_what_the_target_counts() {
    let target = Target::start(Duration::ZERO).await;
    let mut scenario = scenario(constant(9, 400));
    scenario.items.push(Item::Think { least: Micros(500), most: Micros(1_500) });
    scenario.items.push(Item::Request(1));
    let said = run(program(target.address, scenario), 2).await;
    check_sums(&said, &target);
    let (started, completed, ..) = said.iterations();
    assert!(started > 50 && completed == started, "{started}, {completed}");
    assert_eq!(said.total.requests(), 2 * started);
    assert!(said.total.series.iter().all(|(key, s)| key.outcome == Outcome::Status(200) && s.failed == 0));
    assert_eq!(times(&said, |s| &s.response_time).count(), 2 * started);
    assert_eq!(said.total.scenarios[&0].phases.connect.count(), 9);
    // Short requests end with the scenario, not with the time that they might have had.
    assert!((0.4..2.0).contains(&said.took.as_secs_f64()), "{:?}", said.took);
    assert!(said.deltas.len() >= 4 && said.deltas[1].to == RunTime(200_000));
    assert!(said.deltas.iter().all(|delta| delta.process.cores == 2));
    assert_eq!((said.deltas[1].scenarios[&0].vus, said.total.scenarios[&0].vus), (9, 0));
    assert!(said.total.process.cpu_us > 0 && said.total.process.resident_bytes > 1 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_starts_or_drops_every_arrival() {
    for (rate, duration_ms, max_vus, cores, expected) in [
        (401, 500, 50, 2, 201),
        (401, 500, 1, 2, 201),
        (401, 500, 3, 8, 201),
        (1_000, 300, 20, 1, 300),
        (3, 100, 2, 2, 1),
    ] {
        let target = Target::start(Duration::ZERO).await;
        let scenario = scenario(arrivals(rate, duration_ms, max_vus, WhenBusy::Drop));
        let said = run(program(target.address, scenario), cores).await;
        check_sums(&said, &target);
        let (started, completed, _, dropped) = said.iterations();
        assert_eq!((started + dropped, completed), (expected, started), "{rate}/s over {cores} cores");
        assert_eq!(said.total.requests(), started);
        assert_eq!(said.total.scenarios[&0].schedule_lag.count(), started);
        assert!(said.took.as_millis() as u64 >= duration_ms);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_agents_do_the_plan_together() {
    let target = Target::start(Duration::ZERO).await;
    let whole = scenario(arrivals(401, 500, 40, WhenBusy::Drop));
    let runs = over_cores(&whole.share, 3).into_iter().map(|share| {
        let mut scenario = whole.clone();
        scenario.share = share;
        run(program(target.address, scenario), 2)
    });
    let said = futures_util::future::join_all(runs).await;
    let shares: Vec<u64> = said.iter().map(|said| said.iterations().0 + said.iterations().3).collect();
    assert_eq!(shares.iter().sum::<u64>(), 201);
    assert!(shares.iter().all(|share| (60..75).contains(share)), "{shares:?}");
    assert_eq!(said.iter().map(|said| said.total.requests()).sum::<u64>(), target.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_vus_drop_arrivals_and_the_run_says_so() {
    let target = Target::start(Duration::from_millis(60)).await;
    let scenario = scenario(arrivals(200, 400, 2, WhenBusy::Drop));
    let said = run(program(target.address, scenario), 1).await;
    check_sums(&said, &target);
    let (started, _, _, dropped) = said.iterations();
    assert_eq!(started + dropped, 80);
    assert!((4..20).contains(&started), "{started}");
    assert!(said.total.warnings.iter().any(|warning| warning.code == "dropped_iterations"));
    // None waited for a VU.
    assert!(times(&said, |s| &s.response_time).percentile_us(50.0) < 150_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_shows_in_the_response_time_and_not_in_the_service_time() {
    let target = Target::start(Duration::from_millis(25)).await;
    let scenario = scenario(arrivals(100, 400, 1, WhenBusy::Queue));
    let said = run(program(target.address, scenario), 1).await;
    check_sums(&said, &target);
    let (started, _, _, dropped) = said.iterations();
    // What still waited at the end was dropped then.
    assert!(started + dropped == 40 && (5..18).contains(&started), "{started}");
    let (response, service) = (times(&said, |s| &s.response_time), times(&said, |s| &s.service_time));
    assert!(response.max_us() > service.max_us() + 100_000, "{} {}", response.max_us(), service.max_us());
    assert!(said.total.scenarios[&0].schedule_lag.max_us() > 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_quick_and_exact_in_both_loops() {
    for executor in [arrivals(1_000, 60_000, 100, WhenBusy::Drop), constant(20, 60_000)] {
        let is_open = executor.is_open_loop();
        let target = Target::start(Duration::from_millis(1)).await;
        let said = run_with(program(target.address, scenario(executor)), 2, |handle| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            handle.stop(Micros::from_secs(1));
            handle.stop(Micros::from_secs(9));
        })
        .await;
        check_sums(&said, &target);
        let (started, _, interrupted, dropped) = said.iterations();
        assert_eq!(interrupted, 0);
        assert!(said.took < Duration::from_secs(2), "{:?}", said.took);
        if is_open {
            // Exactly the arrivals that were due until the stop, which came a little after 0.3 s.
            let arrived = started + dropped;
            let at_most = said.total.to.0 / 1_000 + 1;
            assert!(arrived >= 300 && arrived <= at_most, "{arrived} of {at_most}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_when_the_grace_ends_is_interrupted_and_counted() {
    let target = Target::start(Duration::from_secs(30)).await;
    for executor in [constant(6, 150), arrivals(100, 100, 10, WhenBusy::Drop)] {
        let before = target.requests();
        let mut scenario = scenario(executor);
        scenario.graceful_stop = Micros::from_millis(100);
        let said = run(program(target.address, scenario), 2).await;
        let (started, completed, interrupted, _) = said.iterations();
        assert!(
            started >= 6 && completed == 0 && interrupted == started,
            "{started} {completed} {interrupted}"
        );
        assert_eq!(said.errors(), [("interrupted: ".to_owned(), started)].into());
        assert_eq!(said.total.requests(), target.requests() - before);
        assert!(times(&said, |s| &s.response_time).is_empty());
        assert!(said.took < Duration::from_secs(2), "{:?}", said.took);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vus_follow_the_ramp_up_and_down() {
    let target = Target::start(Duration::from_millis(2)).await;
    let stage = |ms, target| Stage { duration: Micros::from_millis(ms), target };
    let executor = Executor::RampingVus {
        start_vus: 0,
        stages: vec![stage(500, 20), stage(100, 20), stage(0, 5), stage(300, 5)],
        graceful_ramp_down: Micros::from_millis(50),
    };
    let said = run(program(target.address, scenario(executor)), 2).await;
    check_sums(&said, &target);
    let levels: Vec<u64> = said.deltas.iter().map(|delta| delta.scenarios[&0].vus).collect();
    assert!((3..=6).contains(&levels[0]) && levels[..5].is_sorted(), "{levels:?}");
    assert!(levels[5] <= 20 && levels[4] >= 18, "{levels:?}");
    assert_eq!(levels[7], 5, "{levels:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_is_no_longer_wanted_is_cut_after_its_grace() {
    let target = Target::start(Duration::from_secs(30)).await;
    let stage = |ms, target| Stage { duration: Micros::from_millis(ms), target };
    let executor = Executor::RampingVus {
        start_vus: 6,
        stages: vec![stage(100, 6), stage(0, 2), stage(1_500, 2)],
        graceful_ramp_down: Micros::from_millis(50),
    };
    let mut scenario = scenario(executor);
    scenario.graceful_stop = Micros::ZERO;
    let said = run(program(target.address, scenario), 1).await;
    assert_eq!(said.iterations(), (6, 0, 6, 0));
    let interrupted: Vec<u64> = said.deltas.iter().map(|delta| delta.scenarios[&0].interrupted).collect();
    // Long before the end, at which the other two are cut.
    let early = interrupted.len().saturating_sub(2);
    assert_eq!(interrupted[..early].iter().sum::<u64>(), 4, "{interrupted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_number_of_iterations_is_done_exactly_and_ends_the_load() {
    let max_duration = Micros::from_secs(60);
    for (executor, expected) in [
        (Executor::SharedIterations { vus: 7, iterations: 100, max_duration }, 100),
        (Executor::PerVuIterations { vus: 7, iterations: 11, max_duration }, 77),
    ] {
        let target = Target::start(Duration::ZERO).await;
        let said = run(program(target.address, scenario(executor)), 3).await;
        check_sums(&said, &target);
        assert_eq!(said.iterations(), (expected, expected, 0, 0));
        assert!(said.took < Duration::from_secs(5), "{:?}", said.took);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusing_target_is_counted_and_neither_stops_a_vu_nor_makes_it_spin() {
    let target = Target::start(Duration::ZERO).await;
    let address = target.address;
    drop(target);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let said = run(program(address, scenario(constant(2, 300))), 1).await;
    let (started, completed, ..) = said.iterations();
    assert!(started > 10 && completed == started, "{started}");
    assert!(started <= 2 * 31, "at most a hundred a second and VU, not {started} in 0.3 s");
    assert_eq!(said.errors(), [("connect: refused".to_owned(), said.total.requests())].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_that_take_no_time_cost_an_open_loop_no_arrival() {
    let mut program = program(
        std::net::SocketAddr::from(([127, 0, 0, 1], 9)),
        scenario(arrivals(400, 400, 1, WhenBusy::Drop)),
    );
    program.targets.loopback = false;
    let said = run(program, 1).await;
    let (started, completed, _, dropped) = said.iterations();
    assert_eq!((started + dropped, completed), (160, started));
    assert!(dropped < 40, "{dropped} of 160 were dropped, for a VU that had nothing to do");
    assert_eq!(said.errors(), [("blocked: target".to_owned(), started)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_panics_fails_the_load_and_ends_the_others() {
    let target = Target::start(Duration::ZERO).await;
    let mut program = program(target.address, scenario(constant(4, 60_000)));
    program.steps[1].request.origin = 7;
    // Only the last VU's core comes to the second step early: the others are thinking.
    program.scenarios[0].items = vec![
        Item::Request(0),
        Item::Think { least: Micros(1), most: Micros::from_millis(300) },
        Item::Request(1),
    ];
    let said = run(program, 2).await;
    let failed = said.failed.expect("it failed");
    assert!(failed.contains("panicked"), "{failed}");
    assert!(said.took < Duration::from_secs(5), "{:?}", said.took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_past_the_fence_or_without_an_owner() {
    let target = Target::start(Duration::ZERO).await;
    for executor in [constant(4, 60_000), arrivals(500, 60_000, 10, WhenBusy::Drop)] {
        let before = target.requests();
        let said = run_with(program(target.address, scenario(executor)), 2, |handle| async move {
            handle.allow_until(now_ns() + 200_000_000);
        })
        .await;
        assert!(said.took < Duration::from_millis(1_500), "{:?}", said.took);
        assert_eq!(said.total.requests(), target.requests() - before);
        assert!(said.total.requests() > 20);
    }
    let program = Arc::new(program(target.address, scenario(constant(4, 60_000))));
    let (handle, mut events) = prepare(program, EngineSettings::new(2)).unwrap().start(now_ns());
    drop(handle);
    let last = async { while !matches!(events.recv().await.unwrap(), EngineEvent::Finished) {} };
    tokio::time::timeout(Duration::from_secs(5), last).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vu_that_thought_past_the_fence_sends_nothing() {
    let target = Target::start(Duration::ZERO).await;
    let mut scenario = scenario(constant(4, 60_000));
    let pause = Micros::from_millis(300);
    scenario.items = vec![Item::Request(0), Item::Think { least: pause, most: pause }, Item::Request(1)];
    let mut program = program(target.address, scenario);
    // So that only the VUs themselves look before the scenario's end.
    program.interval = Micros::from_secs(60);
    let said = run_with(program, 1, |handle| async move {
        handle.allow_until(now_ns() + 100_000_000);
    })
    .await;
    assert_eq!((said.iterations(), target.requests()), ((4, 0, 4, 0), 4));
    assert!(said.took < Duration::from_millis(1_500), "{:?}", said.took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_before_the_start_sends_nothing() {
    let target = Target::start(Duration::ZERO).await;
    let program = Arc::new(program(target.address, scenario(constant(4, 60_000))));
    let prepared = prepare(program, EngineSettings::new(2)).unwrap();
    assert_eq!(prepared.cores(), 2);
    let (handle, mut events) = prepared.start(now_ns() + 60_000_000_000);
    handle.stop(Micros::from_secs(1));
    let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap();
    assert!(matches!(event, Some(EngineEvent::Finished)), "{event:?}");
    assert_eq!(target.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_behind_loses_no_count() {
    let target = Target::start(Duration::from_millis(1)).await;
    let mut program = program(target.address, scenario(constant(5, 400)));
    program.interval = Micros::from_millis(2);
    let prepared = prepare(Arc::new(program), EngineSettings::new(2)).unwrap();
    let (_handle, mut events) = prepared.start(now_ns());
    while events.len() < EVENTS_MAX {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (mut total, mut spans) = (Delta::default(), 0);
    loop {
        match tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap() {
            EngineEvent::Started { .. } | EngineEvent::Moved { .. } => {}
            EngineEvent::Delta(delta) => {
                assert_eq!(total.to, delta.from);
                total.add(&delta);
                spans += 1;
            }
            EngineEvent::Finished => break,
            EngineEvent::Failed(reason) => panic!("{reason}"),
        }
    }
    assert!((10..=EVENTS_MAX + 5).contains(&spans) && total.to.0 >= 400_000, "{spans} {:?}", total.to);
    assert_eq!(total.requests(), target.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scenario_starts_at_its_own_time_and_an_agent_without_a_share_ends_at_once() {
    let target = Target::start(Duration::ZERO).await;
    let mut late = scenario(arrivals(100, 200, 5, WhenBusy::Drop));
    late.start_time = Micros::from_millis(250);
    let said = run(program(target.address, late), 2).await;
    check_sums(&said, &target);
    assert_eq!(said.iterations().0 + said.iterations().3, 20);
    assert_eq!(said.deltas[..2].iter().map(Delta::requests).sum::<u64>(), 0);

    let mut nothing = scenario(constant(3, 60_000));
    nothing.share.owned.clear();
    let said = run(program(target.address, nothing), 2).await;
    assert_eq!((said.failed.clone(), said.iterations()), (None, (0, 0, 0, 0)));
    assert!(said.took < Duration::from_secs(2));
}

fn told(number: u64, at_ms: u64, level: Level) -> Adjustment {
    let at = RunTime(at_ms * 1_000);
    Adjustment { change: Change { number, scenario: 0, at, level }, from: at }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_that_is_changed_from_outside_starts_exactly_what_its_segments_ask_for() {
    let open =
        OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 0, max_vus: 40, when_busy: WhenBusy::Drop };
    let control = Control::Rate { rate: Rate::per_second(100), open };
    let duration = Micros::from_millis(1_200);
    for cores in [1, 3] {
        let target = Target::start(Duration::ZERO).await;
        let scenario = scenario(Executor::ExternallyControlled { control, duration });
        let said = run_with(program(target.address, scenario), cores, |handle| async move {
            handle.adjust(told(1, 300, Level::Rate(Rate::per_second(500))));
            handle.adjust(told(2, 600, Level::Rate(Rate::ZERO)));
            handle.adjust(told(3, 1_000, Level::Rate(Rate::per_second(50))));
        })
        .await;
        check_sums(&said, &target);
        let (started, _, _, dropped) = said.iterations();
        assert_eq!(started + dropped, 30 + 150 + 10, "over {cores} cores");
        // The rate was zero from 600 ms to 1 s; what was late by then is in an interval before 800 ms on any machine that is not standing still.
        let lags = &said.total.scenarios[&0].schedule_lag;
        if lags.max_us() < 100_000 {
            let quiet = said.deltas.iter().filter(|d| (800_000..1_000_000).contains(&d.from.0));
            assert_eq!(quiet.map(|d| d.scenarios.get(&0).map_or(0, |s| s.started)).sum::<u64>(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vus_that_are_changed_from_outside_end_their_iterations_in_peace() {
    let target = Target::start(Duration::from_millis(150)).await;
    let control = Control::Vus { vus: 2, max_vus: 8 };
    let scenario = scenario(Executor::ExternallyControlled { control, duration: Micros::from_millis(1_500) });
    let said = run_with(program(target.address, scenario), 2, |handle| async move {
        handle.adjust(told(1, 300, Level::Vus(8)));
        handle.adjust(told(2, 800, Level::Vus(1)));
    })
    .await;
    check_sums(&said, &target);
    assert_eq!(said.iterations().2, 0, "none was cut off");
    let vus = |ms: u64| said.deltas.iter().find(|d| d.to.0 >= ms * 1_000).unwrap().scenarios[&0].vus;
    assert_eq!((vus(200), vus(1_400)), (2, 1));
    assert_eq!(said.deltas.iter().map(|d| d.scenarios.get(&0).map_or(0, |s| s.vus)).max(), Some(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_before_the_start_holds_from_the_start_on() {
    let target = Target::start(Duration::ZERO).await;
    let open =
        OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 0, max_vus: 9, when_busy: WhenBusy::Queue };
    let control = Control::Rate { rate: Rate::per_second(1_000), open };
    let duration = Micros::from_millis(500);
    let program =
        Arc::new(program(target.address, scenario(Executor::ExternallyControlled { control, duration })));
    let prepared = prepare(program, EngineSettings::new(2)).unwrap();
    let (handle, mut events) = prepared.start(now_ns() + 100_000_000);
    handle.adjust(told(1, 0, Level::Rate(Rate::per_second(40))));
    let mut started = 0;
    loop {
        match tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap() {
            EngineEvent::Delta(delta) => {
                started += delta.scenarios.get(&0).map_or(0, |s| s.started + s.dropped)
            }
            EngineEvent::Finished => break,
            EngineEvent::Failed(reason) => panic!("{reason}"),
            EngineEvent::Started { .. } | EngineEvent::Moved { .. } => {}
        }
    }
    assert_eq!(started, 20);
}
