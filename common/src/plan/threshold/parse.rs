//! A rule's text → [`Threshold`]. Its canonical text reads back as the same rule.

use super::super::node::excerpt;
use super::super::suggest::hint;
use super::{Comparison, Metric, Threshold};
use crate::units::{Micros, Rate};

/// Why a text is no rule; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ThresholdError(String);

const METRICS: &[(&str, Metric)] = &[
    ("min", Metric::Min),
    ("avg", Metric::Avg),
    ("med", Metric::Percentile(50.0)),
    ("max", Metric::Max),
    ("error_rate", Metric::ErrorRate),
    ("rps", Metric::Rps),
    ("failed", Metric::Failed),
    ("requests", Metric::Requests),
    ("dropped", Metric::Dropped),
];

/// The longer ones first: `<=` begins with `<`.
const COMPARISONS: &[(&str, Comparison)] = &[
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

const LENGTH_MAX: usize = 1_000;

pub(super) fn threshold(text: &str) -> Result<Threshold, ThresholdError> {
    if text.len() > LENGTH_MAX {
        return Err(error(format!("a rule has at most {LENGTH_MAX} bytes")));
    }
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "{<>=!".contains(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return Err(error(format!("`{}` is not a rule; write one such as `p(95) < 300ms`", excerpt(text))));
    }
    let (word, metric) = metric(word)?;
    let (step, rest) = selector(rest.trim_start())?;
    if step.is_some() && metric == Metric::Dropped {
        return Err(error(
            "iterations are dropped before they reach a step; leave `{step=…}` out".to_owned(),
        ));
    }
    let Some((sign, comparison)) = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign)) else {
        return Err(error(format!(
            "`{}` has no comparison after `{word}`; give one of <, <=, >, >=, ==, !=",
            excerpt(text)
        )));
    };
    let bound_text = rest[sign.len()..].trim();
    let bound = bound(metric, bound_text)?;
    let selector = step.as_deref().map(written_selector).unwrap_or_default();
    Ok(Threshold {
        expr: format!("{word}{selector} {sign} {bound_text}"),
        metric,
        step,
        comparison: *comparison,
        bound,
        abort: false,
        grace: Micros::ZERO,
        window: None,
    })
}

/// The metric and its canonical word.
fn metric(word: &str) -> Result<(String, Metric), ThresholdError> {
    if let Some((_, metric)) = METRICS.iter().find(|(name, _)| *name == word) {
        return Ok((word.to_owned(), *metric));
    }
    let inner = word.strip_prefix('p').map(|rest| match rest.strip_prefix('(') {
        Some(rest) => rest.strip_suffix(')').unwrap_or(""),
        None => rest,
    });
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if let Some(number) = inner.filter(is_number) {
        return match number.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                Ok((format!("p({percent})"), Metric::Percentile(percent)))
            }
            _ => Err(error(format!("`{}` is not a percentile; give one from p(0) to p(100)", excerpt(word)))),
        };
    }
    if matches!(word, "checks" | "check") {
        return Err(error(format!("`{word}` is not available in this version; leave it out")));
    }
    let known: Vec<&str> = ["p(95)"].into_iter().chain(METRICS.iter().map(|(name, _)| *name)).collect();
    Err(error(format!("`{}` is not measured; {}", excerpt(word), hint(word, &known))))
}

/// `{step=NAME}`, the name in double quotes where it holds `}` or a quote; then what follows.
fn selector(text: &str) -> Result<(Option<String>, &str), ThresholdError> {
    let Some(inner) = text.strip_prefix('{') else { return Ok((None, text)) };
    let wrong = || error(format!("`{}` selects nothing; write {{step=NAME}}", excerpt(text)));
    let value = inner.trim_start().strip_prefix("step").ok_or_else(wrong)?;
    let value = value.trim_start().strip_prefix('=').ok_or_else(wrong)?.trim_start();
    let (name, rest) = if value.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(value).into_iter::<String>();
        let name = names.next().and_then(Result::ok).ok_or_else(wrong)?;
        (name, value[names.byte_offset()..].trim_start().strip_prefix('}').ok_or_else(wrong)?)
    } else {
        let (name, rest) = value.split_once('}').ok_or_else(wrong)?;
        (name.trim().to_owned(), rest)
    };
    if name.is_empty() {
        return Err(wrong());
    }
    Ok((Some(name), rest.trim_start()))
}

fn written_selector(step: &str) -> String {
    let is_plain =
        !step.contains(['}', '"', '\\']) && step.trim() == step && !step.contains(char::is_control);
    if is_plain { format!("{{step={step}}}") } else { format!("{{step={}}}", serde_json::Value::from(step)) }
}

fn bound(metric: Metric, text: &str) -> Result<f64, ThresholdError> {
    let shown = excerpt(text);
    match metric {
        Metric::Percentile(_) | Metric::Min | Metric::Avg | Metric::Max => match text.parse::<Micros>() {
            Ok(time) => Ok(time.0 as f64),
            Err(_) if number(text).is_some() => {
                Err(error(format!("the bound `{shown}` has no unit; write {shown}ms")))
            }
            Err(_) => {
                Err(error(format!("the bound `{shown}` is not a time; write one such as 300ms or 1.5s")))
            }
        },
        Metric::ErrorRate => {
            let fraction = match text.strip_suffix('%') {
                Some(percent) => number(percent.trim_end()).map(|percent| percent / 100.0),
                None => number(text),
            };
            match fraction {
                Some(fraction) if fraction <= 1.0 => Ok(fraction),
                Some(_) if !text.ends_with('%') => Err(error(format!(
                    "the bound `{shown}` is more than everything; write {shown}% for per cent"
                ))),
                _ => Err(error(format!("the bound `{shown}` is not a share; write one such as 1% or 0.01"))),
            }
        }
        Metric::Rps => match (number(text), text.parse::<Rate>()) {
            (Some(rate), _) => Ok(rate),
            (None, Ok(rate)) => Ok(rate.as_per_second_f64()),
            (None, Err(_)) => {
                Err(error(format!("the bound `{shown}` is not a rate; write one such as 100/s")))
            }
        },
        Metric::Failed | Metric::Requests | Metric::Dropped => number(text)
            .filter(|count| count.fract() == 0.0)
            .ok_or_else(|| error(format!("the bound `{shown}` is not a count; write a whole number"))),
    }
}

/// A decimal number without sign and exponent.
fn number(text: &str) -> Option<f64> {
    let is_decimal = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| is_decimal)
}

/// At most so many characters of a text.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn error(message: String) -> ThresholdError {
    ThresholdError(message)
}
