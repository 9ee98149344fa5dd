//! What every file keeps to.

use std::fs;
use std::process::Command;

use crate::harness::tools::root;

fn tracked_files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_load_path_uses_no_general_client() {
    let manifest = fs::read_to_string(root().join("agent/Cargo.toml")).expect("the manifest can be read");
    let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    for client in ["reqwest", "hyper.", "hyper =", "hyper-util"] {
        assert!(!dependencies.contains(client), "the agent depends on {client}");
    }
}

#[test]
fn no_file_names_a_registry_or_a_home() {
    let forbidden = [
        concat!("registry.", "npmjs.org"),
        concat!("index.", "crates.io"),
        concat!("pypi", ".org"),
        concat!("/ro", "ot/"),
    ];
    for file in tracked_files().iter().filter(|file| !file.ends_with("Cargo.lock")) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for word in forbidden {
            assert!(!text.contains(word), "{file} contains {word}");
        }
    }
}

#[test]
fn every_crate_keeps_the_common_lints_and_edition() {
    for krate in ["proto", "common", "agent", "master", "cli", "tests/simulation", "tests/fleet"] {
        let manifest =
            fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("the manifest can be read");
        for line in ["edition.workspace = true", "[lints]\nworkspace = true"] {
            assert!(manifest.contains(line), "{krate}/Cargo.toml has no `{line}`");
        }
        let versions = manifest.lines().filter(|line| line.contains("version = \"")).count();
        assert_eq!(
            versions, 0,
            "{krate}/Cargo.toml states a version; versions stand once, in the workspace table"
        );
    }
}
