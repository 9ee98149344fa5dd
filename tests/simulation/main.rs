//! Both state machines, thousands of times, in worlds that a seed makes: real coordinators, sessions, outboxes and fences; a virtual clock, streams, a registry, a store, engines,
//! and everything that goes wrong with them. After every event the invariants are held against what is true.
//!
//! - `make test` lives a thousand worlds, always the same; `make soak` fresh ones for `SOAK_SECONDS`.
//! - A world that fails names its seed: `VOLCANION_SEED=… cargo test -p volcanion-simulation one_seed -- --nocapture` tells it again.
//! - That a broken promise is found is tested too: see [`sabotage`].
//! - gRPC lets words of one stream neither overtake each other nor come twice, so here they do not. What a lossy link does beneath it shows as delay, as a stream that is cut, and as words
//!   that are said again on the next one: deltas that nobody acknowledged, orders that nobody confirmed; and what an old stream still brings may come after a new one's first words.
#![allow(clippy::unwrap_used, reason = "a world that does not find what it looks for has failed")]
#![allow(clippy::print_stdout, reason = "a failing seed tells its last events")]

mod agenda;
mod chance;

mod plans;
mod engine;
mod store;
mod registry;
mod network;
mod agents;
mod sessions;
mod masters;
mod drivers;
mod users;
mod faults;
mod sabotage;
mod oracle;
mod lanes;
mod verdict;
mod world;
mod seeds;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sabotage::Sabotage;

/// In `make test`.
const SEEDS: u64 = 1_000;
/// What they may take of all cores together.
const CPU_MAX: Duration = Duration::from_secs(60);
/// Within so many seeds a broken promise is to be found.
const FOUND_WITHIN: u64 = 400;

#[test]
fn a_thousand_clusters_lose_nothing_and_count_nothing_twice() {
    let lived = seeds::live_all(1..=SEEDS, None);
    println!(
        "{} worlds, {} events, {:?} of CPU time, {:?}",
        lived.worlds, lived.turns, lived.cpu, lived.faults
    );
    assert_eq!(lived.worlds, SEEDS);
    for (name, count) in lived.faults {
        let least = if name == seeds::RETURNED { SEEDS / 100 } else { SEEDS / 20 };
        assert!(count > least, "{name}: {count} times only");
    }
    // Of its own threads, so that a machine with other work does not fail it.
    assert!(lived.cpu < CPU_MAX, "{:?} of CPU time", lived.cpu);
}

#[test]
fn one_seed() {
    if let Ok(seed) = std::env::var("VOLCANION_SEED") {
        seeds::tell_of(seed.parse().expect("VOLCANION_SEED is a number"));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 1..=12 {
        let (first, second) =
            (seeds::live(seed, Sabotage::None, false), seeds::live(seed, Sabotage::None, true));
        assert_eq!((first.digest, first.turns), (second.digest, second.turns), "seed {seed}");
    }
}

#[test]
fn every_broken_promise_is_found() {
    for sabotage in Sabotage::ALL {
        let found =
            (1..=FOUND_WITHIN).find_map(|seed| Some((seed, seeds::live(seed, sabotage, false).violation?)));
        let (seed, what) = found.unwrap_or_else(|| panic!("{sabotage:?} is not found"));
        println!("{sabotage:?}: seed {seed}: {what}");
    }
}

#[test]
fn fresh_seeds_for_as_long_as_is_asked_for() {
    let Some(seconds) = std::env::var("SOAK_SECONDS").ok() else { return };
    let seconds: u64 = seconds.parse().expect("SOAK_SECONDS is a number");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let lived = seeds::live_all(now.as_nanos() as u64.., Some(Duration::from_secs(seconds)));
    println!("{} worlds, {} events, {:?}", lived.worlds, lived.turns, lived.faults);
}

/// `VOLCANION_SEEDS=1..500` lists every seed of them that fails, and what fails.
#[test]
fn scan() {
    let Ok(range) = std::env::var("VOLCANION_SEEDS") else { return };
    let (from, to) = range.split_once("..").expect("VOLCANION_SEEDS is FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    for seed in from..to {
        if let Some(what) = seeds::live(seed, Sabotage::None, false).violation {
            println!("seed {seed}: {what}");
        }
    }
}
