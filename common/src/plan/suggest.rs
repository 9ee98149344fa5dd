//! The nearest known name to one that is not known.

/// The known name that was most likely meant, if any is near enough.
///
/// `maxVUs`, `max-vus` and `max_vsu` all lead to `max_vus`.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| -> String {
        name.chars().take(60).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(unknown);
    // In a word of two letters any change makes another word.
    let most = match wanted.chars().count() {
        0..=2 => 0,
        length => 1 + length / 4,
    };
    known
        .into_iter()
        .map(|name| {
            let candidate = plain(name);
            let mut distance = strsim::damerau_levenshtein(&wanted, &candidate);
            // A word of the name that was left out (`url` for `target_url`) is nearer than its letters say.
            if wanted.len() >= 3 && (candidate.ends_with(&wanted) || candidate.starts_with(&wanted)) {
                distance = distance.min(1);
            }
            (distance, name)
        })
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// ` (did you mean `max_vus`?)`, or how to go on without a guess.
pub(crate) fn hint(unknown: &str, known: &[&str]) -> String {
    match nearest(unknown, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found() {
        let known = ["max_vus", "pre_allocated_vus", "target_url", "steps", "duration"];
        let check = |unknown: &str, expected: Option<&str>| {
            assert_eq!(nearest(unknown, known), expected, "{unknown}")
        };
        check("maxVUs", Some("max_vus"));
        check("max_vsu", Some("max_vus"));
        check("preAllocatedVUs", Some("pre_allocated_vus"));
        check("step", Some("steps"));
        check("url", Some("target_url"));
        check("target", Some("target_url"));
        check("banana", None);
        check("", None);
    }
}
