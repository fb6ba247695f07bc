//! What a terminal sends as keys.

/// A key that somebody has pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminalKey {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Backspace,
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-L.
    Redraw,
}

/// Bytes of a terminal on their way to become keys: a sequence may come in pieces.
#[derive(Debug, Default)]
pub(crate) struct KeyReader {
    pending: Vec<u8>,
}

/// The longest sequence of a key that is known. A longer one is dropped.
const SEQUENCE_MAX: usize = 16;

const ESCAPE: u8 = 0x1b;

impl KeyReader {
    /// The keys that are whole with these bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<TerminalKey> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = next(&self.pending) {
            self.pending.drain(..length);
            keys.extend(key);
        }
        if self.pending.len() > SEQUENCE_MAX {
            self.pending.clear();
        }
        keys
    }

    /// Nothing more has come for a moment: an escape by itself is the key of that name.
    pub(crate) fn settle(&mut self) -> Option<TerminalKey> {
        let is_escape = self.pending == [ESCAPE];
        self.pending.clear();
        is_escape.then_some(TerminalKey::Escape)
    }

    /// Whether a sequence has begun.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// The first key in `bytes`, where it is one that is known, and how many bytes it has; `None` if they are not all
/// there.
fn next(bytes: &[u8]) -> Option<(Option<TerminalKey>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    if first == ESCAPE {
        return sequence(rest).map(|(key, length)| (key, length + 1));
    }
    let key = match first {
        0x03 => Some(TerminalKey::Interrupt),
        0x0c => Some(TerminalKey::Redraw),
        b'\r' | b'\n' => Some(TerminalKey::Enter),
        0x08 | 0x7f => Some(TerminalKey::Backspace),
        b' '..=b'~' => Some(TerminalKey::Char(char::from(first))),
        _ => None, // Control characters, and what is not ASCII: no command is that.
    };
    Some((key, 1))
}

/// The key of what follows an escape (ECMA-48: `[` or `O`, parameters, a final byte).
fn sequence(rest: &[u8]) -> Option<(Option<TerminalKey>, usize)> {
    let (&kind, rest) = rest.split_first()?;
    match kind {
        b'[' => {}
        b'O' => return rest.first().map(|last| (named(b"", *last), 2)),
        // Escape, and at once another key: with Alt.
        ESCAPE => return Some((Some(TerminalKey::Escape), 0)),
        _ => return Some((None, 1)),
    }
    let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
    Some((named(&rest[..end], rest[end]), end + 2))
}

fn named(parameters: &[u8], last: u8) -> Option<TerminalKey> {
    match (parameters, last) {
        (_, b'A') => Some(TerminalKey::Up),
        (_, b'B') => Some(TerminalKey::Down),
        (_, b'H') | (b"1" | b"7", b'~') => Some(TerminalKey::Home),
        (_, b'F') | (b"4" | b"8", b'~') => Some(TerminalKey::End),
        (b"5", b'~') => Some(TerminalKey::PageUp),
        (b"6", b'~') => Some(TerminalKey::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_terminals_are_known() {
        let all = b"ja\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~\r\x7f\x03\x0c";
        let expected = [
            TerminalKey::Char('j'),
            TerminalKey::Char('a'),
            TerminalKey::Up,
            TerminalKey::Down,
            TerminalKey::PageUp,
            TerminalKey::PageDown,
            TerminalKey::Home,
            TerminalKey::End,
            TerminalKey::Enter,
            TerminalKey::Backspace,
            TerminalKey::Interrupt,
            TerminalKey::Redraw,
        ];
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(all), expected);
        assert!(!reader.is_pending());
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(b"\x1b"), []);
        assert!(reader.is_pending());
        assert_eq!(reader.feed(b"["), []);
        assert_eq!(reader.feed(b"Bx"), [TerminalKey::Down, TerminalKey::Char('x')]);
    }

    #[test]
    fn an_escape_alone_is_a_key_after_a_moment() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(b"\x1b"), []);
        assert_eq!(reader.settle(), Some(TerminalKey::Escape));
        assert_eq!((reader.settle(), reader.is_pending()), (None, false));
        assert_eq!(reader.feed(b"\x1b\x1b"), [TerminalKey::Escape]);
        assert_eq!(reader.settle(), Some(TerminalKey::Escape));
        assert_eq!(reader.feed(b"\x1b[1"), []);
        assert_eq!(reader.settle(), None, "the beginning of a sequence is none");
    }

    #[test]
    fn what_is_no_key_of_ours_is_left_out() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.feed(b"\x1b[15~\x1b[1;5Zq\xc3\xa9\x00"), [TerminalKey::Char('q')]);
        assert_eq!(reader.feed(&[&b"\x1b["[..], &[b'1'; 40]].concat()), []);
        assert!(!reader.is_pending(), "no sequence is that long");
    }

    proptest! {
        /// Whatever comes in whatever pieces: little is kept, and the pieces make no difference.
        #[test]
        fn pieces_make_no_difference(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0..60usize) {
            let at = at.min(bytes.len());
            let (mut whole, mut pieces) = (KeyReader::default(), KeyReader::default());
            let keys = whole.feed(&bytes);
            let mut in_pieces = pieces.feed(&bytes[..at]);
            in_pieces.extend(pieces.feed(&bytes[at..]));
            // Only a sequence that is too long is dropped at another place.
            prop_assert!(in_pieces == keys || bytes.windows(2).any(|pair| pair == b"\x1b["));
            prop_assert!(whole.pending.len() <= SEQUENCE_MAX && pieces.pending.len() <= SEQUENCE_MAX);
        }
    }
}
