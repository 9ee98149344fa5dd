//! Numbers as people read them.

/// 1234567 → `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate a second: whole where it is large, with decimals where it is small.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{}/s", count(per_second.round() as u64))
    } else {
        format!("{per_second:.1}/s")
    }
}

/// Milliseconds in the unit that fits.
pub fn millis(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 1.0 => format!("{:.0} µs", v * 1e3),
        v if v < 10.0 => format!("{v:.2} ms"),
        v if v < 1_000.0 => format!("{v:.1} ms"),
        v if v < 60_000.0 => format!("{:.2} s", v / 1e3),
        v => format!("{:.1} min", v / 60e3),
    }
}

/// Bytes in the unit that fits.
pub fn bytes(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if scaled < 1_000.0 {
            return if unit == "B" { format!("{value} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1_000.0;
    }
    format!("{scaled:.1} TB")
}

/// A part of a whole in per cent.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    match part as f64 * 100.0 / whole as f64 {
        p if p == 0.0 || p == 100.0 => format!("{p:.0} %"),
        p if p >= 10.0 => format!("{p:.1} %"),
        p if p < 0.01 => "<0.01 %".to_owned(),
        p => format!("{p:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(12_345.6), "12,346/s");
        assert_eq!(rate(0.5), "0.5/s");
        assert_eq!(millis(0.25), "250 µs");
        assert_eq!(millis(1_500.0), "1.50 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(percent(1, 100_000), "<0.01 %");
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(3, 3), "100 %");
    }
}
