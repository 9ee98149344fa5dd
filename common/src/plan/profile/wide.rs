//! Products of two 128-bit numbers, to be compared.

/// A product as (upper, lower) half; compares as the number that it is.
pub(super) fn product(a: u128, b: u128) -> (u128, u128) {
    const MASK: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & MASK, b >> 64, b & MASK);
    let low = a_low * b_low;
    // Neither sum passes 128 bits: (2⁶⁴ − 1)² + 2 · (2⁶⁴ − 1) = 2¹²⁸ − 1.
    let middle = a_high * b_low + (low >> 64);
    let other = a_low * b_high + (middle & MASK);
    let high = a_high * b_high + (middle >> 64) + (other >> 64);
    (high, (other << 64) | (low & MASK))
}

#[cfg(test)]
mod tests {
    use super::product;
    use proptest::prelude::*;

    #[test]
    fn the_greatest_product_is_right() {
        assert_eq!(product(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
    }

    proptest! {
        #[test]
        fn products_are_those_of_their_parts(a in any::<u128>(), b in any::<u64>()) {
            // a = high · 2⁶⁴ + low: both parts' products fit 128 bits.
            let (high, low) = ((a >> 64) * u128::from(b), (a & u128::from(u64::MAX)) * u128::from(b));
            let (sum, carry) = low.overflowing_add(high << 64);
            prop_assert_eq!(product(a, u128::from(b)), ((high >> 64) + u128::from(carry), sum));
            prop_assert_eq!(product(u128::from(b), a), product(a, u128::from(b)));
        }
    }
}
