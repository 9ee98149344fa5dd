use super::*;
use crate::plan::executor::{Arrival, OpenLoop, WhenBusy};
use proptest::prelude::*;

const OPEN: OpenLoop =
    OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 1, max_vus: 1, when_busy: WhenBusy::Drop };

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn constant(text: &str, duration: &str) -> Profile {
    let executor =
        Executor::ConstantArrivalRate { rate: rate(text), duration: duration.parse().unwrap(), open: OPEN };
    Profile::of_arrivals(&executor).unwrap()
}

fn ramping(start: &str, stages: &[(&str, &str)]) -> Profile {
    let stages = stages
        .iter()
        .map(|(duration, target)| Stage { duration: duration.parse().unwrap(), target: rate(target) })
        .collect();
    Profile::of_arrivals(&Executor::RampingArrivalRate { start_rate: rate(start), stages, open: OPEN })
        .unwrap()
}

fn vus(start_vus: u64, stages: &[(&str, u64)]) -> Profile {
    let stages = stages
        .iter()
        .map(|(duration, target)| Stage { duration: duration.parse().unwrap(), target: *target })
        .collect();
    Profile::of_vus(&Executor::RampingVus { start_vus, stages, graceful_ramp_down: Micros::ZERO }).unwrap()
}

#[test]
fn counts_are_exact() {
    assert_eq!(constant("401/s", "5s").count(), 2_005);
    assert_eq!(constant("1/h", "1s").count(), 1);
    assert_eq!(constant("0.5/s", "3s").count(), 2);
    assert_eq!(constant("3/m", "1m").count(), 3);
    assert_eq!(constant("10000000/s", "366d").count(), 10_000_000 * 366 * 86_400);
    assert_eq!(ramping("0/s", &[("10s", "100/s")]).count(), 500);
    assert_eq!(ramping("100/s", &[("10s", "0/s")]).count(), 500);
    assert_eq!(ramping("0/s", &[("0s", "100/s"), ("10s", "100/s")]).count(), 1_000);
    assert_eq!(ramping("7/s", &[("10s", "0/s"), ("1h", "0/s")]).count(), 35);
    assert_eq!(ramping("0/s", &[("10s", "0/s")]).count(), 0);
    // 0.05 + 0.45: each stage alone would round up.
    assert_eq!(ramping("1/s", &[("50ms", "1/s"), ("450ms", "1/s")]).count(), 1);
}

#[test]
fn even_arrivals_are_due_at_k_over_the_rate() {
    let profile = constant("401/s", "5s");
    for k in [0u64, 1, 2, 400, 401, 2_004] {
        assert_eq!(profile.time_of_ns(k), k * 1_000_000_000 / 401, "{k}");
    }
    assert_eq!(profile.time_of_ns(2_005), 5_000_000_000);
    let fast = constant("9999999.999999/s", "366d");
    let last = fast.count() - 1;
    let expected = u128::from(last) * 1_000_000_000_000_000 / 9_999_999_999_999;
    assert_eq!(u128::from(fast.time_of_ns(last)), expected);
}

#[test]
fn ramps_follow_the_square_root() {
    // I(t) = 5 t², so arrival k is due at √(k/5) s.
    let up = ramping("0/s", &[("10s", "100/s")]);
    assert_eq!(up.time_of_ns(0), 0);
    assert_eq!(up.time_of_ns(5), 1_000_000_000);
    assert_eq!(up.time_of_ns(20), 2_000_000_000);
    assert_eq!(up.time_of_ns(1), 447_213_595);
    // Down: I(t) = 100 t − 5 t²; 495 is met at 9 s.
    let down = ramping("100/s", &[("10s", "0/s")]);
    assert_eq!(down.time_of_ns(495), 9_000_000_000);
    assert_eq!(down.time_of_ns(499), 9_552_786_404);
}

#[test]
fn nothing_is_due_while_the_rate_is_zero() {
    let late = ramping("0/s", &[("10s", "0/s"), ("0s", "10/s"), ("1s", "10/s")]);
    assert_eq!((late.count(), late.time_of_ns(0), late.time_of_ns(9)), (10, 10_000_000_000, 10_900_000_000));
    let gap =
        ramping("10/s", &[("1s", "10/s"), ("0s", "0/s"), ("10s", "0/s"), ("0s", "10/s"), ("1s", "10/s")]);
    assert_eq!((gap.time_of_ns(9), gap.time_of_ns(10)), (900_000_000, 11_000_000_000));
    assert_eq!(gap.count(), 20);
    assert_eq!(gap.count_before(5_000_000_000), 10);
}

#[test]
fn amounts_that_are_not_whole_lie_between_arrivals() {
    let profile = ramping("0/s", &[("10s", "100/s")]);
    assert_eq!(profile.time_of_amount_ns(5.0), Some(1_000_000_000));
    assert_eq!(profile.time_of_amount_ns(0.05), Some(100_000_000));
    assert_eq!(profile.time_of_amount_ns(500.0), None);
    assert_eq!(profile.time_of_amount_ns(f64::INFINITY), None);
    assert_eq!(profile.time_of_amount_ns(f64::NAN), None);
}

#[test]
fn closed_and_open_loops_have_a_profile_of_their_own_kind() {
    let closed = Executor::ConstantVus { vus: 5, duration: Micros::from_secs(2) };
    assert!(Profile::of_arrivals(&closed).is_none());
    let profile = Profile::of_vus(&closed).unwrap();
    assert_eq!((profile.level_at(0), profile.level_at(1_999_999), profile.level_at(9_000_000)), (5, 5, 5));
    assert_eq!(profile.next_change_ns(4, 0), None);
    let shared = Executor::SharedIterations { vus: 3, iterations: 9, max_duration: Micros::from_secs(2) };
    assert_eq!(Profile::of_vus(&shared).unwrap().level_at(5), 3);
    let open =
        Executor::ConstantArrivalRate { rate: rate("1/s"), duration: Micros::from_secs(1), open: OPEN };
    assert!(Profile::of_vus(&open).is_none());
}

#[test]
fn vus_come_and_go_along_the_line() {
    let profile = vus(0, &[("10s", 10), ("5s", 10), ("10s", 0)]);
    assert_eq!(profile.next_change_ns(0, 0), Some((1, true)));
    assert_eq!(profile.next_change_ns(9, 0), Some((9_000_000_001, true)));
    assert_eq!(profile.next_change_ns(10, 0), None);
    assert_eq!(profile.next_change_ns(9, 9_000_000_001), Some((16_000_000_000, false)));
    assert_eq!(profile.next_change_ns(0, 1), None);
    assert_eq!(profile.level_at(2_500_000), 3);
    let jumps = vus(4, &[("1s", 4), ("0s", 2), ("1s", 2), ("0s", 8), ("1s", 8)]);
    assert_eq!(jumps.next_change_ns(3, 0), Some((1_000_000_000, false)));
    assert_eq!(jumps.next_change_ns(3, 1_000_000_000), Some((2_000_000_000, true)));
    assert_eq!(jumps.next_change_ns(7, 0), Some((2_000_000_000, true)));
    assert!(vus(0, &[("0s", 5), ("1s", 5)]).is_active(4, 0));
}

/// I(t) in exact halves at a nanosecond, as a fraction over 10⁶ × d: by summing pieces, another way than the code.
fn is_passed(start: u64, stages: &[Stage<Rate>], k: u64, ns: u64) -> bool {
    let (mut at_us, mut from, mut halves) = (0u64, u128::from(start), 0u128);
    let target = u128::from(k) * HALVES_PER_ITERATION;
    for stage in stages {
        let (to, d) = (u128::from(stage.target.micro_per_hour()), u128::from(stage.duration.0));
        let inside = u128::from(ns.saturating_sub(at_us * 1_000)).min(d * 1_000);
        if inside < d * 1_000 {
            // Small numbers only: see the strategy.
            let twice = (2_000 * from * d * inside + to * inside * inside - from * inside * inside) as f64
                / (d as f64 * 1e6);
            return halves as f64 + twice > target as f64;
        }
        halves += (from + to) * d;
        at_us += stage.duration.0;
        from = to;
    }
    halves > target
}

fn stages() -> impl Strategy<Value = (u64, Vec<Stage<Rate>>)> {
    let a_rate = prop_oneof![Just(0u64), 0u64..=500_000, Just(1_000_000)];
    let stage = (prop_oneof![Just(0u64), 1u64..3_000_000, Just(1_000_000)], a_rate.clone()).prop_map(
        |(us, milli)| Stage { duration: Micros(us), target: Rate::from_micro_per_hour(milli * 3_600_000) },
    );
    (a_rate.prop_map(|milli| milli * 3_600_000), prop::collection::vec(stage, 1..6))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arrivals_are_complete_monotone_and_inside(ramp in stages()) {
        let (start, stages) = ramp;
        let executor = Executor::RampingArrivalRate {
            start_rate: Rate::from_micro_per_hour(start), stages: stages.clone(), open: OPEN,
        };
        let profile = Profile::of_arrivals(&executor).unwrap();
        let mut earlier = 0;
        let step = (profile.count() / 500).max(1);
        for k in (0..profile.count()).step_by(step as usize).chain(profile.count().checked_sub(1)) {
            let at = profile.time_of_ns(k);
            prop_assert!(at >= earlier && at < profile.duration_ns(), "{} at {}", k, at);
            earlier = at;
            // Half a microsecond to either side is past any error of the float in the reference.
            prop_assert!(!is_passed(start, &stages, k, at.saturating_sub(500)) || at == 0, "{} comes late at {}", k, at);
            prop_assert!(is_passed(start, &stages, k, at + 500), "{} comes early at {}", k, at);
            let before = profile.count_before(at);
            prop_assert!(before <= k && profile.count_before(at + 1) > k);
        }
        prop_assert_eq!(profile.count_before(u64::MAX), profile.count());
        prop_assert!(is_passed(start, &stages, profile.count().saturating_sub(1), u64::MAX) || profile.count() == 0);
        prop_assert!(!is_passed(start, &stages, profile.count(), u64::MAX));
    }

    #[test]
    fn no_plan_overflows(
        start in any::<u64>(),
        stages in prop::collection::vec((0..=Micros::MAX.0 / 3, any::<u64>()), 1..4),
        at in any::<u64>(),
    ) {
        let stages = stages.into_iter()
            .map(|(us, target)| Stage { duration: Micros(us), target: Rate::from_micro_per_hour(target) })
            .collect();
        let executor = Executor::RampingArrivalRate { start_rate: Rate::from_micro_per_hour(start), stages, open: OPEN };
        let profile = Profile::of_arrivals(&executor).unwrap();
        if profile.count() > 1 {
            let k = at % (profile.count() - 1);
            prop_assert!(profile.time_of_ns(k) <= profile.time_of_ns(k + 1));
            prop_assert!(profile.time_of_ns(k + 1) < profile.duration_ns());
        }
    }

    #[test]
    fn vu_changes_are_those_found_by_looking_at_every_moment(
        start in 0u64..6,
        stages in prop::collection::vec((0u64..4, 0u64..6), 1..5),
        vu in 0u64..6,
    ) {
        let stages: Vec<_> = stages.into_iter()
            .map(|(us, target)| Stage { duration: Micros(us), target }).collect();
        let executor = Executor::RampingVus { start_vus: start, stages: stages.clone(), graceful_ramp_down: Micros::ZERO };
        let profile = Profile::of_vus(&executor).unwrap();
        let active = |ns: u64| {
            let (mut at, mut from) = (0, start);
            for stage in &stages {
                let length = stage.duration.as_nanos();
                if ns < at + length {
                    let level = from as f64 + (stage.target as f64 - from as f64) * (ns - at) as f64 / length as f64;
                    return level > vu as f64 + 1e-9;
                }
                (at, from) = (at + length, stage.target);
            }
            from > vu
        };
        let end = profile.duration_ns();
        for after in 0..end {
            prop_assert_eq!(profile.is_active(vu, after), active(after));
            let expected = (after + 1..end).find(|ns| active(*ns) != active(after)).map(|ns| (ns, active(ns)));
            prop_assert_eq!(profile.next_change_ns(vu, after), expected, "after {}", after);
        }
    }
}
