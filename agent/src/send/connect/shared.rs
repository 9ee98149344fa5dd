//! The connections of one core to one server that all its VUs share (`connections: N`).
//!
//! Opened on demand, at most so many at once. Over HTTP/1.1 a VU borrows one for an exchange; over HTTP/2 it takes a seat on the one that is used
//! least, up to as many as the peer allows. Where all are in use VUs wait, first come, first served. A connection that is closing (HTTP/2, after
//! a GOAWAY) no longer counts: while its last streams end there may be one more.
//!
//! What a VU is given is a guard: dropped, the place is free again, and the next one has it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Connection;
use crate::send::http2::session::{Seat, Session, Watcher};

/// How many sessions are looked at to find the least used. With more of them it is the least used of so many, taken in turn.
const SESSIONS_LOOKED_AT: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    connections_max: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Places in use: by idle connections, by borrowed ones, by those that are being made, and by sessions.
    open: usize,
    /// The one that was used last is the last.
    idle: Vec<Connection>,
    sessions: Vec<Rc<Session>>,
    /// Where the next look at the sessions begins.
    next_session: usize,
    waiting: VecDeque<Rc<Ticket>>,
}

/// What a VU is given.
#[derive(Debug)]
pub enum Grant {
    /// A place, with the connection that is in it; without one the VU is to make it.
    Place(Place, Option<Connection>),
    /// A stream of an HTTP/2 connection.
    Seat(Seat),
}

impl Grant {
    /// It came too late for whom it was given to: the next has it, with the connection that is in it.
    pub fn pass_on(self) {
        if let Self::Place(place, Some(connection)) = self {
            place.give_back(connection);
        }
    }
}

impl Shared {
    /// At most so many connections; at least 1.
    pub fn new(connections_max: usize) -> Rc<Self> {
        Rc::new(Self { connections_max: connections_max.max(1), state: RefCell::default() })
    }

    /// What there is now, unless others wait for it.
    #[inline]
    pub fn try_take(self: &Rc<Self>) -> Option<Grant> {
        let mut state = self.state.borrow_mut();
        state.forget_those_who_left();
        if state.waiting.is_empty() { self.choose(&mut state) } else { None }
    }

    /// Waits for its turn. Dropped, it is out of the line.
    pub async fn take(self: &Rc<Self>) -> Grant {
        if let Some(grant) = self.try_take() {
            return grant;
        }
        let ticket = Rc::new(Ticket::default());
        self.state.borrow_mut().waiting.push_back(ticket.clone());
        let holder = Holder(ticket);
        poll_fn(|cx| {
            let ticket = &holder.0;
            if let Some(grant) = ticket.grant.take() {
                return Poll::Ready(grant);
            }
            ticket.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn choose(self: &Rc<Self>, state: &mut State) -> Option<Grant> {
        if let Some(connection) = state.idle.pop() {
            return Some(Grant::Place(Place::of(self), Some(connection)));
        }
        let least = state.least_used();
        let is_unused = least.is_some_and(|at| state.sessions[at].taken() == 0);
        if !is_unused && state.open < self.connections_max {
            state.open += 1;
            return Some(Grant::Place(Place::of(self), None));
        }
        least.map(|at| Grant::Seat(Seat::take(&state.sessions[at])))
    }

    /// Gives what there is to those who wait.
    fn serve(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            state.forget_those_who_left();
            if state.waiting.is_empty() {
                return;
            }
            let Some(grant) = self.choose(&mut state) else { return };
            let ticket = state.waiting.pop_front();
            drop(state);
            if let Some(ticket) = ticket {
                ticket.give(grant);
            }
        }
    }
}

impl State {
    /// Whoever waits longest is first, and so are those whose time ran out: the line never holds more than it needs to.
    fn forget_those_who_left(&mut self) {
        while self.waiting.front().is_some_and(|ticket| ticket.has_left.get()) {
            self.waiting.pop_front();
        }
    }

    /// Of those that have room.
    fn least_used(&mut self) -> Option<usize> {
        let count = self.sessions.len();
        if count > SESSIONS_LOOKED_AT {
            self.next_session = (self.next_session + 1) % count;
        }
        let mut least: Option<usize> = None;
        for n in 0..count {
            if n >= SESSIONS_LOOKED_AT && least.is_some() {
                break;
            }
            let at = (self.next_session + n) % count;
            let session = &self.sessions[at];
            if session.has_room() && least.is_none_or(|least| session.taken() < self.sessions[least].taken())
            {
                least = Some(at);
                if session.taken() == 0 {
                    break;
                }
            }
        }
        least
    }
}

impl Watcher for Shared {
    fn has_room(self: Rc<Self>) {
        self.serve();
    }

    fn has_closed(self: Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let before = state.sessions.len();
        state.sessions.retain(|session| session.is_open());
        state.open -= before - state.sessions.len();
        state.next_session = 0;
        drop(state);
        self.serve();
    }
}

/// One of the connections that there may be: who holds it may make or use that one.
pub struct Place {
    /// Gone once it is given back.
    shared: Option<Rc<Shared>>,
}

impl Place {
    /// One that was counted as open.
    fn of(shared: &Rc<Shared>) -> Self {
        Self { shared: Some(shared.clone()) }
    }

    /// The connection in it is free for the next.
    pub fn give_back(mut self, connection: Connection) {
        if let Some(shared) = self.shared.take() {
            shared.state.borrow_mut().idle.push(connection);
            shared.serve();
        }
    }

    /// It holds an HTTP/2 connection from now on; gives the first seat on it.
    pub fn seat(mut self, session: &Rc<Session>) -> Seat {
        let seat = Seat::take(session);
        if session.is_open()
            && let Some(shared) = self.shared.take()
        {
            shared.state.borrow_mut().sessions.push(session.clone());
            let watcher = Rc::downgrade(&shared);
            session.watch(watcher);
            shared.serve();
        }
        seat
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.state.borrow_mut().open -= 1;
            shared.serve();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// One who waits.
#[derive(Default)]
struct Ticket {
    grant: Cell<Option<Grant>>,
    waker: Cell<Option<Waker>>,
    has_left: Cell<bool>,
}

impl Ticket {
    fn give(&self, grant: Grant) {
        self.grant.set(Some(grant));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("has_left", &self.has_left).finish_non_exhaustive()
    }
}

/// Leaves the line when its VU does. What it was given and did not take goes to the next.
struct Holder(Rc<Ticket>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.has_left.set(true);
        if let Some(grant) = self.0.grant.take() {
            grant.pass_on();
        }
    }
}
