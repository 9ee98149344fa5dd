//! Threshold rules: their text and its tree. Evaluation is the master's, on merged numbers.
//!
//! `p(95) < 300ms`, `error_rate{step=login} < 1%`, `rps > 100`, `avg <= 50ms`, `dropped == 0`.

mod parse;

use crate::units::Micros;
pub use parse::ThresholdError;
pub(crate) use parse::cut;

/// A rule, and how it is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// In its canonical form: single spaces, `p(95)`, the bound as written.
    pub expr: String,
    /// What is measured.
    pub metric: Metric,
    /// Only this step; all of the run where absent.
    pub step: Option<String>,
    /// How the measured value is held against the bound.
    pub comparison: Comparison,
    /// Microseconds for times, a fraction (0.01 for `1%`) for rates of errors, requests a second for `rps`, else a count.
    pub bound: f64,
    /// Whether the run ends as soon as the rule is broken.
    pub abort: bool,
    /// From the run's start, during which `abort` does not judge.
    pub grace: Micros,
    /// Judge the newest so long only, for `abort`; since the start where absent.
    pub window: Option<Micros>,
}

impl Threshold {
    /// Reads a rule: `METRIC [{step=NAME}] COMPARISON BOUND`, judged at the end of the run.
    ///
    /// METRIC is `p(95)` (or `p95`), `min`, `avg`, `med`, `max` with a bound such as `300ms`; `error_rate` with `1%` or
    /// `0.01`; `rps` with `100` or `100/s`; `failed`, `requests` or `dropped` with a count.
    ///
    /// # Errors
    /// What of it cannot be read, and what could.
    pub fn parse(text: &str) -> Result<Self, ThresholdError> {
        parse::threshold(text)
    }
}

/// What a rule measures. Times are response times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A percentile of the response time, 0 to 100.
    Percentile(f64),
    /// The least response time.
    Min,
    /// The mean response time.
    Avg,
    /// The greatest response time.
    Max,
    /// Failed requests by all requests.
    ErrorRate,
    /// Requests a second.
    Rps,
    /// Failed requests.
    Failed,
    /// Requests.
    Requests,
    /// Dropped iterations.
    Dropped,
}

/// How a value is held against a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    /// Whether the value keeps the rule.
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::LessOrEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterOrEqual => value >= bound,
            Self::Equal => value == bound,
            Self::NotEqual => value != bound,
        }
    }
}

#[cfg(test)]
mod tests;
