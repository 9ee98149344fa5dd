//! Which core has which lanes of the agent, and which gets those that come.
//!
//! Takes moves of the agent's lanes, gives each core its part. A lane that comes goes to the core that has the fewest of its scenario, of equals to the one with the fewest in
//! all. Invariant: each lane of the agent has one core.

use std::collections::HashMap;

use volcanion_common::session::Move;
use volcanion_common::shard::ScenarioShare;

/// See the module.
#[derive(Debug)]
pub struct Deal {
    cores: usize,
    /// Of each scenario: the core of each owned lane.
    scenarios: Vec<HashMap<u32, usize>>,
    /// Of each scenario: how many there are, and each core's number.
    lanes: Vec<u32>,
    counts: Vec<Vec<usize>>,
}

impl Deal {
    /// For cores with these shares of the scenarios.
    pub fn new(shares: &[Vec<ScenarioShare>]) -> Self {
        let count = shares.first().map_or(0, Vec::len);
        let mut deal = Self {
            cores: shares.len(),
            scenarios: vec![HashMap::new(); count],
            lanes: vec![0; count],
            counts: vec![vec![0; shares.len()]; count],
        };
        for (core, shares) in shares.iter().enumerate() {
            for (scenario, share) in shares.iter().enumerate().take(count) {
                deal.lanes[scenario] = share.lanes;
                deal.counts[scenario][core] = share.owned.len();
                deal.scenarios[scenario].extend(share.owned.iter().map(|lane| (*lane, core)));
            }
        }
        deal
    }

    /// What each core loses and gets. What the agent does not own cannot go, and what it owns does not come again.
    pub fn moved(&mut self, order: &Move) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        let (mut release, mut take) = (vec![Vec::new(); self.cores], vec![Vec::new(); self.cores]);
        let index = order.scenario as usize;
        let Some(owners) = self.scenarios.get_mut(index) else { return (release, take) };
        for lane in &order.release {
            if let Some(core) = owners.remove(lane) {
                self.counts[index][core] -= 1;
                release[core].push(*lane);
            }
        }
        for lane in order.take.iter().filter(|lane| **lane < self.lanes[index]) {
            if owners.contains_key(lane) {
                continue;
            }
            let in_all = |core: usize| self.counts.iter().map(|counts| counts[core]).sum::<usize>();
            let fewest = (0..self.cores).min_by_key(|core| (self.counts[index][*core], in_all(*core)));
            if let Some(core) = fewest {
                owners.insert(*lane, core);
                self.counts[index][core] += 1;
                take[core].push(*lane);
            }
        }
        (release, take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::units::RunTime;

    fn share(owned: &[u32]) -> ScenarioShare {
        ScenarioShare { lanes: 8, owned: owned.to_vec() }
    }

    #[test]
    fn what_comes_is_spread_over_the_cores_and_what_goes_is_asked_of_its_own() {
        let mut deal = Deal::new(&[vec![share(&[0, 2]), share(&[1])], vec![share(&[1]), share(&[])]]);
        let order = |release: &[u32], take: &[u32]| Move {
            number: 1,
            scenario: 0,
            from: RunTime::START,
            release: release.to_vec(),
            take: take.to_vec(),
        };
        let moved = deal.moved(&order(&[1, 2, 7], &[3, 4, 5, 6]));
        assert_eq!(moved, (vec![vec![2], vec![1]], vec![vec![5], vec![3, 4, 6]]));
        // What is there already, and what there is not, changes nothing.
        assert_eq!(deal.moved(&order(&[], &[0, 3, 9])), (vec![vec![], vec![]], vec![vec![], vec![]]));
        let other = Move { scenario: 1, take: vec![2, 3], ..order(&[], &[]) };
        assert_eq!(deal.moved(&other).1, [vec![3], vec![2]]);
        assert_eq!(deal.moved(&Move { scenario: 9, ..other }).1, [vec![0u32; 0], vec![]]);
    }
}
