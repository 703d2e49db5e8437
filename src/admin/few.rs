//! A few places at what lasts: streams, connections. The last quarter of them is kept for operators, so that viewers,
//! however many come, keep none of them out. Operators may take all.

use super::answer::Refusal;
use crate::config::Role;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of so many places may be taken, whoever has them, once somebody of this role has been given one.
pub(super) const fn open_to(role: Role, places: usize) -> usize {
    match role {
        Role::Operator => places,
        Role::Viewer => places - places / 4,
    }
}

/// What is told to whoever would listen and is given no place.
pub(super) fn none_left(role: Role, places: usize) -> Refusal {
    let why = match role {
        Role::Operator => format!("{places} others listen already, which is as many as may"),
        Role::Viewer => {
            let open = open_to(role, places);
            let kept = places - open;
            format!(
                "{open} others or more listen already, and the last {kept} of the {places} places are for operators"
            )
        }
    };
    Refusal::unavailable(format!("{why}; end one of them"))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Few {
    places: usize,
    taken: AtomicUsize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken(Arc<Few>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Few {
    /// So many.
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            places,
            taken: AtomicUsize::new(0),
        })
    }

    /// One for somebody of this role; none where all that are open to it are taken.
    pub(super) fn take(self: &Arc<Self>, role: Role) -> Option<Taken> {
        let open = open_to(role, self.places);
        let more = |taken: usize| (taken < open).then_some(taken + 1);
        let taken = &self.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
            .then(|| Taken(Arc::clone(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_keep_no_operator_out() {
        for places in [8, 16] {
            let few = Few::new(places);
            let viewers: Vec<Taken> = std::iter::from_fn(|| few.take(Role::Viewer)).collect();
            assert_eq!(viewers.len(), places / 4 * 3);
            let operators: Vec<Taken> = std::iter::from_fn(|| few.take(Role::Operator)).collect();
            assert_eq!(operators.len(), places / 4);
            drop(viewers);
            // Operators may have them all.
            let more: Vec<Taken> = std::iter::from_fn(|| few.take(Role::Operator)).collect();
            assert_eq!(more.len() + operators.len(), places);
            assert!(few.take(Role::Viewer).is_none());
            drop((operators, more));
            assert!(few.take(Role::Viewer).is_some(), "all of them are free");
        }
    }

    #[test]
    fn who_is_given_none_is_told_whose_they_are() {
        let told = none_left(Role::Viewer, 8);
        let words = "6 others or more listen already, and the last 2 of the 8 places are for operators; end one of them";
        assert_eq!((told.status(), told.message()), (503, words));
        let told = none_left(Role::Operator, 8);
        let words = "8 others listen already, which is as many as may; end one of them";
        assert_eq!(told.message(), words);
    }
}
