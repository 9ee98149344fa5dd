//! Many seeds on all cores, and the words about one that fails: its seed, what may not be, the last events, and how to see it again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sabotage::Sabotage;
use crate::world::{Outcome, World};

/// Lines of a failing world that are shown.
const LAST_EVENTS: usize = 120;

/// Agents that were given up and told later what they had done, as it is named among what was lived through.
pub const RETURNED: &str = "agents heard again";

/// What many worlds were like together.
#[derive(Default)]
pub struct Lived {
    /// Of all threads.
    pub cpu: Duration,
    pub worlds: u64,
    pub turns: u64,
    pub faults: BTreeMap<&'static str, u64>,
}

/// One world; a panic of a machine is a violation too.
pub fn live(seed: u64, sabotage: Sabotage, is_told: bool) -> Outcome {
    let lived = catch_unwind(AssertUnwindSafe(|| World::new(seed, sabotage, is_told).run()));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            violation: Some(format!("a panic: {}", text.unwrap_or_default())),
            trace: Vec::new(),
            digest: 0,
            turns: 0,
            lived: Vec::new(),
        }
    })
}

/// Lives these worlds, over all cores.
///
/// # Panics
/// One of them came to what may not be; says which, and how.
pub fn live_all(seeds: impl Iterator<Item = u64> + Send, within: Option<Duration>) -> Lived {
    let (seeds, began) = (Mutex::new(seeds), Instant::now());
    let (lived, failed) = (Mutex::new(Lived::default()), AtomicU64::new(0));
    let has_failed = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _used = OnDrop(|| {
                    let mut lived = lived.lock().unwrap_or_else(PoisonError::into_inner);
                    lived.cpu += cpu_of_thread();
                });
                while !has_failed.load(Ordering::Relaxed)
                    && within.is_none_or(|within| began.elapsed() < within)
                {
                    let Some(seed) = seeds.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                        return;
                    };
                    let outcome = live(seed, Sabotage::None, false);
                    if outcome.violation.is_some() && !has_failed.swap(true, Ordering::Relaxed) {
                        failed.store(seed, Ordering::Relaxed);
                    }
                    let mut lived = lived.lock().unwrap_or_else(PoisonError::into_inner);
                    lived.worlds += 1;
                    lived.turns += outcome.turns;
                    for (name, count) in outcome.lived {
                        *lived.faults.entry(name).or_default() += count;
                    }
                }
            });
        }
    });
    if has_failed.into_inner() {
        tell_of(failed.into_inner());
    }
    lived.into_inner().unwrap_or_else(PoisonError::into_inner)
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// How long this thread has been on a core; nothing where the system does not say.
fn cpu_of_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

/// Lives a world once more, in words.
///
/// # Panics
/// It came to what may not be.
pub fn tell_of(seed: u64) {
    let outcome = live(seed, Sabotage::None, true);
    let from = outcome.trace.len().saturating_sub(LAST_EVENTS);
    outcome.trace[from..].iter().for_each(|line| println!("{line}"));
    if let Some(what) = outcome.violation {
        panic!(
            "seed {seed}: {what}\nsee it again: VOLCANION_SEED={seed} cargo test -p volcanion-simulation one_seed -- --nocapture"
        );
    }
}
