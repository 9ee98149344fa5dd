//! The moves of one agent's lanes of a scenario, in the order of their moments, in whatever order they are heard of.
//!
//! Of one lane they are heard of in that order too, so what is held at a moment is what all of them up to it come to.

use volcanion_common::units::Micros;

/// When, what goes, what comes.
pub type Move = (Micros, Vec<u32>, Vec<u32>);

/// See the module. Times count from the scenario's start.
#[derive(Clone, Debug, Default)]
pub struct Moves(Vec<Move>);

impl Moves {
    /// Adds one; whether it holds no earlier than any other.
    pub fn add(&mut self, from: Micros, release: &[u32], take: &[u32]) -> bool {
        let place = self.0.partition_point(|(known, ..)| *known <= from);
        self.0.insert(place, (from, release.to_vec(), take.to_vec()));
        place + 1 == self.0.len()
    }

    /// All of them.
    pub fn in_order(&self) -> &[Move] {
        &self.0
    }
}
