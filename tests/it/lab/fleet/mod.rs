//! Several proxies before one pair of servers, which flip together through etcd: three of them, each
//! with its own ledger, its own door and a checker at work, alone on the machine.
//!
//! | file | proves |
//! |---|---|
//! | `flips` | flips by whoever is asked lose and double nothing, and no client sees an error; of two that are asked at once one passes |
//! | `faults` | a proxy or etcd that dies, hangs or is cut off at a step: in the end all name one primary, which has every acknowledged write |
//! | `members` | who comes late, who is dead, who is forgotten, who leaves |
//! | `without_etcd` | outside of a cutover nobody misses it; a start without it does not serve |
//!
//! The rows of each proxy's clients are their own: dark writes of several proxies have no order among each
//! other, so rows that two of them write at the same moment may differ without any cutover.
//!
//! `FLEET_FLIPS` (5), `FLEET_REST_S` seconds between two (2). `FLEET_FAULTS` times each fault at each step;
//! without it a few of them once, which is what `make test` has time for.

mod etcd;
mod faults;
mod flips;
mod members;
mod scene;
mod without_etcd;
