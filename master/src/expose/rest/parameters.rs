//! Query parameters: known names, each at most once, typed; all that is wrong with them is said at once.

use std::str::FromStr;

use axum::extract::{FromRequestParts, OriginalUri, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use volcanion_common::problem::Problem;
use volcanion_common::units::Micros;

use super::problem::{self, Refusal};

/// The parameters of a request, on the way to their types. End with [`Parameters::finish`].
pub(super) struct Parameters {
    /// As the client wrote it, with the prefix that nesting takes off.
    uri: Uri,
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let uri = match OriginalUri::from_request_parts(parts, state).await {
            Ok(OriginalUri(uri)) => uri,
            Err(never) => match never {},
        };
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| {
            Refusal::invalid(vec![Problem::new("", "the query is not of the form name=value&name=value")])
        })?;
        Ok(Self { uri, pairs: pairs.0, known: Vec::new(), problems: Vec::new() })
    }
}

impl Parameters {
    /// A parameter of any type that text can be read as; `what` says what is expected.
    pub(super) fn value<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        self.read(name, |text| text.parse().map_err(|_| format!("`{}` is not {what}", shortened(text))))
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, name: &'static str, least: u32, most: u32) -> Option<u32> {
        self.read(name, |text| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("`{}` is not a whole number from {least} to {most}", shortened(text))),
        })
    }

    /// A length of time: a whole number of milliseconds, or with a unit as in `10s`.
    pub(super) fn duration(&mut self, name: &'static str) -> Option<Micros> {
        self.read(name, |text| {
            let is_number = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
            let with_unit = if is_number { format!("{text}ms") } else { text.to_owned() };
            with_unit.parse().map_err(|_| {
                format!("`{}` is neither milliseconds nor a duration such as 10s or 1m30s", shortened(text))
            })
        })
    }

    /// Text as it stands.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, |text| Ok(text.to_owned()))
    }

    /// By a rule of the caller's.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        rule: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name);
        let mut given = self.pairs.iter().filter(|(key, _)| key == name);
        let (_, text) = given.next()?;
        let read =
            if given.next().is_some() { Err("stands there more than once".to_owned()) } else { rule(text) };
        match read {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems.push(Problem::new(name, message));
                None
            }
        }
    }

    /// A problem that only the caller sees.
    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(name, message));
    }

    /// All that is wrong, with the parameters that nobody asked for.
    ///
    /// # Errors
    /// Anything is wrong.
    pub(super) fn finish(self) -> Result<Address, Refusal> {
        let mut problems = self.problems;
        for (name, _) in self.pairs.iter().filter(|(name, _)| !self.known.contains(&name.as_str())) {
            problems.push(problem::unknown(name, &self.known));
        }
        let address = Address { path: self.uri.path().to_owned(), pairs: self.pairs };
        if problems.is_empty() { Ok(address) } else { Err(Refusal::invalid(problems)) }
    }
}

/// What was asked for: path and parameters.
pub(super) struct Address {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Address {
    /// The same with another value of one parameter.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let others = self
            .pairs
            .iter()
            .filter(|(key, _)| key != name)
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let query: Vec<String> = others
            .chain(std::iter::once((name, value)))
            .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
            .collect();
        format!("{}?{}", self.path, query.join("&"))
    }
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
