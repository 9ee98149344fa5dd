//! The seal of a Prepare: HMAC-SHA256 with the cluster's key over the shard's bytes exactly as they are sent.
//!
//! What the shard says of itself (run, epoch, agent, incarnation, expiry) is read only after the seal was found good,
//! so an order can be neither altered, nor used for another agent, nor kept for later.

use ring::hmac;

/// The key that master and agents of a cluster share. Never printed.
#[derive(Clone)]
pub struct ClusterKey(hmac::Key);

/// Why a key cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a cluster key of {length} bytes is too short; give at least {KEY_BYTES_MIN}, for instance what `openssl rand -hex 32` prints"
)]
pub struct KeyTooShort {
    length: usize,
}

/// The shortest key.
pub const KEY_BYTES_MIN: usize = 16;

impl ClusterKey {
    /// A key from its text, without the line end that files have.
    ///
    /// # Errors
    /// It is shorter than [`KEY_BYTES_MIN`].
    pub fn new(text: &str) -> Result<Self, KeyTooShort> {
        let text = text.trim();
        if text.len() < KEY_BYTES_MIN {
            return Err(KeyTooShort { length: text.len() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// A key of this process alone, for a cluster within it.
    pub fn random() -> Self {
        let random = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &random))
    }

    /// The key of a cluster that has none: known to everybody, so it protects nothing. For loopback, and for listeners that
    /// were opened by an explicit word.
    pub fn open() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, b"volcanion without a cluster key"))
    }

    /// Seals bytes.
    pub fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, bytes).as_ref().to_vec()
    }

    /// Whether this key sealed these bytes; takes the same time wherever they differ.
    pub fn is_sealed(&self, bytes: &[u8], seal: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, seal).is_ok()
    }
}

impl Default for ClusterKey {
    fn default() -> Self {
        Self::open()
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_bytes_are_good() {
        let key = ClusterKey::new("0123456789abcdef\n").unwrap();
        let seal = key.seal(b"shard");
        assert!(key.is_sealed(b"shard", &seal));
        assert!(!key.is_sealed(b"Shard", &seal));
        assert!(!ClusterKey::random().is_sealed(b"shard", &seal));
        assert!(!key.is_sealed(b"shard", &[]));
        assert!(ClusterKey::new("short").is_err());
        assert_eq!(format!("{key:?}"), "ClusterKey(…)");
    }
}
