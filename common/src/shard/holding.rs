//! What one owner holds of a scenario over time: its lanes, and how they change when some are moved to it or away from it.
//!
//! Takes the share at the start and each move that holds, in any order that does not go back in time; gives the share of any moment. Times count from the
//! scenario's start. Invariant: what owners hold at a moment is disjoint where every move away holds no later than the same lanes' move to another.

use super::ScenarioShare;
use crate::units::Micros;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Since when; ascending, the first from 0 on.
    pieces: Vec<(Micros, ScenarioShare)>,
}

impl Holding {
    /// A share that is held from the start.
    pub fn new(share: &ScenarioShare) -> Self {
        Self { pieces: vec![(Micros::ZERO, share.clone())] }
    }

    /// Lanes go and come from a moment on; from that of the move before where it is earlier. Gives the moment.
    pub fn moved(&mut self, from: Micros, release: &[u32], take: &[u32]) -> Micros {
        let from = from.max(self.pieces.last().map_or(Micros::ZERO, |(last, _)| *last));
        let share = self.last().after(release, take);
        self.pieces.push((from, share));
        from
    }

    /// After all moves.
    pub fn last(&self) -> &ScenarioShare {
        &self.pieces[self.pieces.len() - 1].1
    }

    /// At a moment.
    pub fn at(&self, time: Micros) -> &ScenarioShare {
        &self.pieces[self.place(time)].1
    }

    /// Every share, with the moment since which it holds; one that is followed at the same moment never did.
    pub fn pieces(&self) -> &[(Micros, ScenarioShare)] {
        &self.pieces
    }

    /// The piece that holds at a moment. The first one holds from 0 on.
    pub(super) fn place(&self, time: Micros) -> usize {
        self.pieces.partition_point(|(from, _)| *from <= time).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_come_and_go_at_their_moments() {
        let mut holding = Holding::new(&ScenarioShare { lanes: 8, owned: vec![1, 3] });
        assert_eq!(holding.moved(Micros(50), &[3], &[0, 7]), Micros(50));
        assert_eq!(holding.moved(Micros(20), &[], &[3]), Micros(50), "time does not go back");
        let owned = |time| holding.at(Micros(time)).owned.clone();
        assert_eq!((owned(0), owned(49), owned(50)), (vec![1, 3], vec![1, 3], vec![0, 1, 3, 7]));
        assert_eq!((holding.last().owned.len(), holding.pieces().len()), (4, 3));
    }

    #[test]
    fn what_is_not_held_is_not_lost_and_what_is_held_is_not_got_twice() {
        let share = ScenarioShare { lanes: 4, owned: vec![0, 2] };
        assert_eq!(share.after(&[1, 2], &[0, 3]).owned, [0, 3]);
        assert_eq!(share.after(&[], &[9]).owned, [0, 2], "there is no such lane");
    }
}
