//! No stage imports a later one: the `use` lines say so.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::tools::root;

/// The stages of each crate in the order of the data's way. Places that join stages are not in the list: they may import all.
const STAGES: [(&str, &[&str]); 3] = [
    ("common", &["plan", "validate", "shard", "series", "delta", "session", "view"]),
    ("agent", &["prepare", "schedule", "send", "record", "delta", "engine", "session", "expose"]),
    ("master", &["fleet", "session", "merge", "evaluate", "store", "run", "access", "expose"]),
];

/// Files that join stages, and so know later ones: wiring, and the reading of a document into a plan that is checked.
const JOINING: [&str; 5] = ["lib.rs", "driver.rs", "take_over.rs", "table.rs", "document.rs"];

/// Imports against the order that have a reason.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The stages of its own crate that a text imports.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut found = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (start, _) in line.match_indices("crate::") {
            let rest = &line[start + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(group.split(',').map(|part| first_word(part.trim())));
            } else {
                found.push(first_word(rest));
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn violations(krate: &str, stages: &[&str], source: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (position, stage) in stages.iter().enumerate() {
        let folder = source.join(stage);
        assert!(folder.is_dir(), "{krate} has no stage `{stage}`; is the list of stages still right?");
        for file in rust_files(&folder) {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if JOINING.contains(&name)
                || ["tests.rs", "contract.rs"].contains(&name)
                || file.components().any(|part| part.as_os_str() == "tests")
            {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a source file can be read");
            for import in imports(&text) {
                let is_later =
                    stages.iter().position(|stage| *stage == import).is_some_and(|other| other > position);
                if is_later && !EXCEPTIONS.contains(&(krate, stage, import.as_str())) {
                    found.push(format!("{krate}/{stage}/{name} imports `{import}`, a later stage"));
                }
            }
        }
    }
    found
}

#[test]
fn no_stage_imports_a_later_one() {
    let found: Vec<String> = STAGES
        .iter()
        .flat_map(|(krate, stages)| violations(krate, stages, &root().join(krate).join("src")))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn crates_depend_one_way() {
    let check = |krate: &str, forbidden: &[&str]| {
        let manifest =
            fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("the manifest can be read");
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for other in forbidden {
            assert!(
                !dependencies.contains(&format!("volcanion-{other}.")),
                "{krate} must not depend on {other}"
            );
        }
    };
    check("proto", &["common", "agent", "master"]);
    check("common", &["agent", "master"]);
    check("agent", &["master"]);
    check("master", &["agent"]);
}

#[test]
fn an_import_of_a_later_stage_is_seen() {
    assert_eq!(imports("use crate::merge::Interval;\nuse crate::{plan, run::x};"), ["merge", "plan", "run"]);
    assert_eq!(imports("// crate::run\n#[cfg(test)]\nuse crate::run;"), Vec::<String>::new());
}
