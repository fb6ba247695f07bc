//! `portico top PID`: a server on a screen of a terminal, and what is done about it by keys.
//!
//! `state.rs` has what keys do and `layout.rs` what is shown, both without a terminal; here they get one. The
//! scoreboard is read once a second, which asks nothing of the server.

mod history;
mod keys;
mod layout;
mod paint;
mod state;
mod terminal;

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use portico_insight::{CallId, ReadTime, Sentence, ServerRates, Snapshot};
use portico_metrics::Counter;
use portico_supervisor::Scoreboard;
use rustix::process::Signal;
use serde_json::json;

use crate::asked_stacks;
use crate::cancel::{self, CancelOutcome};
use crate::output::Output;
use crate::pause::Pause;
use crate::replacement::Process;
use crate::stacks;
use crate::words::request_line;
use history::History;
use keys::{KeyReader, TerminalKey};
use layout::{Canvas, View};
use paint::{Palette, paint};
use state::{TopAction, TopState};
use terminal::{Happening, Terminal};

/// How often the scoreboard is read.
const EVERY: Duration = Duration::from_secs(1);

/// The same while something is awaited.
const EVERY_AWAITING: Duration = Duration::from_millis(100);

/// How long the rest of a key's sequence may take; an escape alone is a key after that.
const KEY_PATIENCE: Duration = Duration::from_millis(50);

/// Columns of a page for a pipe that does not tell them.
const PAGE_COLUMNS: usize = 120;

/// Shows the server until the operator leaves.
pub(crate) fn run(board: &Scoreboard, pid: u32) -> Output {
    if !Terminal::is_there() || env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb") {
        let error =
            "top needs a terminal; portico top PID --once prints one screen, --json the same for programs";
        return Output::failure(error.to_owned());
    }
    let server = match Process::first(board, pid) {
        Ok(server) => server,
        Err(error) => return Output::failure(error),
    };
    let mut screen = match Screen::open(board, pid, &server) {
        Ok(screen) => screen,
        Err(error) => return Output::failure(format!("this terminal cannot be used: {error}")),
    };
    let ended = screen.run();
    drop(screen); // The terminal is as it was before anything is printed.
    ended.map_or_else(Output::default, Output::failure)
}

/// One screen as text, with the rates of a second.
pub(crate) fn once<E>(board: &Scoreboard, pause: Pause<'_, E>) -> Result<Output, E> {
    let (snapshot, rates) = measured(board, pause)?;
    let columns = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(PAGE_COLUMNS);
    let view = View {
        snapshot: &snapshot,
        rates: rates.as_ref(),
        sentence: &Sentence::of(&snapshot, rates.as_ref(), None),
        history: &[],
        state: &TopState::default(),
        clock: "",
    };
    Ok(Output::of(layout::page(&view, columns, is_utf8())))
}

/// The same for programs.
pub(crate) fn once_as_json<E>(board: &Scoreboard, pause: Pause<'_, E>) -> Result<Output, E> {
    let (snapshot, rates) = measured(board, pause)?;
    let sentence = Sentence::of(&snapshot, rates.as_ref(), None);
    let told = json!({ "sentence": sentence, "rates": rates, "snapshot": snapshot });
    Ok(Output::of(format!("{told:#}\n")))
}

fn measured<E>(board: &Scoreboard, pause: Pause<'_, E>) -> Result<(Snapshot, Option<ServerRates>), E> {
    let before = Snapshot::of_running(board);
    pause(EVERY)?;
    let snapshot = Snapshot::of_running(board);
    let rates = ServerRates::between(&before, &snapshot);
    Ok((snapshot, rates))
}

/// The server on a terminal.
struct Screen<'a> {
    board: &'a Scoreboard,
    pid: u32,
    server: &'a Process,
    terminal: Terminal,
    canvas: Canvas,
    palette: Palette,
    state: TopState,
    keys: KeyReader,
    history: History,
    snapshot: Snapshot,
    read: Instant,
    /// The call that is being cancelled, and how it was called.
    cancelling: Option<(CallId, String, Instant)>,
    /// Reloads that had ended when one was asked for.
    reloading: Option<u64>,
}

impl<'a> Screen<'a> {
    fn open(board: &'a Scoreboard, pid: u32, server: &'a Process) -> std::io::Result<Self> {
        let snapshot = Snapshot::of_running(board);
        let mut history = History::default();
        history.push(&snapshot);
        let has_colours = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut screen = Self {
            board,
            pid,
            server,
            terminal: Terminal::open()?,
            canvas: Canvas { columns: 0, rows: 0, is_utf8: is_utf8() },
            palette: if has_colours { Palette::Colours } else { Palette::Plain },
            state: TopState::default(),
            keys: KeyReader::default(),
            history,
            snapshot,
            read: Instant::now(),
            cancelling: None,
            reloading: None,
        };
        screen.measure();
        screen.state.follow(&screen.snapshot.requests);
        Ok(screen)
    }

    /// Until the operator leaves, or the server has ended: what is to be said then.
    fn run(&mut self) -> Option<String> {
        loop {
            if self.draw().is_err() {
                return None;
            }
            let patience = if self.keys.is_pending() { KEY_PATIENCE } else { self.until_read() };
            let pressed = match self.terminal.wait(patience) {
                Happening::End => return None,
                Happening::Resized => {
                    self.measure();
                    vec![]
                }
                Happening::Input(bytes) => self.keys.feed(&bytes),
                Happening::Nothing => self.keys.settle().into_iter().collect(),
            };
            for key in pressed {
                if self.press(key) {
                    return None;
                }
            }
            self.look_after();
            if self.until_read().is_zero() {
                self.read_again();
            }
            if self.server.has_ended() {
                return Some(format!("the server (process {}) has ended", self.pid));
            }
        }
    }

    fn until_read(&self) -> Duration {
        let is_awaiting = self.cancelling.is_some() || self.reloading.is_some();
        let every = if is_awaiting { EVERY_AWAITING } else { EVERY };
        every.saturating_sub(self.read.elapsed())
    }

    fn read_again(&mut self) {
        self.read = Instant::now();
        let snapshot = Snapshot::of_running(self.board);
        // While something is awaited it is read more often than the history wants to know.
        let last = self.snapshot.uptime_seconds;
        if self.state.is_paused {
            return;
        }
        if snapshot.uptime_seconds.floor() > last.floor()
            || snapshot.uptime_seconds - last >= EVERY.as_secs_f64()
        {
            self.history.push(&snapshot);
        }
        self.snapshot = snapshot;
        self.state.follow(&self.snapshot.requests);
    }

    fn measure(&mut self) {
        (self.canvas.columns, self.canvas.rows) = Terminal::size();
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let rates = self.history.rates(self.state.window);
        let sentence = Sentence::of(&self.snapshot, rates.as_ref(), None);
        let clock = clock(self.snapshot.unix_time);
        let view = View {
            snapshot: &self.snapshot,
            rates: rates.as_ref(),
            sentence: &sentence,
            history: self.history.course(),
            state: &self.state,
            clock: &clock,
        };
        self.terminal.show(&paint(&layout::screen(&view, self.canvas), self.palette))
    }

    /// Does what a key is for. `true` if that is to leave.
    fn press(&mut self, key: TerminalKey) -> bool {
        let page = layout::page_rows(self.canvas);
        match self.state.press(key, &self.snapshot.requests, page) {
            None => {}
            Some(TopAction::Quit) => return true,
            Some(TopAction::Redraw) => self.measure(),
            Some(TopAction::ShowStack(id)) => self.show_stack(id),
            Some(TopAction::ShowGroupedStacks) => self.show_grouped_stacks(),
            Some(TopAction::Cancel(id)) => self.cancel(id),
            Some(TopAction::Reload) => {
                self.reloading = Some(self.board.metrics().total(Counter::Reloads));
                if !self.send(Signal::HUP, "The reload is under way") {
                    self.reloading = None;
                }
            }
            Some(TopAction::AddWorker) => {
                self.send(Signal::TTIN, "One worker more");
            }
            Some(TopAction::RemoveWorker) => {
                self.send(Signal::TTOU, "One worker less");
            }
        }
        false
    }

    /// Sends a signal to the supervisor. `false` if it could not.
    fn send(&mut self, signal: Signal, done: &str) -> bool {
        let sent = Process::of(self.board, self.pid).and_then(|supervisor| supervisor.send(signal));
        let is_sent = sent.is_ok();
        self.state.message = Some(sent.map_or_else(|error| error, |()| done.to_owned()));
        is_sent
    }

    fn cancel(&mut self, id: CallId) {
        match cancel::find(self.board, id) {
            None => self.state.message = Some(format!("{id} has ended already, and nothing was cancelled")),
            Some(request) => {
                cancel::ask(self.board, id);
                self.cancelling = Some((id, request_line(&request), Instant::now()));
                self.state.message = Some(format!("Cancelling {} ...", request_line(&request)));
            }
        }
    }

    /// Says what has become of what was asked for.
    fn look_after(&mut self) {
        if let Some((id, told, since)) = &self.cancelling {
            let time = crate::table::short_time(since.elapsed().as_secs_f64());
            self.state.message = match cancel::outcome(self.board, *id) {
                CancelOutcome::Runs(_) => return,
                CancelOutcome::Ended => Some(format!("{told} ended, after {time}")),
                CancelOutcome::GivenUp => Some(format!(
                    "{told} was given up after {time}: its thread is lost, the worker is replaced"
                )),
            };
            self.cancelling = None;
            self.read_again();
        }
        if let Some(before) = self.reloading
            && self.board.metrics().total(Counter::Reloads) > before
        {
            self.reloading = None;
            self.read_again();
            let failed = self.board.metrics().reloads(portico_metrics::ReloadResult::Failed);
            self.state.message = Some(match failed {
                0 => "Reloaded".to_owned(),
                _ => format!("The reload has ended; {failed} have failed so far (the error log says why)"),
            });
        }
    }

    fn show_stack(&mut self, id: CallId) {
        let Some(slot) = self.board.slot(id.slot) else { return };
        let pid = slot.get(portico_supervisor::SlotField::Pid) as u32;
        let Some(processes) = self.ask(pid) else { return };
        let request = self.snapshot.requests.iter().find(|request| request.id == id);
        let found = request.and_then(|request| {
            let text = stacks::of_request(&processes, request)?;
            Some((format!(" {} ({id})", request_line(request)), text))
        });
        match found {
            Some((title, text)) => self.state.show(title, &text),
            None => self.state.message = Some(format!("The stack of {id} is not to be had, or it has ended")),
        }
    }

    fn show_grouped_stacks(&mut self) {
        let Some(processes) = self.ask(self.pid) else { return };
        let requests = Snapshot::read(self.board, ReadTime::now()).requests;
        let text = stacks::grouped_text(&stacks::grouped(&processes, &requests));
        self.state.show(" Stacks of all threads, equal ones counted".to_owned(), &text);
    }

    /// The stacks of process `pid`; `None` if the operator leaves meanwhile.
    fn ask(&mut self, pid: u32) -> Option<Vec<asked_stacks::ProcessStacks>> {
        self.state.message = Some("Asking for the stacks ...".to_owned());
        let _ = self.draw();
        self.state.message = None;
        let terminal = &self.terminal;
        let mut pause = |time| {
            thread::sleep(time);
            if terminal.is_ended() { Err(()) } else { Ok(()) }
        };
        asked_stacks::ask(self.board, pid, &mut pause).ok()
    }
}

/// The time of day, of seconds since 1970.
fn clock(unix_time: f64) -> String {
    let second = unix_time as u64 % 86_400;
    format!("{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Whether the terminal shows UTF-8, by the first of the variables that says something of it (POSIX, 8.2).
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| env::var(name).ok());
    let locale = locale.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_that_of_a_day() {
        assert_eq!(clock(86_400.0 * 3.0 + 3_661.9), "01:01:01Z");
        assert_eq!(clock(-1.0), "00:00:00Z");
    }
}
