//! The one set of bounds of every histogram, and its bytes.
//!
//! Values are microseconds from 1 to an hour with 3 significant digits, in an HdrHistogram that grows with its values,
//! so that a series costs what its values need. Its counts are of 32 bits until there are too many values for them, which
//! halves what an agent holds. Sum, least and greatest are kept exactly beside it. The bytes are HdrHistogram's plain V2
//! encoding, which any of its libraries reads, and are the same for both widths.

use std::mem;

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use hdrhistogram::{Counter, Histogram};

use crate::units::Micros;

/// The greatest value: an hour. What is longer is counted as an hour (its sum and maximum too).
pub const MAX_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// So many values cannot pass 32 bits in any bucket.
const NARROW_MAX: u64 = u32::MAX as u64;

/// How the values of one measure are distributed.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Made at the first value: an empty distribution costs nothing.
    counts: Option<Box<Counts>>,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

/// The buckets, narrow until more than [`NARROW_MAX`] values are in them.
#[derive(Clone, Debug)]
enum Counts {
    Narrow(Histogram<u32>),
    Wide(Histogram<u64>),
}

/// Does the same with the histogram of either width.
macro_rules! either {
    ($counts:expr, $histogram:ident => $result:expr) => {
        match $counts {
            Counts::Narrow($histogram) => $result,
            Counts::Wide($histogram) => $result,
        }
    };
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
    #[inline]
    pub fn record(&mut self, value: Micros) {
        let value_us = value.0.min(MAX_US);
        let counts = self.counts.get_or_insert_with(|| Box::new(Counts::Narrow(empty())));
        if counts.len() == 0 {
            self.min_us = value_us;
        }
        if counts.len() >= NARROW_MAX {
            counts.widen();
        }
        // Nought is counted in the lowest bucket. The histogram resizes itself (its `saturating_record` would not: it
        // clamps to the range that there is), so no value is out of its range.
        let recorded = either!(&mut **counts, h => h.record(value_us.max(1)));
        debug_assert!(recorded.is_ok(), "a histogram that resizes itself takes every value");
        self.min_us = self.min_us.min(value_us);
        self.max_us = self.max_us.max(value_us);
        self.sum_us += value_us;
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.as_ref().map_or(0, |counts| counts.len())
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
        let of_buckets = |counts: &Counts| either!(counts, h => h.value_at_percentile(percent));
        self.counts.as_deref().map_or(0, |counts| of_buckets(counts).clamp(self.min_us, self.max_us))
    }

    /// How many values are at most `bound`, as far as the buckets tell.
    pub fn count_at_most(&self, bound: Micros) -> u64 {
        self.counts.as_deref().map_or(0, |counts| either!(counts, h => h.count_between(0, bound.0.max(1))))
    }

    /// Adds another's values.
    pub fn add(&mut self, other: &Self) {
        let Some(theirs) = other.counts.as_ref().filter(|theirs| theirs.len() > 0) else { return };
        match &mut self.counts {
            Some(ours) if ours.len() > 0 => {
                ours.add(theirs);
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
        if let Some(counts) = self.counts.as_deref_mut() {
            either!(counts, h => h.reset());
        }
        (self.sum_us, self.min_us, self.max_us) = (0, 0, 0);
    }

    /// The histogram in plain V2 form; no bytes where there is no value.
    pub fn to_v2(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(counts) = self.counts.as_deref().filter(|counts| counts.len() > 0) {
            // Writing to memory cannot fail, and no bucket passes the encoding's range.
            let written = either!(counts, h => V2Serializer::new().serialize(h, &mut bytes));
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
        // A count that does not fit is an error of the narrow reading.
        let counts = match read::<u32>(bytes) {
            Ok(narrow) if narrow.len() <= NARROW_MAX => Counts::Narrow(narrow),
            _ => Counts::Wide(read::<u64>(bytes)?),
        };
        Ok(Self { counts: Some(Box::new(counts)), sum_us, min_us, max_us })
    }
}

impl Counts {
    #[inline]
    fn len(&self) -> u64 {
        either!(self, h => h.len())
    }

    fn add(&mut self, other: &Self) {
        // All grow by themselves and have the same digits, so every bucket of one has its place in the other.
        let added = match (&mut *self, other) {
            (Self::Narrow(ours), Self::Narrow(theirs)) if ours.len() + theirs.len() <= NARROW_MAX => {
                ours.add(theirs)
            }
            _ => {
                let mut ours = self.take_wide();
                let added = either!(other, theirs => ours.add(wide(theirs)));
                *self = Self::Wide(ours);
                added
            }
        };
        debug_assert!(added.is_ok(), "histograms of one set of bounds add up");
    }

    #[cold]
    fn widen(&mut self) {
        *self = Self::Wide(self.take_wide());
    }

    /// Its values in a wide histogram; leaves none behind.
    fn take_wide(&mut self) -> Histogram<u64> {
        match mem::replace(self, Self::Narrow(empty())) {
            Self::Narrow(narrow) => wide(&narrow),
            Self::Wide(wide) => wide,
        }
    }
}

fn wide<C: Counter>(histogram: &Histogram<C>) -> Histogram<u64> {
    let mut wide = empty();
    for bucket in histogram.iter_recorded() {
        let recorded = wide.record_n(bucket.value_iterated_to(), bucket.count_at_value().as_u64());
        debug_assert!(recorded.is_ok(), "a histogram that resizes itself takes every value");
    }
    wide
}

fn read<C: Counter>(bytes: &[u8]) -> Result<Histogram<C>, DistributionError> {
    let mut histogram: Histogram<C> = Deserializer::new()
        .deserialize(&mut &bytes[..])
        .map_err(|error| DistributionError::Encoding(format!("{error:?}")))?;
    if histogram.sigfig() != SIGNIFICANT_DIGITS
        || histogram.low() != 1
        || histogram.max() > MAX_US + MAX_US / 1_000
    {
        return Err(DistributionError::Bounds { digits: histogram.sigfig(), max_us: histogram.max() });
    }
    histogram.auto(true);
    Ok(histogram)
}

impl PartialEq for Distribution {
    /// Equal values, whatever memory holds them.
    fn eq(&self, other: &Self) -> bool {
        (self.count(), self.sum_us, self.min_us, self.max_us)
            == (other.count(), other.sum_us, other.min_us, other.max_us)
            && match (self.counts.as_deref(), other.counts.as_deref()) {
                (Some(Counts::Narrow(a)), Some(Counts::Narrow(b))) => a == b,
                (Some(a), Some(b)) => either!(a, a => wide(a)) == either!(b, b => wide(b)),
                _ => true,
            }
    }
}

fn empty<C: Counter>() -> Histogram<C> {
    let mut histogram =
        Histogram::new_with_bounds(1, 2, SIGNIFICANT_DIGITS).expect("1 to 2 with 3 digits is a legal range");
    histogram.auto(true);
    histogram
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

    /// So many times 5 µs, and once 70,000 µs.
    fn many(count: u64) -> Distribution {
        let mut histogram = empty::<u64>();
        histogram.record_n(5, count).unwrap();
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
        let mut many = Distribution::from_v2(&bytes, count * 5, 5, 5).unwrap();
        many.record(Micros(70_000));
        many
    }

    #[test]
    fn more_values_than_32_bits_can_count_are_counted() {
        let is_wide = |d: &Distribution| matches!(d.counts.as_deref(), Some(Counts::Wide(_)));
        let few = of(&[5, 9, 123_456]);
        assert!(!is_wide(&few) && !is_wide(&many(NARROW_MAX - 1)) && is_wide(&many(NARROW_MAX)));
        for (a, b) in
            [(NARROW_MAX - 1, 0), (NARROW_MAX - 1, NARROW_MAX - 1), (NARROW_MAX * 3, 7), (3, NARROW_MAX * 3)]
        {
            let mut sum = many(a);
            sum.add(&many(b));
            sum.add(&few);
            assert_eq!(
                (sum.count(), sum.sum_us()),
                (a + b + 5, (a + b) * 5 + 140_000 + 5 + 9 + 123_456),
                "{a} {b}"
            );
            assert_eq!(sum.count_at_most(Micros(5)), a + b + 1);
            assert_eq!(sum.count_at_most(Micros(71_000)), a + b + 4);
            assert_eq!((sum.percentile_us(50.0), sum.percentile_us(100.0)), (5, 123_456));
            assert!(is_wide(&sum));
            let read = Distribution::from_v2(&sum.to_v2(), sum.sum_us(), sum.min_us(), sum.max_us()).unwrap();
            assert_eq!(read, sum);
        }
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
