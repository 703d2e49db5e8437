//! `understudy findings ID`: one finding, whole.

use super::{Client, Format, Remote, Trouble, say, say_json, whole};
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The finding's id.
    id: u64,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.remote)?;
    let answer = client.get(&format!("/api/v1/findings/{}", arguments.id), &[])?;
    match arguments.remote.format {
        Format::Json => say_json(&answer),
        Format::Table => say(&whole::finding(&answer)),
    }
    Ok(ExitCode::SUCCESS)
}
