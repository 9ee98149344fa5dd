//! Whole numbers shared out by weights: largest remainder (Hamilton's method), in whole-number arithmetic.
//!
//! Takes weights of any size, gives shares that add up to the total exactly, each less than one away from its ideal
//! total × weight / all weights. Several totals shared out in turn make up for each other: what one could not
//! give to an owner, the next gives it first, so that ten scenarios of one VU do not all land on the same agent.

/// Shares out totals by one set of weights.
#[derive(Clone, Debug)]
pub struct Apportioner {
    weights: Vec<u64>,
    sum: u128,
    /// By how much each owner fell short so far, in parts of `sum`.
    owed: Vec<i128>,
}

impl Apportioner {
    /// For owners of these weights. One that is not a number, not finite or below zero counts as zero; where all
    /// are zero, all are equal.
    pub fn new(weights: &[f64]) -> Self {
        let mut weights = whole(weights);
        if weights.iter().all(|weight| *weight == 0) {
            weights.fill(1);
        }
        let sum = weights.iter().map(|weight| u128::from(*weight)).sum();
        Self { owed: vec![0; weights.len()], weights, sum }
    }

    /// For so many owners of one weight.
    pub fn equal(owners: usize) -> Self {
        Self { weights: vec![1; owners], sum: owners as u128, owed: vec![0; owners] }
    }

    /// Shares out a total: one share an owner; they add up to it, where there is an owner at all. Of equal claims the first
    /// is met.
    pub fn share(&mut self, total: u32) -> Vec<u64> {
        if self.weights.is_empty() {
            return Vec::new();
        }
        // Weights stay below 2⁶³ and totals below 2³², so no product passes 2⁹⁵.
        let products: Vec<u128> = self.weights.iter().map(|w| u128::from(*w) * u128::from(total)).collect();
        let mut shares: Vec<u64> = products.iter().map(|product| (product / self.sum) as u64).collect();
        let mut claims: Vec<usize> =
            (0..products.len()).filter(|i| !products[*i].is_multiple_of(self.sum)).collect();
        let claim = |i: usize| self.owed[i] + (products[i] % self.sum) as i128;
        claims.sort_by_key(|i| std::cmp::Reverse(claim(*i)));
        // The remainders sum up to `left` wholes and each is less than one, so there are more claims than that.
        let left = u64::from(total) - shares.iter().sum::<u64>();
        for owner in claims.into_iter().take(left as usize) {
            shares[owner] += 1;
        }
        for (owner, share) in shares.iter().enumerate() {
            self.owed[owner] += products[owner] as i128 - (u128::from(*share) * self.sum) as i128;
        }
        debug_assert_eq!(shares.iter().sum::<u64>(), u64::from(total));
        shares
    }
}

/// Weights as whole numbers below 2⁶³, all multiplied by one power of two, so that their ratios stay as they are down
/// to 2⁻⁶² of the greatest.
fn whole(weights: &[f64]) -> Vec<u64> {
    let usable = |weight: f64| if weight.is_finite() && weight > 0.0 { weight } else { 0.0 };
    let greatest = weights.iter().copied().map(usable).fold(0.0, f64::max);
    let exponent = ((greatest.to_bits() >> 52) & 0x7ff).max(1) as i32 - 1_023;
    // In two steps: the power itself may be beyond what a float holds.
    let shift = 62 - exponent;
    let (first, second) = (shift / 2, shift - shift / 2);
    let scaled = |weight: &f64| usable(*weight) * 2f64.powi(first) * 2f64.powi(second);
    weights.iter().map(|weight| scaled(weight) as u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_remainders_are_met() {
        let check = |total, weights: &[f64], expected: &[u64]| {
            assert_eq!(Apportioner::new(weights).share(total), expected, "{total} by {weights:?}");
        };
        check(10, &[1.0, 1.0, 1.0], &[4, 3, 3]);
        check(4, &[3.0, 1.0], &[3, 1]);
        check(10, &[1.5, 0.5], &[8, 2]);
        check(1, &[1.0, 2.0, 1.0], &[0, 1, 0]);
        check(7, &[0.0, 1.0, f64::NAN, -3.0], &[0, 7, 0, 0]);
        check(3, &[0.0, 0.0], &[2, 1]);
        check(5, &[1e308, 1e308, 1.0], &[3, 2, 0]);
        check(6, &[5e-324, 5e-324], &[3, 3]);
        check(0, &[1.0], &[0]);
        check(9, &[], &[]);
    }

    #[test]
    fn small_totals_in_turn_reach_every_owner() {
        let mut apportioner = Apportioner::new(&[1.0, 2.0, 1.0]);
        let mut sums = [0; 3];
        for _ in 0..100 {
            let shares = apportioner.share(1);
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
        }
        assert_eq!(sums, [25, 50, 25]);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_are_within_one_of_the_ideal(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0..100.0f64, any::<f64>()], 1..20),
            totals in prop::collection::vec(any::<u32>(), 1..5),
        ) {
            let mut apportioner = Apportioner::new(&weights);
            for total in totals {
                let shares = apportioner.share(total);
                prop_assert_eq!(shares.iter().sum::<u64>(), u64::from(total));
                for (share, weight) in shares.iter().zip(&apportioner.weights) {
                    let ideal = u128::from(total) * u128::from(*weight);
                    prop_assert!((u128::from(*share) * apportioner.sum).abs_diff(ideal) < apportioner.sum);
                }
            }
        }
    }
}
