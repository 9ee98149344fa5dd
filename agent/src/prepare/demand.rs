//! How many connections a run may hold on this agent: what files and ports are judged by.

use volcanion_common::plan::{Connections, Executor};

use super::files::CONNECTIONS_PER_VU_MAX;
use super::{Item, Program};

/// The connections of a run on this agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Demand {
    /// All that may be open at once.
    pub most: u64,
    /// To each of the program's origins.
    pub by_origin: Vec<Wanted>,
}

/// Connections to one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That may be open at once.
    pub most: u64,
    /// That will be, if the target answers and keeps them.
    pub certain: u64,
}

/// Counts them, for the lanes that the agent owns or is to be ready for. Where VUs share connections to a server, those are split over agents like VUs, and no VU uses two.
pub fn of(program: &Program, connections: Connections) -> Demand {
    let mut by_origin = vec![Wanted::default(); program.origins.len()];
    let (mut most, mut owned_vus, mut all_vus) = (0_u64, 0_u64, 0_u64);
    for scenario in &program.scenarios {
        let origins = origins_of(program, &scenario.items);
        let vus = scenario.possible().count_below(scenario.executor.max_vus());
        owned_vus = owned_vus.saturating_add(vus);
        all_vus = all_vus.saturating_add(scenario.executor.max_vus());
        // A VU that does not keep its connections, and one of many servers, holds fewer.
        let kept =
            if program.keep_alive { origins.len().min(CONNECTIONS_PER_VU_MAX) } else { origins.len().min(1) };
        most = most.saturating_add(vus.saturating_mul(kept as u64));
        let is_certain = holds_all_vus(&scenario.executor) && origins.len() <= CONNECTIONS_PER_VU_MAX;
        for origin in origins {
            let wanted = &mut by_origin[origin as usize];
            wanted.most = wanted.most.saturating_add(vus);
            // Scenarios need not overlap, so that only the greatest is certain.
            wanted.certain = wanted.certain.max(if is_certain { vus } else { 0 });
        }
    }
    if let Connections::Shared(count) = connections {
        let own = (u64::from(count) * owned_vus).div_ceil(all_vus.max(1));
        for wanted in &mut by_origin {
            *wanted = Wanted { most: wanted.most.min(own), certain: 0 };
        }
        most = by_origin.iter().fold(0, |sum, wanted| sum.saturating_add(wanted.most));
    }
    Demand { most, by_origin }
}

/// Whether all its VUs are there at once at some time, whatever the target does.
fn holds_all_vus(executor: &Executor) -> bool {
    matches!(executor, Executor::ConstantVus { .. } | Executor::RampingVus { .. })
}

fn origins_of(program: &Program, items: &[Item]) -> Vec<u32> {
    let mut origins: Vec<u32> = items
        .iter()
        .filter_map(|item| match item {
            Item::Request(step) => Some(program.steps[*step as usize].request.origin),
            Item::Think { .. } => None,
        })
        .collect();
    origins.sort_unstable();
    origins.dedup();
    origins
}

#[cfg(test)]
mod tests {
    use volcanion_common::plan::{Executor, Plan};
    use volcanion_common::shard::ScenarioShare;
    use volcanion_common::units::Micros;

    use super::super::tests::{plan, request, shard};
    use super::super::{PrepareSettings, compile};
    use super::*;

    /// Two scenarios of 10 and 4 VUs, the first to two servers, on an agent that owns half of each.
    fn demand(adjust: impl FnOnce(&mut Plan), connections: Connections) -> Demand {
        let urls = ["http://10.0.0.1/", "http://10.0.0.2/"];
        let mut plan = plan(None, urls.iter().map(|url| request("GET", url, vec![], None)).collect());
        plan.scenarios.push(plan.scenarios[0].clone());
        plan.scenarios[1].steps.truncate(1);
        let iterations =
            Executor::PerVuIterations { vus: 4, iterations: 1, max_duration: Micros::from_secs(1) };
        plan.scenarios[0].executor = Executor::ConstantVus { vus: 10, duration: Micros::from_secs(1) };
        plan.scenarios[1].executor = iterations;
        adjust(&mut plan);
        let mut shard = shard(2);
        shard.scenarios = vec![ScenarioShare { lanes: 2, owned: vec![0] }; 2];
        of(&compile(&shard, &plan, &PrepareSettings::default()).unwrap(), connections)
    }

    fn wanted(most: u64, certain: u64) -> Wanted {
        Wanted { most, certain }
    }

    #[test]
    fn vus_with_connections_of_their_own_hold_one_to_each_server() {
        let of_vus = demand(|_| {}, Connections::PerVu);
        assert_eq!(of_vus, Demand { most: 5 * 2 + 2, by_origin: vec![wanted(7, 5), wanted(5, 5)] });
    }

    #[test]
    fn without_keep_alive_a_vu_holds_one_in_all() {
        assert_eq!(demand(|plan| plan.http.no_keep_alive = true, Connections::PerVu).most, 5 + 2);
    }

    #[test]
    fn shared_connections_are_split_over_agents_and_no_vu_needs_two() {
        let shared = demand(|_| {}, Connections::Shared(6));
        assert_eq!(shared, Demand { most: 6, by_origin: vec![wanted(3, 0), wanted(3, 0)] });
        assert_eq!(demand(|_| {}, Connections::Shared(1_000)).most, 7 + 5);
    }
}
