//! How agents are reached: streams, their loss, coming back with pauses, and the sign of life each second.
//!
//! A sign of life says what the agent's own clock showed when it was sent, or a little less: as a word may be held up on its way for any time, the agent trusts us for
//! [`TRUSTED_NS`] from then, and we need not know how long it took. That clock is known from what the agent said by it, and how long ago that was here: so never too high.

use volcanion_common::session::{Hello, Order, ShardState, Welcome};

use super::peer::Peer;
use super::{Action, PREPARE_WITHIN_NS, Phase, RunMachine, seconds};

/// A stream that does not come up within this is given up, should the driver not say so itself.
const OPEN_WITHIN_NS: u64 = seconds(15);
/// An agent hears something at least this often.
const ALIVE_EVERY_NS: u64 = seconds(1);
const BACKOFF_FIRST_NS: u64 = 100_000_000;
const BACKOFF_MAX_NS: u64 = seconds(2);
/// How long an agent may take our last sign of life for one that it is led: it trusts a stream for 4 s from when that was sent. The rest is for clocks that run at
/// different speeds and cores that look late.
const TRUSTED_NS: u64 = seconds(4) + 500_000_000;

/// How one agent is reached.
#[derive(Debug, Default)]
pub(super) struct Link {
    state: State,
    /// Attempts since something was last heard.
    attempts: u32,
    /// When we last said something that the agent may go by.
    word_ns: Option<u64>,
    /// An instant of the agent's monotonic clock, and one of ours that was no earlier.
    their_clock: Option<(u64, u64)>,
    /// Why it was not reached when it was last tried.
    why_down: Option<String>,
    /// Where the agent's run time begins on its clock.
    pub their_start_ns: Option<u64>,
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
    /// Why it was not reached when it was last tried; `None`: it was.
    pub fn why_down(&self) -> Option<&str> {
        self.why_down.as_deref()
    }

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

    /// The agent may go by what we say now.
    pub fn said(&mut self, now_ns: u64) {
        self.word_ns = Some(now_ns);
    }

    /// The agent's clock showed so much, some time before `now_ns`. What was under way for the shortest time tells most.
    pub fn their_clock_was(&mut self, their_ns: u64, now_ns: u64) {
        let ahead = |(theirs, ours): (u64, u64)| i128::from(theirs) - i128::from(ours);
        if self.their_clock.is_none_or(|known| ahead(known) < ahead((their_ns, now_ns))) {
            self.their_clock = Some((their_ns, now_ns));
        }
    }

    /// What the agent's clock shows now, at least.
    fn their_clock_now(&self, now_ns: u64) -> u64 {
        self.their_clock.map_or(0, |(theirs, ours)| theirs.saturating_add(now_ns.saturating_sub(ours)))
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
        let now_ns = self.now.monotonic_ns;
        let link = &mut self.peers[i].link;
        link.state = State::Up { stream, said_ns: now_ns };
        (link.their_clock, link.their_start_ns) = (None, None);
        link.their_clock_was(welcome.monotonic_ns, now_ns);
        if welcome.incarnation != self.peers[i].state.incarnation {
            self.hang_up(i);
            return self.refused(i, "another process answers at its address", true);
        }
        if self.peers[i].is_release_due || self.peers[i].is_returning {
            return self.heard_again(i, welcome);
        }
        self.say_alive(i);
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

    pub(super) fn refused(&mut self, i: usize, reason: &str, fatal: bool) {
        self.peers[i].link.down(self.now.monotonic_ns, i);
        if fatal && self.peers[i].state.gap.is_some() {
            // It has forgotten the run by itself.
            (self.peers[i].is_release_due, self.peers[i].is_returning) = (false, false);
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
            self.peers[i].link.why_down = Some(reason.to_owned());
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
        let stream = *stream;
        if matches!(order, Order::Alive { .. }) {
            *said_ns = now_ns;
            peer.link.said(now_ns);
        }
        let agent = peer.id().clone();
        self.out.push(Action::Send { agent, stream, order });
        true
    }

    fn say_alive(&mut self, i: usize) {
        let monotonic_ns = self.peers[i].link.their_clock_now(self.now.monotonic_ns);
        self.send(i, Order::Alive { monotonic_ns });
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
                _ if peer.is_over() && !peer.is_wanted_back() && !peer.link.is_up() => self.hang_up(i),
                State::Idle => self.connect(i),
                // Who may be dead is given the time to believe so itself; with its entry it is tried again at once.
                State::Down { .. } if is_due && peer.is_gone && peer.is_awaited_dead(now_ns) => {}
                State::Down { .. } if is_due => self.connect(i),
                State::Opening { .. } if is_due => self.break_stream(i),
                State::Up { .. } if is_due => self.say_alive(i),
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
