//! Making the shadow the primary, and back: the only writer of roles.
//!
//! [`machine`] says what follows what, [`guards`] whether it may begin; both are pure. [`Helm`] is
//! what the operators' door asks of whoever runs it.

pub mod guards;
pub mod helm;
pub mod machine;

pub use guards::{GUARDS, Judged, Verdict};
pub use helm::{Helm, Order, Refused, Soon, Unmanned, is_way_back, restored};
pub use machine::{Action, Event, State};
