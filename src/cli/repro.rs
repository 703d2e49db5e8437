//! `understudy repro`: a script that repeats a divergence on both servers.

use super::{Client, Door, Trouble, say_as_it_is};
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The divergence's id.
    #[arg(required_unless_present = "finding")]
    id: Option<u64>,
    /// The newest divergence of this finding instead.
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    finding: Option<u64>,
    #[command(flatten)]
    door: Door,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let client = Client::behind(&arguments.door)?;
    let path = match (arguments.id, arguments.finding) {
        (Some(id), _) => format!("/api/v1/divergences/{id}/repro"),
        (None, Some(id)) => format!("/api/v1/findings/{id}/repro"),
        (None, None) => return Err(Trouble::usage("say which divergence, or --finding which")),
    };
    say_as_it_is(&client.text(&path, &[])?);
    Ok(ExitCode::SUCCESS)
}
