//! The README says what is there: its commands exist, its flags are flags, its plans and those of the plan's reference are valid.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::volcanion;
use crate::harness::tools::root;

/// Lines of the README's shell blocks, without prompts and comments.
fn commands() -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    joined
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[tokio::test]
async fn every_command_and_flag_in_the_readme_is_there() {
    let mut checked = 0;
    for line in commands() {
        let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('\'')).collect();
        let Some(position) = words.iter().position(|word| word.ends_with("volcanion")) else { continue };
        let Some(command) = words.get(position + 1) else { continue };
        let help = volcanion(&[command, "--help"]).await;
        assert_eq!(help.code, 0, "`{command}` of `{line}`");
        for flag in words[position + 2..].iter().filter(|word| word.starts_with('-') && word.len() > 1) {
            let flag = flag.split('=').next().unwrap_or(flag);
            assert!(help.stdout.contains(flag), "`{flag}` of `{line}`");
        }
        checked += 1;
    }
    assert!(checked >= 8, "the README shows the commands; {checked} were found");
}

#[test]
fn the_makefile_has_the_targets_that_the_readme_names() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    for line in commands().iter().filter(|line| line.starts_with("make ")) {
        let target = line.split_whitespace().nth(1).expect("make has a target");
        assert!(makefile.contains(&format!("\n{target}:")), "{target}");
    }
}

#[tokio::test]
async fn every_plan_in_the_documents_is_valid() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    for (name, least) in [("README.md", 1), ("docs/plan.md", 8)] {
        let text = fs::read_to_string(root().join(name)).expect("it is there");
        let plans: Vec<&str> =
            text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(plans.len() >= least, "{name} shows {} plans", plans.len());
        for (index, plan) in plans.iter().enumerate() {
            let path = folder.path().join(format!("{index}.yaml"));
            fs::write(&path, plan).expect("a file can be written");
            let output = volcanion(&["validate", &path.display().to_string()]).await;
            assert_eq!(output.code, 0, "plan {} of {name}: {}\n{plan}", index + 1, output.stderr);
        }
    }
}

/// Names of fields that the schema gives, each object's under what the reference writes before them.
#[test]
fn every_field_of_the_schema_is_in_the_reference() {
    let schema =
        fs::read_to_string(root().join("common/src/plan/plan.schema.json")).expect("there is a schema");
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    let reference = fs::read_to_string(root().join("docs/plan.md")).expect("there is a reference");
    let mut checked = 0;
    for (object, before) in [
        ("", ""),
        ("/$defs/http", "http."),
        ("/$defs/dns", "http.dns."),
        ("/$defs/tls", "http.tls."),
        ("/$defs/agents", "agents."),
        ("/$defs/scenario", ""),
        ("/$defs/step", ""),
        ("/$defs/threshold", ""),
    ] {
        let fields = schema.pointer(&format!("{object}/properties")).and_then(Value::as_object);
        for field in fields.unwrap_or_else(|| panic!("the schema has {object}")).keys() {
            let is_there = ['`', ':'].iter().any(|end| reference.contains(&format!("`{before}{field}{end}")));
            assert!(is_there, "docs/plan.md names no `{before}{field}`");
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked} fields were looked for");
}

#[test]
fn linked_files_and_their_headings_are_there() {
    let docs = fs::read_dir(root().join("docs"))
        .expect("there are docs")
        .map(|entry| entry.expect("it is read").path());
    let others =
        ["README.md", "ARCHITECTURE.md", "deploy/kubernetes/README.md"].map(|name| root().join(name));
    let pages: Vec<PathBuf> = docs.chain(others).collect();
    assert!(pages.len() >= 9, "{pages:?}");
    for path in pages {
        let text = fs::read_to_string(&path).expect("it is there");
        let folder = path.parent().expect("a file is in a folder");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) =
                link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let linked = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(linked.exists(), "{} links to {link}", path.display());
            if let Some(heading) = heading {
                let there = headings(&fs::read_to_string(&linked).expect("it is a text"));
                assert!(there.iter().any(|known| known == heading), "{} links to {link}", path.display());
            }
        }
    }
}

/// How links name the headings of a page: in lower case, without marks, with hyphens for spaces.
fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}
