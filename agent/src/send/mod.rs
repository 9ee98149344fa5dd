//! Sends: one step of a VU → one [`Sample`].
//!
//! Everything here belongs to one core and never leaves it: a [`CoreClient`] holds what its VUs share (program, read buffer, resolved
//! names, TLS sessions), a [`VuClient`] the connections of one VU. A VU has one connection to each server, kept alive. On a kept
//! connection a step allocates nothing, formats nothing and takes no lock; it is one write, one read and two looks at the clock.
//!
//! **Every attempt is one sample**, a refused connection too. There is one thing that is tried twice and counted once: a kept
//! connection that turns out to be closed already. Where the runtime knew before anything was sent, a new connection is made for any method. Where
//! it shows only after sending, the request goes out again once, if not a byte of an answer came and its method is idempotent (RFC 9112 9.3.1,
//! RFC 9110 9.2.2). Both sendings are in `bytes_sent`, and the times count from the first.

mod attempt;
pub mod clock;
mod connect;
mod deadline;
pub mod http1;
pub mod sample;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::Resumption;
use tokio_rustls::TlsConnector;
use volcanion_common::series::ErrorKind;

use crate::prepare::{Program, Step};
use attempt::Attempt;
use clock::now_ns;
use connect::{Connection, Names, Pool, dial};
use deadline::Deadline;
use http1::{Answer, Exchange};
pub use sample::{Failure, PhaseTimes, Sample, detail};

/// How much is read at once. One buffer serves all connections of a core.
const BUFFER_BYTES: usize = 64 * 1024;

/// TLS sessions that a core keeps to resume.
const TLS_SESSIONS: usize = 256;

/// What the VUs of one core share. Needs a current-thread tokio runtime with I/O and time.
pub struct CoreClient {
    program: Arc<Program>,
    buffer: RefCell<Box<[u8]>>,
    /// By origin.
    names: Vec<Names>,
    /// Counts connections, to take a name's addresses in turn.
    next_address: Cell<usize>,
    tls: Option<TlsConnector>,
}

impl CoreClient {
    /// For one core; connects to nothing yet.
    pub fn new(program: Arc<Program>) -> Rc<Self> {
        let tls = program.tls.as_deref().map(|config| {
            // Each core resumes its own sessions: the store has a lock, which so is never waited for.
            let mut config = config.clone();
            config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS);
            TlsConnector::from(Arc::new(config))
        });
        Rc::new(Self {
            buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            names: program.origins.iter().map(Names::new).collect(),
            next_address: Cell::new(0),
            tls,
            program,
        })
    }

    /// The program that it sends.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }
}

impl fmt::Debug for CoreClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreClient").field("names", &self.names).finish_non_exhaustive()
    }
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
}

impl VuClient {
    /// A VU without connections. `vu_number` is unique in the cluster.
    pub fn new(core: Rc<CoreClient>, vu_number: u64) -> Self {
        let (pool, deadline) = (Pool::default(), Deadline::default());
        Self { core, number: vu_number, pool, deadline, attempt: Attempt::default(), is_untold: false }
    }

    /// The number that it was given.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Does one request step: connects if need be, sends, reads the answer to its end, within the step's timeout.
    ///
    /// Never fails otherwise than by an error in the sample. A failure may take no time at all, not even a turn of the runtime: pacing
    /// is the caller's. Where the future is dropped before its end, the connection in use is closed, and
    /// [`VuClient::interrupted`] tells of the attempt.
    ///
    /// # Panics
    /// The step is not one of the program.
    pub async fn step(&mut self, step: u32) -> Sample {
        let began_ns = now_ns();
        let core = Rc::clone(&self.core);
        let program = &core.program;
        let what = &program.steps[step as usize];
        let deadline_ns = began_ns.saturating_add(what.timeout.as_nanos());
        self.attempt = Attempt { step, began_ns, deadline_ns, ..Attempt::default() };
        self.is_untold = true;
        let sample = match self.exchange(&core, what).await {
            Ok(status) => self.attempt.answered(status, program.success.holds(status)),
            Err(failure) => self.attempt.failed(failure),
        };
        self.is_untold = false;
        sample
    }

    /// The attempt whose sample was lost because its [`VuClient::step`] was dropped before its end; nothing where none was.
    pub fn interrupted(&mut self) -> Option<Sample> {
        std::mem::take(&mut self.is_untold).then(|| self.attempt.interrupted(now_ns()))
    }

    /// Closes all its connections; the next step makes new ones.
    pub fn disconnect(&mut self) {
        self.pool.clear();
    }

    async fn exchange(&mut self, core: &CoreClient, step: &Step) -> Result<u16, Failure> {
        let kept = self.pool.take(step.origin).filter(|_| core.program.keep_alive);
        let kept = kept.and_then(|mut kept| (!kept.is_spent(&mut core.buffer.borrow_mut())).then_some(kept));
        if let Some(mut connection) = kept {
            self.attempt.sending(self.attempt.began_ns);
            match self.send(core, step, &mut connection).await {
                (Ok(answer), _) => return Ok(self.keep(core, step, connection, answer)),
                (Err(failure), can_resend) if !can_resend => return Err(failure),
                (Err(_), _) => {}
            }
        }
        let mut connection = self.connect(core, step.origin).await?;
        let (answer, _) = self.send(core, step, &mut connection).await;
        answer.map(|answer| self.keep(core, step, connection, answer))
    }

    #[inline]
    fn keep(&mut self, core: &CoreClient, step: &Step, connection: Connection, answer: Answer) -> u16 {
        if answer.can_reuse && core.program.keep_alive {
            self.pool.put(step.origin, connection);
        }
        answer.status
    }

    /// One sending over one connection; says with a failure whether it may go out again over another.
    #[inline]
    async fn send(
        &mut self,
        core: &CoreClient,
        step: &Step,
        connection: &mut Connection,
    ) -> (Result<Answer, Failure>, bool) {
        let Self { attempt, deadline, .. } = self;
        let mut exchange = Exchange::new(connection, &step.request, step.is_head, &core.buffer);
        let answer = poll_fn(|cx| exchange.poll(cx, attempt, deadline)).await;
        if let Err(Failure { kind, .. }) = answer {
            let is_lost = kind == ErrorKind::Reset && attempt.bytes_received == 0;
            let can_resend = is_lost && (step.is_idempotent || exchange.nothing_sent());
            if kind == ErrorKind::Timeout {
                attempt.ended_ns = now_ns();
            }
            return (answer, can_resend);
        }
        (answer, false)
    }

    /// Opens a connection within the attempt's time. The future is boxed: it is large, rare, and would else be part of every idle VU.
    async fn connect(&mut self, core: &CoreClient, origin: u32) -> Result<Connection, Failure> {
        let Attempt { deadline_ns, phases, .. } = &mut self.attempt;
        let mut dialling = Box::pin(dial(core, origin, phases));
        let dialled = self.deadline.bound(dialling.as_mut(), *deadline_ns).await;
        drop(dialling);
        match dialled {
            Some(Ok((connection, ready_ns))) => {
                self.attempt.sending(ready_ns);
                Ok(connection)
            }
            Some(Err(failure)) => {
                self.attempt.ended_ns = now_ns();
                Err(failure)
            }
            None => {
                self.attempt.ended_ns = now_ns();
                Err(Failure::new(ErrorKind::Timeout, detail::CONNECTING))
            }
        }
    }
}
