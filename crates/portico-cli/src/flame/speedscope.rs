//! A profile as <https://www.speedscope.app> reads it: one sampled profile, with microseconds as weights.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{About, Profile, ProfileFrame};

impl Profile {
    /// The file's text.
    pub(crate) fn speedscope(&self, about: &About) -> String {
        let mut numbers: HashMap<&ProfileFrame, usize> = HashMap::new();
        let mut frames: Vec<Json> = Vec::new();
        let (mut samples, mut weights) = (Vec::new(), Vec::new());
        for (stack, spent) in &self.stacks {
            let mut sample = Vec::with_capacity(stack.len());
            for frame in stack {
                let number = *numbers.entry(frame).or_insert_with(|| {
                    frames.push(json_of(frame));
                    frames.len() - 1
                });
                sample.push(number);
            }
            samples.push(sample);
            weights.push(spent.micros);
        }
        let file = json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": concat!("portico ", env!("CARGO_PKG_VERSION")),
            "name": about.title,
            "activeProfileIndex": 0,
            "shared": { "frames": frames },
            "profiles": [{
                "type": "sampled",
                "name": about.title,
                "unit": "microseconds",
                "startValue": 0,
                "endValue": self.micros(),
                "samples": samples,
                "weights": weights,
            }],
        });
        format!("{file}\n")
    }
}

fn json_of(frame: &ProfileFrame) -> Json {
    match frame.is_note() {
        true => json!({ "name": &*frame.function }),
        // Lines are counted from 1 there.
        false => json!({ "name": &*frame.function, "file": &*frame.file, "line": frame.line.max(1) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flame::testing::profile;

    #[test]
    fn frames_stand_once_and_weights_add_up() {
        let profile = profile(&[("GET /\"x;f app.py 7;g app.py 0", 120), ("GET /\"x;f app.py 7", 5)]);
        let about = About { title: "10 s".to_owned(), notes: Vec::new() };
        let file: Json = serde_json::from_str(&profile.speedscope(&about)).unwrap();
        let expected = json!([
            { "name": "GET /\"x" },
            { "name": "f", "file": "app.py", "line": 7 },
            { "name": "g", "file": "app.py", "line": 1 },
        ]);
        assert_eq!(file["shared"]["frames"], expected);
        let sampled = &file["profiles"][0];
        assert_eq!(
            (&sampled["samples"], &sampled["weights"]),
            (&json!([[0, 1], [0, 1, 2]]), &json!([5, 120]))
        );
        assert_eq!((&sampled["endValue"], &file["name"]), (&json!(125), &json!("10 s")));
    }
}
