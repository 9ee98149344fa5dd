//! Returns: an agent that was given up because it was not heard is heard again, as one that was frozen, or cut off from everybody. Others have its part by then, so it is
//! stopped at once; what it did before is taken in by the order of its deltas, like any late one.
//!
//! Accounts: at every moment a lost agent's plan is `started + dropped + missed + in its gap`. A delta takes from the gap what it tells; once the agent has said that there is no more,
//! the gap is closed, and what nobody started of it was missed. Each step is durable with the delta that it follows from. The run's end waits for none of this.

use volcanion_common::session::{Order, ShardState, StopWhy, Welcome};
use volcanion_common::units::Micros;

use super::{Phase, RunMachine};

impl RunMachine {
    /// An agent that was given up may still load: what it does is in nobody's numbers, so it is to stop. What it did before may be told, while the run goes.
    pub(super) fn heard_again(&mut self, i: usize, welcome: &Welcome) {
        self.peers[i].is_release_due = false;
        let peer = &self.peers[i];
        let may_tell = peer.state.gap.is_some() && peer.state.was_unheard && welcome.state != ShardState::New;
        self.peers[i].is_returning = may_tell && self.takes_back();
        if self.peers[i].is_returning {
            self.send(i, Order::Stop { why: StopWhy::Failed, graceful: Micros::ZERO });
        } else {
            self.release_returned(i);
        }
    }

    fn release_returned(&mut self, i: usize) {
        self.send(i, Order::Release);
        self.hang_up(i);
    }

    /// Whether what a lost agent tells is taken in.
    pub(super) fn is_taken_back(&self, i: usize) -> bool {
        self.peers[i].is_returning && self.takes_back()
    }

    fn takes_back(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping { .. })
    }

    /// A delta of an agent that returned is in its state.
    pub(super) fn narrow_gap(&mut self, i: usize) {
        let peer = &mut self.peers[i];
        if let Some(gap) = &peer.state.gap {
            peer.state.gap = Some(peer.planned.gap_left(&peer.state, gap));
        }
    }

    /// An agent has said that all its deltas are in.
    pub(super) fn close_gap(&mut self, i: usize) {
        if self.is_taken_back(i) && self.peers[i].state.gap.take().is_some() {
            self.peers[i].is_returning = false;
            let message = "the agent was heard again, and all that it did before is counted; its part stays with the others";
            self.warn("agent_returned", Some(i), message.to_owned());
        }
    }

    /// What an agent that returned tells cannot be used: its gap stays as it is.
    pub(super) fn turn_away(&mut self, i: usize) {
        if std::mem::take(&mut self.peers[i].is_returning) {
            self.peers[i].state.was_unheard = false;
            self.release_returned(i);
        }
    }
}
