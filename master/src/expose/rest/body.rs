//! What stands in bodies: a plan's document in JSON or YAML, or a small JSON object of known fields.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use volcanion_common::plan::document::{self, Format, PlanDocument};
use volcanion_common::problem::Problem;
use volcanion_common::view::ErrorCode;

use super::limit::{self, BODY_BYTES_MAX};
use super::problem::{self, Refusal};

/// Longest body of a small object.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// A plan, read and valid.
pub(super) struct PlanBody(pub(super) PlanDocument);

/// A small JSON object.
#[derive(Debug)]
pub(super) struct SmallObject(Map<String, Value>);

/// The kind of a body by its content type.
///
/// # Errors
/// None is said, or one that is neither JSON nor YAML.
pub(super) fn kind(headers: &HeaderMap) -> Result<Format, Refusal> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Ok(Format::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Format::Yaml),
        kind if kind.starts_with("application/") && kind.ends_with("+json") => Ok(Format::Json),
        "" => Err(unsupported(
            "the body's kind is not said; give Content-Type: application/json or application/yaml",
        )),
        other => Err(unsupported(&format!(
            "a body of the kind `{}` is not read here; give application/json or application/yaml",
            other.chars().take(100).collect::<String>()
        ))),
    }
}

fn unsupported(detail: &str) -> Refusal {
    Refusal::new(ErrorCode::UnsupportedMediaType, detail)
}

impl<S: Send + Sync> FromRequest<S> for PlanBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let format = kind(request.headers())?;
        let bytes = limit::read_whole(request, BODY_BYTES_MAX).await?;
        // Megabytes take a while; other requests go on meanwhile.
        match tokio::task::spawn_blocking(move || document::read(&bytes, format)).await {
            Ok(read) => Ok(Self(read?)),
            Err(error) => {
                Err(Refusal::new(ErrorCode::InternalError, format!("the plan could not be read: {error}")))
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for SmallObject {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        if !matches!(kind(request.headers()), Ok(Format::Json)) {
            return Err(unsupported("only JSON is read here; give Content-Type: application/json"));
        }
        let bytes = limit::read_whole(request, SMALL_BYTES_MAX).await?;
        Self::read(&bytes)
    }
}

impl SmallObject {
    fn read(bytes: &Bytes) -> Result<Self, Refusal> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => match repeated(bytes) {
                Some(name) => Err(Refusal::invalid(vec![Problem::new(
                    name.chars().take(100).collect::<String>(),
                    "is there twice; keep one",
                )])),
                None => Ok(Self(fields)),
            },
            Ok(_) => Err(Refusal::invalid(vec![Problem::new("", "the body is not a JSON object")])),
            Err(error) => Err(Refusal::invalid(vec![Problem {
                line: u32::try_from(error.line()).ok(),
                column: u32::try_from(error.column()).ok(),
                ..Problem::new("", format!("this is not JSON: {}", without_position(&error)))
            }])),
        }
    }

    /// The text fields `names`, every one of which must be there, in their order.
    ///
    /// # Errors
    /// All that is missing, of another type, or not known.
    pub(super) fn texts<const N: usize>(&self, names: [&str; N]) -> Result<[String; N], Refusal> {
        let mut problems = Vec::new();
        let values = names.map(|name| match self.0.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                problems.push(Problem::new(name, format!("must be text, not {}", type_of(other))));
                String::new()
            }
            None => {
                problems.push(Problem::new(name, "is missing"));
                String::new()
            }
        });
        for unknown in self.0.keys().filter(|key| !names.contains(&key.as_str())) {
            problems.push(problem::unknown(unknown, &names));
        }
        if problems.is_empty() { Ok(values) } else { Err(Refusal::invalid(problems)) }
    }

    /// The fields one by one, each of which may be left out.
    pub(super) fn fields(&self, known: &[&str]) -> Fields<'_> {
        let unknown = self.0.keys().filter(|key| !known.contains(&key.as_str()));
        Fields { object: &self.0, problems: unknown.map(|name| problem::unknown(name, known)).collect() }
    }
}

/// Fields that may be left out, read one by one; what is wrong with them is told at the end.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// What is `null` counts as left out, as in plans.
    fn given(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A whole number from 0 on.
    pub(super) fn whole(&mut self, name: &str) -> Option<u64> {
        let value = self.given(name)?;
        if value.as_u64().is_none() {
            let shown = if value.is_number() { value.to_string() } else { type_of(value).to_owned() };
            self.problems.push(Problem::new(name, format!("must be a whole number from 0 on, not {shown}")));
        }
        value.as_u64()
    }

    /// Text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let value = self.given(name)?;
        if value.as_str().is_none() {
            self.problems.push(Problem::new(name, format!("must be text, not {}", type_of(value))));
        }
        value.as_str().map(str::to_owned)
    }

    /// Text that means something.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, form: &str) -> Option<T> {
        let value = self.given(name)?;
        let Some(text) = value.as_str() else {
            self.problems.push(Problem::new(name, format!("must be {form}, not {}", type_of(value))));
            return None;
        };
        text.parse().map_err(|error: T::Err| self.problems.push(Problem::new(name, error.to_string()))).ok()
    }

    /// # Errors
    /// All that was wrong.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        if self.problems.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.problems)) }
    }
}

/// The first name that an object has twice: a plain JSON value keeps the last of them without a word. It has been read as JSON before.
fn repeated(object: &[u8]) -> Option<String> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<String>, A::Error> {
            let (mut seen, mut twice) = (HashSet::new(), None);
            while let Some((name, _)) = fields.next_entry::<String, IgnoredAny>()? {
                if twice.is_none() && seen.contains(&name) {
                    twice = Some(name);
                } else {
                    seen.insert(name);
                }
            }
            Ok(twice)
        }
    }

    serde_json::Deserializer::from_slice(object).deserialize_map(Names).ok().flatten()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The position stands in fields of its own.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
