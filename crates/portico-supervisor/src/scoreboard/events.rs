//! What has happened to the server lately: starts, deaths, reloads. The supervisor writes it, the page of
//! `portico web` shows it.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use portico_metrics::RecordRing;

/// The last events of the server. Copies are the same words.
#[derive(Clone, Copy, Debug)]
pub struct EventLog<'a>(EventRing<'a>);

type EventRing<'a> = RecordRing<'a, 4, 24>;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    pub unix_nanos: u64,
    /// What.
    pub kind: EventKind,
    /// The slot concerned.
    pub slot: Option<u32>,
    /// The process concerned.
    pub pid: Option<u32>,
    /// What, in a sentence without its full stop; cut at 192 bytes.
    pub text: String,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum EventKind {
    /// A process was forked.
    Start = 1,
    /// A worker serves.
    Ready = 2,
    /// A process ended that was not to.
    Death = 3,
    /// A worker ended that was to: it was replaced, or there are to be fewer.
    Exit = 4,
    /// A reload was asked for, or has come to its end.
    Reload = 5,
    /// Another number of workers is wanted.
    Scale = 6,
    /// A stop was asked for.
    Stop = 7,
    /// An upgrade was asked for, or has come to nothing.
    Upgrade = 8,
}

/// Events that are kept: a worker that dies in a loop makes three each second, and leaves the others a minute.
const EVENTS: usize = 256;

/// Words for them.
pub(super) const EVENT_WORDS: usize = EventRing::words(EVENTS);

impl EventKind {
    /// All, in the order of their numbers.
    const ALL: [Self; 8] = [
        Self::Start,
        Self::Ready,
        Self::Death,
        Self::Exit,
        Self::Reload,
        Self::Scale,
        Self::Stop,
        Self::Upgrade,
    ];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Death => "death",
            Self::Exit => "exit",
            Self::Reload => "reload",
            Self::Scale => "scale",
            Self::Stop => "stop",
            Self::Upgrade => "upgrade",
        }
    }
}

impl<'a> EventLog<'a> {
    /// Those in `words`.
    pub(super) fn in_words(words: &'a [AtomicU64]) -> Self {
        Self(EventRing::in_words(words))
    }

    /// Notes what has happened now. `slot` and `pid` are those of the process that it is about.
    pub fn note(self, kind: EventKind, slot: Option<u32>, pid: Option<u32>, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let number = |number: Option<u32>| number.map_or(0, |number| u64::from(number) + 1);
        // Whole characters: what is cut is read as text.
        let mut end = text.len().min(24 * 8);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push([now, kind as u64, number(slot), number(pid)], &text.as_bytes()[..end]);
    }

    /// All that are kept, the oldest first. What no supervisor of ours has written is left out.
    pub fn read(self) -> Vec<Event> {
        let event = |record: portico_metrics::RingRecord<4>| {
            let [unix_nanos, kind, slot, pid] = record.numbers;
            let number = |number: u64| number.checked_sub(1).and_then(|number| u32::try_from(number).ok());
            let kind = EventKind::ALL.into_iter().find(|known| *known as u64 == kind)?;
            let text = String::from_utf8_lossy(&record.text).into_owned();
            Some(Event { unix_nanos, kind, slot: number(slot), pid: number(pid), text })
        };
        self.0.read().into_iter().filter_map(event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..EVENT_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_is_noted_is_read() {
        let words = words();
        let events = EventLog::in_words(&words);
        for kind in EventKind::ALL {
            events.note(kind, Some(0), None, kind.word());
        }
        let read = EventLog::in_words(&words).read();
        assert_eq!(read.iter().map(|event| event.kind).collect::<Vec<_>>(), EventKind::ALL);
        assert!(read.iter().all(|event| event.text == event.kind.word()));
        assert_eq!((read[0].slot, read[0].pid), (Some(0), None));
        assert!(read[0].unix_nanos > 1_700_000_000_000_000_000);
    }

    #[test]
    fn the_last_ones_are_kept() {
        let words = words();
        let events = EventLog::in_words(&words);
        for number in 0..=EVENTS as u32 {
            events.note(EventKind::Start, None, Some(number), "");
        }
        let read = events.read();
        assert_eq!((read.len(), read[0].pid, read[EVENTS - 1].pid), (EVENTS, Some(1), Some(EVENTS as u32)));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let words = words();
        let events = EventLog::in_words(&words);
        events.note(EventKind::Death, None, None, &"é".repeat(97));
        events.note(EventKind::Death, None, None, &format!("x{}", "é".repeat(97)));
        let read = events.read();
        assert_eq!(read[0].text, "é".repeat(96));
        assert_eq!(read[1].text, format!("x{}", "é".repeat(95)));
    }

    #[test]
    fn what_others_write_there_is_no_event() {
        for value in [1, 9, u64::MAX] {
            let words: Vec<_> = (0..EVENT_WORDS).map(|_| AtomicU64::new(value)).collect();
            assert!(EventLog::in_words(&words).read().len() <= EVENTS);
        }
    }
}
