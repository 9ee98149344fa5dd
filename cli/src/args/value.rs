//! The words of flags that are more than clap knows: durations, rates, capacities, shares.

use http::HeaderValue;
use volcanion_agent::Capacity;
use volcanion_agent::schedule::pacer::QUANTUM_MAX;
use volcanion_common::units::{Micros, Rate, Share};
use volcanion_common::view::Role;

/// A duration; a bare number means seconds, as users of other tools write it.
pub(super) fn duration(text: &str) -> Result<Micros, String> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let text = if bare { format!("{text}s") } else { text.to_owned() };
    text.parse().map_err(|error: volcanion_common::units::UnitError| error.to_string())
}

/// A rate; a bare number means a second, as users of other tools write it.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let text = if text.contains('/') { text.to_owned() } else { format!("{text}/s") };
    text.parse().map_err(|error: volcanion_common::units::UnitError| error.to_string())
}

/// A weight, or the word that has it measured.
pub(super) fn capacity(text: &str) -> Result<Capacity, String> {
    match text.parse::<f64>() {
        _ if text == "calibrated" => Ok(Capacity::Calibrated),
        Ok(value) if value.is_finite() && value > 0.0 => Ok(Capacity::Given(value)),
        _ => Err(format!("`{text}` is no capacity; give a number above 0, or `calibrated`")),
    }
}

/// The least time for which a load core sleeps; the agent's own bound, said before anything starts.
pub(super) fn quantum(text: &str) -> Result<Micros, String> {
    match duration(text)? {
        long if long > QUANTUM_MAX => Err(format!("{long} is too long; give 0us to {QUANTUM_MAX}")),
        quantum => Ok(quantum),
    }
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a share; give a number from 0 to 1, such as 0.01")),
    }
}

/// A share, as plans write it.
pub(super) fn share(text: &str) -> Result<Share, String> {
    text.parse().map_err(|error: volcanion_common::units::UnitError| error.to_string())
}

/// What one client may ask for; nothing: whatever it wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit(pub Option<Rate>);

/// `200/s` or `off`.
pub fn rate_limit(text: &str) -> Result<RateLimit, String> {
    if text == "off" {
        return Ok(RateLimit(None));
    }
    let limit = rate(text)?;
    if limit.micro_per_hour() == 0 {
        Err("nobody could ask; give a rate, or `off`".to_owned())
    } else {
        Ok(RateLimit(Some(limit)))
    }
}

/// The origin of a web page, as browsers write it.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || format!("`{text}` is no origin; write it as https://load.example.com");
    let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
    let is_host =
        !host.is_empty() && !host.contains(['/', '?', '#', '@']) && !host.contains(char::is_uppercase);
    let is_origin = matches!(scheme, "http" | "https") && is_host;
    HeaderValue::from_str(text).ok().filter(|_| is_origin).ok_or_else(wrong)
}

/// `value=role`.
pub fn oidc_role(text: &str) -> Result<(String, Role), String> {
    let wrong = || format!("`{text}` is no VALUE=ROLE; write it as load-testers=operator");
    let (value, role) = text.rsplit_once('=').ok_or_else(wrong)?;
    let role = role.trim().parse().map_err(|_| wrong())?;
    if value.trim().is_empty() { Err(wrong()) } else { Ok((value.trim().to_owned(), role)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_mean_seconds() {
        assert_eq!(duration("10"), Ok(Micros::from_secs(10)));
        assert_eq!(duration("1.5"), Ok(Micros::from_millis(1_500)));
        assert_eq!(rate("500"), Ok(Rate::per_second(500)));
        assert!(duration("").is_err() && rate("").is_err() && fraction("1.1").is_err());
    }

    #[test]
    fn a_quantum_that_agents_refuse_is_refused_with_its_flag() {
        assert_eq!(quantum("1ms"), Ok(Micros::from_millis(1)));
        assert_eq!(quantum("0us"), Ok(Micros::ZERO));
        let refused = quantum("1001us").unwrap_err();
        assert!(refused.contains("too long"), "{refused}");
    }
}
