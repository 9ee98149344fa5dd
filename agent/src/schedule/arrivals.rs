//! When the arrivals of an open loop are due: those of one core, ascending.
//!
//! Takes the scenario's profile and the lanes that the core owns, gives nanoseconds from the scenario's start.
//! - **Uniform**: arrival k of the whole run is due at the profile's t(k); the core has the k of its lanes. So the arrivals of all
//!   owners together are the plan's one evenly spaced sequence.
//! - **Poisson**: an independent process of the core's share f of the rate. With unit exponential gaps eᵢ the arrivals are
//!   tⱼ = Λ⁻¹((e₁ + … + eⱼ) / f), Λ being the integral of the plan's rate (Çinlar's inversion). How many there are is chance too.
//!
//! A rate that is changed from outside begins a segment of its own ([`volcanion_common::shard::segments`] counts them); lanes that come or go change which
//! arrivals of it are owned. Both are **turns**, each with a moment. Invariant: of a segment come the arrivals of the lanes that are owned when they are due, from the moment
//! on from which it holds, and none at or after that of the next one. A Poisson process has no memory, so from a turn on it is a new one of the new share: over all owners
//! the rate stays whole.

use std::collections::VecDeque;

use volcanion_common::plan::{Arrival, profile::Profile};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, Rate};

use super::random::Random;

/// The arrivals of one core in one scenario, as nanoseconds from the scenario's start.
#[derive(Clone, Debug)]
pub struct Arrivals {
    arrival: Arrival,
    share: ScenarioShare,
    seed: u64,
    scenario: u32,
    duration: Micros,
    current: Segment,
    /// When the next turn is; the greatest value where none is known.
    until_ns: u64,
    /// Ascending by their moments.
    later: VecDeque<Turn>,
}

/// Another rate from a moment on. Times count from the scenario's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRate {
    /// The change's number.
    pub number: u64,
    /// When the first arrival of its segment is due, over all agents.
    pub origin: Micros,
    /// Since when it holds here; later than `origin` only where the order came late.
    pub from: Micros,
    /// The rate of the whole scenario.
    pub rate: Rate,
}

/// Other lanes from a moment on. Times count from the scenario's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLanes {
    /// The move's number.
    pub number: u64,
    /// What is due from then on is owned by these lanes.
    pub from: Micros,
    /// All that the core owns then.
    pub share: ScenarioShare,
}

#[derive(Clone, Debug)]
enum Turn {
    Rate(NewRate),
    Lanes(NewLanes),
}

impl Turn {
    fn moment_ns(&self) -> u64 {
        match self {
            Self::Rate(new) => new.from.as_nanos(),
            Self::Lanes(new) => new.from.as_nanos(),
        }
    }
}

#[derive(Clone, Debug)]
struct Segment {
    origin_ns: u64,
    profile: Profile,
    sequence: Sequence,
    /// The number of the change that began it, and of the newest move; 0: none. They name a Poisson stream.
    rate_number: u64,
    lanes_number: u64,
}

#[derive(Clone, Debug)]
enum Sequence {
    /// `next`: how many owned arrivals went before.
    Uniform { next: u64 },
    /// `amount`: the integral up to the newest arrival, in exponential gaps; `inverse_share`: 1 / f.
    Poisson { random: Random, amount: f64, inverse_share: f64 },
}

impl Arrivals {
    /// Of the lanes in `share`. `seed` and `scenario` (its position) matter to Poisson only.
    pub fn new(arrival: Arrival, profile: Profile, share: &ScenarioShare, seed: u64, scenario: u32) -> Self {
        let sequence = Sequence::Uniform { next: 0 };
        let mut arrivals = Self {
            arrival,
            share: share.clone(),
            seed,
            scenario,
            duration: Micros(profile.duration_ns() / 1_000),
            current: Segment { origin_ns: 0, profile, sequence, rate_number: 0, lanes_number: 0 },
            until_ns: u64::MAX,
            later: VecDeque::new(),
        };
        arrivals.begin(0);
        arrivals
    }

    /// Takes another rate. `ahead` is the arrival that was given out and not come yet; gives the one that comes instead, where one does before the next turn.
    pub fn adjust(&mut self, new: NewRate, ahead: Option<u64>) -> Option<u64> {
        self.turn(Turn::Rate(new), ahead)
    }

    /// Takes other lanes, from a moment on that no arrival has passed which was looked at. `ahead` as with [`Self::adjust`].
    pub fn moved(&mut self, new: NewLanes, ahead: Option<u64>) -> Option<u64> {
        self.turn(Turn::Lanes(new), ahead)
    }

    /// When the next turn is, where one is known.
    pub fn turn_ns(&self) -> Option<u64> {
        self.later.front().map(Turn::moment_ns)
    }

    /// Makes the next turn, if it has come; whether it had. One at a time: arrivals may lie between it and the one after.
    pub fn go_over_until(&mut self, now_ns: u64) -> bool {
        self.turn_ns().is_some_and(|from_ns| from_ns <= now_ns) && self.go_over().is_some()
    }

    /// No turn is made any more.
    pub fn forget_turns(&mut self) {
        self.later = VecDeque::new();
        self.look_ahead();
    }

    /// The next arrival before the next turn.
    #[inline]
    pub fn next_before_turn(&mut self) -> Option<u64> {
        self.next_of_current().filter(|due_ns| *due_ns < self.until_ns)
    }

    fn turn(&mut self, turn: Turn, ahead: Option<u64>) -> Option<u64> {
        let place = self.later.partition_point(|other| other.moment_ns() <= turn.moment_ns());
        self.later.insert(place, turn);
        self.look_ahead();
        ahead.filter(|ahead_ns| *ahead_ns < self.until_ns)
    }

    fn look_ahead(&mut self) {
        self.until_ns = self.turn_ns().unwrap_or(u64::MAX);
    }

    fn next_of_current(&mut self) -> Option<u64> {
        let Segment { origin_ns, profile, sequence, .. } = &mut self.current;
        let inside_ns = match sequence {
            Sequence::Uniform { next } => {
                let k = self.share.nth(*next);
                (k < profile.count()).then(|| {
                    *next += 1;
                    profile.time_of_ns(k)
                })
            }
            Sequence::Poisson { random, amount, inverse_share } => {
                *amount += random.exponential() * *inverse_share;
                profile.time_of_amount_ns(*amount)
            }
        };
        inside_ns.map(|inside_ns| *origin_ns + inside_ns)
    }

    /// Makes the next turn, where there is one.
    fn go_over(&mut self) -> Option<()> {
        let turn = self.later.pop_front()?;
        self.look_ahead();
        let from_ns = turn.moment_ns();
        match turn {
            Turn::Rate(NewRate { number, origin, rate, .. }) => {
                self.current.profile =
                    Profile::of_rate(rate, Micros(self.duration.0.saturating_sub(origin.0)));
                self.current.origin_ns = origin.as_nanos();
                self.current.rate_number = number;
            }
            Turn::Lanes(NewLanes { number, share, .. }) => {
                self.share = share;
                self.current.lanes_number = number;
            }
        }
        self.begin(from_ns);
        Some(())
    }

    /// Puts the sequence of the present segment and lanes to a moment: its next arrival is the first one that is due then or later.
    fn begin(&mut self, from_ns: u64) {
        let Self { share, current, .. } = self;
        let inside_ns = from_ns.saturating_sub(current.origin_ns);
        let before = if inside_ns == 0 { 0 } else { current.profile.count_before(inside_ns) };
        if self.arrival != Arrival::Poisson || share.owned.is_empty() {
            current.sequence = Sequence::Uniform { next: share.count_below(before) };
            return;
        }
        // A lane has one owner, so the owned ones name the stream.
        let numbers = [current.rate_number, !current.lanes_number];
        let numbers = numbers.into_iter().filter(|number| *number != 0 && *number != u64::MAX);
        let owner = share.owned.iter().map(|lane| u64::from(*lane));
        let of = [self.seed, u64::from(self.scenario)].into_iter().chain(numbers).chain(owner);
        let mut random = Random::new(of);
        let inverse_share = f64::from(share.lanes) / share.owned.len() as f64;
        // The integral at `from_ns` lies above this by one arrival at most; what falls in between is passed over, which a process without memory does not mind.
        let mut amount = before.saturating_sub(1) as f64;
        let is_before =
            |amount: f64| current.profile.time_of_amount_ns(amount).is_some_and(|due_ns| due_ns < inside_ns);
        loop {
            let mut ahead = random.clone();
            let next = amount + ahead.exponential() * inverse_share;
            if !is_before(next) {
                break;
            }
            (random, amount) = (ahead, next);
        }
        current.sequence = Sequence::Poisson { random, amount, inverse_share };
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    /// The next arrival, over all turns that are known.
    #[inline]
    fn next(&mut self) -> Option<u64> {
        loop {
            match self.next_of_current() {
                Some(due_ns) if due_ns < self.until_ns => return Some(due_ns),
                _ => self.go_over()?,
            }
        }
    }
}

#[cfg(test)]
mod tests;
