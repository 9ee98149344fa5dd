//! The flags that master and agents have in common: where etcd is, and what they share.

use std::path::PathBuf;

use clap::Args;
use volcanion_common::net::allow::AllowRule;
use volcanion_common::telemetry::trace::Collector;

/// The variable by which OpenTelemetry's own programs are told of a collector.
const OTEL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// And the one of the authorities that a collector's certificate is to come from.
const OTEL_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// Where etcd is and how it is spoken to.
#[derive(Clone, Debug, Args)]
pub struct EtcdArgs {
    /// etcd endpoints: URL[,URL]
    #[arg(long, env = "VOLCANION_ETCD", value_name = "URL", value_delimiter = ',', required = true)]
    pub etcd: Vec<String>,
    /// Where in etcd the cluster lives
    #[arg(long, env = "VOLCANION_PREFIX", default_value = "/volcanion")]
    pub prefix: String,
    /// Authority of etcd's certificate (PEM)
    #[arg(long, env = "VOLCANION_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, env = "VOLCANION_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, env = "VOLCANION_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// User of etcd
    #[arg(long, env = "VOLCANION_ETCD_USER", requires = "etcd_password")]
    pub etcd_user: Option<String>,
    /// Password of etcd's user
    #[arg(long, env = "VOLCANION_ETCD_PASSWORD", hide_env_values = true, requires = "etcd_user")]
    pub etcd_password: Option<String>,
}

/// By what master and agents know each other.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// File with the cluster's key, at least 16 bytes; shards are sealed with it
    #[arg(long, env = "VOLCANION_CLUSTER_KEY_FILE", value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Authority of the cluster's certificates (PEM): with it master and agents speak TLS and show each other certificates
    #[arg(long, env = "VOLCANION_CLUSTER_CA", value_name = "FILE", requires_all = ["cluster_cert", "cluster_cert_key"])]
    pub cluster_ca: Option<PathBuf>,
    /// This process's certificate (PEM), with the DNS name volcanion-master or volcanion-agent; read again when it changes
    #[arg(long, env = "VOLCANION_CLUSTER_CERT", value_name = "FILE", requires = "cluster_ca")]
    pub cluster_cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(long, env = "VOLCANION_CLUSTER_CERT_KEY", value_name = "FILE", requires = "cluster_ca")]
    pub cluster_cert_key: Option<PathBuf>,
    /// Listen beyond loopback without credentials: whoever reaches the port can start a load
    #[arg(long, env = "VOLCANION_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
}

/// Where spans go.
#[derive(Clone, Debug, Default, Args)]
pub struct OtlpArgs {
    /// Send spans to this OTLP collector over gRPC, as in http://otel-collector:4317 [default: OTEL_EXPORTER_OTLP_ENDPOINT, else none]
    #[arg(long, env = "VOLCANION_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Collector>,
    /// Authorities that a collector's certificate is to come from (PEM) [default: OTEL_EXPORTER_OTLP_CERTIFICATE, else the public ones]
    #[arg(long, env = "VOLCANION_OTLP_CA", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
}

impl OtlpArgs {
    /// The collector that was given, or the one that OpenTelemetry's own variables name.
    ///
    /// # Errors
    /// What they name is of no use.
    pub fn collector(&self) -> Result<Option<Collector>, String> {
        self.collector_beside(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn collector_beside(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Collector>, String> {
        let collector = match (&self.otlp_endpoint, variable(OTEL_ENDPOINT)) {
            (Some(collector), _) => collector.clone(),
            (None, Some(url)) => url.parse().map_err(|error| format!("{OTEL_ENDPOINT}: {error}"))?,
            (None, None) if self.otlp_ca.is_some() => {
                return Err("--otlp-ca: there is no collector; name it by --otlp-endpoint".to_owned());
            }
            (None, None) => return Ok(None),
        };
        // A variable that holds for all programs of a machine says nothing of a collector without TLS.
        let of_all = variable(OTEL_CERTIFICATE).filter(|_| collector.has_tls()).map(PathBuf::from);
        let (named_by, file) = match (&self.otlp_ca, of_all) {
            (Some(file), _) => ("--otlp-ca", file.clone()),
            (None, Some(file)) => (OTEL_CERTIFICATE, file),
            (None, None) => return Ok(Some(collector)),
        };
        let wrong = |error: &dyn std::fmt::Display| format!("{named_by}: {}: {error}", file.display());
        let authorities = std::fs::read(&file).map_err(|error| wrong(&error))?;
        collector.trusting(&authorities).map(Some).map_err(|error| wrong(&error))
    }
}

/// What may be loaded.
#[derive(Clone, Debug, Args)]
pub struct TargetsArgs {
    /// Load only this: a host name, *.domain, an address or a network, each with :port or without; again and again [default: all but link-local and metadata addresses]
    #[arg(long = "allow-target", env = "VOLCANION_ALLOW_TARGET", value_name = "RULE", value_delimiter = ',')]
    pub allow_targets: Vec<AllowRule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_a_variable_and_a_variable_of_all_programs_is_no_reason_to_refuse() {
        let check = |flags: (Option<&str>, Option<&str>),
                     variables: (&str, &str),
                     expected: Result<Option<&str>, &str>| {
            let args = OtlpArgs {
                otlp_endpoint: flags.0.map(|url| url.parse().unwrap()),
                otlp_ca: flags.1.map(PathBuf::from),
            };
            let variable = |name: &str| {
                let value = if name == OTEL_ENDPOINT { variables.0 } else { variables.1 };
                Some(value.to_owned()).filter(|value| !value.is_empty())
            };
            match (args.collector_beside(&variable), expected) {
                (Ok(collector), Ok(expected)) => {
                    assert_eq!(collector.map(|collector| collector.to_string()).as_deref(), expected);
                }
                (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        let (plain, other, secure) = ("http://a:4317/", "http://b:4317/", "https://c:4317/");
        check((None, None), ("", ""), Ok(None));
        check((None, None), ("", "/nowhere"), Ok(None));
        check((Some(plain), None), (other, ""), Ok(Some(plain)));
        check((None, None), (other, "/nowhere"), Ok(Some(other)));
        check((None, None), ("a:4317", ""), Err("OTEL_EXPORTER_OTLP_ENDPOINT: "));
        check((None, None), (secure, "/nowhere"), Err("OTEL_EXPORTER_OTLP_CERTIFICATE: /nowhere: "));
        check((Some(secure), Some("/nowhere")), ("", ""), Err("--otlp-ca: /nowhere: "));
        check((None, Some("/nowhere")), ("", ""), Err("--otlp-ca: there is no collector"));
    }
}
