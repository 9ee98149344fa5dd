//! Seals that were taken: each is of use once.
//!
//! One is remembered until its order has expired, and by then that alone refuses it. Invariant: a seal that has not expired is never forgotten; where
//! the memory is full of such, what comes is refused rather than one of them forgotten.

use std::collections::HashMap;

use super::fence::Refusal;

/// See the module.
#[derive(Debug)]
pub(super) struct Seals {
    max: usize,
    /// By seal, the milliseconds since 1970 after which it is of no use.
    taken: HashMap<Vec<u8>, u64>,
}

impl Seals {
    /// A memory of at most `max` seals.
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: HashMap::new() }
    }

    /// Takes a seal that is good, and not over at `now_unix_ms`.
    ///
    /// # Errors
    /// It was taken before; as many as there is room for were, and none of them has expired.
    pub(super) fn take(
        &mut self,
        seal: &[u8],
        expires_unix_ms: u64,
        now_unix_ms: u64,
    ) -> Result<(), Refusal> {
        if self.taken.contains_key(seal) {
            return Err(Refusal::Replayed);
        }
        if self.taken.len() >= self.max {
            self.taken.retain(|_, expires| *expires >= now_unix_ms);
        }
        if self.taken.len() >= self.max {
            return Err(Refusal::TooMany { max: self.max });
        }
        self.taken.insert(seal.to_owned(), expires_unix_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_taken_once_and_a_full_memory_refuses_rather_than_forgets() {
        let mut seals = Seals::new(3);
        for seal in [b"a", b"b", b"c"] {
            seals.take(seal, 1_000, 0).unwrap();
        }
        assert_eq!(seals.take(b"d", 2_000, 1_000), Err(Refusal::TooMany { max: 3 }));
        for seal in [b"a", b"b", b"c"] {
            assert_eq!(seals.take(seal, 1_000, 1_000), Err(Refusal::Replayed));
        }
        // A millisecond later their time is over, and they make room.
        seals.take(b"d", 2_000, 1_001).unwrap();
        assert_eq!(seals.taken.len(), 1);
    }
}
