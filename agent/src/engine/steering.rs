//! What the owner of a load tells its cores: when to start, when to end, until when they may send, which levels hold from when on, and which lanes come and go.
//!
//! The orders are a value of which only the newest counts, so there is nothing to queue. The fence is an atomic beside
//! it, because it is looked at before each request. Changes of level and moves of lanes all count: they are a list that only grows, and its length is an atomic, so that a
//! core sees a new one before whatever it does next.
//!
//! Invariant: a move holds from a moment that no core has passed when it can first see the move. So no core has started anything that it is to leave to others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use volcanion_common::session::{Change, Move};
use volcanion_common::shard::ScenarioShare;
use volcanion_common::units::{Micros, RunTime};

use super::deal::Deal;
use crate::send::clock::now_ns;

/// Where a move came too late, it holds so much later than now: time enough for every core to hear of it.
const HEARD_WITHIN: Micros = Micros::from_millis(50);
/// A moment that is no farther than this counts as passed.
const MARGIN_NS: u64 = 1_000_000;

/// The orders in force. Instants are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// When run time begins.
    pub start_ns: Option<u64>,
    /// Up to where run time had gone when the load joined it; 0 but for one that joins a run that goes.
    pub joined: RunTime,
    /// No new iterations; at this instant those in flight are cut off.
    pub cut_ns: Option<u64>,
    /// How much was told: the next thing may be due before anything that a core waits for.
    told: usize,
}

/// A change of level, and since when it holds on this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// As ordered.
    pub change: Change,
    /// Later than the ordered moment where the order came late; never before that of an earlier adjustment.
    pub from: RunTime,
}

/// Lanes that come and go, for each core what is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMoves {
    /// The move's number.
    pub number: u64,
    /// The scenario's position.
    pub scenario: u32,
    /// Since when it holds; in each scenario never before that of an earlier one.
    pub from: RunTime,
    /// Which lanes each core loses.
    pub release: Vec<Vec<u32>>,
    /// Which it gets.
    pub take: Vec<Vec<u32>>,
}

/// What all cores are to hear, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A level changes.
    Adjust(Adjustment),
    /// Lanes move.
    Move(CoreMoves),
}

/// See the module.
#[derive(Debug)]
pub struct Steering {
    orders: watch::Sender<Orders>,
    may_send_until_ns: AtomicU64,
    book: Mutex<Book>,
    told_count: AtomicUsize,
}

#[derive(Debug)]
struct Book {
    told: Vec<Told>,
    deal: Deal,
    /// Of each scenario, since when its newest move holds.
    moved: Vec<RunTime>,
}

impl Steering {
    /// For cores with these shares of the scenarios.
    pub fn new(shares: &[Vec<ScenarioShare>]) -> Self {
        let scenarios = shares.first().map_or(0, Vec::len);
        let book = Book { told: Vec::new(), deal: Deal::new(shares), moved: vec![RunTime::START; scenarios] };
        Self {
            orders: watch::Sender::new(Orders::default()),
            may_send_until_ns: AtomicU64::new(u64::MAX),
            book: Mutex::new(book),
            told_count: AtomicUsize::new(0),
        }
    }

    /// Gives the start, and how far run time had gone before; the first one holds.
    pub fn start(&self, start_ns: u64, joined: RunTime) {
        self.orders.send_if_modified(|orders| {
            let is_first = orders.start_ns.is_none();
            if is_first {
                (orders.start_ns, orders.joined) = (Some(start_ns), joined);
            }
            is_first
        });
    }

    /// Up to where run time had gone when the load joined it.
    pub fn joined(&self) -> RunTime {
        self.orders.borrow().joined
    }

    /// Ends the load; the earliest cut holds.
    pub fn stop(&self, cut_ns: u64) {
        self.orders.send_if_modified(|orders| {
            let is_earlier = orders.cut_ns.is_none_or(|before_ns| cut_ns < before_ns);
            if is_earlier {
                orders.cut_ns = Some(cut_ns);
            }
            is_earlier
        });
    }

    /// Moves the fence.
    pub fn allow_until(&self, fence_ns: u64) {
        self.may_send_until_ns.store(fence_ns, Ordering::Relaxed);
    }

    /// Whether the fence lies after this instant.
    #[inline]
    pub fn may_send(&self, now_ns: u64) -> bool {
        now_ns < self.may_send_until_ns.load(Ordering::Relaxed)
    }

    /// Changes a level.
    pub fn adjust(&self, adjustment: Adjustment) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.told.push(Told::Adjust(adjustment));
        let told = book.told.len();
        self.told_count.store(told, Ordering::Release);
        drop(book);
        self.orders.send_modify(|orders| orders.told = told);
    }

    /// Moves lanes. Gives the moment from which that holds: as ordered, unless that is past or too near.
    pub fn move_lanes(&self, order: &Move) -> RunTime {
        let start_ns = self.orders.borrow().start_ns;
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let Book { told, deal, moved } = &mut *book;
        let (release, take) = deal.moved(order);
        let mut from = order.from;
        if let Some(last) = moved.get_mut(order.scenario as usize) {
            from = from.max(*last);
            *last = from;
        }
        let place = told.len();
        told.push(Told::Move(CoreMoves {
            number: order.number,
            scenario: order.scenario,
            from,
            release,
            take,
        }));
        self.told_count.store(place + 1, Ordering::Release);
        // From here on a core that looks sees that there is something, and waits for the lock. Whatever was started before was due before now; should this thread, or
        // the whole process, have been held up so long that the moment has come meanwhile, a later one is taken.
        fence(Ordering::SeqCst);
        while let Some(start_ns) = start_ns {
            let now_ns = now_ns();
            if start_ns.saturating_add(from.0.saturating_mul(1_000)) > now_ns.saturating_add(MARGIN_NS) {
                break;
            }
            from = RunTime(now_ns.saturating_sub(start_ns).div_ceil(1_000)).plus(HEARD_WITHIN);
        }
        if let Some(last) = moved.get_mut(order.scenario as usize) {
            *last = from;
        }
        if let Some(Told::Move(moves)) = told.get_mut(place) {
            moves.from = from;
        }
        let told = told.len();
        drop(book);
        self.orders.send_modify(|orders| orders.told = told);
        from
    }

    /// How much was told.
    #[inline]
    pub fn told(&self) -> usize {
        self.told_count.load(Ordering::Acquire)
    }

    /// What was told after the first `known` things.
    pub fn told_after(&self, known: usize) -> Vec<Told> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.told.get(known..).unwrap_or_default().to_vec()
    }

    /// Follows the orders.
    pub fn subscribe(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_comes_late_holds_from_a_moment_that_is_still_to_come() {
        let steering = Steering::new(&[vec![ScenarioShare::whole(4)]]);
        let order = |number, from| Move { number, scenario: 0, from, release: vec![1], take: vec![] };
        let start_ns = now_ns() - 5_000_000_000;
        steering.start(start_ns, RunTime::START);
        let from = steering.move_lanes(&order(1, RunTime(1_000_000)));
        assert!(from > RunTime(5_000_000), "{from:?}");
        let later = RunTime(from.0 + 60_000_000);
        assert_eq!(steering.move_lanes(&order(2, later)), later);
        assert_eq!(steering.move_lanes(&order(3, RunTime(from.0 + 30_000_000))), later, "moves are in order");
        let told = steering.told_after(0);
        let Told::Move(first) = &told[0] else { panic!("{told:?}") };
        assert_eq!((first.from, &first.release), (from, &vec![vec![1]]));
    }
}
