//! One VU: a task that runs iterations, the same way under every executor.
//!
//! The schedule talks to it through cells ([`Vu`]), all on one core. An iteration is cut off at its next await; what it had in
//! flight is recorded as interrupted. Nothing here allocates once the VU is there.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::core::Core;
use super::load::Load;
use crate::prepare::Item;
use crate::schedule::Random;
use crate::send::clock::now_ns;
use crate::send::{Sample, VuClient};

/// How long a VU of a closed loop rests after an iteration that ended without anything sent (refused, no such name, not allowed),
/// which may have taken no time: else it would be a busy loop, and a target that is down for a second would outweigh a
/// minute of answers. An open loop is paced by its arrivals.
const REST: Duration = Duration::from_millis(10);

/// What a VU's task and its schedule share.
#[derive(Debug)]
pub struct Vu {
    /// Its place among the core's VUs of the scenario.
    pub place: u32,
    /// Unique in the cluster.
    pub number: u64,
    /// Open loop: the iteration that it is to start, by its intended start.
    pub assigned_ns: Cell<Option<u64>>,
    /// Whether it goes on after its iteration.
    pub is_wanted: Cell<bool>,
    /// Since when it is not wanted.
    pub unwanted_since_ns: Cell<u64>,
    /// Whether its task is there.
    pub is_running: Cell<bool>,
    /// Whether its iteration is to be cut off.
    is_cut: Cell<bool>,
    /// The intended start, until the first step has used it.
    intended_ns: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Vu {
    /// One without a task.
    pub fn new(place: u32, number: u64) -> Self {
        Self {
            place,
            number,
            assigned_ns: Cell::new(None),
            is_wanted: Cell::new(true),
            unwanted_since_ns: Cell::new(0),
            is_running: Cell::new(false),
            is_cut: Cell::new(false),
            intended_ns: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Its task is made anew.
    pub fn begin(&self) {
        self.is_running.set(true);
        self.is_cut.set(false);
        *self.waker.borrow_mut() = None;
    }

    /// Makes its task look at its cells.
    #[inline]
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// It is wanted again: a cut that it has not come to yet is taken back.
    pub fn spare(&self) {
        self.is_cut.set(false);
    }

    /// Cuts off the iteration in flight, if there is one.
    pub fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    async fn keep_waker(&self) {
        poll_fn(|cx| {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for an iteration to start; nothing once the scenario is closing, or the VU's lane went to another owner.
    async fn next_start(&self, load: &Load) -> Option<u64> {
        poll_fn(|_| match self.assigned_ns.take() {
            Some(intended_ns) => Poll::Ready(Some(intended_ns)),
            None if load.is_closing() || !self.is_wanted.get() => Poll::Ready(None),
            None => Poll::Pending,
        })
        .await
    }
}

/// Tells the core if the task that holds it panics.
struct Alarm<'a>(&'a Core);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_panicked.set(true);
            self.0.poke();
        }
    }
}

/// The task of a VU of an open loop: runs what it is given until the scenario closes.
pub async fn serve(load: Rc<Load>, vu: Rc<Vu>) {
    let alarm = Alarm(&load.core);
    vu.keep_waker().await;
    let mut runner = Runner::new(&load, &vu);
    while let Some(intended_ns) = vu.next_start(&load).await {
        let now_ns = now_ns();
        load.core.recorder.borrow_mut().lag(load.index, now_ns.saturating_sub(intended_ns));
        runner.iterate(now_ns, Some(intended_ns)).await;
        load.is_free(&vu, runner.last_ns);
    }
    load.left(&vu);
    drop(alarm);
}

/// The task of a VU of a closed loop: iterates as long as it is wanted and there is something left to do.
pub async fn repeat(load: Rc<Load>, vu: Rc<Vu>) {
    let alarm = Alarm(&load.core);
    vu.keep_waker().await;
    load.has_begun();
    let mut runner = Runner::new(&load, &vu);
    let mut done = 0;
    while vu.is_wanted.get() && load.may_start(done) {
        runner.iterate(runner.last_ns, None).await;
        done += 1;
        if runner.is_unsent {
            tokio::time::sleep(REST).await;
            runner.last_ns = now_ns();
        }
    }
    load.left(&vu);
    drop(alarm);
}

/// What a VU needs to run iterations.
struct Runner<'a> {
    load: &'a Load,
    vu: &'a Vu,
    client: VuClient,
    random: Random,
    /// The newest instant that it knows of, so that looking at the clock once more is not needed.
    last_ns: u64,
    /// Whether its newest attempt ended before anything was sent.
    is_unsent: bool,
}

impl<'a> Runner<'a> {
    fn new(load: &'a Load, vu: &'a Vu) -> Self {
        let client = VuClient::new(Rc::clone(&load.core.client), vu.number);
        let random = Random::new([load.core.program.seed, load.index.into(), vu.number]);
        Self { load, vu, client, random, last_ns: now_ns(), is_unsent: false }
    }

    /// Runs one iteration to its end, or until it is cut off; it was counted as started before.
    async fn iterate(&mut self, now_ns: u64, intended_ns: Option<u64>) {
        let (load, vu) = (self.load, self.vu);
        self.last_ns = now_ns;
        self.client.begin_iteration();
        vu.intended_ns.set(intended_ns);
        let is_whole =
            {
                let mut steps = pin!(self.steps());
                poll_fn(|cx| {
                    if vu.is_cut.get() { Poll::Ready(false) } else { steps.as_mut().poll(cx).map(|()| true) }
                })
                .await
            };
        if is_whole {
            load.core.recorder.borrow_mut().completed(load.index);
        } else {
            vu.is_cut.set(false);
            let sample = self.client.interrupted();
            self.client.disconnect();
            let mut recorder = load.core.recorder.borrow_mut();
            if let Some(sample) = sample {
                recorder.sample(&sample, vu.intended_ns.take());
            }
            recorder.interrupted(load.index);
        }
    }

    /// Goes on only if the core may send now.
    #[inline]
    async fn leave_to_send(&self) {
        let core = &self.load.core;
        if !core.steering.may_send(self.last_ns) {
            // The core stops at its next look, which cuts this off.
            core.reach_fence();
            pending::<()>().await;
        }
    }

    #[inline]
    fn record(&mut self, sample: &Sample) {
        let core = &self.load.core;
        self.last_ns = sample.ended_ns;
        self.is_unsent = sample.sent_ns == 0;
        core.is_alive_at(sample.ended_ns);
        core.recorder.borrow_mut().sample(sample, self.vu.intended_ns.take());
    }

    async fn steps(&mut self) {
        let core = &self.load.core;
        for item in &core.program.scenarios[self.load.index as usize].items {
            match item {
                Item::Request(step) => {
                    self.leave_to_send().await;
                    let mut sample = self.client.step(*step).await;
                    self.record(&sample);
                    while sample.leads_on {
                        self.leave_to_send().await;
                        // Boxed: a redirect is rare, and would else be part of every idle VU.
                        let Some(next) = Box::pin(self.client.follow()).await else { break };
                        sample = next;
                        self.record(&sample);
                    }
                    if self.is_unsent {
                        // It may not have waited for anything; the core's other VUs have their turn.
                        tokio::task::yield_now().await;
                    }
                }
                Item::Think { least, most } => {
                    tokio::time::sleep(self.random.between(*least, *most).duration()).await;
                    // What is sent next is judged by the moment at which it is, not by the one before the pause.
                    self.last_ns = now_ns();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<F>(_: impl FnOnce(Rc<Load>, Rc<Vu>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_vu_is_small() {
        let sizes = [size_of_task(repeat), size_of_task(serve), size_of::<Vu>(), size_of::<Runner<'_>>()];
        println!("a VU's task {sizes:?} bytes: closed loop, open loop; its cells; its client");
        // A hundred thousand of them are to be nothing that a machine notices.
        assert!(sizes.iter().sum::<usize>() / 2 < 2_048, "{sizes:?}");
    }
}
