//! When the arrivals of an open loop are due: those of one core, ascending.
//!
//! Takes the scenario's profile and the lanes that the core owns, gives nanoseconds from the scenario's start.
//! - **Uniform**: arrival k of the whole run is due at the profile's t(k); the core has the k of its lanes. So the arrivals of all
//!   owners together are the plan's one evenly spaced sequence.
//! - **Poisson**: an independent process of the core's share f of the rate. With unit exponential gaps eᵢ the arrivals are
//!   tⱼ = Λ⁻¹((e₁ + … + eⱼ) / f), Λ being the integral of the plan's rate (Çinlar's inversion). How many there are is chance too.

use volcanion_common::plan::{Arrival, profile::Profile};
use volcanion_common::shard::ScenarioShare;

use super::random::Random;

/// The arrivals of one core in one scenario, as nanoseconds from the scenario's start.
#[derive(Clone, Debug)]
pub struct Arrivals {
    profile: Profile,
    sequence: Sequence,
}

#[derive(Clone, Debug)]
enum Sequence {
    /// `next`: how many owned arrivals went before.
    Uniform { share: ScenarioShare, next: u64 },
    /// `amount`: the integral up to the newest arrival, in exponential gaps; `inverse_share`: 1 / f.
    Poisson { random: Random, amount: f64, inverse_share: f64 },
}

impl Arrivals {
    /// Of the lanes in `share`. `seed` and `scenario` (its position) matter to Poisson only.
    pub fn new(arrival: Arrival, profile: Profile, share: &ScenarioShare, seed: u64, scenario: u32) -> Self {
        let sequence = match arrival {
            Arrival::Poisson if !share.owned.is_empty() => {
                // A lane has one owner, so the first owned one names the stream.
                let owner = share.owned.iter().map(|lane| u64::from(*lane));
                Sequence::Poisson {
                    random: Random::new([seed, u64::from(scenario)].into_iter().chain(owner)),
                    amount: 0.0,
                    inverse_share: f64::from(share.lanes) / share.owned.len() as f64,
                }
            }
            _ => Sequence::Uniform { share: share.clone(), next: 0 },
        };
        Self { profile, sequence }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        match &mut self.sequence {
            Sequence::Uniform { share, next } => {
                let k = share.nth(*next);
                (k < self.profile.count()).then(|| {
                    *next += 1;
                    self.profile.time_of_ns(k)
                })
            }
            Sequence::Poisson { random, amount, inverse_share } => {
                *amount += random.exponential() * *inverse_share;
                self.profile.time_of_amount_ns(*amount)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volcanion_common::plan::executor::OpenLoop;
    use volcanion_common::plan::{Executor, Stage, WhenBusy};
    use volcanion_common::shard::split::over_cores;
    use volcanion_common::units::{Micros, Rate};

    const OPEN: OpenLoop =
        OpenLoop { arrival: Arrival::Uniform, pre_allocated_vus: 1, max_vus: 1, when_busy: WhenBusy::Drop };

    fn constant(rate: u64, seconds: u64) -> Profile {
        let duration = Micros::from_secs(seconds);
        let executor = Executor::ConstantArrivalRate { rate: Rate::per_second(rate), duration, open: OPEN };
        Profile::of_arrivals(&executor).unwrap()
    }

    fn whole(lanes: u32) -> ScenarioShare {
        ScenarioShare { lanes, owned: (0..lanes).collect() }
    }

    #[test]
    fn the_cores_arrivals_together_are_the_plans() {
        for (rate, seconds, lanes, cores) in [(401, 5, 256, 3), (401, 5, 1, 4), (7, 3, 5, 2), (1, 1, 9, 9)] {
            let profile = constant(rate, seconds);
            let mut all: Vec<u64> = over_cores(&whole(lanes), cores)
                .iter()
                .flat_map(|share| Arrivals::new(Arrival::Uniform, profile.clone(), share, 0, 0))
                .collect();
            all.sort_unstable();
            let expected: Vec<u64> = (0..rate * seconds).map(|k| k * 1_000_000_000 / rate).collect();
            assert_eq!(all, expected, "{rate}/s for {seconds} s over {cores} cores");
        }
    }

    /// Kolmogorov and Smirnov: the greatest distance of the gaps' distribution from 1 − e^(−x), times √n. Above 1.63 in one of
    /// a hundred honest sequences; the seeds are fixed, so this one is honest or not for ever.
    fn distance(gaps: &mut [f64]) -> f64 {
        gaps.sort_unstable_by(f64::total_cmp);
        let n = gaps.len() as f64;
        let distances = gaps.iter().enumerate().map(|(i, gap)| {
            let expected = 1.0 - (-gap).exp();
            (expected - i as f64 / n).abs().max(((i + 1) as f64 / n - expected).abs())
        });
        distances.fold(0.0, f64::max) * n.sqrt()
    }

    fn gaps(times_ns: &[u64], rate: f64) -> Vec<f64> {
        times_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9 * rate).collect()
    }

    #[test]
    fn poisson_gaps_are_exponential_on_each_core_and_over_all() {
        let profile = constant(1_000, 20);
        let mut all = Vec::new();
        for share in over_cores(&whole(256), 4) {
            let times: Vec<u64> = Arrivals::new(Arrival::Poisson, profile.clone(), &share, 42, 0).collect();
            assert!(times.is_sorted() && times.iter().all(|ns| *ns < 20_000_000_000));
            let rate = 1_000.0 * share.owned.len() as f64 / 256.0;
            assert!(distance(&mut gaps(&times, rate)) < 1.63);
            all.extend(times);
        }
        all.sort_unstable();
        assert!((19_500..20_500).contains(&all.len()), "{}", all.len());
        assert!(distance(&mut gaps(&all, 1_000.0)) < 1.63);
        // The test itself can tell: evenly spaced arrivals are far off.
        let even: Vec<u64> = Arrivals::new(Arrival::Uniform, profile, &whole(1), 0, 0).collect();
        assert!(distance(&mut gaps(&even, 1_000.0)) > 10.0);
    }

    #[test]
    fn poisson_follows_a_ramp_and_repeats_by_its_seed_only() {
        let stages = vec![
            Stage { duration: Micros::from_secs(10), target: Rate::per_second(1_000) },
            Stage { duration: Micros::from_secs(5), target: Rate::ZERO },
        ];
        let executor = Executor::RampingArrivalRate { start_rate: Rate::ZERO, stages, open: OPEN };
        let profile = Profile::of_arrivals(&executor).unwrap();
        let of = |seed| -> Vec<u64> {
            Arrivals::new(Arrival::Poisson, profile.clone(), &whole(8), seed, 0).collect()
        };
        let times = of(1);
        let first_half = times.iter().filter(|ns| **ns < 5_000_000_000).count() as f64;
        assert!((first_half - 1_250.0).abs() < 150.0, "{first_half}");
        assert!((times.len() as f64 - 7_500.0).abs() < 400.0, "{}", times.len());
        assert_eq!(times, of(1));
        assert_ne!(times, of(2));
    }
}
