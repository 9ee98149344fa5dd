//! Arrivals and changes of VUs: what a core pays for an iteration's start before anything is sent.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use volcanion_agent::schedule::{ArrivalRate, Arrivals, Pause, Room, VuChanges};
use volcanion_common::plan::executor::OpenLoop;
use volcanion_common::plan::profile::Profile;
use volcanion_common::plan::{Arrival, Executor, Stage, WhenBusy};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, Rate};

/// Starts in one operation.
const STARTS: u64 = 10_000;

const KINDS: [&str; 4] = ["uniform", "uniform ramp", "poisson", "poisson ramp"];

#[divan::bench(args = KINDS)]
fn next_arrival(bencher: Bencher<'_, '_>, kind: &str) {
    bencher
        .counter(ItemsCount::new(STARTS))
        .with_inputs(|| arrivals(kind))
        .bench_local_values(|arrivals| arrivals.take(STARTS as usize).fold(0, |_, at_ns| black_box(at_ns)));
}

#[divan::bench(args = [Room::Free, Room::Full])]
fn arrival_rate_take(bencher: Bencher<'_, '_>, room: &Room) {
    bencher
        .counter(ItemsCount::new(STARTS))
        .with_inputs(|| ArrivalRate::new(arrivals("uniform"), WhenBusy::Drop))
        .bench_local_values(|mut rate| {
            (0..STARTS).map(|_| rate.take(u64::MAX, *room, Pause::default())).filter(Option::is_some).count()
        });
}

/// The start of a ramp to 10,000 VUs, and all its changes.
#[divan::bench]
fn vu_changes(bencher: Bencher<'_, '_>) {
    let stage = |seconds, target| Stage { duration: Micros::from_secs(seconds), target };
    let stages = vec![stage(60, STARTS), stage(60, 0)];
    let executor = Executor::RampingVus { start_vus: 0, stages, graceful_ramp_down: Micros::ZERO };
    let profile = Profile::of_vus(&executor).expect("it is a closed loop");
    bencher.counter(ItemsCount::new(2 * STARTS)).bench_local(|| {
        let mut changes = VuChanges::new(profile.clone(), &whole(), STARTS);
        std::iter::from_fn(|| changes.take(u64::MAX)).count()
    });
}

fn arrivals(kind: &str) -> Arrivals {
    let arrival = if kind.starts_with("poisson") { Arrival::Poisson } else { Arrival::Uniform };
    let open = OpenLoop { arrival, pre_allocated_vus: 1, max_vus: 1, when_busy: WhenBusy::Drop };
    let (rate, duration) = (Rate::per_second(20_000), Micros::from_secs(60));
    let executor = if kind.ends_with("ramp") {
        let stages = vec![Stage { duration, target: rate }];
        Executor::RampingArrivalRate { start_rate: Rate::per_second(1_000), stages, open }
    } else {
        Executor::ConstantArrivalRate { rate, duration, open }
    };
    let profile = Profile::of_arrivals(&executor).expect("it is an open loop");
    Arrivals::new(arrival, profile, &whole(), 42, 0)
}

fn whole() -> ScenarioShare {
    ScenarioShare::whole(256)
}
