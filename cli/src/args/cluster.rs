//! The flags that master and agents have in common: where etcd is, and what they share.

use std::path::PathBuf;

use clap::Args;

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

/// The secret that master and agents share.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// File with the cluster's key, at least 16 bytes; shards are sealed with it
    #[arg(long, env = "VOLCANION_CLUSTER_KEY_FILE", value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Listen beyond loopback without credentials: whoever reaches the port can start a load
    #[arg(long, env = "VOLCANION_ALLOW_UNAUTHENTICATED")]
    pub allow_unauthenticated: bool,
}
