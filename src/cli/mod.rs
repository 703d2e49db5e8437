//! The command line: one file a subcommand. The only part of understudy that prints.
//!
//! Exit codes: 0 good, 1 failed or not ready, 2 usage or config error.

mod audit;
mod check;
mod client;
mod cutover;
mod divergences;
mod findings;
mod fleet;
mod health;
mod latency;
mod manual;
mod readiness;
mod reload;
mod report;
mod repro;
mod rollback;
mod rules;
mod serve;
mod status;
mod tail;
mod taints;
mod verify;
mod watch;
mod whole;
mod words;

use crate::app;
use crate::words::harmless;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

pub use client::{Client, ClientError};

/// A MySQL proxy that answers from your primary, rehearses on a shadow, and tells where they differ.
#[derive(Debug, Parser)]
#[command(
    name = "understudy",
    version,
    about,
    after_help = "Exit codes: 0 good, 1 failed or not ready, 2 usage or config error."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients: answer from the primary, mirror to the shadow, compare, write down.
    Serve(serve::Arguments),
    /// Tell what works between the two servers and what will not, before any traffic.
    Check(check::Arguments),
    /// Whether it lives, or with --ready whether it serves: an exit code for supervisors.
    Health(health::Arguments),
    /// Who is primary, the mirror's state, sessions, coverage.
    Status(status::Arguments),
    /// Where the two servers' answers differed, newest first.
    Divergences(divergences::Arguments),
    /// What differs, each shape once, by impact; and what you say of it.
    Findings(findings::Arguments),
    /// Rules that judge divergences beforehand, and what each has taken.
    Rules(rules::Arguments),
    /// Tables that may lack a write on the shadow, and why; and what you say of them.
    Taints(taints::Arguments),
    /// Print a script that repeats a divergence on both servers.
    Repro(repro::Arguments),
    /// How long both servers took, side by side.
    Latency(latency::Arguments),
    /// Commands as they get their verdicts, with both servers' times, until it is interrupted.
    Tail(tail::Arguments),
    /// Whether the shadow is ready to be the primary: exit code 0 only then.
    Readiness(readiness::Arguments),
    /// Make the shadow the primary; without --to, tell how that stands.
    Cutover(cutover::Arguments),
    /// Make the server the primary again that was before the last cutover.
    Rollback(rollback::Arguments),
    /// Whether the shadow has the rows that the primary has: data at rest.
    Verify(verify::Arguments),
    /// Have the config read again: takes what can change while it runs, all of it or nothing.
    Reload(reload::Arguments),
    /// The proxies that change their primary together with this one.
    Fleet(fleet::Arguments),
    /// Who asked for what that would change something, from where, and how it was answered.
    Audit(audit::Arguments),
    /// One document for a team: what was observed, compared, found, and how long it took.
    Report(report::Arguments),
    /// Print what a shell reads to complete this command line.
    Completions(manual::Completions),
    /// Write the manual's pages for `man`.
    Manual(manual::Manual),
}

/// How a running understudy is found.
#[derive(Args, Debug)]
struct Door {
    /// The admin address of the running understudy.
    #[arg(
        long,
        value_name = "URL",
        env = "UNDERSTUDY_ADMIN",
        default_value = "http://127.0.0.1:8306"
    )]
    admin: String,
    /// A file with the admin's bearer token; without it, the environment's UNDERSTUDY_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Who signs the admin's certificate (PEM), for an https URL; without it, the system's authorities.
    #[arg(long, value_name = "FILE", env = "UNDERSTUDY_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
}

/// How a running understudy is found, and how its answer is shown.
#[derive(Args, Debug)]
struct Remote {
    #[command(flatten)]
    door: Door,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: the API's own answer.
    Json,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For people.
    Table,
    /// For programs: the API's own answer.
    Json,
    /// For a sheet.
    Csv,
}

/// A command that could not do its work: what to say, and with which exit code.
#[derive(Debug)]
struct Trouble {
    code: u8,
    words: String,
}

impl Trouble {
    /// It failed, or is not ready.
    fn failed(words: impl std::fmt::Display) -> Self {
        Self {
            code: 1,
            words: words.to_string(),
        }
    }

    /// The command line or the config is wrong.
    fn usage(words: impl std::fmt::Display) -> Self {
        Self {
            code: 2,
            words: words.to_string(),
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        if error.is_usage() {
            Self::usage(error)
        } else {
            Self::failed(error)
        }
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let command = Arguments::parse().command;
    let serves = matches!(command, Command::Serve(_));
    let done = match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Divergences(arguments) => divergences::run(&arguments),
        Command::Findings(arguments) => findings::run(&arguments),
        Command::Rules(arguments) => rules::run(&arguments),
        Command::Taints(arguments) => taints::run(&arguments),
        Command::Repro(arguments) => repro::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Readiness(arguments) => readiness::run(&arguments),
        Command::Cutover(arguments) => cutover::run(&arguments),
        Command::Rollback(arguments) => rollback::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Fleet(arguments) => fleet::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Completions(arguments) => manual::complete(&arguments),
        Command::Manual(arguments) => manual::write(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(trouble) => {
            let words = format!("understudy: {}", harmless(&trouble.words));
            if serves {
                // Whoever starts it again waits for its end, and may not for who reads stderr.
                app::say_last(&words);
            } else {
                // Nobody is left to be told where even stderr is gone.
                let _ = writeln!(std::io::stderr(), "{words}");
            }
            ExitCode::from(trouble.code)
        }
    }
}

/// Prints for people. What a client or a server wrote may stand in it, and cannot steer the terminal.
fn say(text: &str) {
    say_as_it_is(&harmless(text));
}

/// Prints for programs; a reader that has gone (`| head`) is no error.
fn say_as_it_is(text: &str) {
    let _ = is_heard(text);
}

/// Prints the same for a reader that may have enough: whether it is there.
fn is_heard(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Prints a sheet as it came; says on the side what is not in it.
fn say_sheet(sheet: &(String, Option<String>)) {
    let (text, next) = sheet;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    if let Some(next) = next {
        let _ = writeln!(std::io::stderr(), "there is more: --before {next}");
    }
}

/// Who says so, where the command line does not: the user who is logged in.
fn whoami() -> Option<String> {
    std::env::var("USER").ok().filter(|user| !user.is_empty())
}

/// A time as the API wants it: a date is its first moment, UTC.
fn moment(text: &str) -> String {
    match text.parse::<jiff::civil::Date>() {
        Ok(date) if !text.contains(['T', ' ']) => format!("{date}T00:00:00Z"),
        Ok(_) | Err(_) => text.to_owned(),
    }
}

/// Prints the API's answer as it is.
fn say_json(answer: &serde_json::Value) {
    say_as_it_is(&format!("{answer:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_script_has_no_other_form() {
        let asked = ["understudy", "repro", "1", "--format", "json"];
        assert!(Arguments::try_parse_from(asked).is_err());
    }

    #[test]
    fn a_date_is_its_first_moment() {
        assert_eq!(moment("2030-01-31"), "2030-01-31T00:00:00Z");
        assert_eq!(moment("2030-01-31T10:00:00Z"), "2030-01-31T10:00:00Z");
        assert_eq!(moment("soon"), "soon");
    }

    #[test]
    fn a_config_is_needed_to_serve_and_an_address_is_not_needed_to_ask() {
        assert!(Arguments::try_parse_from(["understudy", "serve"]).is_err());
        assert!(Arguments::try_parse_from(["understudy", "serve", "--config", "a.toml"]).is_ok());
        assert!(Arguments::try_parse_from(["understudy", "status"]).is_ok());
        assert!(Arguments::try_parse_from(["understudy", "status", "--format", "xml"]).is_err());
    }
}
