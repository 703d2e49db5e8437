//! `understudy completions` and `understudy manual`: what a shell and `man` know of the command line, made from the
//! command line itself.

use super::{Arguments, Trouble};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell: for bash, `understudy completions bash > /etc/bash_completion.d/understudy`.
    shell: Shell,
}

/// Prints what the shell is to read.
pub(super) fn complete(asked: &Completions) -> Result<ExitCode, Trouble> {
    let mut command = Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut command, "understudy", &mut script);
    // A reader that has gone is no error.
    let _ = std::io::stdout().lock().write_all(&script);
    Ok(ExitCode::SUCCESS)
}

#[derive(Args, Debug)]
pub(super) struct Manual {
    /// Where the pages go: understudy.1, understudy-serve.1 and so on.
    #[arg(value_name = "DIRECTORY")]
    into: PathBuf,
}

/// Writes a page for the whole, and one for each subcommand.
pub(super) fn write(asked: &Manual) -> Result<ExitCode, Trouble> {
    let failed = |path: &Path, error: std::io::Error| {
        Trouble::failed(format!("{} cannot be written: {error}", path.display()))
    };
    std::fs::create_dir_all(&asked.into).map_err(|error| failed(&asked.into, error))?;
    clap_mangen::generate_to(Arguments::command(), &asked.into)
        .map_err(|error| failed(&asked.into, error))?;
    super::say(&format!(
        "the pages are in {}; read one by: man -l {}/understudy.1",
        asked.into.display(),
        asked.into.display()
    ));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        let asked = Manual {
            into: dir.path().join("man"),
        };
        write(&asked).expect("written");
        let page = |name: &str| {
            std::fs::read_to_string(asked.into.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        assert!(page("understudy.1").contains("shadow"));
        let mut command = Arguments::command();
        command.build();
        let subcommands = command.get_subcommands().map(clap::Command::get_name);
        for name in subcommands.filter(|name| *name != "help") {
            assert!(page(&format!("understudy-{name}.1")).contains("SYNOPSIS"));
        }
    }

    #[test]
    fn every_shell_is_told_of_every_subcommand() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "understudy", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(
                script.contains("readiness") && script.contains("cutover"),
                "{shell}"
            );
        }
    }
}
