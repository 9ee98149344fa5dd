//! How full bounded queues are, for metrics: read when somebody looks, so that whoever uses a queue pays nothing for it.

use tokio::sync::mpsc;

use super::prometheus::Family;

/// What waits in a queue, and how much may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// So many wait.
    pub depth: usize,
    /// So many may.
    pub bound: usize,
}

impl Filling {
    /// Of a channel.
    pub fn of<T>(sender: &mpsc::Sender<T>) -> Self {
        let bound = sender.max_capacity();
        Self { depth: bound - sender.capacity(), bound }
    }
}

/// A channel that is looked at without being kept open.
pub struct Queue(Box<dyn Fn() -> Option<Filling> + Send + Sync>);

impl Queue {
    /// Of a channel's sender.
    pub fn of<T: Send + 'static>(sender: &mpsc::Sender<T>) -> Self {
        let sender = sender.downgrade();
        Self(Box::new(move || sender.upgrade().map(|sender| Filling::of(&sender))))
    }

    /// How full it is; `None`: nobody sends any more.
    pub fn filling(&self) -> Option<Filling> {
        (self.0)()
    }
}

/// The two families of queues, `…_queue_depth` and `…_queue_bound`. Of several queues of a kind the fullest counts.
pub struct QueueFamilies {
    depth: Family,
    bound: Family,
}

impl QueueFamilies {
    /// Named by the process's prefix, such as `volcanion`.
    pub fn new(prefix: &str) -> Self {
        let depth = format!("{prefix}_queue_depth");
        let bound = format!("{prefix}_queue_bound");
        Self {
            depth: Family::gauge(&depth, "What waits in the fullest queue of each kind."),
            bound: Family::gauge(&bound, "The most that a queue of this kind holds."),
        }
    }

    /// Adds a kind, of which there may be none now.
    pub fn add(&mut self, kind: &str, bound: usize, queues: impl IntoIterator<Item = Filling>) {
        let fullest = queues.into_iter().map(|filling| filling.depth).max().unwrap_or(0);
        self.depth.add(&[("queue", kind)], fullest as f64);
        self.bound.add(&[("queue", kind)], bound as f64);
    }

    /// To be shown.
    pub fn into_families(self) -> [Family; 2] {
        [self.depth, self.bound]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_looked_at_and_not_kept_open() {
        let (sender, mut receiver) = mpsc::channel(3);
        let queue = Queue::of(&sender);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(queue.filling(), Some(Filling { depth: 2, bound: 3 }));
        receiver.try_recv().unwrap();
        assert_eq!(queue.filling(), Some(Filling { depth: 1, bound: 3 }));
        drop(sender);
        assert_eq!(queue.filling(), None);
        receiver.try_recv().unwrap();
        assert!(matches!(receiver.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    }
}
