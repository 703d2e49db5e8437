//! On which thread a session lives: the one with the fewest. It stays there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;

/// The threads. Without any, sessions live where the relay was asked to serve them.
#[derive(Debug, Default)]
pub(super) struct Homes(Vec<Arc<Home>>);

/// One thread's runtime, and how many sessions live there.
#[derive(Debug)]
struct Home {
    handle: Handle,
    sessions: AtomicU64,
}

/// A session's place on its thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Home>);

impl Homes {
    pub(super) fn new(threads: &[Handle]) -> Self {
        let home = |handle: &Handle| {
            Arc::new(Home {
                handle: handle.clone(),
                sessions: AtomicU64::new(0),
            })
        };
        Self(threads.iter().map(home).collect())
    }

    /// A place where the fewest live.
    pub(super) fn place(&self) -> Option<Place> {
        let homes = self.0.iter();
        let home = homes.min_by_key(|home| home.sessions.load(Ordering::Relaxed))?;
        home.sessions.fetch_add(1, Ordering::Relaxed);
        Some(Place(Arc::clone(home)))
    }
}

impl Place {
    pub(super) fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_session_lives_where_the_fewest_do() {
        let runtimes = [(); 2].map(|()| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.build().expect("a runtime")
        });
        let homes = Homes::new(&runtimes.each_ref().map(|one| one.handle().clone()));
        let lives = |place: &Place| {
            let mut ids = runtimes.iter().map(|one| one.handle().id());
            ids.position(|id| id == place.handle().id())
        };
        let mut places: Vec<Place> = (0..4).filter_map(|_| homes.place()).collect();
        let at: Vec<_> = places.iter().map(lives).collect();
        assert_eq!(at, [Some(0), Some(1), Some(0), Some(1)]);
        drop(places.remove(1));
        assert_eq!(homes.place().as_ref().and_then(lives), Some(1));
        assert!(Homes::default().place().is_none());
    }
}
