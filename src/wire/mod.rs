//! Bytes ⇄ MySQL packets. Pure: no tokio, no clock, no panic on any input.
//!
//! Readers return [`Short`] instead of over-reading; a length is checked before anything is
//! allocated for it. What the protocol means is linked where it is read:
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>

pub mod packet;

mod frame;

pub mod capability;
pub mod status;

pub mod greeting;
pub mod login;

pub mod command;

pub mod answer;
pub mod digest;
pub mod reply;

pub mod column;
pub mod row;
pub mod sample;

pub mod execute;
pub mod kill;
pub mod parameter;
pub mod proxied;
pub mod query;

pub use packet::{CHUNK_MAX, HEADER_LEN, Header, Reader, Short};
