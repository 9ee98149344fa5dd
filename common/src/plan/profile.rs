//! A target over time: the value of a scenario's rate or VUs, its integral, and the integral's inverse.
//!
//! Takes an [`Executor`], gives a [`Profile`]: pieces of time in each of which the value goes in a straight line.
//! All of it is whole-number arithmetic, so that every agent and core finds the same number of arrivals at the same
//! nanoseconds, however long the run.
//!
//! **Arrivals.** Let r(t) be the rate and I(t) its integral from 0 to t. Arrival k = 0, 1, 2 … is due at
//!
//! > t(k) = inf { t : I(t) > k }, rounded down to a nanosecond,
//!
//! for every k < I(D), D being the duration; so there are ⌈I(D)⌉ of them, each due strictly before D, and where the
//! rate is zero none is due. Within a piece that goes from rate a to rate b in d:
//!
//! > a = b: t(k) = (k − I₀) / a
//! > a ≠ b: a·t + (b − a)·t² / 2d = k − I₀, so t(k) = 2R / (a + √(a² + 2R(b − a)/d)), R = k − I₀
//!
//! which is k6's ramping-arrival-rate (`lib/executor/ramping_arrival_rate.go`, "noNegativeSqrt" and the formula above
//! it) and Hyperfoil's `RampRateGenerator`. The root is estimated in floating point and then corrected by
//! comparing whole numbers, so that the estimate's error never shows.
//!
//! **VUs.** The level is not rounded: VU n is active at t exactly when level(t) > n.

use super::executor::{Control, Executor, Stage};
use crate::units::{Micros, Rate};

mod wide;

/// A half unit of the integral: twice the integral is whole at every end of a piece, where the integral may not be.
const HALVES_PER_ITERATION: u128 = 2 * Rate::UNITS_PER_ITERATION;

/// A scenario's target over time. Made once a scenario; reading it neither allocates nor rounds.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Gapless from 0, each longer than zero. Jumps lie between two pieces.
    pieces: Vec<Piece>,
    duration_us: u64,
    /// Twice the integral over all pieces.
    total: u128,
    /// The whole numbers below the integral over all pieces.
    count: u64,
}

/// A span of time in which the value goes in a straight line.
#[derive(Clone, Debug)]
struct Piece {
    start_us: u64,
    length_us: u64,
    /// The value at its start, in rate units or VUs.
    from: u64,
    /// The value that it comes to at its end.
    to: u64,
    /// Twice the integral up to its start.
    before: u128,
    /// For a constant value: t(k) in nanoseconds from the run's start = (k × scale + offset) / divisor, rounded down.
    even: Option<Even>,
}

/// The line of evenly spaced arrivals, cancelled down so that dividing is mostly a matter of 64 bits.
#[derive(Clone, Copy, Debug)]
struct Even {
    scale: u128,
    offset: i128,
    divisor: u128,
}

impl Profile {
    /// The rate of an open loop; `None` for a closed one.
    pub fn of_arrivals(executor: &Executor) -> Option<Self> {
        match executor {
            Executor::ConstantArrivalRate { rate, duration, .. } => {
                Some(Self::flat(rate.micro_per_hour(), *duration))
            }
            Executor::RampingArrivalRate { start_rate, stages, .. } => {
                Some(Self::ramp(start_rate.micro_per_hour(), stages, Rate::micro_per_hour))
            }
            Executor::ExternallyControlled { control: Control::Rate { rate, .. }, duration } => {
                Some(Self::of_rate(*rate, *duration))
            }
            _ => None,
        }
    }

    /// One rate throughout: of a scenario whose rate is changed from outside, what holds from one change on.
    pub fn of_rate(rate: Rate, duration: Micros) -> Self {
        Self::flat(rate.micro_per_hour(), duration)
    }

    /// The number of VUs of a closed loop, as far as the plan fixes it; `None` for an open one, whose VUs come by need.
    pub fn of_vus(executor: &Executor) -> Option<Self> {
        match executor {
            Executor::ConstantVus { vus, duration } => Some(Self::flat(*vus, *duration)),
            Executor::PerVuIterations { vus, max_duration, .. }
            | Executor::SharedIterations { vus, max_duration, .. } => Some(Self::flat(*vus, *max_duration)),
            Executor::RampingVus { start_vus, stages, .. } => Some(Self::ramp(*start_vus, stages, |vus| vus)),
            Executor::ExternallyControlled { control: Control::Vus { vus, .. }, duration } => {
                Some(Self::flat(*vus, *duration))
            }
            _ => None,
        }
    }

    fn flat(value: u64, duration: Micros) -> Self {
        Self::ramp(value, &[Stage { duration, target: value }], |value| value)
    }

    /// Pieces from stages. What would lie beyond 366 days, which no valid plan has, is left out.
    fn ramp<T: Copy>(start: u64, stages: &[Stage<T>], value: impl Fn(T) -> u64) -> Self {
        let mut pieces = Vec::with_capacity(stages.len());
        let (mut at_us, mut from, mut before) = (0u64, start, 0u128);
        for stage in stages {
            let (length_us, to) = (stage.duration.0, value(stage.target));
            if length_us > Micros::MAX.0 - at_us {
                break;
            }
            if length_us > 0 {
                pieces.push(Piece::new(at_us, length_us, from, to, before));
                before += (u128::from(from) + u128::from(to)) * u128::from(length_us);
                at_us += length_us;
            }
            from = to;
        }
        let count = u64::try_from(before.div_ceil(HALVES_PER_ITERATION)).unwrap_or(u64::MAX);
        Self { pieces, duration_us: at_us, total: before, count }
    }

    /// The duration in nanoseconds; no arrival is due at or after it.
    pub fn duration_ns(&self) -> u64 {
        self.duration_us * 1_000
    }

    /// How many arrivals there are: exactly ⌈integral of the rate⌉. For a profile of arrivals.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When arrival `k` is due, in nanoseconds from the scenario's start, rounded down; never before an earlier
    /// arrival. The duration where there is no such arrival. For a profile of arrivals.
    pub fn time_of_ns(&self, k: u64) -> u64 {
        if k >= self.count {
            return self.duration_ns();
        }
        let target = u128::from(k) * HALVES_PER_ITERATION;
        let piece = self.piece_of(target);
        match piece.even {
            Some(even) => even.time_ns(k),
            None => piece.inverse_ns(target),
        }
    }

    /// When the integral of the rate reaches `iterations`, a number that need not be whole (the sum of exponential gaps
    /// of a Poisson process, say), in nanoseconds; `None` where it never does. For a profile of arrivals.
    pub fn time_of_amount_ns(&self, iterations: f64) -> Option<u64> {
        if iterations.is_nan() || iterations >= self.total as f64 / HALVES_PER_ITERATION as f64 {
            return None;
        }
        let iterations = iterations.max(0.0);
        let whole = iterations.trunc();
        let part = ((iterations - whole) * HALVES_PER_ITERATION as f64) as u128;
        let target = whole as u128 * HALVES_PER_ITERATION + part;
        // The comparison above is of floats: only this one is exact.
        (target < self.total).then(|| self.piece_of(target).inverse_ns(target))
    }

    /// How many arrivals are due before `time_ns`. For a profile of arrivals.
    pub fn count_before(&self, time_ns: u64) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time_of_ns(middle) < time_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// How many VUs are active at `time_us`: the level there, rounded up. At the end and after it the last level;
    /// whether the scenario is over is not asked here. For a profile of VUs.
    pub fn level_at(&self, time_us: u64) -> u64 {
        match self.piece_at(time_us.saturating_mul(1_000)) {
            Some(piece) => piece.level(time_us.saturating_mul(1_000)),
            None => self.pieces.last().map_or(0, |piece| piece.to),
        }
    }

    /// Whether VU `vu` is active at `time_ns`: whether the level there is more than `vu`. For a profile of VUs.
    pub fn is_active(&self, vu: u64, time_ns: u64) -> bool {
        match self.piece_at(time_ns) {
            Some(piece) => piece.level(time_ns) > vu,
            None => self.pieces.last().is_some_and(|piece| piece.to > vu),
        }
    }

    /// The first nanosecond after `after_ns` and before the profile's end at which VU `vu` is no longer what it is at
    /// `after_ns`, and whether it is active then. The end itself is no change. VU 0 of a ramp from 0 is not active at 0
    /// and becomes so at 1. For a profile of VUs.
    pub fn next_change_ns(&self, vu: u64, after_ns: u64) -> Option<(u64, bool)> {
        let was_active = self.is_active(vu, after_ns);
        let first = self.pieces.partition_point(|piece| piece.end_ns() <= after_ns);
        for piece in &self.pieces[first..] {
            let from_ns = piece.start_ns().max(after_ns);
            if (piece.level(from_ns) > vu) != was_active {
                return Some((from_ns, !was_active));
            }
            if let Some(at_ns) = piece.crossing_ns(vu, was_active) {
                return Some((at_ns, !was_active));
            }
        }
        None
    }

    /// The piece in which twice the integral passes `target`, which is less than the total. Of pieces that begin at the same
    /// integral it is the last: the others have a rate of zero.
    fn piece_of(&self, target: u128) -> &Piece {
        debug_assert!(target < self.total);
        &self.pieces[self.pieces.partition_point(|piece| piece.before <= target) - 1]
    }

    fn piece_at(&self, time_ns: u64) -> Option<&Piece> {
        self.pieces.get(self.pieces.partition_point(|piece| piece.end_ns() <= time_ns))
    }
}

impl Piece {
    fn new(start_us: u64, length_us: u64, from: u64, to: u64, before: u128) -> Self {
        let even = (from == to && from > 0).then(|| Even::new(start_us, from, before));
        Self { start_us, length_us, from, to, before, even }
    }

    fn start_ns(&self) -> u64 {
        self.start_us * 1_000
    }

    fn end_ns(&self) -> u64 {
        (self.start_us + self.length_us) * 1_000
    }

    /// The last nanosecond (from the profile's start) at which twice the integral is at most `target`; the target
    /// lies within this piece, so the answer does too.
    fn inverse_ns(&self, target: u128) -> u64 {
        let rest = target - self.before;
        let inside_ns = if self.from == self.to {
            // The rate is above zero: a piece of rate zero holds no target. The quotient is less than the length.
            (rest * 1_000 / (2 * u128::from(self.from))) as u64
        } else {
            let bound_ns = self.length_us * 1_000;
            last_that_holds(self.root_ns(rest), bound_ns, |ns| self.is_at_most(ns, rest))
        };
        self.start_ns() + inside_ns
    }

    /// The root of a·t + (b − a)·t²/2d = rest/2 in the form that does not cancel, in nanoseconds: an estimate.
    fn root_ns(&self, rest: u128) -> u64 {
        let (a, b, rest) = (self.from as f64, self.to as f64, rest as f64);
        let under = (a * a + (b - a) * rest / self.length_us as f64).max(0.0);
        (rest / (a + under.sqrt()) * 1e3) as u64
    }

    /// Whether twice the integral from the piece's start over `ns` is at most `rest`: multiplied out with the length d in µs,
    /// ns · (2000·a·d + (b − a)·ns) ≤ rest · d · 10⁶. The bracket is never negative, for ns ≤ 1000·d.
    fn is_at_most(&self, ns: u64, rest: u128) -> bool {
        let whole = 2_000 * u128::from(self.from) * u128::from(self.length_us);
        let slope = u128::from(self.from.abs_diff(self.to)) * u128::from(ns);
        let bracket = if self.to > self.from { whole + slope } else { whole - slope };
        wide::product(bracket, u128::from(ns)) <= wide::product(rest, u128::from(self.length_us) * 1_000_000)
    }

    /// The value at a nanosecond of this piece, rounded up.
    fn level(&self, time_ns: u64) -> u64 {
        let inside = u128::from(time_ns - self.start_ns());
        let length = u128::from(self.length_us) * 1_000;
        let moved = u128::from(self.from.abs_diff(self.to)) * inside;
        if self.to >= self.from {
            self.from + moved.div_ceil(length) as u64
        } else {
            self.from - (moved / length) as u64
        }
    }

    /// Where within this piece the level comes to stand above `vu`, or (for one that was active) no longer does.
    fn crossing_ns(&self, vu: u64, was_active: bool) -> Option<u64> {
        let length = u128::from(self.length_us) * 1_000;
        let slope = u128::from(self.from.abs_diff(self.to));
        let inside = if was_active {
            // The first t with from − slope·t/length ≤ vu.
            if self.to > vu || self.from <= vu {
                return None;
            }
            (u128::from(self.from - vu) * length).div_ceil(slope)
        } else {
            // The first t with from + slope·t/length > vu.
            if self.to <= vu || self.from > vu {
                return None;
            }
            u128::from(vu - self.from) * length / slope + 1
        };
        (inside < length).then(|| self.start_ns() + inside as u64)
    }
}

impl Even {
    /// (2·k·U − before) · 1000 / 2a + start, U being the units of an iteration, as one fraction.
    fn new(start_us: u64, rate: u64, before: u128) -> Self {
        let scale = 1_000 * HALVES_PER_ITERATION;
        let divisor = 2 * u128::from(rate);
        let ahead = u128::from(start_us) * 1_000 * divisor;
        let behind = before * 1_000;
        let common = gcd(gcd(scale, divisor), ahead.abs_diff(behind));
        let offset = (ahead.abs_diff(behind) / common) as i128;
        let offset = if ahead >= behind { offset } else { -offset };
        Self { scale: scale / common, offset, divisor: divisor / common }
    }

    /// The sum is never negative: k lies within the piece that this was made of.
    fn time_ns(&self, k: u64) -> u64 {
        let dividend = (u128::from(k) * self.scale).saturating_add_signed(self.offset);
        match (u64::try_from(dividend), u64::try_from(self.divisor)) {
            (Ok(dividend), Ok(divisor)) => dividend / divisor,
            _ => (dividend / self.divisor) as u64,
        }
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The last whole number below `bound` for which `holds`, which is true at 0, false at `bound` and changes once. Looks
/// around `guess` in growing steps first, so that a good guess costs a few looks.
fn last_that_holds(guess: u64, bound: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, bound);
    let guess = guess.min(bound - 1);
    let mut step = 1;
    if holds(guess) {
        low = guess;
        while step < high - low {
            if !holds(low + step) {
                high = low + step;
                break;
            }
            low += step;
            step *= 2;
        }
    } else {
        high = guess;
        while step < high {
            if holds(high - step) {
                low = high - step;
                break;
            }
            high -= step;
            step *= 2;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests;
