//! Certificates towards etcd, as their files are when a connection is made: who renews them need not start anything again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use etcd_client::{Certificate, Identity, TlsOptions};

use super::{EtcdOptions, settings};
use crate::registry::RegistryError;

/// See the module.
pub(super) struct Certificates {
    ca: PathBuf,
    own: Option<(PathBuf, PathBuf)>,
    /// What was read last.
    held: Mutex<Pem>,
}

#[derive(Clone, PartialEq, Eq)]
struct Pem {
    ca: Vec<u8>,
    own: Option<(Vec<u8>, Vec<u8>)>,
}

impl Certificates {
    /// The settings' files, read.
    ///
    /// # Errors
    /// One cannot be read, or the settings lack one.
    pub async fn open(options: &EtcdOptions) -> Result<Self, RegistryError> {
        let Some(ca) = options.ca.clone() else {
            return Err(settings(
                "https endpoints of etcd need the authority of its certificate (a PEM file)",
            ));
        };
        let own = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(settings("the certificate for etcd and its key go together")),
        };
        let held = Mutex::new(Pem::read(&ca, own.as_ref()).await?);
        Ok(Self { ca, own, held })
    }

    /// What is in the files now; where one cannot be read, as while they are replaced, what was in them last.
    pub async fn now(&self) -> TlsOptions {
        match Pem::read(&self.ca, self.own.as_ref()).await {
            Ok(pem) => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                if *held != pem {
                    tracing::info!("the certificates for etcd have changed; new connections use them");
                    *held = pem;
                }
            }
            Err(error) => tracing::warn!(%error, "the certificates for etcd are those that were read last"),
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).options()
    }
}

impl Pem {
    async fn read(ca: &Path, own: Option<&(PathBuf, PathBuf)>) -> Result<Self, RegistryError> {
        let own = match own {
            Some((cert, key)) => Some((read(cert).await?, read(key).await?)),
            None => None,
        };
        Ok(Self { ca: read(ca).await?, own })
    }

    fn options(&self) -> TlsOptions {
        let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.ca));
        match &self.own {
            Some((cert, key)) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    tokio::fs::read(path).await.map_err(|error| settings(&format!("{}: {error}", path.display())))
}
