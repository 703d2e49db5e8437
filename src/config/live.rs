//! A value that may change while the process runs, because the config is read again.
//!
//! Whoever needs it asks for it when it is needed, and keeps no copy: there is no way to the value but to ask. To ask
//! takes no lock and waits for nobody.

use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;

/// See the module. Clones share the value.
#[derive(Clone)]
pub struct Live<T> {
    value: Arc<ArcSwap<T>>,
    first: Arc<T>,
}

impl<T> Live<T> {
    /// The value as it is now, whole: it does not change while somebody has it.
    #[must_use]
    pub fn whole(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Becomes what `read` is.
    pub(super) fn follow(&self, read: &Self) {
        self.value.store(read.whole());
    }
}

impl<T: Copy> Live<T> {
    /// The value as it is now.
    #[must_use]
    pub fn now(&self) -> T {
        **self.value.load()
    }

    /// The value that the process started with, for what is laid out then.
    #[must_use]
    pub fn at_start(&self) -> T {
        *self.first
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        let first = Arc::new(value);
        Self {
            value: Arc::new(ArcSwap::new(Arc::clone(&first))),
            first,
        }
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_value_and_the_first_one_is_remembered() {
        let one = Live::from(5);
        let other = one.clone();
        one.follow(&Live::from(7));
        assert_eq!((other.now(), other.at_start()), (7, 5));
        assert_eq!(format!("{other:?}"), "7");
    }

    #[test]
    fn who_has_it_whole_keeps_it_as_it_was() {
        let list = Live::from(vec![1]);
        let had = list.whole();
        list.follow(&Live::from(vec![2]));
        assert_eq!((&*had, &*list.whole()), (&vec![1], &vec![2]));
    }
}
