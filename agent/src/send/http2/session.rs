//! One HTTP/2 connection of a core, and who uses it.
//!
//! A task drives the connection: it writes what the streams have queued, many requests in one system call, and wakes those whose answers
//! came. It ends with the connection. The session counts its streams, so that nobody opens more than the peer allows, and
//! says when it takes no more: after a GOAWAY, an error, the last stream number, or when the peer is silent even to a ping.
//!
//! Windows are announced so large that an answer never waits for us; the streams' memory is bounded by how fast the core reads.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection as Driver, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use tokio::task::AbortHandle;
use volcanion_common::series::ErrorKind;

use super::meter::{Meter, Metered};
use crate::send::clock::now_ns;
use crate::send::connect::Connection;
use crate::send::sample::{Failure, detail};

/// What the peer may send on a stream, and on all of them together, before it hears from us.
const STREAM_WINDOW_BYTES: u32 = 1 << 24;
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// The longest list of header fields that is taken.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Streams of ours that were cut off and are remembered, so that what still comes for them is known to be late and not wrong.
const CUT_STREAMS_MAX: usize = 4096;
/// And for how long.
const CUT_STREAM_KEPT: Duration = Duration::from_secs(30);
/// Until the peer says how many streams it takes: one, so that it need not refuse any.
const STREAMS_AT_FIRST: usize = 1;

/// Who is told when a session has more room than before, or none any more.
pub trait Watcher {
    /// It may take more streams.
    fn has_room(self: Rc<Self>);
    /// It takes no more.
    fn has_closed(self: Rc<Self>);
}

/// See the module.
pub struct Session {
    requests: Requests,
    meter: Rc<RefCell<Meter>>,
    /// Seats that are taken.
    taken: Cell<usize>,
    /// How many the peer allows.
    seats: Cell<usize>,
    is_closed: Cell<bool>,
    /// Whether an answer came over it.
    has_answered: Cell<bool>,
    ping: RefCell<Option<PingPong>>,
    /// When the peer was asked whether it is there; 0: never.
    pinged_ns: Cell<u64>,
    /// Whether it did not say so.
    is_dead: Cell<bool>,
    driver: OnceCell<AbortHandle>,
    /// Those who have a seat and may not use it, since the peer allows fewer than it did.
    held_up: RefCell<Vec<Waker>>,
    watcher: RefCell<Option<Weak<dyn Watcher>>>,
}

impl Session {
    /// Begins to speak HTTP/2 on a connection. Needs a local runtime, which ends the driving task at the latest.
    ///
    /// # Errors
    /// The connection broke already.
    pub async fn open(connection: Connection) -> Result<Rc<Self>, Failure> {
        let meter = Rc::new(RefCell::new(Meter::default()));
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_concurrent_reset_streams(CUT_STREAMS_MAX)
            .reset_stream_duration(CUT_STREAM_KEPT)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .enable_push(false)
            // Guards against a peer that means harm; here it is the target that is to be measured, not to be judged by its frames' sizes.
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX / 2)
            .handshake(Metered::new(connection, meter.clone()));
        let (requests, mut driver) =
            handshake.await.map_err(|_| Failure::new(ErrorKind::Reset, detail::BEFORE_THE_ANSWER))?;
        let session = Rc::new(Self {
            requests: Requests(RefCell::new(requests)),
            meter,
            taken: Cell::new(0),
            seats: Cell::new(STREAMS_AT_FIRST),
            is_closed: Cell::new(false),
            has_answered: Cell::new(false),
            ping: RefCell::new(driver.ping_pong()),
            pinged_ns: Cell::new(0),
            is_dead: Cell::new(false),
            driver: OnceCell::new(),
            held_up: RefCell::default(),
            watcher: RefCell::new(None),
        });
        // Ends with the connection: when the peer closes it, or when the session and its streams are gone.
        let driving = tokio::task::spawn_local(drive(driver, Rc::downgrade(&session)));
        // Nobody else sets it.
        let _ = session.driver.set(driving.abort_handle());
        Ok(session)
    }

    /// Tells this one from now on.
    pub fn watch(&self, watcher: Weak<dyn Watcher>) {
        *self.watcher.borrow_mut() = Some(watcher);
    }

    /// Whether it takes new streams at all.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.is_closed.get()
    }

    /// Whether it takes a new stream now.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.is_open() && self.taken.get() < self.seats.get()
    }

    /// Streams under way, or about to be.
    #[inline]
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Whether an answer came over it before.
    pub fn has_answered(&self) -> bool {
        self.has_answered.get()
    }

    /// It takes no new streams; those under way go on.
    pub fn close(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        self.held_up.take().into_iter().for_each(Waker::wake);
        let watcher = self.watcher.borrow_mut().take().and_then(|watcher| watcher.upgrade());
        if let Some(watcher) = watcher {
            watcher.has_closed();
        }
    }

    /// A request that was sent at this instant had no answer in time. A peer that is silent altogether is asked for a sign of life; one
    /// that gives none while another request times out is given up, since the connection may be dead without either end knowing.
    pub fn suspect(&self, sent_ns: u64) {
        let (heard_ns, pinged_ns) = (self.meter.borrow().heard_ns(), self.pinged_ns.get());
        if heard_ns >= sent_ns {
            return;
        }
        if pinged_ns > heard_ns {
            if sent_ns > pinged_ns {
                self.is_dead.set(true);
                self.close();
            }
            return;
        }
        if let Some(ping) = &mut *self.ping.borrow_mut() {
            let _ = ping.poll_pong(&mut Context::from_waker(Waker::noop()));
            // Fails where one is under way already, or the connection is gone: both are known anyway.
            let _ = ping.send_ping(Ping::opaque());
            self.pinged_ns.set(now_ns());
        }
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(super) fn meter(&self) -> &RefCell<Meter> {
        &self.meter
    }

    pub(super) fn answered(&self) {
        self.has_answered.set(true);
    }

    /// Ready when one who has a seat may open a stream.
    #[inline]
    pub(super) fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        if self.taken.get() <= self.seats.get() || self.is_closed.get() {
            return Poll::Ready(());
        }
        let mut held_up = self.held_up.borrow_mut();
        if !held_up.iter().any(|waker| waker.will_wake(cx.waker())) {
            held_up.push(cx.waker().clone());
        }
        Poll::Pending
    }

    #[inline]
    fn allow(&self, seats: usize) {
        let before = self.seats.replace(seats);
        if seats > before {
            self.tell_room();
        }
    }

    #[inline]
    fn tell_room(&self) {
        if !self.held_up.borrow().is_empty() {
            self.held_up.take().into_iter().for_each(Waker::wake);
        }
        let watcher = self.watcher.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(watcher) = watcher {
            watcher.has_room();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A good-bye to a dead peer would wait in its socket for as long as the system cares to try.
        if self.is_dead.get()
            && let Some(driver) = self.driver.get()
        {
            driver.abort();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("taken", &self.taken.get())
            .field("seats", &self.seats.get())
            .field("is_closed", &self.is_closed.get())
            .finish_non_exhaustive()
    }
}

/// Drives the connection to its end. It holds no session: when nobody has one any more, the connection says good-bye and ends.
async fn drive(mut driver: Driver<Metered, Bytes>, session: Weak<Session>) {
    poll_fn(|cx| {
        let poll = Pin::new(&mut driver).poll(cx);
        if let Some(session) = session.upgrade() {
            match poll {
                Poll::Pending => session.allow(driver.max_concurrent_send_streams()),
                // Why is told to its streams; those who come later only need to know that it is over.
                Poll::Ready(_) => session.close(),
            }
        }
        poll.map(|_| ())
    })
    .await;
}

/// Where streams are opened.
pub(super) struct Requests(RefCell<SendRequest<Bytes>>);

impl Requests {
    /// Queues a request on a new stream.
    pub fn send(
        &self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut requests = self.0.borrow_mut();
        let opened = requests.send_request(head, is_whole)?;
        // The handle may hold on to the newest stream, which then could not be cancelled: it is made to let go of one that is open, and is
        // itself replaced for one that is not (the peer allows fewer than it did).
        if requests.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending() {
            *requests = requests.clone();
        }
        Ok(opened)
    }
}

/// The right to one stream of a session.
#[derive(Debug)]
pub struct Seat(Rc<Session>);

impl Seat {
    /// Takes one, whether or not there is room.
    #[inline]
    pub fn take(session: &Rc<Session>) -> Self {
        session.taken.set(session.taken.get() + 1);
        Self(session.clone())
    }

    /// Of which session.
    #[inline]
    pub fn session(&self) -> &Rc<Session> {
        &self.0
    }
}

impl Drop for Seat {
    #[inline]
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.tell_room();
    }
}
