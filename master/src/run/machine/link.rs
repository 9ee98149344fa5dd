//! How agents are reached: streams, their loss, coming back with pauses, and the sign of life when nothing else is said.

use volcanion_common::session::{Hello, Order, ShardState, Welcome};

use super::peer::Peer;
use super::{Action, PREPARE_WITHIN_NS, Phase, RunMachine, seconds};

/// A stream that does not come up within this is given up, should the driver not say so itself.
const OPEN_WITHIN_NS: u64 = seconds(15);
/// An agent hears something at least this often.
const ALIVE_EVERY_NS: u64 = seconds(1);
const BACKOFF_FIRST_NS: u64 = 100_000_000;
const BACKOFF_MAX_NS: u64 = seconds(2);
/// How long an agent may take our last word for a sign that it is led: it trusts a stream for 4 s after it heard one, and a word may be under way for a while.
const TRUSTED_NS: u64 = seconds(4) + 500_000_000;
/// An attempt that is refused within this has not reached the agent; after a longer one it may have heard us.
const REFUSED_WITHIN_NS: u64 = seconds(1);

/// How one agent is reached.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: State,
    /// Attempts since something was last heard.
    attempts: u32,
    /// When the agent may last have heard us.
    word_ns: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Down {
        retry_at_ns: u64,
    },
    Opening {
        stream: u64,
        since_ns: u64,
    },
    Up {
        stream: u64,
        said_ns: u64,
    },
}

impl Link {
    /// The newest stream, up or opening.
    pub fn stream(&self) -> Option<u64> {
        match self.state {
            State::Opening { stream, .. } | State::Up { stream, .. } => Some(stream),
            State::Idle | State::Down { .. } => None,
        }
    }

    /// Whether the agent is reached now.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether it was tried and not reached.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// The agent said something beyond its Welcome: the stream works.
    pub fn heard(&mut self) {
        self.attempts = 0;
    }

    /// The agent may hear us now.
    pub fn said(&mut self, now_ns: u64) {
        self.word_ns = Some(now_ns);
    }

    /// Until when it may take itself for led by us, though its stream is gone here.
    pub fn trusted_until_ns(&self) -> Option<u64> {
        self.word_ns.map(|word_ns| word_ns + TRUSTED_NS)
    }

    /// The stream is gone. The pause before the next attempt doubles, and differs from agent to agent.
    fn down(&mut self, now_ns: u64, agent: usize) {
        let pause_ns = (BACKOFF_FIRST_NS << self.attempts.min(6)).min(BACKOFF_MAX_NS);
        let spread_ns = pause_ns / 4 * (agent as u64 % 16) / 16;
        self.attempts += 1;
        self.state = State::Down { retry_at_ns: now_ns + pause_ns + spread_ns };
    }

    fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Idle => None,
            State::Down { retry_at_ns } => Some(retry_at_ns),
            State::Opening { since_ns, .. } => Some(since_ns + OPEN_WITHIN_NS),
            State::Up { said_ns, .. } => Some(said_ns + ALIVE_EVERY_NS),
        }
    }
}

impl RunMachine {
    pub(super) fn connect(&mut self, i: usize) {
        let stream = self.next_stream;
        self.next_stream += 1;
        let (run, epoch, now_ns) = (self.run, self.epoch, self.now.monotonic_ns);
        let peer = &mut self.peers[i];
        peer.link.state = State::Opening { stream, since_ns: now_ns };
        peer.inbox.new_stream();
        let agent = peer.id().clone();
        let hello = Hello {
            run,
            epoch,
            agent: agent.clone(),
            incarnation: peer.state.incarnation,
            last_seq: peer.durable,
        };
        self.out.push(Action::Connect { agent, stream, hello });
    }

    pub(super) fn opened(&mut self, i: usize, stream: u64, welcome: &Welcome) {
        if !matches!(self.peers[i].link.state, State::Opening { .. }) {
            return;
        }
        self.peers[i].link.state = State::Up { stream, said_ns: self.now.monotonic_ns };
        self.peers[i].link.said(self.now.monotonic_ns);
        if welcome.incarnation != self.peers[i].state.incarnation {
            self.hang_up(i);
            return self.refused(i, "another process answers at its address", true);
        }
        if self.peers[i].is_release_due {
            return self.release_returned(i);
        }
        match self.phase {
            Phase::Preparing { .. } => self.welcome_preparing(i, welcome),
            Phase::Starting { .. } if welcome.state == ShardState::Prepared => {}
            // It has lost its shard: nobody knows the start yet, so it is fixed anew.
            Phase::Starting { .. } => {
                self.peers[i].is_prepared = false;
                self.phase = Phase::Preparing { deadline_ns: self.now.monotonic_ns + PREPARE_WITHIN_NS };
                self.welcome_preparing(i, welcome);
            }
            Phase::Running | Phase::Stopping { .. } => self.welcome_running(i, welcome),
            Phase::Releasing { .. } | Phase::Draining | Phase::Ending | Phase::Over => {}
        }
    }

    /// An agent that was taken for dead, as one that was frozen, may still load: what it does is in nobody's numbers, so it is to stop.
    fn release_returned(&mut self, i: usize) {
        self.peers[i].is_release_due = false;
        self.send(i, Order::Release);
        self.hang_up(i);
    }

    pub(super) fn refused(&mut self, i: usize, reason: &str, fatal: bool) {
        let now_ns = self.now.monotonic_ns;
        if let State::Opening { since_ns, .. } = self.peers[i].link.state
            && !fatal
            && now_ns > since_ns + REFUSED_WITHIN_NS
        {
            self.peers[i].link.said(now_ns);
        }
        self.peers[i].link.down(self.now.monotonic_ns, i);
        if fatal && self.peers[i].state.gap.is_some() {
            // It has forgotten the run by itself.
            self.peers[i].is_release_due = false;
        } else if fatal {
            match self.phase {
                Phase::Preparing { .. } | Phase::Starting { .. } => {
                    let agent = self.peers[i].id();
                    self.fail_preparation(format!("agent `{agent}` refused the run: {reason}"));
                }
                // No proof of its death: it is asked again until the registry says that it is gone, or the run is over.
                Phase::Running | Phase::Stopping { .. } => {
                    self.warn(
                        "agent_refused",
                        Some(i),
                        format!("the agent refused the run's stream: {reason}"),
                    );
                    self.lose_if_dead(i);
                }
                Phase::Releasing { .. } | Phase::Draining | Phase::Ending | Phase::Over => {}
            }
        } else {
            self.lose_if_dead(i);
        }
    }

    pub(super) fn stream_lost(&mut self, i: usize) {
        self.peers[i].link.down(self.now.monotonic_ns, i);
        self.lose_if_dead(i);
    }

    /// Closes the stream from our side; it is opened again after a pause.
    pub(super) fn break_stream(&mut self, i: usize) {
        self.hang_up(i);
        self.peers[i].link.down(self.now.monotonic_ns, i);
    }

    /// Closes the stream, if there is one, for good.
    pub(super) fn hang_up(&mut self, i: usize) {
        let peer = &mut self.peers[i];
        if let Some(stream) = peer.link.stream() {
            let agent = peer.id().clone();
            self.out.push(Action::Disconnect { agent, stream });
        }
        self.peers[i].link.state = State::Idle;
    }

    /// Sends an order where the agent is reached; whether it is.
    pub(super) fn send(&mut self, i: usize, order: Order) -> bool {
        let now_ns = self.now.monotonic_ns;
        let peer = &mut self.peers[i];
        let State::Up { stream, said_ns } = &mut peer.link.state else { return false };
        *said_ns = now_ns;
        let stream = *stream;
        peer.link.said(now_ns);
        let agent = peer.id().clone();
        self.out.push(Action::Send { agent, stream, order });
        true
    }

    pub(super) fn advance_links(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let now_ns = self.now.monotonic_ns;
        for i in 0..self.peers.len() {
            let is_due = self.peers[i].link.due_ns().is_some_and(|due| due <= now_ns);
            let peer = &self.peers[i];
            match peer.link.state {
                // Whoever is over and not reached has nothing to hear any more: it forgets by itself.
                _ if peer.is_over() && !peer.is_release_due && !peer.link.is_up() => self.hang_up(i),
                State::Idle => self.connect(i),
                // Who may be dead is given the time to believe so itself; with its entry it is tried again at once.
                State::Down { .. } if is_due && peer.is_gone && peer.is_awaited_dead(now_ns) => {}
                State::Down { .. } if is_due => self.connect(i),
                State::Opening { .. } if is_due => self.break_stream(i),
                State::Up { .. } if is_due => {
                    self.send(i, Order::Alive);
                }
                _ => {}
            }
        }
    }

    pub(super) fn links_wake_ns(&self) -> Option<u64> {
        let now_ns = self.now.monotonic_ns;
        let due_ns = |peer: &Peer| {
            if peer.is_gone && !peer.link.is_up() && peer.is_awaited_dead(now_ns) {
                return peer.link.trusted_until_ns();
            }
            peer.link.due_ns()
        };
        self.peers.iter().filter_map(due_ns).min()
    }
}
