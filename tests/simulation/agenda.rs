//! The virtual clock and what is to happen: items by time, and of one time in the order in which they were put in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module.
pub struct Agenda<T> {
    now_ns: u64,
    next_number: u64,
    heap: BinaryHeap<Reverse<Entry<T>>>,
}

struct Entry<T> {
    at: (u64, u64),
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<T> Agenda<T> {
    pub fn new() -> Self {
        Self { now_ns: 0, next_number: 0, heap: BinaryHeap::new() }
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// At an instant; one that has passed is now.
    pub fn at(&mut self, at_ns: u64, item: T) {
        self.next_number += 1;
        let at = (at_ns.max(self.now_ns), self.next_number);
        self.heap.push(Reverse(Entry { at, item }));
    }

    pub fn after(&mut self, pause_ns: u64, item: T) {
        self.at(self.now_ns + pause_ns, item);
    }

    /// The next item; the clock goes there.
    pub fn next(&mut self) -> Option<T> {
        let Reverse(Entry { at, item }) = self.heap.pop()?;
        self.now_ns = at.0;
        Some(item)
    }
}
