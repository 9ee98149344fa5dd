//! The one set of bounds of every histogram, and its bytes.
//!
//! Values are microseconds from 1 to an hour with 3 significant digits, in an HdrHistogram that grows with its values,
//! so that a series costs what its values need. Sum, least and greatest are kept exactly beside it. The bytes are
//! HdrHistogram's plain V2 encoding, which any of its libraries reads.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use crate::units::Micros;

/// The greatest value: an hour. What is longer is counted as an hour (its sum and maximum too).
pub const MAX_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// How the values of one measure are distributed.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Made at the first value: an empty distribution costs nothing.
    histogram: Option<Box<Histogram<u64>>>,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

/// Why bytes are not a distribution.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// Not HdrHistogram's V2 encoding.
    #[error("not a V2 histogram: {0}")]
    Encoding(String),
    /// A histogram of other bounds than ours.
    #[error(
        "a histogram of {digits} significant digits up to {max_us} µs, where 3 digits up to an hour are spoken"
    )]
    Bounds {
        /// Its digits.
        digits: u8,
        /// Its greatest value.
        max_us: u64,
    },
}

impl Distribution {
    /// Records a value.
    pub fn record(&mut self, value: Micros) {
        let value_us = value.0.min(MAX_US);
        let histogram = self.histogram.get_or_insert_with(empty);
        // Nought is counted in the lowest bucket. The histogram resizes itself (its `saturating_record` would not: it
        // clamps to the range that there is), so no value is out of its range.
        let recorded = histogram.record(value_us.max(1));
        debug_assert!(recorded.is_ok(), "a histogram that resizes itself takes every value");
        if self.sum_us == 0 && histogram.len() == 1 {
            self.min_us = value_us;
        }
        self.min_us = self.min_us.min(value_us);
        self.max_us = self.max_us.max(value_us);
        self.sum_us += value_us;
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, |h| h.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Exact sum of the values.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Exact least value; 0 where there is none.
    pub fn min_us(&self) -> u64 {
        self.min_us
    }

    /// Exact greatest value; 0 where there is none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Exact mean; 0 where there is no value.
    pub fn mean_us(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum_us as f64 / count as f64,
        }
    }

    /// The value that `percent` (0 to 100) of the values do not pass, within 3 significant digits and never beyond
    /// the exact extremes; 0 where there is no value.
    pub fn percentile_us(&self, percent: f64) -> u64 {
        self.histogram.as_ref().map_or(0, |h| h.value_at_percentile(percent).clamp(self.min_us, self.max_us))
    }

    /// How many values are at most `bound`, as far as the buckets tell.
    pub fn count_at_most(&self, bound: Micros) -> u64 {
        self.histogram.as_ref().map_or(0, |h| h.count_between(0, bound.0.max(1)))
    }

    /// Adds another's values.
    pub fn add(&mut self, other: &Self) {
        let Some(theirs) = &other.histogram else { return };
        if theirs.is_empty() {
            return;
        }
        match &mut self.histogram {
            Some(ours) if !ours.is_empty() => {
                // Both grow by themselves and have the same digits, so every bucket of one has its place in the other.
                let added = ours.add(&**theirs);
                debug_assert!(added.is_ok(), "histograms of one set of bounds add up");
                self.min_us = self.min_us.min(other.min_us);
            }
            ours => {
                *ours = Some(theirs.clone());
                self.min_us = other.min_us;
            }
        }
        self.max_us = self.max_us.max(other.max_us);
        self.sum_us += other.sum_us;
    }

    /// Forgets the values and keeps the memory.
    pub fn clear(&mut self) {
        if let Some(histogram) = &mut self.histogram {
            histogram.reset();
        }
        (self.sum_us, self.min_us, self.max_us) = (0, 0, 0);
    }

    /// The histogram in plain V2 form; no bytes where there is no value.
    pub fn to_v2(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(histogram) = self.histogram.as_ref().filter(|h| !h.is_empty()) {
            // Writing to memory cannot fail, and no bucket passes the encoding's range.
            let written = V2Serializer::new().serialize(histogram, &mut bytes);
            debug_assert!(written.is_ok(), "a histogram is written to memory");
        }
        bytes
    }

    /// Reads what [`Distribution::to_v2`] wrote, with the exact figures beside it.
    ///
    /// # Errors
    /// The bytes are no V2 histogram, or one of other bounds.
    pub fn from_v2(bytes: &[u8], sum_us: u64, min_us: u64, max_us: u64) -> Result<Self, DistributionError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| DistributionError::Encoding(format!("{error:?}")))?;
        if histogram.sigfig() != SIGNIFICANT_DIGITS
            || histogram.low() != 1
            || histogram.max() > MAX_US + MAX_US / 1_000
        {
            return Err(DistributionError::Bounds { digits: histogram.sigfig(), max_us: histogram.max() });
        }
        histogram.auto(true);
        Ok(Self { histogram: Some(Box::new(histogram)), sum_us, min_us, max_us })
    }
}

impl PartialEq for Distribution {
    /// Equal values, whatever memory holds them.
    fn eq(&self, other: &Self) -> bool {
        (self.count(), self.sum_us, self.min_us, self.max_us)
            == (other.count(), other.sum_us, other.min_us, other.max_us)
            && match (&self.histogram, &other.histogram) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

fn empty() -> Box<Histogram<u64>> {
    let mut histogram =
        Histogram::new_with_bounds(1, 2, SIGNIFICANT_DIGITS).expect("1 to 2 with 3 digits is a legal range");
    histogram.auto(true);
    Box::new(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|us| distribution.record(Micros(*us)));
        distribution
    }

    proptest! {
        #[test]
        fn bytes_round_trip_and_sums_know_no_order(a in prop::collection::vec(0..2 * MAX_US, 0..50), b in prop::collection::vec(0..100_000u64, 0..50)) {
            let (x, y) = (of(&a), of(&b));
            let read = Distribution::from_v2(&x.to_v2(), x.sum_us(), x.min_us(), x.max_us()).unwrap();
            prop_assert_eq!(&read, &x);
            let mut xy = x.clone();
            xy.add(&y);
            let mut yx = y.clone();
            yx.add(&read);
            prop_assert_eq!(&xy, &yx);
            let all = of(&a.iter().chain(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(&xy, &all);
            prop_assert_eq!(xy.count(), (a.len() + b.len()) as u64);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Distribution::from_v2(&bytes, 0, 0, 0);
        }
    }

    #[test]
    fn extremes_and_mean_are_exact() {
        let d = of(&[1_234_567, 7, 89_999]);
        assert_eq!((d.min_us(), d.max_us(), d.sum_us()), (7, 1_234_567, 1_324_573));
        assert_eq!(d.percentile_us(100.0), 1_234_567);
        assert_eq!(of(&[]).percentile_us(99.0), 0);
    }

    #[test]
    fn great_values_stay_apart() {
        let d = of(&[100, 40_000, 3_000_000]);
        assert_eq!(
            (d.percentile_us(30.0), d.count_at_most(Micros(250)), d.count_at_most(Micros(50_000))),
            (100, 1, 2)
        );
        assert!(d.percentile_us(60.0).abs_diff(40_000) <= 40);
    }

    #[test]
    fn what_was_cleared_starts_anew() {
        let mut d = of(&[5]);
        d.clear();
        assert!(d.is_empty() && d.to_v2().is_empty());
        d.record(Micros(9));
        assert_eq!((d.min_us(), d.max_us(), d.count()), (9, 9, 1));
    }
}
