//! A profile with one line for each stack, as `flamegraph.pl` and most other programs read it. The numbers are
//! microseconds.

use std::fmt::Write as _;

use super::Profile;

impl Profile {
    /// The lines.
    pub(crate) fn collapsed(&self) -> String {
        let mut text = String::new();
        for (stack, spent) in &self.stacks {
            // The format has no escapes.
            let frames: Vec<String> = stack.iter().map(|frame| frame.label().replace(';', ":")).collect();
            let _ = writeln!(text, "{} {}", frames.join(";"), spent.micros);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::flame::testing::profile;

    #[test]
    fn a_stack_is_a_line() {
        let text = profile(&[("/a;f app.py 7;g app.py 9", 120), ("/a;f app.py 7", 5)]).collapsed();
        assert_eq!(text, "/a;f (app.py:7) 5\n/a;f (app.py:7);g (app.py:9) 120\n");
    }

    #[test]
    fn what_a_client_writes_adds_no_frame_and_no_line() {
        use super::super::{ProfileFrame, Spent};
        let mut evil = profile(&[]);
        evil.add(vec![ProfileFrame::note("GET /;x 5\n;y")], Spent { micros: 1, samples: 1 });
        assert_eq!(evil.collapsed(), "GET /:x 5\u{fffd}:y 1\n");
    }
}
