//! Who asks, and what that one may do: keys, their roles, and the store's word on them.
//!
//! Takes the key that a client shows; gives a [`Caller`], or why there is none. Keys are random, so a plain hash (SHA-256) keeps them: nobody
//! tries 256 bits out. Invariants: no key is kept, logged or shown, but once to whoever made it; a revoked one is of no use here
//! at once, and on other masters within [`FRESH`]; while the store does not answer, keys that were good within [`STALE`] still are, and nobody
//! who shows one waits for it longer than [`STORE_WAIT`], so that a run can be stopped.

pub mod audit;
mod keys;
mod oidc;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use tokio_util::sync::CancellationToken;
use volcanion_common::view::Role;

pub use keys::{KEYS_MAX, NAME_CHARS_MAX, NewKey};
use oidc::Oidc;
pub use oidc::OidcSettings;

use crate::store::{Store, StoreError, StoredKey};

/// How long the store's word on a key is taken without asking again.
pub const FRESH: Duration = Duration::from_secs(1);
/// How long it is taken while the store does not answer.
pub const STALE: Duration = Duration::from_secs(300);
/// How long the store may take to speak of a key whose word is known already.
pub const STORE_WAIT: Duration = Duration::from_millis(300);
/// How exactly the last use of a key is kept.
const USE_EVERY: Duration = Duration::from_secs(60);
/// Keys whose word is remembered; past that all are forgotten, and asked for again.
const REMEMBERED_MAX: usize = 4_096;
/// The least length of the first admin's key.
pub const ADMIN_KEY_BYTES_MIN: usize = 16;
/// What a key of ours begins with: what does not is not asked for.
const PREFIX: &str = "vk_";

/// The key of the first admin, as its file has it. Never printed.
#[derive(Clone)]
pub struct AdminKey(String);

/// Why a text is no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminKeyError {
    /// It could be tried out.
    #[error(
        "an admin key of {0} bytes is too short; give at least 16, for instance what `openssl rand -hex 32` prints"
    )]
    TooShort(usize),
    /// It cannot stand in a header.
    #[error("an admin key is one line of visible ASCII characters")]
    NotText,
}

impl AdminKey {
    /// A key from its text, without the line end that files have.
    ///
    /// # Errors
    /// It is too short, or cannot be sent.
    pub fn new(text: &str) -> Result<Self, AdminKeyError> {
        let text = text.trim();
        if text.len() < ADMIN_KEY_BYTES_MIN {
            return Err(AdminKeyError::TooShort(text.len()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AdminKeyError::NotText);
        }
        Ok(Self(hash(text)))
    }
}

impl std::fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What tells it from others: the key's id, `admin`, `anybody`, or the issuer's name for it.
    pub id: String,
    /// The key's name; for people.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Why a key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// None was shown.
    #[error("no key was given; send `Authorization: Bearer KEY` or `X-API-Key: KEY`")]
    Missing,
    /// It is none of ours.
    #[error("this key is not known here; an admin makes one with `volcanion keys create`")]
    Unknown,
    /// It was revoked.
    #[error("this key was revoked; an admin makes another with `volcanion keys create`")]
    Revoked,
    /// Its time is over.
    #[error("this key has expired; an admin makes another with `volcanion keys create`")]
    Expired,
    /// The token is none of the issuer's, or of no use here.
    #[error("this token is not taken: {0}")]
    Token(String),
    /// The store does not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says who asks. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    store: Arc<dyn Store>,
    /// Absent: whoever reaches this master may do everything.
    admin: Option<AdminKey>,
    oidc: Option<Arc<Oidc>>,
    remembered: Arc<Mutex<HashMap<String, Remembered>>>,
}

struct Remembered {
    key: StoredKey,
    asked_at: Instant,
    used_at: Option<Instant>,
    /// Whether the store is being asked just now; it is asked once at a time.
    is_asked: bool,
}

impl Access {
    /// By keys of this store, and the first admin's; without that one everybody is let in.
    pub fn new(store: Arc<dyn Store>, admin: Option<AdminKey>) -> Self {
        Self { store, admin, oidc: None, remembered: Arc::default() }
    }

    /// The same, which also takes tokens of this issuer.
    pub fn with_oidc(self, oidc: Option<OidcSettings>) -> Self {
        Self { oidc: oidc.map(Oidc::new).map(Arc::new), ..self }
    }

    /// A trail of changes in the same store.
    pub fn trail(&self, stop: CancellationToken) -> audit::Audit {
        audit::Audit::new(Arc::clone(&self.store), stop)
    }

    /// Whether a key is judged without asking the store or an issuer.
    pub fn is_known(&self, shown: &str) -> bool {
        let Some(admin) = &self.admin else { return true };
        let hash = hash(shown);
        hash == admin.0
            || self.remembered(|all| all.contains_key(&hash))
            || self.oidc.as_ref().is_some_and(|oidc| Oidc::is_token(shown) && oidc.has_keys())
    }

    /// Whether keys are asked for at all.
    pub fn asks_for_keys(&self) -> bool {
        self.admin.is_some()
    }

    /// Who shows this key.
    ///
    /// # Errors
    /// It lets nobody in.
    pub async fn caller(&self, shown: Option<&str>) -> Result<Caller, Denied> {
        let Some(admin) = &self.admin else {
            return Ok(Caller { id: "anybody".to_owned(), name: "anybody".to_owned(), role: Role::Admin });
        };
        let shown = shown.ok_or(Denied::Missing)?;
        let hash = hash(shown);
        // Hashes are compared, so the time that it takes says nothing of the key.
        if hash == admin.0 {
            return Ok(Caller { id: "admin".to_owned(), name: "first admin".to_owned(), role: Role::Admin });
        }
        if let Some(oidc) = self.oidc.as_ref().filter(|_| Oidc::is_token(shown)) {
            return oidc.caller(shown).await;
        }
        if !shown.starts_with(PREFIX) {
            return Err(Denied::Unknown);
        }
        let key = self.key(&hash).await?.ok_or(Denied::Unknown)?;
        if key.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        if key.expires_at.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(Denied::Expired);
        }
        self.note_use(&key);
        Ok(Caller { id: key.id.to_string(), name: key.name, role: key.role })
    }

    async fn key(&self, hash: &str) -> Result<Option<StoredKey>, StoreError> {
        let (key, is_to_be_asked) = self.remembered(|all| {
            let Some(known) = all.get_mut(hash).filter(|known| known.asked_at.elapsed() < STALE) else {
                return (None, true);
            };
            let is_due = known.asked_at.elapsed() >= FRESH && !known.is_asked;
            known.is_asked |= is_due;
            (Some(known.key.clone()), is_due)
        });
        match key {
            None => self.ask(hash).await,
            Some(key) if is_to_be_asked => {
                let (access, hash) = (self.clone(), hash.to_owned());
                // It goes on where nobody waits any more, and remembers what it was told: so a store that hangs is asked once, not by every request.
                let asking = tokio::spawn(async move { access.ask(&hash).await });
                match tokio::time::timeout(STORE_WAIT, asking).await {
                    Ok(Ok(Ok(said))) => Ok(said),
                    _ => Ok(Some(key)),
                }
            }
            key => Ok(key),
        }
    }

    async fn ask(&self, hash: &str) -> Result<Option<StoredKey>, StoreError> {
        let said = self.store.key(hash).await;
        match &said {
            Ok(key) => self.remember(hash, key.clone()),
            Err(_) => self.remembered(|all| {
                if let Some(known) = all.get_mut(hash) {
                    known.is_asked = false;
                }
            }),
        }
        said
    }

    fn remember(&self, hash: &str, key: Option<StoredKey>) {
        self.remembered(|all| {
            let Some(key) = key else {
                all.remove(hash);
                return;
            };
            if all.len() >= REMEMBERED_MAX && !all.contains_key(hash) {
                all.clear();
            }
            let used_at = all.get(hash).and_then(|known| known.used_at);
            all.insert(
                hash.to_owned(),
                Remembered { key, asked_at: Instant::now(), used_at, is_asked: false },
            );
        });
    }

    /// Keeps the use of a key, now and then, beside what is asked.
    fn note_use(&self, key: &StoredKey) {
        let is_due = self.remembered(|all| {
            let Some(known) = all.get_mut(&key.hash) else { return false };
            let is_due = known.used_at.is_none_or(|used| used.elapsed() >= USE_EVERY);
            if is_due {
                known.used_at = Some(Instant::now());
            }
            is_due
        });
        if is_due {
            let (store, id) = (Arc::clone(&self.store), key.id);
            tokio::spawn(async move {
                if let Err(error) = store.use_key(id, crate::store::now()).await {
                    tracing::debug!(%error, "the use of a key was not noted");
                }
            });
        }
    }

    fn remembered<T>(&self, what: impl FnOnce(&mut HashMap<String, Remembered>) -> T) -> T {
        // Every change under the lock is whole.
        what(&mut self.remembered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// SHA-256 in hex.
fn hash(key: &str) -> String {
    hex(digest(&SHA256, key.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_key_is_long_enough_and_never_printed() {
        assert_eq!(AdminKey::new("short").unwrap_err(), AdminKeyError::TooShort(5));
        assert_eq!(AdminKey::new("sixteen letters and a space").unwrap_err(), AdminKeyError::NotText);
        let key = AdminKey::new("0123456789abcdef\n").unwrap();
        assert_eq!(format!("{key:?}"), "AdminKey(…)");
    }
}
