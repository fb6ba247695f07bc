//! The screen of `portico top` as lines of text: a function of what is shown and of the terminal's size.
//!
//! Each line is made of pieces with a tone; `paint.rs` makes a terminal's bytes of them. Everything that a client
//! has sent is escaped before it gets here, so that each character takes one column.

use portico_insight::{Level, Sentence, ServerRates, ShownRequest, SlotFacts, Snapshot, WorkerState};

use super::state::{Mode, TextView, TopState};
use crate::table::{memory, short_time};
use crate::words::{phase, printable, request_line, server_state, worker_state};

/// How a piece of a line is meant, whatever the terminal makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    /// Names beside figures.
    Dim,
    /// What to look at first.
    Bold,
    Good,
    Warning,
    Bad,
    /// The heading of a table.
    Heading,
    /// The row that is selected.
    Selected,
}

/// A line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScreenLine(pub(crate) Vec<(Tone, String)>);

/// What a terminal has room for, and which characters it can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canvas {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    pub(crate) is_utf8: bool,
}

/// All that the screen shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) rates: Option<&'a ServerRates>,
    pub(crate) sentence: &'a Sentence,
    /// Requests a second lately, the latest last.
    pub(crate) history: &'a [f64],
    pub(crate) state: &'a TopState,
    /// The time of day.
    pub(crate) clock: &'a str,
}

/// A column of a table.
struct Column {
    heading: &'static str,
    width: usize,
    is_right: bool,
    /// It is left out where the terminal has fewer columns.
    from: usize,
}

const fn right(heading: &'static str, width: usize, from: usize) -> Column {
    Column { heading, width, is_right: true, from }
}

const fn left(heading: &'static str, width: usize, from: usize) -> Column {
    Column { heading, width, is_right: false, from }
}

const WORKERS: [Column; 11] = [
    right("SLOT", 4, 0),
    right("PID", 7, 0),
    left("STATE", 9, 0),
    right("UP", 8, 60),
    right("REQ/S", 7, 0),
    right("BUSY", 7, 0),
    left("", 10, 76),
    right("LOST", 4, 50),
    right("QUEUED", 6, 44),
    right("CONNS", 6, 68),
    right("MEMORY", 9, 96),
];

const REQUESTS: [Column; 6] = [
    left("", 1, 0),
    right("AGE", 8, 0),
    left("PHASE", 9, 50),
    left("ID", 12, 0),
    left("CLIENT", 15, 76),
    left("REQUEST", 0, 0),
];

/// Ages, in seconds, from which a request is worth a look, and from which it is bad.
const AGE_WARNING: f64 = 1.0;
const AGE_BAD: f64 = 10.0;

/// Lines of the screen that are neither workers nor requests.
const FIXED_LINES: usize = 9;

/// Rows of a screen that has one to spare for a long sentence.
const ROWS_FOR_TWO_LINES: usize = 20;

/// A worker's threads in calls are worth a look from this part of them on, and bad from that.
const BUSY_WARNING: f64 = 0.7;
const BUSY_BAD: f64 = 0.95;

/// The whole screen, at most as many lines as it has rows.
pub(crate) fn screen(view: &View<'_>, canvas: Canvas) -> Vec<ScreenLine> {
    let mut lines = head(view, canvas);
    match &view.state.mode {
        Mode::Text(text) => lines.extend(text_lines(text, canvas, lines.len())),
        Mode::Requests | Mode::Filter(_) | Mode::Question(..) => {
            lines.push(ScreenLine::default());
            lines.extend(workers(view, canvas));
            lines.push(ScreenLine::default());
            let room = canvas.rows.saturating_sub(lines.len() + 1);
            lines.extend(requests(view, canvas, room));
        }
    }
    lines.truncate(canvas.rows.saturating_sub(1));
    lines.resize(canvas.rows.saturating_sub(1), ScreenLine::default());
    lines.push(foot(view));
    lines.iter_mut().for_each(|line| line.cut(canvas.columns));
    lines.truncate(canvas.rows);
    lines
}

/// Everything once, for a pipe: all workers and all requests, and no keys.
pub(crate) fn page(view: &View<'_>, columns: usize, is_utf8: bool) -> String {
    let canvas = Canvas { columns, rows: usize::MAX, is_utf8 };
    let mut lines = head(view, canvas);
    lines.push(ScreenLine::default());
    lines.extend(workers(view, canvas));
    lines.push(ScreenLine::default());
    lines.extend(requests(view, canvas, usize::MAX));
    lines.iter_mut().for_each(|line| line.cut(columns));
    lines.iter().map(|line| format!("{}\n", line.text().trim_end())).collect()
}

/// How many lines of a text, or rows of requests, a page has.
pub(crate) fn page_rows(canvas: Canvas) -> usize {
    canvas.rows.saturating_sub(7).max(1)
}

fn head(view: &View<'_>, canvas: Canvas) -> Vec<ScreenLine> {
    let mut lines = vec![title(view, canvas)];
    lines.extend(sentence(view, canvas));
    lines.extend([traffic(view, canvas), load(view, canvas)]);
    lines
}

fn title(view: &View<'_>, canvas: Canvas) -> ScreenLine {
    let snapshot = view.snapshot;
    let name = snapshot.pid.map_or_else(|| "portico.serve".to_owned(), |pid| format!("portico {pid}"));
    let mut line = ScreenLine::default();
    line.push(Tone::Bold, name);
    line.push(
        Tone::Plain,
        format!("  {}, up {}", server_state(snapshot.state), short_time(snapshot.uptime_seconds)),
    );
    if snapshot.reload.under_way {
        line.push(Tone::Warning, ", reloading");
    }
    line.push(Tone::Dim, format!("  generation {}", snapshot.generation));
    if let Some(python) = &snapshot.python {
        line.push(Tone::Dim, format!("  {python}"));
    }
    line.push(Tone::Dim, format!("  Portico {}", snapshot.version));
    let paused = if view.state.is_paused { "PAUSED " } else { "" };
    line.push_at_right(Tone::Bold, format!("{paused}{}", view.clock), canvas.columns);
    line
}

/// What is wrong, if something is: in two lines if one has no room for it and the screen has.
fn sentence(view: &View<'_>, canvas: Canvas) -> Vec<ScreenLine> {
    let tone = match view.sentence.level {
        Level::Calm => Tone::Good,
        Level::Busy => Tone::Warning,
        Level::Trouble => Tone::Bad,
    };
    let text = printable(&view.sentence.text.replace('\u{2026}', "..."));
    let divides = text.len() > canvas.columns && canvas.rows >= ROWS_FOR_TWO_LINES;
    // It is ASCII now: a byte is a column.
    let place = text.get(..=canvas.columns).filter(|_| divides).and_then(|first| first.rfind(' '));
    match place.filter(|place| *place > 0) {
        Some(place) => {
            let (first, rest) = text.split_at(place);
            [first, rest.trim_start()].map(|part| ScreenLine(vec![(tone, part.to_owned())])).to_vec()
        }
        None => vec![ScreenLine(vec![(tone, text)])],
    }
}

/// What the server does: rates and percentiles.
fn traffic(view: &View<'_>, canvas: Canvas) -> ScreenLine {
    let mut line = ScreenLine::default();
    let figure = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), per_second);
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), short_time);
    let rates = view.rates;
    line.push(Tone::Dim, "req/s ");
    line.push(Tone::Bold, figure(rates.map(|rates| rates.requests_per_second)));
    line.push(Tone::Dim, "  5xx/s ");
    let errors = rates.map(|rates| rates.errors_per_second);
    line.push(if errors.is_some_and(|rate| rate > 0.0) { Tone::Bad } else { Tone::Plain }, figure(errors));
    let latency = rates.map(|rates| rates.latency);
    for (name, seconds) in [
        ("  p50 ", latency.and_then(|it| it.p50)),
        ("  p95 ", latency.and_then(|it| it.p95)),
        ("  p99 ", latency.and_then(|it| it.p99)),
    ] {
        line.push(Tone::Dim, name);
        line.push(Tone::Plain, time(seconds));
    }
    let window = rates.map_or(0.0, |rates| rates.seconds);
    line.push(Tone::Dim, format!("  of {}", short_time(window.round())));
    let room = canvas.columns.saturating_sub(line.width() + 2).min(60);
    if room >= 8 {
        line.push_at_right(Tone::Good, sparkline(view.history, room, canvas.is_utf8), canvas.columns);
    }
    line
}

/// How much of it there is: threads, queue, backlog.
fn load(view: &View<'_>, canvas: Canvas) -> ScreenLine {
    let snapshot = view.snapshot;
    let (busy, threads) = (snapshot.busy(), snapshot.threads());
    let part = view.rates.and_then(|rates| rates.busy_ratio).unwrap_or_else(|| ratio(busy, threads));
    let mut line = ScreenLine::default();
    line.push(Tone::Dim, "busy ");
    line.push(busy_tone(part), bar(part, if canvas.columns >= 76 { 20 } else { 10 }, canvas.is_utf8));
    line.push(Tone::Bold, format!(" {:3.0} %", part * 100.0));
    line.push(Tone::Plain, format!("  {busy}/{threads} threads"));
    let queue = snapshot.queue;
    line.push(Tone::Dim, "  queue ");
    line.push(if queue.length > 0 { Tone::Warning } else { Tone::Plain }, queue.length.to_string());
    if let Some(oldest) = queue.oldest_seconds.filter(|_| queue.length > 0) {
        let tone = if oldest >= AGE_WARNING { Tone::Bad } else { Tone::Plain };
        line.push(tone, format!(", oldest {}", short_time(oldest)));
    }
    let wait = view.rates.and_then(|rates| rates.queue_wait.p99);
    if let Some(wait) = wait {
        line.push(Tone::Dim, "  wait p99 ");
        line.push(Tone::Plain, short_time(wait));
    }
    let backlog = snapshot.backlog.iter().fold(0_u64, |sum, listener| sum.saturating_add(listener.length));
    if !snapshot.backlog.is_empty() {
        line.push(Tone::Dim, "  backlog ");
        line.push(if backlog > 0 { Tone::Warning } else { Tone::Plain }, backlog.to_string());
    }
    line
}

fn workers(view: &View<'_>, canvas: Canvas) -> Vec<ScreenLine> {
    let slots = &view.snapshot.slots;
    let room = (canvas.rows.saturating_sub(FIXED_LINES) / 2).max(2);
    let shown = if slots.len() <= room { slots.len() } else { room - 1 };
    let mut lines = vec![heading(&WORKERS, canvas.columns)];
    lines.extend(slots.iter().take(shown).map(|slot| worker(slot, view, canvas)));
    let others = slots.len() - shown;
    if others > 0 {
        lines.push(ScreenLine(vec![(Tone::Dim, format!("     and {others} more"))]));
    }
    lines
}

fn worker(slot: &SlotFacts, view: &View<'_>, canvas: Canvas) -> ScreenLine {
    let rate = view.rates.and_then(|rates| rates.slots.iter().find(|other| other.slot == slot.slot));
    let (state, tone) = match slot.silent_seconds() {
        Some(_) => ("SILENT", Tone::Bad),
        None if slot.state == WorkerState::Ready => (worker_state(slot.state), Tone::Good),
        None => (worker_state(slot.state), Tone::Warning),
    };
    let part = ratio(slot.busy, slot.threads);
    let bytes = slot.proportional_bytes.or(slot.resident_bytes).unwrap_or_default();
    let count = |number: u64, tone: Tone| (if number > 0 { tone } else { Tone::Plain }, number.to_string());
    row(
        &WORKERS,
        canvas.columns,
        [
            (Tone::Plain, slot.slot.to_string()),
            (Tone::Plain, slot.pid.to_string()),
            (tone, state.to_owned()),
            (Tone::Plain, short_time(slot.uptime_seconds)),
            (Tone::Plain, rate.map_or_else(|| "-".to_owned(), |rate| per_second(rate.requests_per_second))),
            (Tone::Plain, format!("{}/{}", slot.busy, slot.threads)),
            (busy_tone(part), bar(part, 10, canvas.is_utf8)),
            count(slot.lost, Tone::Bad),
            count(slot.queued, Tone::Warning),
            (Tone::Plain, slot.connections.to_string()),
            (Tone::Plain, memory(bytes / 1024)),
        ],
    )
}

fn requests(view: &View<'_>, canvas: Canvas, room: usize) -> Vec<ScreenLine> {
    let shown = view.state.filtered(&view.snapshot.requests);
    let mut heading = heading(&REQUESTS, canvas.columns);
    let of = match shown.len() == view.snapshot.requests.len() {
        true => format!("{} in flight ", shown.len()),
        false => format!("{} of {} in flight ", shown.len(), view.snapshot.requests.len()),
    };
    heading.replace_end(Tone::Heading, &of, canvas.columns);
    let mut lines = vec![heading];
    let rows = room.saturating_sub(1);
    let selected = view.state.selected.min(shown.len().saturating_sub(1));
    // The selected one is in sight.
    let first = (selected + 1).saturating_sub(rows);
    for (number, request) in shown.iter().enumerate().skip(first).take(rows) {
        let is_selected = number == selected && canvas.rows != usize::MAX;
        lines.push(request_row(request, is_selected, canvas.columns));
    }
    if shown.is_empty() {
        let text = if view.state.filter.is_empty() { "no request is running" } else { "none contains that" };
        lines.push(ScreenLine(vec![(Tone::Dim, format!("   {text}"))]));
    }
    lines
}

fn request_row(request: &ShownRequest, is_selected: bool, columns: usize) -> ScreenLine {
    let age = match request.age_seconds {
        seconds if seconds >= AGE_BAD => Tone::Bad,
        seconds if seconds >= AGE_WARNING => Tone::Warning,
        _ => Tone::Plain,
    };
    let marker = if is_selected { ">" } else { "" };
    let peer = request.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    let mut line = row(
        &REQUESTS,
        columns,
        [
            (Tone::Plain, marker.to_owned()),
            (age, short_time(request.age_seconds)),
            (Tone::Plain, phase(request.phase).to_owned()),
            (Tone::Dim, request.id.to_string()),
            (Tone::Plain, peer),
            (Tone::Bold, request_line(request)),
        ],
    );
    if is_selected {
        let text = format!("{:columns$}", line.text());
        line = ScreenLine(vec![(Tone::Selected, text)]);
    }
    line
}

fn text_lines(text: &TextView, canvas: Canvas, above: usize) -> Vec<ScreenLine> {
    let room = canvas.rows.saturating_sub(above + 3);
    let mut lines = vec![ScreenLine::default()];
    let title = format!("{:columns$}", text.title, columns = canvas.columns);
    lines.push(ScreenLine(vec![(Tone::Heading, title)]));
    let shown = text.lines.iter().skip(text.top).take(room);
    lines.extend(shown.map(|line| ScreenLine(vec![(tone_of_text(line), line.clone())])));
    lines
}

/// Of a line of a stack: frames are read before the source below them.
fn tone_of_text(line: &str) -> Tone {
    match line {
        _ if line.starts_with("  File ") => Tone::Plain,
        _ if line.starts_with("    ") => Tone::Bold,
        _ if line.contains(" threads, ") => Tone::Warning,
        _ => Tone::Plain,
    }
}

fn foot(view: &View<'_>) -> ScreenLine {
    let text = match (&view.state.mode, &view.state.message) {
        (Mode::Question(question, _), _) => {
            return ScreenLine(vec![
                (Tone::Warning, format!(" {question} ")),
                (Tone::Bold, "y/n".to_owned()),
            ]);
        }
        (Mode::Filter(_), _) => {
            let text = format!(" /{}_", view.state.filter);
            return ScreenLine(vec![
                (Tone::Bold, text),
                (Tone::Dim, "   Enter keeps it, Esc does not".to_owned()),
            ]);
        }
        (Mode::Text(_), _) => "arrows and Space to read, q to go back",
        (Mode::Requests, Some(message)) => {
            return ScreenLine(vec![(Tone::Bold, format!(" {message}"))]);
        }
        (Mode::Requests, None) => KEYS,
    };
    ScreenLine(vec![(Tone::Dim, format!(" {text}"))])
}

/// The most important first: a narrow screen has room for some.
const KEYS: &str = "q quit  ? help  s stack  S all stacks  c cancel  / filter  r reload  + - workers  \
                    space pause  1 6 0 window";

fn heading(columns: &[Column], width: usize) -> ScreenLine {
    let cells = columns.iter().map(|column| (Tone::Heading, column.heading.to_owned()));
    let text = format!("{:width$}", cells_line(columns, width, cells).text(), width = width.min(1000));
    ScreenLine(vec![(Tone::Heading, text)])
}

fn row<const COUNT: usize>(
    columns: &[Column; COUNT],
    width: usize,
    cells: [(Tone, String); COUNT],
) -> ScreenLine {
    cells_line(columns, width, cells.into_iter())
}

fn cells_line(columns: &[Column], width: usize, cells: impl Iterator<Item = (Tone, String)>) -> ScreenLine {
    let mut line = ScreenLine::default();
    for (column, (tone, text)) in columns.iter().zip(cells).filter(|(column, _)| width >= column.from) {
        let padding = column.width.saturating_sub(text.chars().count());
        let padding = " ".repeat(padding);
        if !line.0.is_empty() {
            line.push(Tone::Plain, if column.width == 1 { "" } else { " " });
        }
        match column.is_right {
            true => line.push(Tone::Plain, padding).push(tone, text),
            false => line.push(tone, text).push(Tone::Plain, padding),
        };
    }
    line
}

impl ScreenLine {
    fn push(&mut self, tone: Tone, text: impl Into<String>) -> &mut Self {
        self.0.push((tone, text.into()));
        self
    }

    /// Its text without tones.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Puts `text` at the right edge, where there is room for it.
    fn push_at_right(&mut self, tone: Tone, text: String, columns: usize) {
        let (width, own) = (self.width(), text.chars().count());
        if columns < usize::MAX && width + own + 2 <= columns {
            self.push(Tone::Plain, " ".repeat(columns - width - own)).push(tone, text);
        }
    }

    /// Puts `text` in place of its last columns, where these are empty.
    fn replace_end(&mut self, tone: Tone, text: &str, columns: usize) {
        let begin = self.text().trim_end().to_owned();
        self.0 = vec![(tone, begin)];
        self.push_at_right(tone, text.to_owned(), columns);
        self.0.iter_mut().for_each(|piece| piece.0 = tone);
    }

    /// At most so many characters.
    fn cut(&mut self, columns: usize) {
        let mut room = columns;
        for (_, text) in &mut self.0 {
            let kept = text.chars().take(room).collect::<String>();
            room -= kept.chars().count();
            *text = kept;
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
}

fn busy_tone(part: f64) -> Tone {
    match part {
        _ if part >= BUSY_BAD => Tone::Bad,
        _ if part >= BUSY_WARNING => Tone::Warning,
        _ => Tone::Good,
    }
}

/// A part of a whole as a bar of so many columns.
fn bar(part: f64, width: usize, is_utf8: bool) -> String {
    let full = ((part * width as f64).round() as usize).min(width);
    // What is not empty is seen.
    let full = if part > 0.0 { full.max(1) } else { full };
    let (on, off) = if is_utf8 { ("\u{2588}", "\u{2591}") } else { ("#", ".") };
    on.repeat(full) + &off.repeat(width - full)
}

/// The course of a figure, the latest at the right.
fn sparkline(history: &[f64], width: usize, is_utf8: bool) -> String {
    const BLOCKS: [char; 9] =
        [' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
    const PLAIN: [char; 9] = [' ', '_', '_', '.', '-', '=', '+', '*', '#'];
    let shown = &history[history.len().saturating_sub(width)..];
    let most = shown.iter().copied().fold(0.0, f64::max);
    let level = |rate: &f64| match most > 0.0 && *rate > 0.0 {
        true => ((rate / most * 8.0).round() as usize).clamp(1, 8),
        false => 0,
    };
    let glyphs = if is_utf8 { BLOCKS } else { PLAIN };
    shown.iter().map(|rate| glyphs[level(rate)]).collect()
}

/// A rate as `0.4`, `12.3`, `412`, `12.4k`.
fn per_second(rate: f64) -> String {
    match rate {
        _ if rate >= 9_999.5 => format!("{:.1}k", rate / 1000.0),
        _ if rate >= 99.95 => format!("{rate:.0}"),
        _ => format!("{rate:.1}"),
    }
}

#[cfg(test)]
mod tests;
