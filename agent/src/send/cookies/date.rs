//! Dates of cookies, read as leniently as RFC 6265 5.1.1 wants.

use rustix::time::{ClockId, clock_gettime};

/// The names of the months, as far as they count.
const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// A date as seconds since 1970; nothing where it is none.
pub fn unix_seconds(text: &str) -> Option<i64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.as_bytes().split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = time_of(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let ((hour, minute, second), day, month) = (time?, day?, month?);
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if !(1..=31).contains(&day) || year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if day > days_of(year, month) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// An instant of the wall clock on the monotonic one, whose now is given; 0: it is past.
pub fn on_the_clock(unix_seconds: i64, now_ns: u64) -> u64 {
    let left = unix_seconds.saturating_sub(clock_gettime(ClockId::Realtime).tv_sec);
    match u64::try_from(left) {
        Ok(left @ 1..) => now_ns.saturating_add(left.saturating_mul(1_000_000_000)),
        _ => 0,
    }
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// Digits at the start, so many; what follows them may be anything but a digit.
fn number(token: &[u8], least: usize, most: usize) -> Option<i64> {
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(least..=most).contains(&digits) {
        return None;
    }
    Some(token[..digits].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

/// `hh:mm:ss`.
fn time_of(token: &[u8]) -> Option<(i64, i64, i64)> {
    let mut fields = token.splitn(3, |byte| *byte == b':');
    let mut whole = || {
        let field = fields.next()?;
        field.iter().all(u8::is_ascii_digit).then(|| number(field, 1, 2)).flatten()
    };
    let (hour, minute) = (whole()?, whole()?);
    Some((hour, minute, number(fields.next()?, 1, 2)?))
}

/// From 0.
fn month_of(token: &[u8]) -> Option<i64> {
    let start = token.get(..3)?;
    MONTHS.iter().position(|month| start.eq_ignore_ascii_case(month)).map(|month| month as i64)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        1 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
