//! How many iterations a closed loop may start.
//!
//! Of a fixed number of iterations each core has a fixed part, that of its lanes, so that the parts add up without a word
//! between the cores.

use std::cell::Cell;

use volcanion_common::plan::Executor;
use volcanion_common::shard::ScenarioShare;

/// The iterations that the VUs of one core may start in one scenario.
#[derive(Debug)]
pub enum Iterations {
    /// As many as time allows.
    Endless,
    /// So many by each VU.
    Each(u64),
    /// So many by all of them; what is left.
    Together(Cell<u64>),
}

impl Iterations {
    /// The core's part of an executor's.
    pub fn of(executor: &Executor, share: &ScenarioShare) -> Self {
        match executor {
            Executor::PerVuIterations { iterations, .. } => Self::Each(*iterations),
            Executor::SharedIterations { iterations, .. } => {
                Self::Together(Cell::new(share.count_below(*iterations)))
            }
            _ => Self::Endless,
        }
    }

    /// Takes one for a VU that had `done` before; false where there is none for it.
    #[inline]
    pub fn take(&self, done: u64) -> bool {
        match self {
            Self::Endless => true,
            Self::Each(count) => done < *count,
            Self::Together(left) => {
                let before = left.get();
                left.set(before.saturating_sub(1));
                before > 0
            }
        }
    }

    /// Whether the scenario may be over before its time is.
    pub fn are_limited(&self) -> bool {
        !matches!(self, Self::Endless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::shard::split::over_cores;
    use volcanion_common::units::Micros;

    #[test]
    fn shared_iterations_add_up_over_the_cores() {
        let executor =
            Executor::SharedIterations { vus: 7, iterations: 100, max_duration: Micros::from_secs(1) };
        let whole = ScenarioShare { lanes: 7, owned: (0..7).collect() };
        let taken: usize = over_cores(&whole, 3)
            .iter()
            .map(|share| {
                let iterations = Iterations::of(&executor, share);
                (0..).take_while(|done| iterations.take(*done)).count()
            })
            .sum();
        assert_eq!(taken, 100);
    }
}
