//! `understudy rollback`: the same as a cutover, back to the server that was primary before the last one.

use super::cutover::{Wish, ask};
use super::words::text;
use super::{Client, Remote, Trouble};
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let standing = client.get("/api/v1/cutover", &[])?;
    let primary = text(&standing, "/primary");
    let to = text(&standing, "/way_back");
    if to.is_empty() {
        return Err(Trouble::failed(format!(
            "there is nothing to roll back: no cutover made {primary} the primary, or the last one was a rollback itself; `understudy cutover --to NAME` makes another server the primary, with all guards"
        )));
    }
    ask(&client, to, &arguments.wish, arguments.remote.format)
}
