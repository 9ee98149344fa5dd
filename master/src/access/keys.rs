//! Keys are made, listed and revoked.

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use volcanion_common::ids::KeyId;
use volcanion_common::problem::Problem;
use volcanion_common::units::Micros;
use volcanion_common::view::{KeyView, NewKeyView, Role};

use super::{Access, PREFIX, hash, hex};
use crate::run::table::MasterError;
use crate::store::{self, AuditFilter, AuditRecord, Page, StoredKey};

/// The most keys that there may be, revoked ones too.
pub const KEYS_MAX: u32 = 1_000;
/// The longest name.
pub const NAME_CHARS_MAX: usize = 100;

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Whose it is, or what for.
    pub name: String,
    /// What it lets do.
    pub role: Role,
    /// How long it is of use; absent: until it is revoked.
    pub expires_in: Option<Micros>,
}

impl Access {
    /// Makes a key; it is told this once.
    ///
    /// # Errors
    /// Keys are not asked for here, there are too many, or the store does not work.
    pub async fn create(&self, new: NewKey) -> Result<NewKeyView, MasterError> {
        if !self.asks_for_keys() {
            return Err(MasterError::conflict(
                "this master asks nobody for a key; start it with --admin-key-file, and make keys with that one",
            ));
        }
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            let message = format!("must be 1 to {NAME_CHARS_MAX} characters that say whose key it is");
            return Err(MasterError::invalid(vec![Problem::new("name", message)]));
        }
        if self.store.keys(KEYS_MAX).await?.len() >= KEYS_MAX as usize {
            return Err(MasterError::conflict(format!("there are {KEYS_MAX} keys, which is the most")));
        }
        let mut random = [0; 32];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| MasterError::internal("the system gives no random bytes"))?;
        let key = format!("{PREFIX}{}", hex(&random));
        let created_at = store::now();
        let stored = StoredKey {
            id: KeyId::new(),
            name,
            role: new.role,
            hash: hash(&key),
            created_at,
            expires_at: new.expires_in.map(|time| later(created_at, time)).transpose()?,
            revoked_at: None,
            used_at: None,
        };
        self.store.insert_key(&stored).await?;
        Ok(NewKeyView { about: view(&stored), key })
    }

    /// Every key, newest first.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn list(&self) -> Result<Vec<KeyView>, MasterError> {
        Ok(self.store.keys(KEYS_MAX).await?.iter().map(view).collect())
    }

    /// A page of the changes that were made over REST, newest first.
    ///
    /// # Errors
    /// The store does not work, or the cursor is none of ours.
    pub async fn changes(&self, filter: &AuditFilter) -> Result<Page<AuditRecord>, MasterError> {
        Ok(self.store.audits(filter).await?)
    }

    /// Revokes a key, for ever. Again: the same answer.
    ///
    /// # Errors
    /// There is none, or the store does not work.
    pub async fn revoke(&self, id: KeyId) -> Result<KeyView, MasterError> {
        let revoked = self.store.revoke_key(id, store::now()).await?;
        let key = revoked.ok_or_else(|| MasterError::not_found("key", id))?;
        self.remember(&key.hash, Some(key.clone()));
        Ok(view(&key))
    }
}

fn later(now: Timestamp, time: Micros) -> Result<Timestamp, MasterError> {
    let span = i64::try_from(time.0).ok().filter(|micros| *micros > 0).map(SignedDuration::from_micros);
    span.and_then(|span| now.checked_add(span).ok()).ok_or_else(|| {
        let message = format!("{time} from now is no time that can be kept; give a length such as 90d");
        MasterError::invalid(vec![Problem::new("expires_in", message)])
    })
}

fn view(key: &StoredKey) -> KeyView {
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    KeyView {
        id: key.id.0,
        name: key.name.clone(),
        role: key.role,
        created_at: key.created_at.to_string(),
        expires_at: text(key.expires_at),
        revoked_at: text(key.revoked_at),
        last_used_at: text(key.used_at),
    }
}
