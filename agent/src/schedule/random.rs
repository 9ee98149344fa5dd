//! Chance that can be repeated: a small generator, seeded by the run and by whose chance it is.
//!
//! xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its state filled by
//! SplitMix64. Not for secrets.

use volcanion_common::units::Micros;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// A stream of its own for each list of parts: the run's seed first, then whose stream it is.
    pub fn new(parts: impl IntoIterator<Item = u64>) -> Self {
        let mut seed = 0;
        for part in parts {
            seed = split_mix(&mut (seed ^ part));
        }
        Self { state: std::array::from_fn(|_| split_mix(&mut seed)) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Evenly from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An exponential gap of mean 1, greater than zero or (rarely) zero.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Evenly from `least` to `most`.
    pub fn between(&mut self, least: Micros, most: Micros) -> Micros {
        let width = most.0.saturating_sub(least.0).saturating_add(1);
        // The product's upper half: even to within one part in 2^64 / width.
        Micros(least.0 + ((u128::from(self.bits()) * u128::from(width)) >> 64) as u64)
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_every_part() {
        let first = |parts: [u64; 3]| Random::new(parts).bits();
        assert_eq!(first([1, 2, 3]), first([1, 2, 3]));
        for other in [[2, 2, 3], [1, 3, 3], [1, 2, 4], [1, 3, 2]] {
            assert_ne!(first([1, 2, 3]), first(other), "{other:?}");
        }
    }

    #[test]
    fn a_think_time_stays_in_its_range_and_reaches_both_ends() {
        let mut random = Random::new([7]);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.between(Micros(3), Micros(6)).0).collect();
        for value in 3..=6 {
            let times = drawn.iter().filter(|drawn| **drawn == value).count();
            assert!((150..350).contains(&times), "{value} came {times} times");
        }
        assert!(drawn.iter().all(|us| (3..=6).contains(us)));
        assert_eq!(random.between(Micros(5), Micros(5)), Micros(5));
    }
}
