//! A plan's file: read, and the files that it names put in their places.

use std::path::Path;

use serde_json::Value;
use volcanion_common::plan::document::{self, Format, PlanDocument};
use volcanion_common::problem::Problems;

use crate::exit::Failure;

/// The document in a file, with everything that other machines need inside.
///
/// # Errors
/// The file cannot be read, is no document, or is no valid plan: all of its problems.
pub fn read(path: &Path) -> Result<PlanDocument, Failure> {
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("json") => Format::Json,
        _ => {
            return Err(Failure::wrong(format!(
                "{}: a plan's file ends in .yaml, .yml or .json",
                path.display()
            )));
        }
    };
    let bytes =
        std::fs::read(path).map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    document::read_with_files(&bytes, format, folder)
        .map_err(|problems| failure(&path.display().to_string(), &problems))
}

/// Takes a document that flags have written.
pub fn of_value(value: &Value) -> Result<PlanDocument, Failure> {
    document::from_json(value).map_err(|problems| failure("the flags", &problems))
}

fn failure(source: &str, problems: &Problems) -> Failure {
    match problems.0.as_slice() {
        [one] => Failure::wrong(format!("{source}: {one}")),
        many => {
            let lines: Vec<String> = many.iter().map(|problem| format!("  {problem}")).collect();
            Failure::wrong(format!("{source}: {} problems\n{}", many.len(), lines.join("\n")))
        }
    }
}
