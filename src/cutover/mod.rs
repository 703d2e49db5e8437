//! Making the shadow the primary, and back: the only writer of roles.
//!
//! [`machine`] says what follows what, [`guards`] whether it may begin; both are pure. [`Helm`] is
//! what the operators' door asks of whoever runs it, and [`Cutovers`] runs it: the `coordinator`
//! hears, `acts` does, `record` writes it down, `progress` (with `behind`) tells who looks on what is waited for. The others are what is done: `looks` (with `crowd`,
//! `visit`, `rights` and `room`) gathers what the guards judge, `hold` and [`Carrier`] stop the sessions and carry
//! them across, `catch_up` waits for the shadow (`replicated` for others who ask how far replication is),
//! `replication` into it is stopped, `soak` watches the new
//! primary, [`Standstill`] lends the hold to others for a moment, [`Lock`] has a table's writers stand still instead and
//! waits for the shadow at the primary's `position`, `fence` and `hooks` are options, `turn` keeps what is done late from undoing what is
//! newer, the `watchdog` ends a hold that nobody ends, and [`fleet`] has
//! several proxies do all this together.

pub mod fleet;
pub mod guards;
pub mod helm;
pub mod machine;

mod acts;
mod behind;
mod carry;
mod catch_up;
mod coordinator;
mod crowd;
mod fence;
mod hold;
mod hooks;
mod lock;
mod looks;
mod position;
mod progress;
mod record;
mod replicated;
mod replication;
mod rights;
mod room;
mod soak;
mod standstill;
mod turn;
mod visit;
mod watchdog;

pub use behind::{Behind, First};
pub use carry::Carrier;
pub use coordinator::{Cutovers, Judge, Parts};
pub use fleet::Fleet;
pub use guards::{GUARDS, Judged, Verdict};
pub use helm::{Helm, Order, Refused, Soon, Unmanned, is_way_back, restored};
pub use lock::{Lock, Locked, Of, never_locks};
pub use machine::{Action, Event, State};
pub use progress::{Missing, Progress};
pub use replicated::Replicated;
pub use rights::{lacks_for_fence, lacks_to_lock};
pub use soak::{Sides, Soak};
pub use standstill::{Moment, Standstill, Why};
