//! Quantities as types: durations and run time in microseconds, rates and shares as exact fractions.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod share;

pub use share::Share;

/// A duration in whole microseconds. Written as text with a unit: `250ms`, `10s`, `1m30s`, `2h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// A moment of a run: microseconds since the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunTime(pub u64);

/// Iterations per unit of time, kept exact: a whole number of millionths an hour, so that any rate of up to six
/// decimals a second, a minute or an hour is held without rounding. Written `500/s`, `0.5/s`, `90/m`, `12/h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(u64);

/// Why a text is not a duration, a rate or a share; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

impl Micros {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// The longest that is read: 366 days.
    pub const MAX: Self = Self(366 * 86_400 * 1_000_000);

    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }
    /// Whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }
    /// Nanoseconds, held at the greatest value: the wire may bring any number.
    pub const fn as_nanos(self) -> u64 {
        self.0.saturating_mul(1_000)
    }
    /// Fractional milliseconds.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
    /// Fractional seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// The standard library's type.
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
    /// The sum, held at the greatest value.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl From<Duration> for Micros {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A decimal number as whole millionths; no sign, no exponent, at most six decimals.
fn millionths(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 6 || whole.len() > 15 {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u128 = format!("{fraction:0<6}").parse().ok()?;
    Some(whole * 1_000_000 + fraction)
}

impl FromStr for Micros {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError(format!(
                "`{text}` is not a duration; write a number with its unit, such as 250ms, 10s, 1m30s or 2h"
            ))
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total_us: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let unit_us: u128 = match unit.trim() {
                "us" | "µs" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" | "min" => 60_000_000,
                "h" => 3_600_000_000,
                "d" => 86_400_000_000,
                _ => return Err(wrong()),
            };
            total_us += millionths(number).ok_or_else(wrong)? * unit_us / 1_000_000;
            rest = tail;
        }
        match u64::try_from(total_us) {
            Ok(us) if us <= Self::MAX.0 => Ok(Self(us)),
            _ => Err(UnitError(format!("`{text}` is too long; the longest is 366 days"))),
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit_us, unit) in [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "m"),
            (1_000_000, "s"),
            (1_000, "ms"),
            (1, "us"),
        ] {
            if rest >= unit_us {
                write!(f, "{}{unit}", rest / unit_us)?;
                rest %= unit_us;
            }
        }
        Ok(())
    }
}

impl RunTime {
    /// The run's start.
    pub const START: Self = Self(0);

    /// Later by a duration.
    pub const fn plus(self, duration: Micros) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
    /// The duration since an earlier moment; zero where that one is later.
    pub const fn since(self, earlier: Self) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
    /// Fractional milliseconds since the start.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

impl Rate {
    /// No iterations.
    pub const ZERO: Self = Self(0);
    /// Rate units of one iteration a second.
    const PER_SECOND: u64 = 3_600 * 1_000_000;
    /// The highest rate: ten million a second.
    pub const MAX: Self = Self(10_000_000 * Self::PER_SECOND);

    /// Whole iterations a second; held at [`Rate::MAX`].
    pub const fn per_second(iterations: u64) -> Self {
        if iterations > 10_000_000 { Self::MAX } else { Self(iterations * Self::PER_SECOND) }
    }
    /// Millionths of an iteration an hour: the exact value.
    pub const fn micro_per_hour(self) -> u64 {
        self.0
    }
    /// From the exact value.
    pub const fn from_micro_per_hour(value: u64) -> Self {
        Self(value)
    }
    /// Iterations a second, rounded to a float.
    pub fn as_per_second_f64(self) -> f64 {
        self.0 as f64 / Self::PER_SECOND as f64
    }
    /// Rate units × microseconds that make up one iteration: an integral divided by this is a count.
    pub const UNITS_PER_ITERATION: u128 = Self::PER_SECOND as u128 * 1_000_000;
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError(format!(
                "`{text}` is not a rate; write a number and its unit, such as 500/s, 90/m or 12/h, with at most six decimals"
            ))
        };
        let (number, unit) = text.trim().split_once('/').ok_or_else(wrong)?;
        let per_hour: u128 = match unit.trim() {
            "s" | "sec" | "second" => 3_600,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 1,
            _ => return Err(wrong()),
        };
        let value = millionths(number.trim()).ok_or_else(wrong)? * per_hour;
        match u64::try_from(value) {
            Ok(value) if value <= Self::MAX.0 => Ok(Self(value)),
            _ => Err(UnitError(format!("`{text}` is too fast; the highest rate is 10000000/s"))),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The greatest unit in which the value has at most six decimals keeps every rate readable and exact.
        let (per_hour, unit) = [(3_600, "s"), (60, "m"), (1, "h")]
            .into_iter()
            .find(|(per_hour, _)| self.0.is_multiple_of(*per_hour))
            .unwrap_or((1, "h"));
        let value = self.0 / per_hour;
        let (whole, fraction) = (value / 1_000_000, value % 1_000_000);
        if fraction == 0 {
            write!(f, "{whole}/{unit}")
        } else {
            let fraction = format!("{fraction:06}");
            write!(f, "{whole}.{}/{unit}", fraction.trim_end_matches('0'))
        }
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Micros);
serde_as_text!(Rate);
serde_as_text!(Share);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_users_write_them() {
        let check = |text: &str, us: u64| assert_eq!(text.parse::<Micros>(), Ok(Micros(us)), "{text}");
        check("10s", 10_000_000);
        check("1m30s", 90_000_000);
        check("1.5s", 1_500_000);
        check("250ms", 250_000);
        check("0s", 0);
        for wrong in ["", "10", "s", "-1s", "1e3s", "10 parsecs", "400d", "1.0000001s"] {
            assert!(wrong.parse::<Micros>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_number_from_the_wire_overflows() {
        assert_eq!(Micros(u64::MAX).as_nanos(), u64::MAX);
        assert_eq!(Micros(7).as_nanos(), 7_000);
    }

    #[test]
    fn rates_are_exact() {
        let check = |text: &str, value: u64| assert_eq!(text.parse::<Rate>(), Ok(Rate(value)), "{text}");
        check("401/s", 401 * 3_600_000_000);
        check("0.5/s", 1_800_000_000);
        check("1/h", 1_000_000);
        check("90/m", 5_400_000_000);
        for wrong in ["", "500", "-5/s", "5/d", "10000001/s", "0.0000001/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(us in 0..=Micros::MAX.0, units in 0..=Rate::MAX.0) {
            prop_assert_eq!(Micros(us).to_string().parse::<Micros>(), Ok(Micros(us)));
            prop_assert_eq!(Rate(units).to_string().parse::<Rate>(), Ok(Rate(units)));
        }
    }
}
