//! How late one agent's iterations began so far, and its bytes for the next master.
//!
//! A distribution of thousands of values takes some kilobytes, so that of a run with many agents is not kept with each of their deltas:
//! [`AgentLag::is_due`] says when. What came since is missing in that agent's row after a take-over, and nowhere else: the run's own lag is in its parts.

use volcanion_common::delta::Delta;
use volcanion_common::ids::Seq;
use volcanion_common::series::Distribution;

/// Up to so many agents the lag is kept with every delta.
const KEPT_A_DELTA: u64 = 16;
/// It is kept once in so many deltas at least.
const DELTAS_MAX: u64 = 30;
/// Sum, least and greatest before the histogram.
const FIGURES: usize = 3;

/// An agent's schedule lag, of all its scenarios.
#[derive(Debug, Default)]
pub struct AgentLag(Distribution);

impl AgentLag {
    /// Takes in what a delta says of it.
    pub fn add(&mut self, delta: &Delta) {
        delta.scenarios.values().for_each(|scenario| self.0.add(&scenario.schedule_lag));
    }

    /// All of it.
    pub fn all(&self) -> &Distribution {
        &self.0
    }

    /// Whether it is to be kept with the delta `seq` of the agent at this position, one of so many.
    pub fn is_due(seq: Seq, agent: usize, agents: usize) -> bool {
        let every = (agents as u64).div_ceil(KEPT_A_DELTA).clamp(1, DELTAS_MAX);
        (seq.0 + agent as u64).is_multiple_of(every)
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let figures = [self.0.sum_us(), self.0.min_us(), self.0.max_us()];
        let mut bytes: Vec<u8> = figures.iter().flat_map(|figure| figure.to_le_bytes()).collect();
        bytes.extend(self.0.to_v2());
        bytes
    }

    /// What was kept; nothing, where that is not to be read: the agent's row lacks it then, no count does.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (figures, histogram) = bytes.as_chunks::<8>().0.split_at_checked(FIGURES).map_or_else(
            || ([0; FIGURES], &[][..]),
            |(figures, _)| ([0, 1, 2].map(|i| u64::from_le_bytes(figures[i])), &bytes[8 * FIGURES..]),
        );
        let [sum_us, min_us, max_us] = figures;
        Self(Distribution::from_v2(histogram, sum_us, min_us, max_us).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use volcanion_common::delta::ScenarioDelta;
    use volcanion_common::units::Micros;

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_not_ours_is_nothing() {
        let mut lag = AgentLag::default();
        let mut scenario = ScenarioDelta::default();
        (1..=1_000).for_each(|us| scenario.schedule_lag.record(Micros(us)));
        lag.add(&Delta { scenarios: [(0, scenario)].into(), ..Delta::default() });
        let read = AgentLag::from_bytes(&lag.to_bytes());
        assert_eq!(read.all(), lag.all());
        assert_eq!(read.all().percentile_us(99.0), 990);
        for not_ours in [&[][..], &[1; 7], &[1; 24], &[1; 40]] {
            assert!(AgentLag::from_bytes(not_ours).all().is_empty(), "{not_ours:?}");
        }
    }

    #[test]
    fn of_few_agents_it_is_kept_always_and_of_many_in_turn() {
        let kept =
            |agents: usize, seq| (0..agents).filter(|i| AgentLag::is_due(Seq(seq), *i, agents)).count();
        assert_eq!(kept(16, 1), 16);
        assert_eq!((kept(1_000, 1), kept(1_000, 21)), (33, 34));
        assert!((1..=30).any(|seq| AgentLag::is_due(Seq(seq), 999, 1_000)));
    }
}
