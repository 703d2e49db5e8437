//! A relay between two ends in memory that each test plays itself, with time paused.

mod anew;
mod course;
mod ends;
mod gate;
mod idle;
mod kills;
mod limits;
mod logins;
mod moved;
mod proxied;
mod storm;
mod times;
mod world;
