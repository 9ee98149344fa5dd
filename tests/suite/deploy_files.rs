//! The chart and the compose file are accepted by their tools and use flags that there are.

use std::fs;

use crate::harness::process::{run, volcanion};
use crate::harness::tools::{helm, python, root};

async fn helm_template(values: &[&str]) -> String {
    let chart = root().join("helm/volcanion").display().to_string();
    let output = run(&helm(), &[&["template", "vol", &chart], values].concat()).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_accepts_the_chart() {
    let chart = root().join("helm/volcanion").display().to_string();
    let lint = run(&helm(), &["lint", "--strict", &chart]).await;
    assert_eq!(lint.code, 0, "{}{}", lint.stdout, lint.stderr);
    let text = helm_template(&["--set", "fullnameOverride=vol", "--set", "agent.replicas=5"]).await;
    for part in [
        "kind: StatefulSet",
        "kind: Deployment",
        "name: vol-master",
        "name: vol-agent",
        "replicas: 5",
        "app.kubernetes.io/component: agent",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for part in [
        "name: vol-admin",
        "api-key:",
        "--admin-key-file=/etc/volcanion/admin/api-key",
        "--public=health,metrics",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let open = helm_template(&["--set", "fullnameOverride=vol", "--set", "auth.mode=off"]).await;
    assert!(open.contains("--allow-unauthenticated") && !open.contains("vol-admin"), "{open}");
    for wrong in ["auth.mode=open", "auth.public={metrics}"] {
        assert_ne!(run(&helm(), &["template", "vol", &chart, "--set", wrong]).await.code, 0, "{wrong}");
    }
    let wrong = run(&helm(), &["template", "vol", &chart, "--set", "agent.replicas=many"]).await;
    assert_ne!(wrong.code, 0, "a wrong value is refused");
}

/// Every `--flag` of a text that follows the given command is known to it.
async fn check_flags(text: &str, command: &str) {
    let help = volcanion(&[command, "--help"]).await.stdout;
    for flag in text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--") && word.len() > 3)
    {
        assert!(help.contains(flag), "{flag} is no flag of `{command}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_start_the_binary_with_flags_that_there_are() {
    let text = helm_template(&[]).await;
    for command in ["master", "agent"] {
        let args: String = text
            .split("args:")
            .skip(1)
            .filter(|part| part.trim_start().trim_start_matches("- ").starts_with(command))
            .filter_map(|part| part.split("env:").next())
            .collect();
        assert!(args.contains("--listen"), "{command} is started in\n{text}");
        check_flags(&args, command).await;
    }
    let compose = fs::read_to_string(root().join("deploy/compose.yaml")).expect("there is a compose file");
    for line in compose.lines().filter(|line| line.trim_start().starts_with("command:")) {
        let words = line.split_once('[').map_or("", |(_, rest)| rest);
        let command = words.split('"').nth(1).unwrap_or_default();
        if ["master", "agent", "target"].contains(&command) {
            check_flags(words, command).await;
        }
    }
    assert!(compose.matches("\"agent\"").count() >= 2, "two agents");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_what_it_says_of_itself_whatever_is_chosen() {
    let script = root().join("tests/chart/check.py").display().to_string();
    let checked = run(&python(), &[&script, &helm()]).await;
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.lines().count() > 100, "{}", checked.stdout);
}
