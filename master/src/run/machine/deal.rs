//! Who gets lanes that are to be had: each of those that can take some gets what it lacks to its part by capacity.

use volcanion_common::plan::Executor;
use volcanion_common::shard::ScenarioShare;
use volcanion_common::shard::split::over_weights;

/// Somebody who can take lanes of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    /// Lanes that it has.
    pub held: usize,
    /// Its part of the load, in proportion to the others'.
    pub capacity: f64,
}

/// Cuts lanes over takers: a part for each, together all of them.
pub(super) fn deal(lanes: &ScenarioShare, takers: &[Taker]) -> Vec<ScenarioShare> {
    let all = takers.iter().map(|taker| taker.held).sum::<usize>() + lanes.owned.len();
    let capacity: f64 = takers.iter().map(|taker| taker.capacity).sum();
    let lacks = takers.iter().map(|taker| {
        let part = if capacity > 0.0 { taker.capacity / capacity } else { 1.0 / takers.len() as f64 };
        (part * all as f64 - taker.held as f64).max(0.0)
    });
    over_weights(lanes, &lacks.collect::<Vec<f64>>())
}

/// Whether a scenario's lanes may move: what an agent did of a fixed number of iterations is not told by time.
pub(super) fn is_movable(executor: &Executor) -> bool {
    !matches!(executor, Executor::PerVuIterations { .. } | Executor::SharedIterations { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dealt(lanes: u32, takers: &[(usize, f64)]) -> Vec<usize> {
        let takers: Vec<Taker> =
            takers.iter().map(|(held, capacity)| Taker { held: *held, capacity: *capacity }).collect();
        deal(&ScenarioShare::whole(lanes), &takers).iter().map(|part| part.owned.len()).collect()
    }

    #[test]
    fn who_has_least_of_its_part_gets_most() {
        assert_eq!(dealt(60, &[(30, 1.0), (30, 1.0)]), [30, 30]);
        assert_eq!(dealt(60, &[(60, 1.0), (0, 1.0)]), [0, 60]);
        assert_eq!(dealt(90, &[(0, 1.0), (0, 2.0)]), [30, 60]);
        assert_eq!(
            dealt(10, &[(90, 1.0), (0, 1.0), (50, 2.0)]),
            [0, 6, 4],
            "the one beyond its part gets none"
        );
        assert_eq!(dealt(4, &[(8, 0.0), (8, 0.0)]), [2, 2]);
    }

    proptest! {
        #[test]
        fn every_lane_is_given_once(lanes in 1u32..200, takers in prop::collection::vec((0usize..100, 0.0f64..4.0), 1..7)) {
            let takers: Vec<Taker> = takers.into_iter().map(|(held, capacity)| Taker { held, capacity }).collect();
            let mut all: Vec<u32> = deal(&ScenarioShare::whole(lanes), &takers).into_iter().flat_map(|part| part.owned).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lanes).collect::<Vec<u32>>());
        }
    }
}
