//! A real single-node Kubernetes in a network namespace of its own, by the kit that `VOLCANION_K8S` names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::namespace::Namespace;
use super::process::{Output, run, run_within};
use super::tools::{helm, root};

/// How long the cluster, or a chart, may take to come up on a busy machine.
const UP_LIMIT: Duration = Duration::from_secs(300);
/// The machine as pods see it.
pub const MACHINE: [u8; 4] = [10, 88, 0, 1];

/// A running cluster; stopped when it is dropped.
pub struct Kubernetes {
    kit: PathBuf,
    pub folder: TempDir,
    pub namespace: Namespace,
}

impl Kubernetes {
    /// Starts one; nothing, and why, where this machine cannot.
    pub async fn start() -> Result<Self, String> {
        let kit = std::env::var_os("VOLCANION_K8S")
            .filter(|kit| !kit.is_empty())
            .ok_or("VOLCANION_K8S names no kit")?;
        let kit = root().join(kit).join("cluster");
        let deps = run_within(UP_LIMIT, &kit.display().to_string(), &["deps"]).await;
        assert_eq!(deps.code, 0, "{}{}", deps.stdout, deps.stderr);
        let namespace = Namespace::make().await?;
        let cluster =
            Self { kit, folder: TempDir::new().expect("a temporary folder can be made"), namespace };
        let up = cluster.kit(&["up", &cluster.path()]).await;
        assert_eq!(up.code, 0, "{}{}", up.stdout, up.stderr);
        // A namespace has no default route, and an address without a route is never translated to a pod's.
        cluster.namespace.command("ip route replace 10.96.0.0/16 dev vcni0").await;
        Ok(cluster)
    }

    fn path(&self) -> String {
        self.folder.path().join("cluster").display().to_string()
    }

    async fn kit(&self, args: &[&str]) -> Output {
        let kit = self.kit.display().to_string();
        let (program, words) = self.namespace.inside(&kit, args);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run_within(UP_LIMIT, program, &words).await
    }

    /// Makes an image of the files that `deploy/image-root.sh` puts together for a program.
    pub async fn image(&self, name: &str, program: &Path, entrypoint: &str) {
        let image_root = self.folder.path().join(name.replace([':', '/'], "-")).display().to_string();
        let script = root().join("deploy/image-root.sh").display().to_string();
        let made = run(&script, &[&program.display().to_string(), &image_root]).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        let placed = format!("{image_root}/usr/bin/volcanion");
        if entrypoint != "/usr/bin/volcanion" {
            std::fs::rename(&placed, format!("{image_root}{entrypoint}")).expect("it is there");
        }
        let loaded = self.kit(&["image", &self.path(), name, &image_root, entrypoint]).await;
        assert_eq!(loaded.code, 0, "{}{}", loaded.stdout, loaded.stderr);
    }

    /// Runs a program of Kubernetes' in its namespace; any code.
    pub async fn try_tool(&self, tool: &str, args: &[&str]) -> Output {
        let config = format!("--kubeconfig={}/kubeconfig", self.path());
        let all = [args, &[config.as_str()]].concat();
        let (program, words) = self.namespace.inside(tool, &all);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run_within(UP_LIMIT, program, &words).await
    }

    /// `kubectl`; it must do what it is told.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_tool("kubectl", args).await;
        assert_eq!(output.code, 0, "kubectl {args:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// `kubectl … -o json`.
    pub async fn json(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[args, &["-o", "json"]].concat()).await;
        serde_json::from_str(&text).expect("kubectl writes JSON")
    }

    /// Makes what a manifest says.
    pub async fn apply(&self, name: &str, manifest: &Value) {
        let file = self.folder.path().join(format!("{name}.json"));
        std::fs::write(&file, manifest.to_string()).expect("the folder can be written to");
        self.kubectl(&["apply", "-f", &file.display().to_string()]).await;
    }

    /// `helm`; it must do what it is told.
    pub async fn helm(&self, args: &[&str]) -> String {
        let output = self.try_tool(&helm(), args).await;
        if output.code != 0 {
            let pods = self.try_tool("kubectl", &["get", "pods,events", "-o", "wide"]).await;
            let logs = self
                .try_tool(
                    "kubectl",
                    &["logs", "-l", "app.kubernetes.io/instance=vol", "--tail=20", "--prefix"],
                )
                .await;
            panic!("helm {args:?}: {}{}\n{}\n{}", output.stdout, output.stderr, pods.stdout, logs.stdout);
        }
        output.stdout
    }

    /// A port of our loopback that leads to an address in the cluster.
    pub async fn let_in_to(&mut self, address: &str) -> SocketAddr {
        let address = address.parse().expect("it is an address");
        self.namespace.let_in_to(address).await
    }
}

impl Drop for Kubernetes {
    /// Stops everything, however the test ended.
    fn drop(&mut self) {
        let kit = self.kit.display().to_string();
        let path = self.path();
        let (program, words) = self.namespace.inside(&kit, &["down", &path]);
        let down = std::process::Command::new(program).args(words).output();
        if !down.as_ref().is_ok_and(|down| down.status.success()) {
            eprintln!("the cluster was not stopped: {down:?}");
        }
    }
}
