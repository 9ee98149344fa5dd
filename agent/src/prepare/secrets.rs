//! The agent's secrets: what a plan names by `{{ secret('name') }}` is looked up here, when a run is prepared, and nowhere else.
//!
//! Takes the plan's names, gives their values, or all that are missing. Invariant: a value reaches requests only. It is in no message, no log, no
//! debug text: an error names the secret, never what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use volcanion_common::plan::Plan;
use volcanion_common::plan::request::Body;
use volcanion_common::plan::template::Template;

use super::{PrepareError, folder};

/// Environment variables of agents that are secrets begin so.
pub const VARIABLE_PREFIX: &str = "VOLCANION_SECRET_";
/// The longest secret, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Where the agent finds secrets: a file of the name below a folder, else an environment variable.
#[derive(Clone, Debug, Default)]
pub struct SecretSources {
    folder: Option<PathBuf>,
    /// By what follows [`VARIABLE_PREFIX`].
    variables: BTreeMap<String, SecretText>,
}

impl SecretSources {
    /// With this folder, and those of these environment variables that are secrets.
    pub fn new(folder: Option<PathBuf>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = environment.into_iter().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(VARIABLE_PREFIX)?.to_owned();
            Some((name, SecretText(value.into_string().ok()?)))
        });
        Self { folder, variables: variables.collect() }
    }

    /// Looked at anew each time: files may be renewed between runs.
    fn find(&self, name: &str) -> Result<SecretText, String> {
        let way_out = || {
            let variable = variable(name);
            match &self.folder {
                Some(folder) => format!(
                    "put it on every agent as a file `{name}` in {}, or as the variable {variable}",
                    folder.display()
                ),
                None => format!(
                    "start every agent with --secrets DIR and a file `{name}` there, or with the variable {variable}"
                ),
            }
        };
        if let Some(folder) = self.folder.as_deref().filter(|folder| folder.join(name).exists()) {
            let bytes = folder::read(Some(folder), "secrets", name, SECRET_BYTES_MAX)
                .map_err(|error| error.message)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| format!("secret `{name}`: its file is no text; put UTF-8 there"))?;
            // Editors and `echo` end a file with a line end, which nobody means.
            let text =
                text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
            return not_empty(name, SecretText(text.to_owned()));
        }
        match self.variables.get(&variable(name)[VARIABLE_PREFIX.len()..]) {
            Some(value) if value.0.len() as u64 > SECRET_BYTES_MAX => {
                Err(format!("secret `{name}` has more than {SECRET_BYTES_MAX} bytes; give a shorter one"))
            }
            Some(value) => not_empty(name, value.clone()),
            None => Err(format!("secret `{name}` is not here; {}", way_out())),
        }
    }
}

fn not_empty(name: &str, value: SecretText) -> Result<SecretText, String> {
    if value.0.is_empty() { Err(format!("secret `{name}` is empty; give it a value")) } else { Ok(value) }
}

/// The environment variable of a secret: in upper case, with `_` for `-` and `.`.
fn variable(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if matches!(c, '-' | '.') { '_' } else { c.to_ascii_uppercase() }).collect();
    format!("{VARIABLE_PREFIX}{name}")
}

/// The secrets of one plan, by name.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<String, SecretText>);

impl Secrets {
    /// Finds every secret that the plan names.
    ///
    /// # Errors
    /// `secrets`: which are missing or cannot be used, all at once.
    pub fn of(plan: &Plan, sources: &SecretSources) -> Result<Self, PrepareError> {
        let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
        for name in names(plan) {
            match sources.find(name) {
                Ok(value) => drop(found.insert(name.to_owned(), value)),
                Err(message) => wrong.push(message),
            }
        }
        if wrong.is_empty() { Ok(Self(found)) } else { Err(PrepareError::new("secrets", wrong.join("; "))) }
    }

    /// The value of a secret that the plan names; nothing for any other.
    pub fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.0.as_str())
    }

    /// How long the template's secrets are together at most, once they are filled in.
    pub fn bytes(&self, template: &Template) -> usize {
        let bytes =
            |in_json: bool, value: &str| if in_json { value.len().saturating_mul(6) } else { value.len() };
        template
            .secrets()
            .map(|hole| bytes(hole.in_json, self.value(&hole.name)))
            .fold(0, usize::saturating_add)
    }
}

fn names(plan: &Plan) -> BTreeSet<&str> {
    let steps = plan.steps().map(|step| &step.step.request);
    let of_steps = steps.flat_map(|request| {
        let body = match &request.body {
            Some(Body::Text(body)) => Some(body),
            Some(Body::File(_)) | None => None,
        };
        request.headers.iter().map(|header| &header.value).chain(body).chain([&request.url])
    });
    let templates = plan.headers.iter().map(|header| &header.value).chain(of_steps);
    templates.flat_map(Template::secrets).map(|hole| hole.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_before_a_variable_and_neither_is_ever_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("db.key"), "from-file\r\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.path().join("long"), "x".repeat(SECRET_BYTES_MAX as usize + 1)).unwrap();
        let environment = [
            ("VOLCANION_SECRET_DB_KEY", "from-variable"),
            ("VOLCANION_SECRET_API_TOKEN", "t"),
            ("DB_KEY", "no"),
        ];
        let environment = environment.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let sources = SecretSources::new(Some(folder.path().to_owned()), environment.clone());
        assert_eq!(sources.find("db.key").unwrap().0, "from-file");
        assert_eq!(sources.find("api-token").unwrap().0, "t");
        assert_eq!(SecretSources::new(None, environment).find("db-key").unwrap().0, "from-variable");
        for (name, word) in [
            ("empty", "is empty"),
            ("binary", "UTF-8"),
            ("long", "more than"),
            ("missing", "VOLCANION_SECRET_MISSING"),
        ] {
            let error = sources.find(name).unwrap_err();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
        assert!(SecretSources::default().find("a").unwrap_err().contains("--secrets"));
        let shown = format!("{sources:?} {:?}", sources.find("db.key"));
        assert!(!shown.contains("from-"), "{shown}");
    }
}
