//! `understudy status --watch`: a dashboard in the terminal, asked anew every second, until `q`.
//!
//! It only looks: nothing is changed from here.

mod news;
mod scene;

use super::{Client, Door, Trouble};
use news::{News, Reporter};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// How long a key is waited for before the screen is drawn again.
const KEY_WAIT: Duration = Duration::from_millis(200);

pub(super) fn run(door: &Door) -> Result<ExitCode, Trouble> {
    if !std::io::stdout().is_terminal() {
        return Err(Trouble::usage(
            "--watch draws on a terminal, and the output is none; without --watch the status is printed once",
        ));
    }
    // What is wrong from the beginning is said where it stays to be read.
    let client = Client::behind(door)?;
    client.get("/api/v1/status", &[])?;
    let reporter = Reporter::start(client)
        .map_err(|error| Trouble::failed(format!("no thread could be started: {error}")))?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| Trouble::failed(format!("the terminal cannot be drawn on: {error}")))?;
    let ended = watch(&mut terminal, &reporter, &door.admin);
    ratatui::restore();
    ended
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Trouble::failed(format!("the terminal is gone: {error}")))
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    reporter: &Reporter,
    at: &str,
) -> std::io::Result<()> {
    let mut news = News::default();
    loop {
        reporter.bring(&mut news);
        terminal.draw(|frame| scene::draw(frame, &news, at))?;
        if event::poll(KEY_WAIT)? && leaves(&event::read()?) {
            return Ok(());
        }
    }
}

fn leaves(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_leave = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    key.kind == KeyEventKind::Press && (is_interrupt || is_leave)
}
