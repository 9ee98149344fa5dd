//! A share of a whole, exact to a millionth.

use std::fmt;
use std::str::FromStr;

use super::{UnitError, millionths};

/// A share of a whole in millionths, from nothing to all. Written as per cent: `1%`, `0.05%`; read as a number from 0 to 1 too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(1_000_000);

    /// Millionths, 0 to 1,000,000.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Share {
    type Err = UnitError;

    /// Reads `1%` and `0.01`: up to four decimals of a per cent.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("`{text}` is no share; write one as 1%, or from 0 to 1"));
        let text = text.trim();
        let value = match text.strip_suffix('%') {
            Some(percent) => {
                let value = millionths(percent.trim_end()).ok_or_else(wrong)?;
                if value % 100 != 0 {
                    return Err(UnitError(format!("`{text}` is too fine; four decimals are possible")));
                }
                value / 100
            }
            None => millionths(text).ok_or_else(wrong)?,
        };
        match u32::try_from(value) {
            Ok(value) if value <= Self::ALL.0 => Ok(Self(value)),
            _ => Err(UnitError(format!("`{text}` is more than everything; give 0% to 100%"))),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_as_per_cent_or_as_a_part_of_one() {
        let check = |text: &str, expected: u32| assert_eq!(text.parse(), Ok(Share(expected)), "{text}");
        check("1%", 10_000);
        check(" 0.05 % ", 500);
        check("0.0001%", 1);
        check("100%", 1_000_000);
        check("1", 1_000_000);
        check("0.01", 10_000);
        check("0", 0);
        for wrong in ["", "%", "-1%", "101%", "1.1", "0.00001%", "a%", "1e-3", "0.0000001", "NaN"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_share_reads_back_as_it_is_written() {
        for millionths in (0..=1_000_000).step_by(37).chain([1, 999_999, 1_000_000]) {
            let share = Share(millionths);
            assert_eq!(share.to_string().parse(), Ok(share), "{share}");
        }
    }
}
