//! One load core: a thread with a runtime of its own.
//!
//! Its root future is the pacer: at each wake it looks at the clock once, cuts what is to be handed over, lets each scenario
//! do what is due, and arms the one timer for the next event. VUs are tasks beside it; they poke it when one of them may have ended a
//! scenario. It ends when all scenarios have; the runtime then goes, and every connection with it.
//!
//! A core that polls busily never sleeps while run time goes: its root asks to be polled again, so that the runtime looks at its
//! sockets without waiting, and waits for an instant that is near by looking at nothing but the clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, LocalOptions};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, RunTime};

use super::EngineSettings;
use super::collect::Message;
use super::load::Load;
use super::pin::prepare_thread;
use super::steering::{Orders, Steering};
use crate::delta::cut::Part;
use crate::prepare::Program;
use crate::record::Recorder;
use crate::record::process::{thread_cpu_us, thread_wait_us};
use crate::schedule::arrival_rate::PAUSE_NS;
use crate::schedule::{Iterations, Pacer, Pause};
use crate::send::CoreClient;
use crate::send::clock::now_ns;

/// Tasks that run between two looks at timer and sockets: fewer than tokio's 61, so that the timer is not kept waiting.
const EVENT_INTERVAL: u32 = 31;
/// A spinning core waits for an instant that is no farther than this without a look at its sockets: about one turn of the runtime.
const NEAR_NS: u64 = 2_000;
/// A turn of the runtime that is shorter than this found nothing to do: the least thing that a VU does, a read, takes longer.
const IDLE_TURN_MAX_NS: u64 = 2_000;
/// While run time goes a core looks at its schedules at least this often.
const LOOK_EVERY_NS: u64 = 100_000_000;
/// Threads for what blocks: name resolution.
const BLOCKING_THREADS: usize = 4;

/// What a core's thread is given.
pub struct Setup {
    pub core: usize,
    pub settings: EngineSettings,
    pub program: Arc<Program>,
    /// Of each scenario.
    pub shares: Vec<ScenarioShare>,
    /// Of each scenario, what it may come to.
    pub possible: Vec<ScenarioShare>,
    /// Of each scenario; those of all cores are clones of the same.
    pub iterations: Vec<Iterations>,
    pub steering: Arc<Steering>,
    pub messages: SyncSender<Message>,
    /// Recorders that were folded and can be used again.
    pub spares: Receiver<Box<Recorder>>,
}

/// What the tasks of a core share.
#[derive(Debug)]
pub struct Core {
    pub program: Arc<Program>,
    /// Its place among the agent's cores.
    pub number: usize,
    pub client: Rc<CoreClient>,
    pub recorder: RefCell<Box<Recorder>>,
    pub steering: Arc<Steering>,
    pub has_panicked: Cell<bool>,
    is_fenced: Cell<bool>,
    orders: Cell<Orders>,
    is_poked: Cell<bool>,
    root: RefCell<Option<Waker>>,
    /// The newest instant at which something was done here.
    alive_ns: Cell<u64>,
    /// Run time's zero, once it is known.
    zero_ns: Cell<u64>,
    /// Moves of lanes that hold here and were not handed over: the move's number, and since when.
    moved: RefCell<VecDeque<(u64, RunTime)>>,
    /// The newest span without a sign of life that was too long for a core that runs: from, to.
    pause: Cell<(u64, u64)>,
}

impl Core {
    /// Something is done here, at this instant. Is to be called at least before arrivals of the time since are looked at.
    #[inline]
    pub fn is_alive_at(&self, now_ns: u64) {
        let before_ns = self.alive_ns.replace(self.alive_ns.get().max(now_ns));
        if now_ns > before_ns.saturating_add(PAUSE_NS) {
            self.pause.set((before_ns, now_ns));
        }
    }

    /// The newest pause, as seen from the start of a scenario.
    #[inline]
    pub fn pause_since(&self, origin_ns: u64) -> Pause {
        let (from_ns, to_ns) = self.pause.get();
        Pause { from_ns: from_ns.saturating_sub(origin_ns), to_ns: to_ns.saturating_sub(origin_ns) }
    }

    /// A move of lanes holds on this core.
    pub fn say_moved(&self, number: u64, from: RunTime) {
        self.moved.borrow_mut().push_back((number, from));
    }

    /// The moment of run time at an instant, rounded up.
    pub fn run_time(&self, now_ns: u64) -> RunTime {
        RunTime(now_ns.saturating_sub(self.zero_ns.get()).div_ceil(1_000))
    }

    /// A VU was not allowed to send and waits for its end: the core stops, even if the fence is moved meanwhile.
    pub fn reach_fence(&self) {
        self.is_fenced.set(true);
        self.poke();
    }

    /// Makes the core look soon.
    pub fn poke(&self) {
        self.is_poked.set(true);
        if let Some(waker) = &*self.root.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The body of a core's thread. Whatever happens, its last message says how it ended.
pub fn run(setup: Setup) {
    let (core, messages) = (setup.core, setup.messages.clone());
    let result = catch_unwind(AssertUnwindSafe(|| {
        prepare_thread(setup.core, setup.settings.pin);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .max_blocking_threads(BLOCKING_THREADS)
            .build_local(LocalOptions::default())
            .map_err(|error| error.to_string())?;
        let result = runtime.block_on(drive(setup));
        // A name that is being resolved is not waited for.
        runtime.shutdown_background();
        result
    }));
    let result = result.unwrap_or_else(|panic| Err(format!("it panicked: {}", text_of(panic.as_ref()))));
    // Nobody hears it where the collector has gone, and then nobody needs to.
    let _ = messages.send(Message::Ended { core, result });
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

async fn drive(setup: Setup) -> Result<(), String> {
    let EngineSettings { busy_poll, quantum, .. } = setup.settings;
    let mut pacer = Pacer::new(quantum).map_err(|error| format!("no timer: {error}"))?;
    let mut root = Root::new(setup);
    let mut next_ns = None;
    loop {
        let now_ns = now_ns();
        next_ns = match root.look(now_ns, next_ns)? {
            Next::Done => return Ok(()),
            Next::At(at_ns) => Some(at_ns),
            Next::Unknown => None,
        };
        if let Some(at_ns) = next_ns {
            if busy_poll && root.zero_ns.is_some() {
                root.spin_until(at_ns).await;
                continue;
            }
            pacer.arm(at_ns, now_ns).map_err(|error| format!("the timer is not armed: {error}"))?;
        }
        let core = &root.core;
        poll_fn(|cx| {
            if core.is_poked.take() {
                return Poll::Ready(Ok(()));
            }
            let mut root = core.root.borrow_mut();
            if root.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *root = Some(cx.waker().clone());
            }
            pacer.poll_fired(cx)
        })
        .await
        .map_err(|error| format!("the timer broke: {error}"))?;
    }
}

/// What comes after a look.
enum Next {
    /// Another look at this instant.
    At(u64),
    /// Another look when somebody pokes.
    Unknown,
    Done,
}

/// The root's own state.
struct Root {
    core: Rc<Core>,
    loads: Vec<Rc<Load>>,
    number: usize,
    messages: SyncSender<Message>,
    spares: Receiver<Box<Recorder>>,
    interval: Micros,
    /// Run time's zero, once it has been reached.
    zero_ns: Option<u64>,
    /// The orders that were carried out.
    obeyed: Orders,
    /// The end of the interval that is being recorded.
    boundary: RunTime,
    cpu_us: u64,
    /// Of the CPU time, what was spent on spinning.
    idle_ns: u64,
    wait_us: u64,
    look_late_ns_max: u64,
}

impl Root {
    fn new(setup: Setup) -> Self {
        let Setup { core: number, program, shares, possible, iterations, steering, messages, spares, .. } =
            setup;
        let mut orders = steering.subscribe();
        let core = Rc::new(Core {
            client: CoreClient::of_core(program.clone(), &possible),
            recorder: RefCell::new(Box::new(Recorder::new(&program))),
            steering,
            has_panicked: Cell::new(false),
            is_fenced: Cell::new(false),
            orders: Cell::new(*orders.borrow_and_update()),
            is_poked: Cell::new(false),
            root: RefCell::new(None),
            alive_ns: Cell::new(now_ns()),
            pause: Cell::default(),
            number,
            zero_ns: Cell::new(0),
            moved: RefCell::default(),
            program,
        });
        let loads = shares
            .iter()
            .zip(iterations)
            .enumerate()
            .map(|(index, (share, iterations))| Load::new(core.clone(), index as u32, share, iterations))
            .collect();
        let listening = core.clone();
        // Ends with the core's runtime.
        drop(tokio::task::spawn_local(async move {
            while orders.changed().await.is_ok() {
                listening.orders.set(*orders.borrow_and_update());
                listening.poke();
            }
        }));
        // The inbox has room for one from each core.
        let _ = messages.send(Message::Ready);
        let interval = Micros(core.program.interval.0.max(1));
        Self {
            core,
            loads,
            number,
            messages,
            spares,
            interval,
            zero_ns: None,
            obeyed: Orders::default(),
            boundary: RunTime(interval.0),
            cpu_us: thread_cpu_us(),
            idle_ns: 0,
            wait_us: thread_wait_us(),
            look_late_ns_max: 0,
        }
    }

    /// Until this instant or a poke, without ever sleeping; the runtime has a turn in any case.
    async fn spin_until(&mut self, at_ns: u64) {
        let Self { core, idle_ns, .. } = self;
        let mut seen_ns = now_ns();
        let mut had_turn = false;
        poll_fn(|cx| {
            let has_come = had_turn
                && loop {
                    let now_ns = now_ns();
                    let turn_ns = now_ns - seen_ns;
                    if turn_ns < IDLE_TURN_MAX_NS {
                        *idle_ns += turn_ns;
                    }
                    seen_ns = now_ns;
                    if now_ns >= at_ns || core.is_poked.take() {
                        break true;
                    }
                    if at_ns - now_ns > NEAR_NS {
                        break false;
                    }
                    std::hint::spin_loop();
                };
            if has_come {
                return Poll::Ready(());
            }
            had_turn = true;
            // Of its own runtime, this is no system call: sockets and timers are looked at, and then it is polled again.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Does everything that is due. `meant_ns` is the instant for which this look was planned.
    fn look(&mut self, now_ns: u64, meant_ns: Option<u64>) -> Result<Next, String> {
        if self.core.has_panicked.get() {
            return Err("a VU panicked".to_owned());
        }
        self.core.is_alive_at(now_ns);
        self.obey(now_ns);
        if self.obeyed.start_ns.is_some() {
            self.loads.iter().for_each(|load| load.hear());
        }
        if let Some(zero_ns) = self.zero_ns {
            self.look_late_ns_max =
                self.look_late_ns_max.max(now_ns.saturating_sub(meant_ns.unwrap_or(now_ns)));
            self.cut_at_boundary(now_ns, zero_ns)?;
            self.loads.iter().for_each(|load| load.look(now_ns));
        }
        self.hand_over_moves();
        if self.obeyed != Orders::default() && self.loads.iter().all(|load| load.is_done()) {
            self.hand_over_the_rest()?;
            return Ok(Next::Done);
        }
        let boundary_ns = self.zero_ns.map(|zero_ns| zero_ns + self.boundary.0 * 1_000);
        let start_ns = if self.zero_ns.is_none() { self.obeyed.start_ns } else { None };
        let of_loads = self.loads.iter().filter(|_| self.zero_ns.is_some()).filter_map(|load| load.next_ns());
        let next_ns = of_loads.chain(boundary_ns).chain(start_ns).min();
        // A core that looks often knows whether it stood still.
        let latest_ns = if self.zero_ns.is_some() { now_ns + LOOK_EVERY_NS } else { u64::MAX };
        Ok(next_ns.map_or(Next::Unknown, |next_ns| Next::At(next_ns.min(latest_ns))))
    }

    /// Carries out orders, the fence's too.
    fn obey(&mut self, now_ns: u64) {
        let mut orders = self.core.orders.get();
        if self.core.is_fenced.get() || !self.core.steering.may_send(now_ns) {
            orders.cut_ns = Some(orders.cut_ns.unwrap_or(now_ns).min(now_ns));
            self.core.orders.set(orders);
        }
        if let (None, Some(start_ns)) = (self.obeyed.start_ns, orders.start_ns) {
            self.core.zero_ns.set(start_ns);
            self.boundary = orders.joined.plus(self.interval);
            self.loads.iter().for_each(|load| load.begin(start_ns));
        }
        if let (None, Some(start_ns)) = (self.zero_ns, orders.start_ns)
            && now_ns >= start_ns
            && orders.cut_ns.is_none()
        {
            self.zero_ns = Some(start_ns);
            (self.cpu_us, self.idle_ns, self.wait_us) = (thread_cpu_us(), 0, thread_wait_us());
            // The inbox is empty but for the others' same message.
            let _ = self.messages.send(Message::Started { at_ns: now_ns });
        }
        if let Some(cut_ns) = orders.cut_ns.filter(|_| orders.cut_ns != self.obeyed.cut_ns) {
            self.loads.iter().for_each(|load| load.stop(now_ns, cut_ns));
        }
        self.obeyed = orders;
    }

    /// Hands over what was recorded, where a boundary of run time has passed.
    fn cut_at_boundary(&mut self, now_ns: u64, zero_ns: u64) -> Result<(), String> {
        let reached = RunTime(now_ns.saturating_sub(zero_ns) / 1_000);
        if reached < self.boundary {
            return Ok(());
        }
        let to = RunTime(reached.0 / self.interval.0 * self.interval.0);
        self.boundary = to.plus(self.interval);
        let part = self.part(to);
        match self.messages.try_send(Message::Part(part)) {
            // The collector is behind: what there is stays here until the next boundary.
            Err(TrySendError::Full(Message::Part(part))) => self.take_back(*part),
            Err(TrySendError::Disconnected(_)) => return Err("nobody collects".to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Says which moves of lanes hold; what the inbox has no room for waits for the next look.
    fn hand_over_moves(&mut self) {
        let mut moved = self.core.moved.borrow_mut();
        while let Some((number, from)) = moved.front().copied() {
            let message = Message::Moved { core: self.number, number, from };
            if self.messages.try_send(message).is_err() {
                break;
            }
            moved.pop_front();
        }
    }

    /// The last part, which ends now.
    fn hand_over_the_rest(&mut self) -> Result<(), String> {
        let Some(zero_ns) = self.zero_ns else { return Ok(()) };
        let now_us = now_ns().saturating_sub(zero_ns).div_ceil(1_000);
        let handed = RunTime(self.boundary.0 - self.interval.0);
        let part = self.part(RunTime(now_us).max(handed));
        self.messages.send(Message::Part(part)).map_err(|_| "nobody collects".to_owned())
    }

    fn part(&mut self, to: RunTime) -> Box<Part> {
        let spare = self.spares.try_recv().unwrap_or_else(|_| Box::new(Recorder::new(&self.core.program)));
        let mut recorder = self.core.recorder.replace(spare);
        for load in &self.loads {
            recorder.set_vus(load.index, load.vus());
        }
        let (cpu_us, wait_us) = (thread_cpu_us(), thread_wait_us());
        let part = Part {
            core: self.number,
            to,
            recorder,
            cpu_us: cpu_us - self.cpu_us,
            idle_us: self.idle_ns / 1_000,
            wait_us: wait_us.saturating_sub(self.wait_us),
            look_late_ns_max: self.look_late_ns_max,
        };
        (self.cpu_us, self.idle_ns, self.wait_us, self.look_late_ns_max) = (cpu_us, 0, wait_us, 0);
        Box::new(part)
    }

    fn take_back(&mut self, part: Part) {
        self.core.recorder.replace(part.recorder);
        self.cpu_us -= part.cpu_us;
        self.idle_ns += part.idle_us * 1_000;
        self.wait_us = self.wait_us.saturating_sub(part.wait_us);
        self.look_late_ns_max = part.look_late_ns_max;
    }
}
