//! What `portico top` shows of a server, and what keys change of that: a state machine that touches nothing.

use portico_insight::{CallId, ShownRequest};

use super::keys::TerminalKey;
use crate::words::{printable, request_line};

/// What whoever runs the screen is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopAction {
    /// End it.
    Quit,
    /// Draw everything anew.
    Redraw,
    /// Show the stack of this call.
    ShowStack(CallId),
    /// Show the stacks of all threads, each once.
    ShowGroupedStacks,
    /// End this call.
    Cancel(CallId),
    /// Reload the server.
    Reload,
    /// Have one worker more.
    AddWorker,
    /// Have one worker less.
    RemoveWorker,
}

/// How far back rates and percentiles go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Window {
    /// 10 s.
    #[default]
    Short,
    /// A minute.
    Minute,
    /// Ten.
    TenMinutes,
}

/// What the keys go to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Mode {
    /// The requests.
    #[default]
    Requests,
    /// The filter, as it was before.
    Filter(String),
    /// A question: what is done if it is answered by yes.
    Question(String, TopAction),
    /// A text over the screen.
    Text(TextView),
}

/// A text over the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TextView {
    /// What it is.
    pub(crate) title: String,
    /// Its lines.
    pub(crate) lines: Vec<String>,
    /// The first one that is shown.
    pub(crate) top: usize,
}

/// The state of the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TopState {
    pub(crate) mode: Mode,
    pub(crate) window: Window,
    /// Nothing new is read.
    pub(crate) is_paused: bool,
    /// Which requests are shown.
    pub(crate) filter: String,
    /// The row of the request that is selected, and that request.
    pub(crate) selected: usize,
    selected_id: Option<CallId>,
    /// What was done, or could not be.
    pub(crate) message: Option<String>,
}

/// The longest text to filter by.
const FILTER_CHARS_MAX: usize = 60;

impl Window {
    /// In seconds.
    pub(crate) fn seconds(self) -> f64 {
        match self {
            Self::Short => 10.0,
            Self::Minute => 60.0,
            Self::TenMinutes => 600.0,
        }
    }
}

impl TopState {
    /// The requests that are shown.
    pub(crate) fn filtered<'a>(&self, requests: &'a [ShownRequest]) -> Vec<&'a ShownRequest> {
        let wanted = self.filter.to_ascii_lowercase();
        let is_shown = |request: &&ShownRequest| {
            let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
            let text = format!("{} {} {peer} {}", request.id, request_line(request), request.thread);
            text.to_ascii_lowercase().contains(&wanted)
        };
        requests.iter().filter(is_shown).collect()
    }

    /// Other requests are there: the selection stays with its request, or in its row if that has ended.
    pub(crate) fn follow(&mut self, requests: &[ShownRequest]) {
        let shown = self.filtered(requests);
        let row = shown.iter().position(|request| Some(request.id) == self.selected_id);
        self.selected = row.unwrap_or(self.selected).min(shown.len().saturating_sub(1));
        self.selected_id = shown.get(self.selected).map(|request| request.id);
    }

    /// Shows a text over the screen.
    pub(crate) fn show(&mut self, title: String, text: &str) {
        // What is no visible character of ASCII could be obeyed by the terminal.
        let lines = text.lines().map(printable).collect();
        self.mode = Mode::Text(TextView { title, lines, top: 0 });
    }

    /// A key was pressed, while these requests were there. A page has so many rows.
    pub(crate) fn press(
        &mut self,
        key: TerminalKey,
        requests: &[ShownRequest],
        page: usize,
    ) -> Option<TopAction> {
        if key == TerminalKey::Interrupt {
            return Some(TopAction::Quit);
        }
        if key == TerminalKey::Redraw {
            return Some(TopAction::Redraw);
        }
        self.message = None;
        let action = match &mut self.mode {
            Mode::Requests => self.press_in_requests(key, requests, page),
            Mode::Filter(_) => {
                self.press_in_filter(key);
                None
            }
            Mode::Question(_, action) => {
                let action = matches!(key, TerminalKey::Char('y' | 'Y')).then(|| action.clone());
                if action.is_none() {
                    self.message = Some("Nothing was done".to_owned());
                }
                self.mode = Mode::Requests;
                action
            }
            Mode::Text(text) => {
                if !text.press(key, page) {
                    self.mode = Mode::Requests;
                }
                None
            }
        };
        self.follow(requests);
        action
    }

    fn press_in_requests(
        &mut self,
        key: TerminalKey,
        requests: &[ShownRequest],
        page: usize,
    ) -> Option<TopAction> {
        let shown = self.filtered(requests);
        let last = shown.len().saturating_sub(1);
        let selected = shown.get(self.selected).copied();
        let row = match key {
            TerminalKey::Up | TerminalKey::Char('k') => Some(self.selected.saturating_sub(1)),
            TerminalKey::Down | TerminalKey::Char('j') => Some(self.selected.saturating_add(1).min(last)),
            TerminalKey::PageUp => Some(self.selected.saturating_sub(page)),
            TerminalKey::PageDown => Some(self.selected.saturating_add(page).min(last)),
            TerminalKey::Home | TerminalKey::Char('g') => Some(0),
            TerminalKey::End | TerminalKey::Char('G') => Some(last),
            _ => None,
        };
        if let Some(row) = row {
            (self.selected, self.selected_id) = (row, shown.get(row).map(|request| request.id));
            return None;
        }
        match key {
            TerminalKey::Char('q') => return Some(TopAction::Quit),
            TerminalKey::Char('s') | TerminalKey::Enter => match selected {
                Some(request) => return Some(TopAction::ShowStack(request.id)),
                None => self.message = Some("No request is selected".to_owned()),
            },
            TerminalKey::Char('S') => return Some(TopAction::ShowGroupedStacks),
            TerminalKey::Char('c') => match selected {
                Some(request) => {
                    let question = format!("Cancel {} ({})?", request_line(request), request.id);
                    self.mode = Mode::Question(question, TopAction::Cancel(request.id));
                }
                None => self.message = Some("No request is selected".to_owned()),
            },
            TerminalKey::Char('r') => {
                self.mode = Mode::Question("Reload the server?".to_owned(), TopAction::Reload);
            }
            TerminalKey::Char('+' | '=') => return Some(TopAction::AddWorker),
            TerminalKey::Char('-') => {
                self.mode = Mode::Question("Have one worker less?".to_owned(), TopAction::RemoveWorker);
            }
            TerminalKey::Char('/') => self.mode = Mode::Filter(self.filter.clone()),
            TerminalKey::Escape => self.filter.clear(),
            TerminalKey::Char(' ') => self.is_paused = !self.is_paused,
            TerminalKey::Char('1') => self.window = Window::Short,
            TerminalKey::Char('6') => self.window = Window::Minute,
            TerminalKey::Char('0') => self.window = Window::TenMinutes,
            TerminalKey::Char('?' | 'h') => self.show("Keys".to_owned(), HELP),
            _ => {}
        }
        None
    }

    fn press_in_filter(&mut self, key: TerminalKey) {
        match key {
            TerminalKey::Enter => self.mode = Mode::Requests,
            TerminalKey::Escape => {
                if let Mode::Filter(before) = std::mem::take(&mut self.mode) {
                    self.filter = before;
                }
            }
            TerminalKey::Backspace => drop(self.filter.pop()),
            TerminalKey::Char(character) if self.filter.len() < FILTER_CHARS_MAX => {
                self.filter.push(character)
            }
            _ => {}
        }
    }
}

impl TextView {
    /// `false` if the key closes it.
    fn press(&mut self, key: TerminalKey, page: usize) -> bool {
        let last = self.lines.len().saturating_sub(page);
        let top = match key {
            TerminalKey::Up | TerminalKey::Char('k') => self.top.saturating_sub(1),
            TerminalKey::Down | TerminalKey::Char('j') => self.top.saturating_add(1),
            TerminalKey::PageUp | TerminalKey::Char('b') => self.top.saturating_sub(page),
            TerminalKey::PageDown | TerminalKey::Char(' ') => self.top.saturating_add(page),
            TerminalKey::Home | TerminalKey::Char('g') => 0,
            TerminalKey::End | TerminalKey::Char('G') => last,
            TerminalKey::Escape | TerminalKey::Enter | TerminalKey::Char('q' | 's' | 'S' | '?') => {
                return false;
            }
            _ => self.top,
        };
        self.top = top.min(last);
        true
    }
}

const HELP: &str = "\
 Up Down  j k    select a request
 PgUp PgDn       the same by pages; Home and End, g and G, to its ends
 s  Enter        the Python stack of the selected request
 S               the stacks of all threads, equal ones counted
 c               cancel the selected request: asks, and hits no other
 r               reload the server: asks
 +  -            one worker more, one less
 /               show requests that contain a text; Esc shows all
 Space           pause, to read
 1  6  0         rates and percentiles of 10 s, of a minute, of ten
 ?               this
 q  Ctrl-C       leave

 Ages are from the complete request on. BUSY is the part of the
 threads that are in a call. A request that is cancelled gets
 portico.RequestCancelled in its thread; if that does not end it
 within --timeout-grace, its client gets a 503 all the same.";

#[cfg(test)]
mod tests {
    use portico_insight::RequestPhase;
    use proptest::prelude::*;

    use super::*;

    fn request(number: u64, path: &str) -> ShownRequest {
        ShownRequest {
            id: CallId { slot: 0, thread: 0, sequence: number },
            slot: 0,
            thread: "portico-1".to_owned(),
            phase: RequestPhase::Running,
            age_seconds: 1.0,
            queued_seconds: 0.0,
            peer: Some("192.0.2.7".parse().unwrap()),
            method: "GET".to_owned(),
            path: path.to_owned(),
            ident: 0,
        }
    }

    fn requests() -> Vec<ShownRequest> {
        vec![request(2, "/old"), request(4, "/mid"), request(6, "/young")]
    }

    fn id(number: u64) -> CallId {
        request(number, "").id
    }

    fn press(state: &mut TopState, keys: &str) -> Vec<TopAction> {
        let requests = requests();
        keys.chars().filter_map(|key| state.press(TerminalKey::Char(key), &requests, 10)).collect()
    }

    #[test]
    fn cancel_asks_and_only_yes_is_yes() {
        for (keys, expected) in [
            ("jcy", vec![TopAction::Cancel(id(4))]),
            ("jcn", vec![]),
            ("cq", vec![]),
            ("cc", vec![]),
            ("cY", vec![TopAction::Cancel(id(2))]),
        ] {
            let mut state = TopState::default();
            assert_eq!(press(&mut state, keys), expected, "{keys}");
            assert_eq!(state.mode, Mode::Requests);
        }
        let mut state = TopState::default();
        press(&mut state, "c");
        let question = Mode::Question("Cancel GET /old (0-1-2)?".to_owned(), TopAction::Cancel(id(2)));
        assert_eq!(state.mode, question);
    }

    #[test]
    fn a_question_is_about_the_request_that_was_selected() {
        let mut state = TopState::default();
        press(&mut state, "c");
        // It ends while the question is read, and another one is in its row.
        state.follow(&requests()[1..]);
        let action = state.press(TerminalKey::Char('y'), &requests()[1..], 10);
        assert_eq!(action, Some(TopAction::Cancel(id(2))), "which by then hits nothing");
    }

    #[test]
    fn the_selection_stays_with_its_request() {
        let mut state = TopState::default();
        press(&mut state, "jj");
        state.follow(&requests()[1..]);
        let action = state.clone().press(TerminalKey::Char('s'), &requests()[1..], 10);
        assert_eq!((state.selected, action), (1, Some(TopAction::ShowStack(id(6)))));
        state.follow(&requests()[..1]);
        assert_eq!(state.selected, 0, "it has ended");
        state.follow(&[]);
        assert_eq!(state.press(TerminalKey::Char('c'), &[], 10), None);
        assert_eq!(state.message.as_deref(), Some("No request is selected"));
        assert_eq!(state.mode, Mode::Requests);
    }

    #[test]
    fn the_ends_are_no_way_out() {
        let mut state = TopState::default();
        assert_eq!(press(&mut state, "kk"), []);
        assert_eq!(state.selected, 0);
        press(&mut state, "jjjjj");
        assert_eq!(state.selected, 2);
        state.press(TerminalKey::Home, &requests(), 10);
        assert_eq!(state.selected, 0);
        state.press(TerminalKey::PageDown, &requests(), 10);
        assert_eq!(state.selected, 2);
        state.press(TerminalKey::PageUp, &requests(), 1);
        assert_eq!(state.selected, 1);
    }

    #[test]
    fn a_filter_shows_what_contains_it() {
        let mut state = TopState::default();
        press(&mut state, "/OLq");
        assert_eq!(state.filter, "OLq", "keys are text then");
        state.press(TerminalKey::Backspace, &requests(), 10);
        assert_eq!(state.filtered(&requests()).iter().map(|it| &*it.path).collect::<Vec<_>>(), ["/old"]);
        state.press(TerminalKey::Enter, &requests(), 10);
        assert_eq!(press(&mut state, "s"), [TopAction::ShowStack(id(2))]);
        press(&mut state, "/x");
        state.press(TerminalKey::Escape, &requests(), 10);
        assert_eq!(state.filter, "OL", "as it was before");
        state.press(TerminalKey::Escape, &requests(), 10);
        assert_eq!(state.filtered(&requests()).len(), 3);
        for text in ["192.0.2", "0-1-6", "portico-1"] {
            state.filter = text.to_owned();
            assert!(!state.filtered(&requests()).is_empty(), "{text}");
        }
        press(&mut state, &format!("/{}", "x".repeat(100)));
        assert_eq!(state.filter.len(), FILTER_CHARS_MAX);
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut state = TopState::default();
        assert_eq!(
            press(&mut state, "S+-yry"),
            [TopAction::ShowGroupedStacks, TopAction::AddWorker, TopAction::RemoveWorker, TopAction::Reload]
        );
        press(&mut state, "6 ");
        assert_eq!((state.window, state.is_paused), (Window::Minute, true));
        press(&mut state, "0 ");
        assert_eq!((state.window, state.is_paused), (Window::TenMinutes, false));
        press(&mut state, "1");
        assert_eq!(state.window.seconds(), 10.0);
        assert_eq!(press(&mut state, "q"), [TopAction::Quit]);
        for mode in [Mode::Requests, Mode::Filter(String::new()), Mode::Text(TextView::default())] {
            state.mode = mode;
            assert_eq!(state.press(TerminalKey::Interrupt, &[], 10), Some(TopAction::Quit));
            assert_eq!(state.press(TerminalKey::Redraw, &[], 10), Some(TopAction::Redraw));
        }
    }

    #[test]
    fn a_text_is_read_by_lines_and_pages() {
        let mut state = TopState::default();
        state.show("stack".to_owned(), &"a\u{1b}[2Jb\n".repeat(30));
        let Mode::Text(text) = &state.mode else { panic!("{state:?}") };
        assert_eq!(text.lines[0], "a\\u{1b}[2Jb");
        let top = |state: &TopState| match &state.mode {
            Mode::Text(text) => Some(text.top),
            _ => None,
        };
        for (key, expected) in [
            (TerminalKey::Char('j'), 1),
            (TerminalKey::Char(' '), 11),
            (TerminalKey::End, 20),
            (TerminalKey::Down, 20),
            (TerminalKey::PageUp, 10),
            (TerminalKey::Up, 9),
            (TerminalKey::Home, 0),
            (TerminalKey::Up, 0),
        ] {
            assert_eq!(state.press(key, &[], 10), None);
            assert_eq!(top(&state), Some(expected), "{key:?}");
        }
        state.press(TerminalKey::Char('q'), &[], 10);
        assert_eq!(top(&state), None, "it closes the text, not the screen");
    }

    fn any_key() -> impl Strategy<Value = TerminalKey> {
        let named = prop_oneof![
            Just(TerminalKey::Up),
            Just(TerminalKey::Down),
            Just(TerminalKey::PageUp),
            Just(TerminalKey::PageDown),
            Just(TerminalKey::End),
            Just(TerminalKey::Enter),
            Just(TerminalKey::Escape),
            Just(TerminalKey::Backspace),
        ];
        prop_oneof![named, "[ -~]".prop_map(|text| TerminalKey::Char(text.chars().next().unwrap()))]
    }

    proptest! {
        /// Whatever is pressed while requests come and go: nothing is cancelled without a question and a yes.
        #[test]
        fn no_two_keys_less_than_a_yes_cancel(
            presses in proptest::collection::vec((any_key(), 0..4usize), 0..60)
        ) {
            let (mut state, all, mut before) = (TopState::default(), requests(), Mode::Requests);
            for (key, from) in presses {
                let requests = &all[from.min(all.len())..];
                state.follow(requests);
                let action = state.press(key, requests, 5);
                if let Some(TopAction::Cancel(id)) = action {
                    prop_assert!(matches!(key, TerminalKey::Char('y' | 'Y')));
                    let is_asked = matches!(&before, Mode::Question(_, TopAction::Cancel(asked)) if *asked == id);
                    prop_assert!(is_asked);
                }
                prop_assert!(state.selected <= requests.len());
                before = state.mode.clone();
            }
        }
    }
}
