//! How many iterations a closed loop may start.
//!
//! Of a fixed number of iterations each agent has a fixed part, that of its lanes, so that the parts add up without a word between
//! agents. The cores of an agent take from its part together, by one atomic: a slow VU holds back no iteration but its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volcanion_common::plan::Executor;
use volcanion_common::shard::ScenarioShare;

/// The iterations that the VUs of one agent may start in one scenario. A clone takes from the same.
#[derive(Clone, Debug)]
pub enum Iterations {
    /// As many as time allows.
    Endless,
    /// So many by each VU.
    Each(u64),
    /// So many by all of them; what is left.
    Together(Arc<AtomicU64>),
}

impl Iterations {
    /// The agent's part of an executor's.
    pub fn of(executor: &Executor, share: &ScenarioShare) -> Self {
        match executor {
            Executor::PerVuIterations { iterations, .. } => Self::Each(*iterations),
            Executor::SharedIterations { iterations, .. } => {
                Self::Together(Arc::new(AtomicU64::new(share.count_below(*iterations))))
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
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            }
        }
    }

    /// Time is over for a core whose `vus` VUs have started so many: gives how many were never started, and lets none start any
    /// more. What the cores of an agent share is given to the first that asks.
    pub fn close(&self, vus: u64, started: u64) -> u64 {
        match self {
            Self::Endless => 0,
            Self::Each(count) => count.saturating_mul(vus).saturating_sub(started),
            Self::Together(left) => left.swap(0, Ordering::Relaxed),
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

    fn shared(share: &ScenarioShare) -> Iterations {
        let executor =
            Executor::SharedIterations { vus: 7, iterations: 100, max_duration: Micros::from_secs(1) };
        Iterations::of(&executor, share)
    }

    #[test]
    fn shared_iterations_add_up_over_the_agents() {
        let parts = over_cores(&ScenarioShare { lanes: 7, owned: (0..7).collect() }, 3);
        let taken = |share| {
            let iterations = shared(share);
            (0..).take_while(|done| iterations.take(*done)).count()
        };
        assert_eq!(parts.iter().map(taken).sum::<usize>(), 100);
    }

    #[test]
    fn cores_take_from_the_same_and_what_none_took_is_told_once() {
        let iterations = shared(&ScenarioShare { lanes: 1, owned: vec![0] });
        let core = || {
            let own = iterations.clone();
            std::thread::spawn(move || (0..45).filter(|done| own.take(*done)).count() as u64)
        };
        let cores = [core(), core()];
        assert_eq!(cores.map(|core| core.join().unwrap()), [45, 45]);
        assert_eq!((iterations.close(3, 45), iterations.close(4, 45), iterations.take(0)), (10, 0, false));
        assert_eq!(Iterations::Each(11).close(3, 30), 3);
    }
}
