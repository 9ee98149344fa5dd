//! Several addresses of one name: the first that answers is taken (Happy Eyeballs, RFC 8305 section 5).
//!
//! They are tried in the order given. The next one starts once one has failed, or when the newest has not answered in [`DELAY`]; those
//! that are under way go on. So an address that is dead costs a connection a quarter of a second and not its whole time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use volcanion_common::series::ErrorKind;

use crate::send::sample::{Failure, detail};

/// How long an attempt has before the next one begins beside it: the delay that RFC 8305 recommends.
const DELAY: Duration = Duration::from_millis(250);
/// Attempts under way at once; the oldest gives way.
const ATTEMPTS_MAX: usize = 8;

/// The first attempt that succeeds; where none does, the failure of the last one that ended. Where the machine itself
/// has no more to give, nothing new is tried.
pub async fn first<T, F>(attempts: impl Iterator<Item = F>) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    first_after(DELAY, attempts).await
}

async fn first_after<T, F>(delay: Duration, mut attempts: impl Iterator<Item = F>) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut going: Vec<Pin<Box<F>>> = Vec::new();
    let mut failure = Failure::new(ErrorKind::Connect, detail::FAILED);
    let mut pause = std::pin::pin!(sleep_until(Instant::now()));
    let mut has_more = true;
    loop {
        if has_more {
            match attempts.next() {
                Some(attempt) => {
                    if going.len() == ATTEMPTS_MAX {
                        going.remove(0);
                    }
                    going.push(Box::pin(attempt));
                    pause.as_mut().reset(Instant::now() + delay);
                }
                None => has_more = false,
            }
        }
        if going.is_empty() {
            return Err(failure);
        }
        let ended = poll_fn(|cx| {
            for at in 0..going.len() {
                if let Poll::Ready(result) = going[at].as_mut().poll(cx) {
                    drop(going.remove(at));
                    return Poll::Ready(Some(result));
                }
            }
            if has_more { pause.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
        });
        match ended.await {
            Some(Ok(winner)) => return Ok(winner),
            Some(Err(error)) => {
                failure = error;
                has_more &= !detail::is_own_exhaustion(error.detail);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::sync::Notify;

    use super::*;

    #[derive(Clone, Copy)]
    enum End {
        Wins,
        /// Once so many attempts have begun.
        WinsWith(usize),
        Fails(&'static str),
        Never,
    }

    /// Which attempt won, or the last failure; and how many were begun.
    async fn race(delay: Duration, ends: &[End]) -> (Result<usize, &'static str>, usize) {
        let (begun, has_begun) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let attempt = |(number, end): (usize, &End)| {
            let (end, begun, has_begun) = (*end, begun.clone(), has_begun.clone());
            async move {
                begun.set(begun.get() + 1);
                has_begun.notify_waiters();
                match end {
                    End::Wins => Ok(number),
                    End::WinsWith(count) => {
                        while begun.get() < count {
                            has_begun.notified().await;
                        }
                        Ok(number)
                    }
                    End::Fails(detail) => Err(Failure::new(ErrorKind::Connect, detail)),
                    End::Never => std::future::pending().await,
                }
            }
        };
        let result = first_after(delay, ends.iter().enumerate().map(attempt)).await;
        (result.map_err(|failure| failure.detail), begun.get())
    }

    const SHORT: Duration = Duration::from_millis(2);
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_dead_address_gives_way_after_the_delay_and_not_before() {
        let began = Instant::now();
        assert_eq!(race(SHORT, &[End::Never, End::Never, End::Wins]).await, (Ok(2), 3));
        assert!(began.elapsed() >= 2 * SHORT);
        assert_eq!(race(LONG, &[End::Wins, End::Wins]).await, (Ok(0), 1));
    }

    #[tokio::test]
    async fn a_refused_address_gives_way_at_once() {
        assert_eq!(race(LONG, &[End::Fails("refused"), End::Fails("refused"), End::Wins]).await, (Ok(2), 3));
    }

    #[tokio::test]
    async fn a_slow_address_may_still_win() {
        assert_eq!(race(SHORT, &[End::WinsWith(2), End::Never]).await, (Ok(0), 2));
    }

    #[tokio::test]
    async fn the_last_failure_is_told_and_our_own_ends_it() {
        let ends = [End::Fails("refused"), End::Fails("unreachable")];
        assert_eq!(race(LONG, &ends).await, (Err("unreachable"), 2));
        assert_eq!(race(LONG, &[End::Fails("no files"), End::Wins]).await, (Err("no files"), 1));
    }

    #[tokio::test]
    async fn any_number_of_dead_addresses_is_gone_through() {
        let mut ends = vec![End::Never; 30];
        ends.push(End::Wins);
        assert_eq!(race(SHORT, &ends).await, (Ok(30), 31));
    }
}
