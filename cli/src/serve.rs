//! `volcanion master` and `volcanion agent`: flags to settings, then the libraries until a signal.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use volcanion_common::ids::AgentId;
use volcanion_common::net::allow::AllowList;
use volcanion_common::net::public::Public;
use volcanion_common::net::tls::{self, ClientTls, PemFiles, ServerTls, TlsError};
use volcanion_common::registry::Registry;
use volcanion_common::registry::etcd::{EtcdOptions, EtcdRegistry};
use volcanion_common::session::seal::ClusterKey;
use volcanion_common::telemetry::log;

use volcanion_master::access::AdminKey;
use volcanion_master::access::OidcSettings;
use volcanion_master::expose::remote_write::RemoteWriteSettings;
use volcanion_master::run::caps::Caps;

use crate::args::{AgentArgs, EtcdArgs, KeyArgs, MasterArgs, PublicWord, TargetArgs, TargetsArgs};
use crate::exit::{Exit, Failure};
use crate::target::Target;

/// Serves as a master until SIGTERM or SIGINT.
pub async fn master(args: &MasterArgs) -> Result<Exit, Failure> {
    let stop = stop_on_signals()?;
    let config = volcanion_master::Config {
        listen: Some(args.listen),
        advertise: args.advertise_url.clone(),
        store: args.store.parse().map_err(Failure::wrong)?,
        keep: volcanion_master::store::Keep { runs: args.keep_runs, age: args.keep_for },
        cluster_key: cluster_key(&args.key)?.unwrap_or_else(ClusterKey::open),
        cluster_tls: cluster_files(&args.key)
            .map(ClientTls::for_agents)
            .transpose()
            .map_err(cluster_tls_wrong)?,
        oidc: oidc(args),
        rest_tls: rest_tls(args)?,
        leaders_tls: leaders_tls(args)?,
        rate_limit: args.rate_limit.0,
        origins: args.cors_origins.clone(),
        keep_audit: args.keep_audit,
        remote_write: args
            .remote_write
            .clone()
            .map(|url| RemoteWriteSettings { url, bearer_file: args.remote_write_bearer_file.clone() }),
        caps: Caps {
            rate: args.max_rate,
            vus: args.max_vus,
            duration: args.max_duration,
            targets: allow_list(&args.targets),
        },
        admin_key: admin_key(args)?,
        public: public(&args.public)?,
        allow_unauthenticated: args.key.allow_unauthenticated,
        orphan_timeout: args.orphan_timeout.duration(),
        collector: args.otlp.collector().map_err(Failure::wrong)?,
        trace_sample: args.trace_sample,
        stop_runs_on_exit: false,
    };
    let registry = registry(&args.etcd).await?;
    let master = volcanion_master::start(config, registry, stop).await.map_err(Failure::could_not_run)?;
    master.stopped().await;
    Ok(Exit::Done)
}

/// Serves as an agent until SIGTERM or SIGINT.
pub async fn agent(args: &AgentArgs) -> Result<Exit, Failure> {
    let stop = stop_on_signals()?;
    let id = AgentId(args.id.clone().map_or_else(host_name, Ok)?);
    log::always("agent_id", &id.0);
    let key = cluster_key(&args.key)?;
    let tls = cluster_files(&args.key).map(ServerTls::for_masters).transpose().map_err(cluster_tls_wrong)?;
    let has_credentials = key.is_some() || tls.is_some();
    let defaults = volcanion_agent::Config::new(id, key.unwrap_or_else(ClusterKey::open));
    let config = volcanion_agent::Config {
        listen: args.listen,
        metrics_listen: Some(args.metrics_listen),
        public: public(&args.public)?,
        advertise: args.advertise.clone(),
        labels: labels(&args.labels)?,
        cores: args.cores.unwrap_or(defaults.cores),
        capacity: args.capacity.unwrap_or_default(),
        has_credentials,
        tls,
        targets: allow_list(&args.targets),
        allow_unauthenticated: args.key.allow_unauthenticated,
        orphan_timeout: args.orphan_timeout,
        files: args.files.clone(),
        secrets: args.secrets.sources(),
        collector: args.otlp.collector().map_err(Failure::wrong)?,
        remote_debug: args.remote_debug,
        pin: args.pacing.pin,
        busy_poll: args.pacing.busy_poll,
        quantum: args.pacing.quantum.unwrap_or(defaults.quantum),
        ..defaults
    };
    let registry = registry(&args.etcd).await?;
    let agent = volcanion_agent::start(config, registry, stop).await.map_err(Failure::could_not_run)?;
    agent.stopped().await.map_err(Failure::could_not_run)?;
    Ok(Exit::Done)
}

/// Serves as a target until SIGTERM or SIGINT.
pub async fn target(args: &TargetArgs) -> Result<Exit, Failure> {
    let stop = stop_on_signals()?;
    let target = Target::start(args, stop)
        .await
        .map_err(|error| Failure::could_not_run(format!("--listen {}: {error}", args.listen)))?;
    eprintln!(
        "target listens on http://{}/ and counts at http://{}/__stats",
        target.address(),
        target.address()
    );
    target.stopped().await.map_err(Failure::could_not_run)?;
    Ok(Exit::Done)
}

/// A token that the first SIGTERM or SIGINT cancels; the second ends the process at once.
fn stop_on_signals() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::could_not_run)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::could_not_run)?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        for is_first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_first {
                cancel.cancel();
            }
        }
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(stop)
}

async fn registry(args: &EtcdArgs) -> Result<Arc<dyn Registry>, Failure> {
    let options = EtcdOptions {
        endpoints: args.etcd.clone(),
        prefix: args.prefix.clone(),
        ca: args.etcd_ca.clone(),
        cert: args.etcd_cert.clone(),
        key: args.etcd_key.clone(),
        user: args.etcd_user.clone(),
        password: args.etcd_password.clone(),
    };
    Ok(Arc::new(EtcdRegistry::connect(options).await.map_err(Failure::could_not_run)?))
}

/// The key of the file, where one was given.
fn cluster_key(args: &KeyArgs) -> Result<Option<ClusterKey>, Failure> {
    let Some(path) = &args.cluster_key_file else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::wrong(format!("--cluster-key-file {}: {error}", path.display())))?;
    ClusterKey::new(&text)
        .map(Some)
        .map_err(|error| Failure::wrong(format!("--cluster-key-file {}: {error}", path.display())))
}

fn oidc(args: &MasterArgs) -> Option<OidcSettings> {
    Some(OidcSettings {
        issuer: args.oidc_issuer.clone()?,
        audience: args.oidc_audience.clone()?,
        role_claim: args.oidc_role_claim.clone(),
        roles: args.oidc_roles.clone(),
    })
}

fn rest_tls(args: &MasterArgs) -> Result<Option<ServerTls>, Failure> {
    let Some(own) = args.tls_cert.clone().zip(args.tls_key.clone()) else { return Ok(None) };
    let files = PemFiles { ca: None, own: Some(own) };
    ServerTls::open(files)
        .map(Some)
        .map_err(|error| Failure::wrong(format!("--tls-cert, --tls-key: {error}")))
}

fn leaders_tls(args: &MasterArgs) -> Result<Option<Arc<rustls::ClientConfig>>, Failure> {
    let Some(ca) = args.tls_ca.clone() else { return Ok(None) };
    let config = tls::leaders_config(ca).map_err(|error| Failure::wrong(format!("--tls-ca: {error}")))?;
    Ok(Some(Arc::new(config)))
}

/// Where the cluster's certificates lie, where they were given.
fn cluster_files(args: &KeyArgs) -> Option<PemFiles> {
    let (ca, cert, key) =
        (args.cluster_ca.clone()?, args.cluster_cert.clone()?, args.cluster_cert_key.clone()?);
    Some(PemFiles { ca: Some(ca), own: Some((cert, key)) })
}

fn cluster_tls_wrong(error: TlsError) -> Failure {
    Failure::wrong(format!("--cluster-ca, --cluster-cert, --cluster-cert-key: {error}"))
}

fn public(words: &[PublicWord]) -> Result<Public, Failure> {
    if words.contains(&PublicWord::None) && words.iter().any(|word| *word != PublicWord::None) {
        return Err(Failure::wrong("--public: `none` stands alone; leave it out to open what else is named"));
    }
    Ok(Public { health: words.contains(&PublicWord::Health), metrics: words.contains(&PublicWord::Metrics) })
}

/// The list, where there is one.
fn allow_list(args: &TargetsArgs) -> Option<AllowList> {
    Some(AllowList(args.allow_targets.clone())).filter(|list| !list.0.is_empty())
}

/// The first admin's key, where one was given.
fn admin_key(args: &MasterArgs) -> Result<Option<AdminKey>, Failure> {
    let Some(path) = &args.admin_key_file else { return Ok(None) };
    let wrong = |error: String| Failure::wrong(format!("--admin-key-file {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    AdminKey::new(&text).map(Some).map_err(|error| wrong(error.to_string()))
}

fn labels(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(Failure::wrong(format!("--label: `{word}` is no label; write it as zone=a"))),
        })
        .collect()
}

fn host_name() -> Result<String, Failure> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => Err(Failure::wrong("this machine has no host name; give the agent an --id")),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_public_only_by_itself() {
        use PublicWord::{Health, Metrics, None};
        assert_eq!(public(&[None]).unwrap(), Public { health: false, metrics: false });
        assert_eq!(public(&[Health, Metrics]).unwrap(), Public::ALL);
        assert!(public(&[Health, None]).is_err());
    }
}
