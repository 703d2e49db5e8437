//! `understudy check`: what works between the two servers and what will not, before any traffic.
//!
//! It reads, and changes nothing on either server.

mod account;
mod fed;
mod hosts;
mod pair;
mod places;
mod report;
mod server;

use super::{Format, Trouble, say, say_json};
use crate::config::Config;
use clap::Args;
use report::Report;
use server::Use;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The config file; config/understudy.toml tells every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
    let config = Config::load(&arguments.config).map_err(Trouble::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Trouble::failed)?;
    let report = runtime.block_on(all(&config));
    match arguments.format {
        Format::Json => say_json(&report.to_json()),
        Format::Table => say(&report.to_table()),
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn all(config: &Config) -> Report {
    let mut report = Report::default();
    ourselves(config, &mut report);
    let rehearses = Use::Rehearses(config.mirror.writes.now(), config.mirror.ddl);
    let primary = server::check(&config.primary, Use::Answers, &mut report).await;
    let shadow = server::check(&config.shadow, rehearses, &mut report).await;
    if let (Some(primary), Some(shadow)) = (primary, shadow) {
        pair::check(config, &primary, &shadow, &mut report);
        fed::check(config, &primary, &shadow, &mut report);
    }
    report
}

/// What understudy itself needs of this machine.
fn ourselves(config: &Config, report: &mut Report) {
    const US: &str = "understudy";
    for need in crate::app::needs(config) {
        let (had, needed) = (need.had, need.needed);
        let who = need.server.as_deref().unwrap_or(US);
        if need.is_met() {
            report.ok(
                who,
                need.what,
                format!("{had} there are, {needed} are needed"),
            );
        } else {
            let found = format!("{had} there are, {needed} are needed: {}", need.why);
            report.warn(who, need.what, found, &need.remedy);
        }
    }
    places::check(config, report);
    let console = config.admin.console.map_or_else(
        || "off: admin.console is empty".to_owned(),
        |at| format!("SQL over the ledger: mysql -h {} -P {}", at.ip(), at.port()),
    );
    report.ok(US, "console", console);
    if let Some((certificate, key)) = &config.listen.tls {
        for path in [certificate, key] {
            if let Err(error) = std::fs::File::open(path) {
                report.fail(
                    US,
                    "tls of clients",
                    format!("{}: {error}", path.display()),
                    "name a PEM file that can be read",
                );
            }
        }
    }
}
