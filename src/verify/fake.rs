//! The server of the tests' own ([`crate::ask::fake`]), and a world of two of them.

pub(in crate::verify) mod world;

pub(super) use crate::ask::fake::{Fake, Say, row, server};
