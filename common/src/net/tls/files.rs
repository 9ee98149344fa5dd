//! PEM files, looked at again and again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where certificates and keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// Certificates of the authorities that the other side's is to come from.
    pub ca: Option<PathBuf>,
    /// Our certificate, with those between it and the authority, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Why files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One does not hold what it should.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// They do not fit together.
    #[error("{}: {source}", path.display())]
    Together {
        /// The certificate's, or the authority's.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The library refuses what it was set up with.
    #[error(transparent)]
    Provider(rustls::Error),
}

/// What the files hold.
pub(super) struct Pem {
    authorities: Vec<CertificateDer<'static>>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Option<PrivateKeyDer<'static>>,
}

impl Pem {
    pub fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone())?;
        }
        Ok(roots)
    }
}

/// The bytes as they lie there, by which a change is known.
#[derive(PartialEq, Eq)]
struct Raw(Vec<(PathBuf, Vec<u8>)>);

impl PemFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let own = self.own.iter().flat_map(|(chain, key)| [chain.as_path(), key.as_path()]);
        self.ca.as_deref().into_iter().chain(own)
    }

    fn raw(&self) -> Result<Raw, TlsError> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok((path.to_owned(), bytes)),
            Err(source) => Err(TlsError::Read { path: path.to_owned(), source }),
        };
        self.paths().map(read).collect::<Result<_, _>>().map(Raw)
    }

    fn parse(&self, raw: &Raw) -> Result<Pem, TlsError> {
        let of = |path: &Path| raw.0.iter().find(|(at, _)| at == path).map_or(&[][..], |(_, bytes)| bytes);
        let authorities = self.ca.as_deref().map_or(Ok(Vec::new()), |path| certificates(path, of(path)))?;
        let Some((chain, key)) = &self.own else {
            return Ok(Pem { authorities, chain: Vec::new(), key: None });
        };
        let key = PrivateKeyDer::from_pem_slice(of(key)).map_err(|error| TlsError::Unfit {
            path: key.clone(),
            why: format!("it has no private key: {error}"),
        })?;
        Ok(Pem { authorities, chain: certificates(chain, of(chain))?, key: Some(key) })
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unfit = |why: String| TlsError::Unfit { path: path.to_owned(), why };
    let all: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(format!("it has no certificate: {error}")))?;
    if all.is_empty() { Err(unfit("it has no certificate".to_owned())) } else { Ok(all) }
}

/// What `make` gives for the files now, and again whenever they change. The task ends with the last receiver.
pub(super) fn keep<T: Send + Sync + 'static>(
    files: PemFiles,
    make: impl Fn(Pem) -> Result<T, rustls::Error> + Send + Sync + 'static,
) -> Result<watch::Receiver<Arc<T>>, TlsError> {
    let named = files.paths().next().map(Path::to_owned).unwrap_or_default();
    let made = move |files: &PemFiles, raw: &Raw| {
        make(files.parse(raw)?).map_err(|source| TlsError::Together { path: named.clone(), source })
    };
    let mut held = files.raw()?;
    let (sender, receiver) = watch::channel(Arc::new(made(&files, &held)?));
    tokio::spawn(async move {
        let mut said = String::new();
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // A few small files; reading them takes less than handing them to another thread.
            let looked = files.raw().and_then(|raw| {
                if raw == held {
                    return Ok(None);
                }
                let new = made(&files, &raw)?;
                held = raw;
                Ok(Some(new))
            });
            match looked {
                Ok(None) => {}
                Ok(Some(new)) => {
                    said.clear();
                    sender.send_replace(Arc::new(new));
                    tracing::info!(files = ?files, "certificates have changed; new connections use them");
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::warn!(error, "changed certificates cannot be used; those from before stay");
                        said = error;
                    }
                }
            }
        }
    });
    Ok(receiver)
}
