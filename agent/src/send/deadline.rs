//! The time limit of requests, without touching the timer wheel for each of them.
//!
//! A VU has one sleep. It is armed for the deadline of some request and left alone while later requests begin and end; only
//! when it fires is it compared with the deadline that counts by then, and armed again. So a VU costs one timer a timeout, not one a request.
//! A limit never cuts early; late it is by the runtime's coarseness, about a millisecond.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::now_ns;

/// The sleep of one VU.
#[derive(Debug, Default)]
pub struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    armed_ns: u64,
    /// Whom the sleep wakes.
    waker: Option<Waker>,
}

impl Deadline {
    /// Whether this instant of CLOCK_MONOTONIC has passed; if not, the task is woken no later than shortly after it.
    #[inline]
    pub fn has_passed(&mut self, cx: &mut Context<'_>, deadline_ns: u64) -> bool {
        let is_armed = self.armed_ns <= deadline_ns
            && self.sleep.as_ref().is_some_and(|sleep| !sleep.is_elapsed())
            && self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        !is_armed && self.arm(cx, deadline_ns)
    }

    #[cold]
    fn arm(&mut self, cx: &mut Context<'_>, deadline_ns: u64) -> bool {
        let now_ns = now_ns();
        if now_ns >= deadline_ns {
            return true;
        }
        let at = Instant::now() + Duration::from_nanos(deadline_ns - now_ns);
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(at);
                sleep
            }
            None => self.sleep.insert(Box::pin(sleep_until(at))),
        };
        self.armed_ns = deadline_ns;
        self.waker = Some(cx.waker().clone());
        // A task that has just read very much has used its turn up, and tokio would then put the sleep off without a word: it would never fire.
        if pin!(unconstrained(sleep)).poll(cx).is_ready() {
            // It fell due between the two clock reads: look once more, soon.
            self.waker = None;
            cx.waker().wake_by_ref();
        }
        false
    }

    /// Drives a future until it is done or the instant has passed.
    pub async fn bound<F: Future>(&mut self, mut future: Pin<&mut F>, deadline_ns: u64) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.has_passed(cx, deadline_ns) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_limit_cuts_on_time_after_any_number_of_longer_and_shorter_ones() {
        let mut deadline = Deadline::default();
        for millis in [40, 5, 20] {
            let at_ns = now_ns() + millis * 1_000_000;
            let mut never = std::pin::pin!(std::future::pending::<()>());
            assert_eq!(deadline.bound(never.as_mut(), at_ns).await, None);
            assert!(now_ns() >= at_ns, "{millis} ms was cut early");
        }
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_given_and_the_timer_is_armed_once() {
        let mut deadline = Deadline::default();
        for _ in 0..100 {
            let at_ns = now_ns() + 60_000_000_000;
            let mut soon = std::pin::pin!(tokio::task::yield_now());
            assert_eq!(deadline.bound(soon.as_mut(), at_ns).await, Some(()));
        }
        let first_armed_ns = deadline.armed_ns;
        let mut soon = std::pin::pin!(tokio::task::yield_now());
        deadline.bound(soon.as_mut(), now_ns() + 60_000_000_000).await;
        assert_eq!(deadline.armed_ns, first_armed_ns);
    }

    #[tokio::test]
    async fn a_task_that_used_its_turn_up_is_woken_in_time_too() {
        let mut deadline = Deadline::default();
        // Anew, and after the sleep has fired once.
        for _ in 0..2 {
            let at_ns = now_ns() + 10_000_000;
            let mut polls = 0;
            let is_over = poll_fn(|cx| {
                polls += 1;
                if polls == 1 {
                    while tokio::task::coop::poll_proceed(cx).map(|turn| turn.made_progress()).is_ready() {}
                }
                if deadline.has_passed(cx, at_ns) { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::time::timeout(Duration::from_secs(20), is_over).await.expect("it was never woken");
        }
    }

    #[tokio::test]
    async fn another_task_that_takes_the_vu_over_is_woken_too() {
        let mut deadline = Deadline::default();
        let at_ns = now_ns() + 60_000_000_000;
        let mut soon = std::pin::pin!(tokio::task::yield_now());
        deadline.bound(soon.as_mut(), at_ns).await;
        let at_ns = now_ns() + 10_000_000;
        let moved = tokio::spawn(async move {
            let mut never = std::pin::pin!(std::future::pending::<()>());
            deadline.bound(never.as_mut(), at_ns).await
        });
        assert_eq!(moved.await.unwrap(), None);
    }
}
