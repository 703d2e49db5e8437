//! A time-out for one thing after another. Its timer is armed once and goes off now and then, to be
//! set anew for what is waited for by then: what is done in time arms and disarms nothing.

use crate::config::Live;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    at_most: Live<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl Patience {
    /// Patience for so long with each.
    pub(super) fn new(at_most: Duration) -> Self {
        Self::live(&at_most.into())
    }

    /// The same, where that may change between two of them.
    pub(super) fn live(at_most: &Live<Duration>) -> Self {
        Self {
            at_most: at_most.clone(),
            timer: None,
        }
    }

    /// Waits for `work`.
    ///
    /// Cancel-safe where that is.
    pub(super) async fn with<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = pin!(work);
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.at_most.now());
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            // Armed for an earlier work, it goes off before this one's time is up.
            while timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    self.timer = None;
                    return Poll::Ready(Err(Lost));
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_work_has_its_own_time() {
        let mut patience = Patience::new(TIME);
        for _ in 0..5 {
            let work = tokio::time::sleep(TIME - Duration::from_secs(3));
            assert_eq!(patience.with(work).await, Ok(()));
        }
        let start = Instant::now();
        assert_eq!(patience.with(std::future::pending::<()>()).await, Err(Lost));
        assert_eq!(start.elapsed(), TIME);
        let start = Instant::now();
        assert_eq!(patience.with(std::future::pending::<()>()).await, Err(Lost));
        assert_eq!(start.elapsed(), TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_went_off_between_two_works_takes_no_time_from_the_second() {
        let mut patience = Patience::new(TIME);
        assert_eq!(patience.with(tokio::task::yield_now()).await, Ok(()));
        tokio::time::sleep(TIME * 3).await;
        let start = Instant::now();
        let work = tokio::time::sleep(TIME - Duration::from_millis(1));
        assert_eq!(patience.with(work).await, Ok(()));
        assert_eq!(patience.with(std::future::pending::<()>()).await, Err(Lost));
        assert_eq!(start.elapsed(), TIME * 2 - Duration::from_millis(1));
    }
}
