//! The bytes by which a terminal shows the screen's lines.

use std::fmt::Write as _;

use super::layout::{ScreenLine, Tone};

/// How a terminal shows tones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    /// With colours.
    Colours,
    /// With bold and reverse alone (NO_COLOR).
    Plain,
}

/// What gives a terminal to a screen: the other buffer, which has no history, and no cursor.
pub(crate) const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";

/// What gives it back as it was.
pub(crate) const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// All lines from the top. What was there before is written over and not cleared first, so nothing flickers.
pub(crate) fn paint(lines: &[ScreenLine], palette: Palette) -> String {
    let mut out = String::from("\x1b[H");
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            out.push_str("\r\n");
        }
        for (tone, text) in line.0.iter().filter(|(_, text)| !text.is_empty()) {
            match code(*tone, palette) {
                "" => out.push_str(text),
                code => {
                    let _ = write!(out, "\x1b[{code}m{text}\x1b[0m");
                }
            }
        }
        out.push_str("\x1b[K");
    }
    out.push_str("\x1b[J");
    out
}

/// The parameters of "select graphic rendition" (ECMA-48, 8.3.117).
fn code(tone: Tone, palette: Palette) -> &'static str {
    match (tone, palette) {
        (Tone::Plain, _) | (Tone::Dim | Tone::Good, Palette::Plain) => "",
        (Tone::Bold | Tone::Warning | Tone::Bad, Palette::Plain) => "1",
        (Tone::Heading | Tone::Selected, Palette::Plain) => "7",
        (Tone::Bold, Palette::Colours) => "1",
        (Tone::Dim, Palette::Colours) => "36",
        (Tone::Good, Palette::Colours) => "32",
        (Tone::Warning, Palette::Colours) => "1;33",
        (Tone::Bad, Palette::Colours) => "1;31",
        (Tone::Heading, Palette::Colours) => "30;42",
        (Tone::Selected, Palette::Colours) => "30;46",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<ScreenLine> {
        let piece = |tone, text: &str| (tone, text.to_owned());
        vec![
            ScreenLine(vec![piece(Tone::Plain, "a"), piece(Tone::Bad, "b"), piece(Tone::Bad, "")]),
            ScreenLine(vec![piece(Tone::Selected, "c")]),
        ]
    }

    #[test]
    fn tones_become_colours() {
        let painted = paint(&lines(), Palette::Colours);
        assert_eq!(painted, "\x1b[Ha\x1b[1;31mb\x1b[0m\x1b[K\r\n\x1b[30;46mc\x1b[0m\x1b[K\x1b[J");
    }

    #[test]
    fn without_colours_there_are_none() {
        let tones = [
            Tone::Plain,
            Tone::Dim,
            Tone::Bold,
            Tone::Good,
            Tone::Warning,
            Tone::Bad,
            Tone::Heading,
            Tone::Selected,
        ];
        for tone in tones {
            assert!(["", "1", "7"].contains(&code(tone, Palette::Plain)), "{tone:?}");
        }
        assert_eq!(
            paint(&lines(), Palette::Plain),
            "\x1b[Ha\x1b[1mb\x1b[0m\x1b[K\r\n\x1b[7mc\x1b[0m\x1b[K\x1b[J"
        );
    }
}
