//! Sends: one step of a VU → one [`Sample`].
//!
//! Everything here belongs to one core and never leaves it: a [`CoreClient`] holds what its VUs share (program, read buffer, resolved
//! names, TLS sessions, shared connections), a [`VuClient`] the connections of one VU. A VU has one connection to each server, kept alive, unless
//! the plan lets them share some. On a kept connection of HTTP/1.1 a step allocates nothing, formats nothing and takes no lock; it is one
//! write, one read and two looks at the clock. Over HTTP/2 many steps go out in one write, and come back in one read.
//!
//! **Every attempt is one sample**, a refused connection too. There are two things that are tried again and counted once. One is a kept
//! connection that turns out to be closed already: where the runtime knew before anything was sent, a new connection is made for any method;
//! where it shows only after sending, the request goes out again once, if not a byte of an answer came and its method is idempotent
//! (RFC 9112 9.3.1, RFC 9110 9.2.2). The other is a request that an HTTP/2 peer says it did not process (a refused stream, or one past
//! its GOAWAY: RFC 9113 8.7), [`RESENDS_MAX`] times. All sendings are in `bytes_sent`, and the times count from the first.

mod attempt;
pub mod clock;
mod connect;
mod cookies;
mod deadline;
mod file;
mod follow;
pub mod http1;
pub mod http2;
mod kept;
pub mod sample;
mod server;
#[cfg(test)]
mod tests;
mod traced;
mod trail;

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use volcanion_common::plan::Connections;
use volcanion_common::series::ErrorKind;
use volcanion_common::shard::ScenarioShare;

use crate::prepare::{Message, Program};
use attempt::Attempt;
use clock::now_ns;
use connect::{Connection, Dialler, Grant, Link, Place, Pool, dial};
use deadline::Deadline;
use http1::{Answer, Exchange};
use http2::Form;
use http2::session::{Seat, Session};
pub use kept::Kept;
pub use sample::{Failure, PhaseTimes, Sample, detail};
use server::{Server, Servers};
use traced::Traced;
use trail::{Hop, Trail};

/// How much is read at once. One buffer serves all connections of a core.
const BUFFER_BYTES: usize = 64 * 1024;

/// How often a request goes out again that was not processed: a server that goes away may be met more than once.
const RESENDS_MAX: u32 = 3;

/// What the VUs of one core share. Needs a current-thread tokio runtime with I/O and time; for HTTP/2 a local one.
pub struct CoreClient {
    program: Arc<Program>,
    buffer: RefCell<Box<[u8]>>,
    dialler: Dialler,
    servers: Servers,
    /// Whether VUs share connections.
    is_shared: bool,
    /// The steps' requests as HTTP/2 has them, made when they are first sent so.
    forms: Vec<OnceCell<Rc<Form>>>,
    /// Present where some requests are part of a trace.
    traced: Option<Traced>,
}

impl CoreClient {
    /// For a core that has all of the program's VUs; connects to nothing yet.
    pub fn new(program: Arc<Program>) -> Rc<Self> {
        let shares: Vec<_> = program.scenarios.iter().map(|scenario| scenario.share.clone()).collect();
        Self::of_core(program, &shares)
    }

    /// For a core with these shares of the scenarios. Shared connections are split like VUs, and a core has at least one.
    pub fn of_core(program: Arc<Program>, shares: &[ScenarioShare]) -> Rc<Self> {
        let shared = match program.connections {
            Connections::PerVu => None,
            Connections::Shared(count) => {
                let own = shares.iter().map(|share| share.count_below(count.into())).max();
                Some(usize::try_from(own.unwrap_or(0).max(1)).unwrap_or(usize::MAX))
            }
        };
        Rc::new(Self {
            buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            dialler: Dialler::new(&program),
            servers: Servers::new(&program.origins, shared),
            is_shared: shared.is_some(),
            forms: program.steps.iter().map(|_| OnceCell::new()).collect(),
            traced: program.trace.clone().map(Traced::new),
            program,
        })
    }

    /// The program that it sends.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    /// An attempt is over; tells of it where it was part of a trace.
    #[inline]
    fn tell_span(&self, attempt: &Attempt, sample: &Sample) {
        if let (Some(span), Some(traced)) = (attempt.span, &self.traced) {
            traced.tell(span, &self.program.steps[sample.step as usize], sample);
        }
    }

    /// A request as HTTP/2 has it.
    fn form(&self, outgoing: &Outgoing<'_>) -> Result<Rc<Form>, Failure> {
        let cell = outgoing.step.and_then(|step| self.forms.get(step as usize));
        if let Some(form) = cell.and_then(OnceCell::get) {
            return Ok(form.clone());
        }
        let form = Rc::new(Form::of(outgoing.message)?);
        Ok(cell.map_or(form.clone(), |cell| cell.get_or_init(|| form).clone()))
    }
}

impl fmt::Debug for CoreClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreClient").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// What goes out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The request.
    pub message: &'a Message,
    /// What `cookie` is to say instead of what the message has; empty: as it has it.
    pub cookie: &'a [u8],
    /// What `traceparent` says; empty: it is not sent.
    pub traceparent: &'a [u8],
    /// The step whose own request the message is, for its HTTP/2 form; `None`: it was put together just now.
    pub step: Option<u32>,
}

/// Whether a request that failed may go out again within its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// No: it may have been processed, or it was answered.
    No,
    /// Once, if the connection was a kept one, which may have been closed before it.
    IfKept,
    /// Yes: it was not processed.
    Unprocessed,
}

/// The sending half of one VU.
#[derive(Debug)]
pub struct VuClient {
    core: Rc<CoreClient>,
    number: u64,
    pool: Pool,
    deadline: Deadline,
    attempt: Attempt,
    /// Whether `attempt` was begun and its sample not handed out yet.
    is_untold: bool,
    /// Cookies, and the redirect to be followed next.
    trail: Option<Box<Trail>>,
}

impl VuClient {
    /// A VU without connections. `vu_number` is unique in the cluster.
    pub fn new(core: Rc<CoreClient>, vu_number: u64) -> Self {
        let (pool, deadline) = (Pool::default(), Deadline::default());
        let attempt = Attempt::default();
        Self { core, number: vu_number, pool, deadline, attempt, is_untold: false, trail: None }
    }

    /// The number that it was given.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// An iteration begins: what answers of the last one left is forgotten. Connections stay.
    #[inline]
    pub fn begin_iteration(&mut self) {
        self.trail = None;
    }

    /// Does one request step: connects if need be, sends, reads the answer to its end, within the step's timeout.
    ///
    /// Never fails otherwise than by an error in the sample. A failure may take no time at all, not even a turn of the runtime: pacing
    /// is the caller's. Where the future is dropped before its end, the connection in use is closed (of
    /// HTTP/2: the stream), and [`VuClient::interrupted`] tells of the attempt.
    ///
    /// # Panics
    /// The step is not one of the program.
    pub async fn step(&mut self, step: u32) -> Sample {
        let core = Rc::clone(&self.core);
        self.begin(&core, step, 0);
        self.run(&core, &core.program.steps[step as usize].request, Some(step), 0).await
    }

    /// Follows the redirect that the newest sample leads on to ([`Sample::leads_on`]): one more attempt at its step, within a time of its own.
    /// Nothing where there is none. What is said of [`VuClient::step`] is true of this too.
    pub async fn follow(&mut self) -> Option<Sample> {
        let hop = self.trail.as_mut()?.take_hop()?;
        let core = Rc::clone(&self.core);
        self.begin(&core, hop.step, hop.number);
        match &hop.message {
            Ok(message) => Some(self.run(&core, message, None, hop.number).await),
            Err(failure) => {
                self.is_untold = false;
                self.attempt.ended_ns = now_ns();
                Some(self.attempt.failed(*failure))
            }
        }
    }

    /// An attempt at a step begins, its `hop`-th redirect or (0) its own request.
    #[inline]
    fn begin(&mut self, core: &CoreClient, step: u32, hop: u32) {
        let began_ns = now_ns();
        let deadline_ns = began_ns.saturating_add(core.program.steps[step as usize].timeout.as_nanos());
        self.attempt = Attempt { step, is_redirect: hop > 0, began_ns, deadline_ns, ..Attempt::default() };
        self.is_untold = true;
    }

    /// The rest of the attempt that was begun.
    #[inline]
    async fn run(&mut self, core: &CoreClient, message: &Message, step: Option<u32>, hop: u32) -> Sample {
        let program = &core.program;
        let cookie = match &self.trail {
            Some(trail) if program.cookies => trail.cookie(message),
            _ => Vec::new(),
        };
        let traceparent = match &core.traced {
            Some(traced) if !message.has_traceparent => self.attempt.drawn(traced),
            _ => Vec::new(),
        };
        let mut kept = Kept::new(hop < program.redirects, program.cookies);
        let outgoing = Outgoing { message, cookie: &cookie, traceparent: &traceparent, step };
        let answer = self.exchange(core, outgoing, &mut kept).await;
        let mut sample = match answer {
            Ok(status) => self.attempt.answered(status, program.success.holds(status)),
            Err(failure) => self.attempt.failed(failure),
        };
        self.is_untold = false;
        core.tell_span(&self.attempt, &sample);
        if kept.has_any() {
            sample.leads_on = self.keep_trail(core, message, answer.ok(), &kept, hop);
        }
        sample
    }

    /// Keeps what an answer leaves; says whether it leads on. Cookies count as soon as the head is there, a redirect once the answer is whole.
    #[cold]
    fn keep_trail(
        &mut self,
        core: &CoreClient,
        sent: &Message,
        status: Option<u16>,
        kept: &Kept,
        hop: u32,
    ) -> bool {
        let keep_alive = core.program.keep_alive;
        let trail = self.trail.get_or_insert_default();
        trail.keep_cookies(sent, kept);
        let led = status.and_then(|status| trail::led_to(&core.servers, sent, status, kept, keep_alive));
        led.is_some_and(|message| {
            trail.lead_on(Hop { step: self.attempt.step, number: hop + 1, message });
            true
        })
    }

    /// The attempt whose sample was lost because its [`VuClient::step`] was dropped before its end; nothing where none was.
    pub fn interrupted(&mut self) -> Option<Sample> {
        let sample = std::mem::take(&mut self.is_untold).then(|| self.attempt.interrupted(now_ns()))?;
        self.core.tell_span(&self.attempt, &sample);
        Some(sample)
    }

    /// Closes all its connections; the next step makes new ones.
    pub fn disconnect(&mut self) {
        self.pool.clear();
    }

    /// Sends until there is an answer, or a failure that stands. Over what: the VU's kept connection, a shared one, or a new one.
    async fn exchange(
        &mut self,
        core: &CoreClient,
        outgoing: Outgoing<'_>,
        kept: &mut Kept,
    ) -> Result<u16, Failure> {
        let origin = outgoing.message.origin;
        let mut resends = 0;
        // Where connections are shared: the place of the one that this request has.
        let mut place = None;
        let mut link = self.kept(core, origin);
        loop {
            let (mut via, was_kept) = match link.take() {
                Some(link) => (link, true),
                None => self.obtain(core, origin, &mut place).await?,
            };
            let verdict = match &mut via {
                Link::Http1(connection) => self.send_http1(core, outgoing, connection, kept).await,
                Link::Http2(seat) => self.send_http2(core, outgoing, seat, kept).await,
            };
            let (failure, resend) = match verdict {
                Ok(answer) => {
                    self.keep(core, origin, via, place, answer);
                    return Ok(answer.status);
                }
                Err(failed) => failed,
            };
            let goes_again = match resend {
                Resend::No => false,
                Resend::IfKept => was_kept && resends == 0,
                Resend::Unprocessed => resends < RESENDS_MAX,
            };
            // What became of one stream is not the matter of its connection.
            let is_usable = matches!(&via, Link::Http2(seat) if !core.is_shared && seat.session().is_open());
            match (goes_again, is_usable) {
                (true, true) => link = Some(via),
                (true, false) => drop(via),
                (false, true) => self.pool.put(origin, via),
                (false, false) => {}
            }
            if !goes_again {
                return Err(failure);
            }
            resends += 1;
            self.attempt.first_byte_ns = 0;
        }
    }

    /// The VU's own connection, if there is one that can carry a request.
    #[inline]
    fn kept(&mut self, core: &CoreClient, origin: u32) -> Option<Link> {
        let mut link = self.pool.take(origin)?;
        match &mut link {
            Link::Http1(connection) => {
                if connection.is_spent(&mut core.buffer.borrow_mut()) {
                    return None;
                }
                self.attempt.sending(self.attempt.began_ns);
            }
            Link::Http2(seat) => {
                if !seat.session().is_open() {
                    return None;
                }
            }
        }
        Some(link)
    }

    #[inline]
    fn keep(&mut self, core: &CoreClient, origin: u32, via: Link, place: Option<Place>, answer: Answer) {
        if !answer.can_reuse || !core.program.keep_alive {
            return;
        }
        match (via, place) {
            (Link::Http1(connection), Some(place)) => place.give_back(connection),
            (Link::Http2(_), _) if core.is_shared => {}
            (via, _) => self.pool.put(origin, via),
        }
    }

    /// One sending over one connection.
    #[inline]
    async fn send_http1(
        &mut self,
        core: &CoreClient,
        outgoing: Outgoing<'_>,
        connection: &mut Connection,
        kept: &mut Kept,
    ) -> Result<Answer, (Failure, Resend)> {
        let Self { attempt, deadline, .. } = self;
        let message = outgoing.message;
        let mut exchange = Exchange::new(connection, &outgoing, kept, &core.buffer);
        let answer = poll_fn(|cx| exchange.poll(cx, attempt, deadline)).await;
        answer.map_err(|failure| {
            let is_lost = failure.kind == ErrorKind::Reset && attempt.bytes_received == 0;
            let can_resend = is_lost && (message.is_idempotent || exchange.nothing_sent());
            if failure.kind == ErrorKind::Timeout {
                attempt.ended_ns = now_ns();
            }
            (failure, if can_resend { Resend::IfKept } else { Resend::No })
        })
    }

    /// One sending over one stream.
    async fn send_http2(
        &mut self,
        core: &CoreClient,
        outgoing: Outgoing<'_>,
        seat: &Seat,
        kept: &mut Kept,
    ) -> Result<Answer, (Failure, Resend)> {
        let Self { attempt, deadline, .. } = self;
        let form = core.form(&outgoing).map_err(|failure| (failure, Resend::No))?;
        let mut exchange = http2::Exchange::new(seat, attempt);
        poll_fn(|cx| exchange.poll(cx, &outgoing, &form, deadline, kept)).await
    }

    /// A connection that is not at hand: a shared one, as soon as it is this VU's turn, or a new one. With it whether it was used before.
    async fn obtain(
        &mut self,
        core: &CoreClient,
        origin: u32,
        place: &mut Option<Place>,
    ) -> Result<(Link, bool), Failure> {
        let server = core.servers.get(origin);
        let Some(shared) = server.shared.as_ref().filter(|_| place.is_none()) else {
            return self.connect(core, &server, place).await;
        };
        let mut at_ns = self.attempt.began_ns;
        let grant = match shared.try_take() {
            Some(grant) => grant,
            None => {
                let mut turn = pin!(shared.take());
                let grant = self.deadline.bound(turn.as_mut(), self.attempt.deadline_ns).await;
                at_ns = now_ns();
                match grant {
                    Some(grant) if at_ns < self.attempt.deadline_ns => grant,
                    late => {
                        // Its turn may have come at the end of its time: nothing is sent that nobody would wait for.
                        if let Some(grant) = late {
                            grant.pass_on();
                        }
                        self.attempt.ended_ns = at_ns;
                        return Err(Failure::new(ErrorKind::Timeout, detail::QUEUED));
                    }
                }
            }
        };
        let (granted, connection) = match grant {
            Grant::Seat(seat) => {
                let was_used = seat.session().has_answered();
                return Ok((Link::Http2(seat), was_used));
            }
            Grant::Place(granted, connection) => (granted, connection),
        };
        *place = Some(granted);
        if let Some(mut connection) = connection
            && !connection.is_spent(&mut core.buffer.borrow_mut())
        {
            self.attempt.sending(at_ns);
            return Ok((Link::Http1(connection), true));
        }
        self.connect(core, &server, place).await
    }

    /// Opens a connection within the attempt's time. The future is boxed: it is large, rare, and would else be part of every idle VU.
    async fn connect(
        &mut self,
        core: &CoreClient,
        server: &Server,
        place: &mut Option<Place>,
    ) -> Result<(Link, bool), Failure> {
        let Attempt { deadline_ns, phases, .. } = &mut self.attempt;
        let mut opening = Box::pin(open(core, server, phases));
        let opened = self.deadline.bound(opening.as_mut(), *deadline_ns).await;
        drop(opening);
        let failure = match opened {
            Some(Ok((Opened::Http1(connection), ready_ns))) => {
                self.attempt.sending(ready_ns);
                return Ok((Link::Http1(connection), false));
            }
            Some(Ok((Opened::Http2(session), _))) => {
                let seat = match place.take() {
                    Some(place) => place.seat(&session),
                    None => Seat::take(&session),
                };
                return Ok((Link::Http2(seat), false));
            }
            Some(Err(failure)) => failure,
            None => Failure::new(ErrorKind::Timeout, detail::CONNECTING),
        };
        self.attempt.ended_ns = now_ns();
        Err(failure)
    }
}

/// A new connection, in the version that it speaks.
enum Opened {
    Http1(Connection),
    Http2(Rc<Session>),
}

async fn open(core: &CoreClient, server: &Server, phases: &mut PhaseTimes) -> Result<(Opened, u64), Failure> {
    let (connection, ready_ns) = dial(core, &server.origin, phases).await?;
    // Where the plan says HTTP/2, it is spoken without TLS too: by prior knowledge (RFC 9113 3.3).
    if core.program.network.needs_h2 || connection.speaks_h2() {
        return Ok((Opened::Http2(Session::open(connection).await?), ready_ns));
    }
    Ok((Opened::Http1(connection), ready_ns))
}
