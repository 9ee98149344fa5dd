//! The chart, the compose file and the image are accepted by their tools, use flags that there are, and hold what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::{run, run_within, volcanion};
use crate::harness::tools::{helm, python, root};

const CHART_CHECK: &str = "tests/chart/check.py";
/// Prints the documents of a YAML file as one JSON array.
const YAML_TO_JSON: &str =
    "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";

/// The documents of a YAML file.
async fn yaml(path: &Path) -> Vec<Value> {
    let read = run(&python(), &["-c", YAML_TO_JSON, &path.display().to_string()]).await;
    assert_eq!(read.code, 0, "{}: {}", path.display(), read.stderr);
    serde_json::from_str(&read.stdout).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What a container of ours is started with is known to the program: its command, its flags, its variables.
async fn check_words(words: &[&str], variables: &BTreeSet<String>) {
    let command = words[0];
    let help = volcanion(&[command, "--help"]).await;
    assert_eq!(help.code, 0, "{command} is no command");
    let known: BTreeSet<&str> = help
        .stdout
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .filter(|word| word.starts_with("--") || word.starts_with("VOLCANION_"))
        .collect();
    let flags = words.iter().filter(|word| word.starts_with("--"));
    for flag in flags.filter_map(|word| word.split('=').next()) {
        assert!(known.contains(flag), "{flag} is no flag of `{command}`");
    }
    for variable in variables.iter().filter(|name| name.starts_with("VOLCANION_")) {
        assert!(
            known.contains(variable.as_str()) || variable == "VOLCANION_LOG",
            "`{command}` does not know {variable}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_what_it_says_of_itself_whatever_is_chosen() {
    let script = root().join(CHART_CHECK).display().to_string();
    // Helm is started some 250 times.
    let checked = run_within(Duration::from_secs(600), &python(), &[&script, &helm()]).await;
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.lines().count() > 300, "{}", checked.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_starts_the_program_with_flags_that_there_are() {
    let folder = TempDir::new().unwrap();
    let script = root().join(CHART_CHECK).display().to_string();
    let rendered = run(&python(), &[&script, &helm(), "--render"]).await;
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    let path = folder.path().join("all.yaml");
    fs::write(&path, rendered.stdout).unwrap();
    let mut started = BTreeSet::new();
    for document in yaml(&path).await.iter().filter(|document| document["spec"].is_object()) {
        let spec = &document["spec"]["template"]["spec"];
        let spec = if spec.is_object() { spec } else { &document["spec"] };
        for container in spec["containers"].as_array().into_iter().flatten() {
            // etcd's own flags are not ours.
            if container["command"].is_array() {
                continue;
            }
            let variables = container["env"].as_array().into_iter().flatten();
            let variables =
                variables.filter_map(|variable| variable["name"].as_str()).map(str::to_owned).collect();
            let words = strings(&container["args"]);
            check_words(&words, &variables).await;
            started.insert(words[0].to_owned());
        }
    }
    assert_eq!(started, ["agent", "health", "master"].map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_file_is_whole_and_starts_the_program_with_flags_that_there_are() {
    let deploy = root().join("deploy");
    let compose = yaml(&deploy.join("compose.yaml")).await.remove(0);
    let services: BTreeMap<&str, &Value> =
        compose["services"].as_object().unwrap().iter().map(|(name, service)| (&**name, service)).collect();
    let names: Vec<&str> = services.keys().copied().collect();
    let expected = [
        "agent-1",
        "agent-2",
        "etcd",
        "grafana",
        "master-1",
        "master-2",
        "otel-collector",
        "postgres",
        "prometheus",
        "target",
    ];
    assert_eq!(names, expected);

    let made = compose_secrets().await;
    for (name, service) in &services {
        let mut variables: BTreeSet<String> =
            service["environment"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for file in strings(&service["env_file"]) {
            let text = &made[file.strip_prefix("secrets/").unwrap()];
            variables.extend(
                text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()),
            );
        }
        if service["image"] == "volcanion" {
            check_words(&strings(&service["command"]), &variables).await;
            let asked = strings(&service["healthcheck"]["test"]);
            assert_eq!(asked[..3], ["CMD", "/usr/bin/volcanion", "health"], "{name}");
        }
        for secret in strings(&service["secrets"]) {
            let file = compose["secrets"][secret]["file"].as_str().unwrap();
            assert!(
                made.contains_key(file.strip_prefix("./secrets/").unwrap()),
                "{name}: {file} is not made"
            );
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let checked = !services[&**other]["healthcheck"].is_null();
            assert!(checked || how["condition"] != "service_healthy", "{name} waits for {other} for ever");
        }
        for volume in strings(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            let there = match from.strip_prefix("./") {
                Some(path) => deploy.join(path).exists(),
                None => compose["volumes"].as_object().unwrap().contains_key(from),
            };
            assert!(there, "{name}: {volume} is not there");
        }
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is published to everybody: {port}");
        }
    }

    // What the other services are told of names services that there are.
    let scraped = yaml(&deploy.join("prometheus/prometheus.yaml")).await.remove(0);
    for job in scraped["scrape_configs"].as_array().unwrap() {
        for target in strings(&job["static_configs"][0]["targets"]) {
            assert!(services.contains_key(target.split(':').next().unwrap()), "{target}");
        }
    }
    let source = yaml(&deploy.join("grafana/provisioning/datasources/prometheus.yaml")).await.remove(0);
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let boards = yaml(&deploy.join("grafana/provisioning/dashboards/volcanion.yaml")).await.remove(0);
    let path = boards["providers"][0]["options"]["path"].as_str().unwrap();
    for entry in fs::read_dir(deploy.join("grafana")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = entry.to_str().unwrap();
        let mounted = strings(&services["grafana"]["volumes"]);
        let there = mounted.iter().any(|volume| volume.starts_with(&format!("./grafana/{name}:")));
        assert!(there, "{name} is not mounted");
        let is_board = name.ends_with(".json");
        assert!(
            !is_board || mounted.iter().any(|volume| volume.contains(&format!(":{path}/{name}"))),
            "{name}"
        );
    }
    let collector = yaml(&deploy.join("otel/collector.yaml")).await.remove(0);
    let listens = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str().unwrap();
    let sent_to = services["agent-1"]["environment"]["VOLCANION_OTLP_ENDPOINT"].as_str().unwrap();
    assert_eq!(sent_to, format!("http://otel-collector:{}", listens.rsplit(':').next().unwrap()));
}

/// What `compose-secrets.sh` makes, by its name; a second time it changes nothing.
async fn compose_secrets() -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    let script = folder.path().join("compose-secrets.sh");
    fs::copy(root().join("deploy/compose-secrets.sh"), &script).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let made = run("sh", &[&script.display().to_string()]).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        let files = fs::read_dir(folder.path().join("secrets")).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        });
        seen.push(files.collect::<BTreeMap<_, _>>());
    }
    assert_eq!(seen[0], seen[1]);
    for key in ["cluster-key", "admin-key", "postgres-password"] {
        assert_eq!(seen[0][key].len(), 64, "{key}");
    }
    assert!(seen[0]["store.env"].contains(&seen[0]["postgres-password"]));
    seen.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_holds_the_program_and_what_it_needs_and_is_the_same_each_time() {
    let folder = TempDir::new().unwrap();
    let script = root().join("deploy/image-root.sh").display().to_string();
    let mut archives = Vec::new();
    for name in ["one", "two"] {
        let at = folder.path().join(name).display().to_string();
        let made =
            run("env", &["SOURCE_DATE_EPOCH=1700000000", &script, env!("CARGO_BIN_EXE_volcanion"), &at])
                .await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        let archive = folder.path().join(format!("{name}.tar"));
        let packed =
            run("tar", &["--sort=name", "-C", &at, "-cf", &archive.display().to_string(), "."]).await;
        assert_eq!(packed.code, 0, "{}", packed.stderr);
        archives.push(archive);
    }
    let same = run("cmp", &[&archives[0].display().to_string(), &archives[1].display().to_string()]).await;
    assert_eq!(same.code, 0, "{}", same.stdout);

    let listed = run("tar", &["-tf", &archives[0].display().to_string()]).await.stdout;
    let files: Vec<&str> = listed.lines().filter(|line| !line.ends_with('/')).collect();
    for file in ["./usr/bin/volcanion", "./etc/passwd", "./etc/group", "./etc/nsswitch.conf"] {
        assert!(files.contains(&file), "{file} in {listed}");
    }
    let others = files.iter().filter(|file| {
        let is_library = file.contains("/lib/") || file.contains("/lib64/");
        !is_library && !file.starts_with("./etc/") && **file != "./usr/bin/volcanion"
    });
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dockerfile_ends_in_an_image_of_the_program_alone() {
    let text = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap().replace("\\\n", " ");
    let last = text.split("\nFROM ").last().unwrap();
    assert!(last.starts_with("scratch\n"), "{last}");
    for line in ["COPY --from=build /image-root /", "USER 65532:65532", "ENTRYPOINT [\"/usr/bin/volcanion\"]"]
    {
        assert!(last.lines().any(|found| found == line), "{line} in {last}");
    }
    for label in ["created", "licenses", "revision", "source", "url", "version"] {
        assert!(last.contains(&format!("org.opencontainers.image.{label}=")), "{label} in {last}");
    }
    let (_, asked) = last.split_once("HEALTHCHECK").expect("health is asked");
    let (_, words) = asked.lines().next().unwrap().split_once("CMD ").expect("by a command");
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    assert_eq!(words[0], "/usr/bin/volcanion");
    let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    check_words(&words, &BTreeSet::new()).await;
    let rust = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let version = text.split("ARG RUST_VERSION=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    assert!(rust.contains(&format!("\"{version}\"")), "another Rust than {version}");
}
