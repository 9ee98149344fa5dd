use super::*;
use crate::plan::executor::{Arrival, OpenLoop, WhenBusy};
use crate::plan::profile::Profile;
use crate::plan::{AgentChoice, HttpOptions, OnAgentLoss, Scenario, Stage};
use crate::units::Micros;
use proptest::prelude::*;

fn open(max_vus: u64) -> OpenLoop {
    OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: max_vus, max_vus, when_busy: WhenBusy::Drop }
}

fn arrivals(per_second: u64, seconds: u64, max_vus: u64) -> Executor {
    let (rate, duration) = (Rate::per_second(per_second), Micros::from_secs(seconds));
    Executor::ConstantArrivalRate { rate, duration, open: open(max_vus) }
}

fn plan(executors: Vec<Executor>, load: Load) -> Plan {
    let scenario = |(i, executor)| Scenario {
        name: format!("s{i}"),
        executor,
        start_time: Micros::ZERO,
        graceful_stop: Micros::ZERO,
        steps: vec![],
    };
    Plan {
        name: "p".into(),
        target: None,
        timeout: Micros::from_secs(1),
        headers: vec![],
        http: HttpOptions::default(),
        variables: Default::default(),
        agents: AgentChoice::default(),
        load,
        elastic: false,
        on_agent_loss: OnAgentLoss::Continue,
        success_status: vec![(200, 399)],
        trace_sample: None,
        interval: Micros::from_secs(1),
        scenarios: executors.into_iter().enumerate().map(scenario).collect(),
        thresholds: vec![],
    }
}

fn equal(agents: usize, cores: u32) -> Vec<Weight> {
    vec![Weight { cores, capacity: f64::from(cores) }; agents]
}

/// The lanes of all owners together are each of the scenario's lanes once.
fn assert_exact<'a>(shares: impl IntoIterator<Item = &'a ScenarioShare>) {
    let shares: Vec<_> = shares.into_iter().collect();
    let mut all: Vec<u32> = shares.iter().flat_map(|share| share.owned.iter().copied()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..shares[0].lanes));
    for share in shares {
        assert_eq!(share.lanes, share.lanes.max(1));
        assert!(share.owned.is_sorted());
    }
}

#[test]
fn three_agents_share_401_a_second_to_the_last_arrival() {
    for max_vus in [1, 2, 7, 50, 1_000] {
        let (plan, shares) = cut(&plan(vec![arrivals(401, 5, max_vus)], Load::Total), &equal(3, 2));
        let total = Profile::of_arrivals(&plan.scenarios[0].executor).unwrap().count();
        assert_eq!(total, 2_005);
        let counts: Vec<u64> = shares.iter().map(|share| share[0].count_below(total)).collect();
        assert_eq!(counts.iter().sum::<u64>(), 2_005, "{counts:?}");
        if max_vus >= 50 {
            assert!(counts.iter().all(|count| (count * 3).abs_diff(2_005) < 2_005 * 3 / 50), "{counts:?}");
        }
    }
}

#[test]
fn one_vu_lands_on_one_core() {
    let shares = over_cores(&ScenarioShare::whole(1), 8);
    assert_exact(&shares);
    assert_eq!(shares.iter().filter(|share| share.is_empty()).count(), 7);
}

#[test]
fn scenarios_of_one_vu_are_spread_over_agents_and_cores() {
    let one = || Executor::ConstantVus { vus: 1, duration: Micros::from_secs(1) };
    let (_, shares) = cut(&plan((0..6).map(|_| one()).collect(), Load::Total), &equal(3, 1));
    for agent in &shares {
        assert_eq!(agent.iter().map(|share| share.owned.len()).sum::<usize>(), 2);
    }
    let cores = all_over_cores(&(0..6).map(|_| ScenarioShare::whole(1)).collect::<Vec<_>>(), 2);
    for core in &cores {
        assert_eq!(core.iter().filter(|share| !share.is_empty()).count(), 3);
    }
}

#[test]
fn per_agent_gives_each_the_whole_plan() {
    let vus = Executor::RampingVus {
        start_vus: 1,
        stages: vec![Stage { duration: Micros::from_secs(1), target: 5 }],
        graceful_ramp_down: Micros::ZERO,
    };
    let shared = Executor::SharedIterations { vus: 2, iterations: 9, max_duration: Micros::from_secs(1) };
    let (carried, shares) = cut(&plan(vec![arrivals(401, 5, 10), vus, shared], Load::PerAgent), &equal(3, 2));
    let total = Profile::of_arrivals(&carried.scenarios[0].executor).unwrap().count();
    assert_eq!(total, 3 * 2_005);
    for agent in &shares {
        assert_eq!(agent[0].count_below(total), 2_005);
        assert_eq!(agent[0].count_below(carried.scenarios[0].executor.max_vus()), 10);
        assert_eq!(agent[1].count_below(carried.scenarios[1].executor.max_vus()), 5);
        assert_eq!(agent[2].count_below(27), 9);
    }
    assert!(matches!(
        &carried.scenarios[2].executor,
        Executor::SharedIterations { vus: 6, iterations: 27, .. }
    ));
}

#[test]
fn no_agents_no_shares() {
    for load in [Load::Total, Load::PerAgent] {
        assert!(cut(&plan(vec![arrivals(1, 1, 1)], load), &[]).1.is_empty());
    }
}

fn executor() -> impl Strategy<Value = Executor> {
    let (vus, time) = (1u64..3_000, Micros::from_secs(3));
    prop_oneof![
        (1u64..5_000, vus.clone()).prop_map(|(rate, vus)| arrivals(rate, 3, vus)),
        vus.clone().prop_map(move |vus| Executor::ConstantVus { vus, duration: time }),
        (vus.clone(), 1u64..9).prop_map(move |(vus, n)| Executor::PerVuIterations {
            vus,
            iterations: n,
            max_duration: time
        }),
        (vus.clone(), 0u64..9_999).prop_map(move |(vus, n)| Executor::SharedIterations {
            vus,
            iterations: vus + n,
            max_duration: time
        }),
        (vus.clone(), vus).prop_map(move |(start_vus, target)| Executor::RampingVus {
            start_vus,
            stages: vec![Stage { duration: time, target }],
            graceful_ramp_down: Micros::ZERO,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn shards_add_up_to_the_plan_whatever_it_is(
        executors in prop::collection::vec(executor(), 1..4),
        agents in prop::collection::vec((1u32..9, 0.01f64..100.0), 1..7),
        per_agent in any::<bool>(),
    ) {
        let agents: Vec<Weight> = agents.into_iter().map(|(cores, capacity)| Weight { cores, capacity }).collect();
        let load = if per_agent { Load::PerAgent } else { Load::Total };
        let (carried, shares) = cut(&plan(executors, load), &agents);
        prop_assert_eq!(shares.len(), agents.len());
        let all_capacity: f64 = agents.iter().map(|agent| agent.capacity).sum();
        for (s, scenario) in carried.scenarios.iter().enumerate() {
            assert_exact(shares.iter().map(|agent| &agent[s]));
            let vus = scenario.executor.max_vus();
            let numbers = [
                vus,
                Profile::of_arrivals(&scenario.executor).map_or(0, |profile| profile.count()),
                if let Executor::SharedIterations { iterations, .. } = scenario.executor { iterations } else { 0 },
            ];
            for total in numbers {
                prop_assert_eq!(shares.iter().map(|agent| agent[s].count_below(total)).sum::<u64>(), total);
            }
            for (agent, weight) in shares.iter().zip(&agents) {
                let share = &agent[s];
                // Whoever owns arrivals has a VU to carry them.
                prop_assert!(share.is_empty() || share.count_below(vus) > 0);
                let ideal = if per_agent { 1.0 / agents.len() as f64 } else { weight.capacity / all_capacity };
                prop_assert!((share.owned.len() as f64 - ideal * f64::from(share.lanes)).abs() < 1.0 + 1e-6);
                let cores = over_cores(share, weight.cores as usize);
                let mut lanes: Vec<u32> = cores.iter().flat_map(|core| core.owned.iter().copied()).collect();
                lanes.sort_unstable();
                prop_assert_eq!(&lanes, &share.owned);
                let most = cores.iter().map(|core| core.owned.len()).max();
                let least = cores.iter().map(|core| core.owned.len()).min();
                prop_assert!(most.unwrap() - least.unwrap() <= 1);
            }
        }
    }
}
