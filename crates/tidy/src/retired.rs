//! Words that were given up for standard ones. They come back with old habits and old branches.

use crate::finding::Finding;
use crate::text::TextFile;

/// A word that is not to be used any more.
struct Retired {
    /// As it stood, a whole word or several.
    word: &'static str,
    /// What is said now.
    instead: &'static str,
    /// Where it had that meaning: beginnings of paths; empty for everywhere.
    within: &'static [&'static str],
    /// Why it is gone.
    reason: &'static str,
}

const SUPERVISOR: &[&str] = &["crates/portico-supervisor/"];
const DATA_PLANE: &[&str] = &[
    "crates/portico-lending/src/",
    "crates/portico-log/src/",
    "crates/portico-net/src/",
    "crates/portico-proto/src/",
    "crates/portico-python/src/",
    "crates/portico-server/src/",
    "crates/portico-worker/src/",
];
const CONFIG: &[&str] = &["crates/portico-config/"];

const METAPHOR: &str = "a metaphor of our own";
const TABLE: &str = "a setting says it in its row";
const TWICE: &str = "types of several crates had that name";

/// Extend it with each word that is retired.
const RETIRED: &[Retired] = &[
    Retired { word: "bury", instead: "on_reaped", within: &[], reason: METAPHOR },
    Retired { word: "feel_pulses", instead: "check_heartbeats", within: &[], reason: METAPHOR },
    Retired { word: "bear_failed_boot", instead: "on_boot_failure", within: &[], reason: METAPHOR },
    Retired { word: "control line", instead: "control socket", within: &[], reason: METAPHOR },
    Retired { word: "line to the supervisor", instead: "control socket", within: &[], reason: METAPHOR },
    Retired { word: "Pulse", instead: "Heartbeat", within: SUPERVISOR, reason: METAPHOR },
    Retired { word: "Talk", instead: "ReportRate", within: SUPERVISOR, reason: METAPHOR },
    Retired { word: "Looking", instead: "TickState", within: SUPERVISOR, reason: METAPHOR },
    Retired { word: "Post", instead: "ChildContext", within: SUPERVISOR, reason: METAPHOR },
    Retired { word: "Plan", instead: "ProcessPlan", within: SUPERVISOR, reason: TWICE },
    Retired { word: "Lost<", instead: "InterruptedRequest<", within: SUPERVISOR, reason: METAPHOR },
    Retired { word: "Eyes", instead: "Backend", within: &["crates/portico-reload/"], reason: METAPHOR },
    Retired {
        word: "Looks",
        instead: "FolderSnapshots",
        within: &["crates/portico-reload/"],
        reason: METAPHOR,
    },
    Retired { word: "Sink", instead: "LogSink", within: &["crates/portico-log/"], reason: TWICE },
    Retired { word: "Place", instead: "FolderEntry", within: &["crates/portico-files/"], reason: TWICE },
    Retired { word: "Inherited", instead: "SystemdSockets", within: CONFIG, reason: TWICE },
    Retired { word: "Draft", instead: "MigrationDraft", within: CONFIG, reason: TWICE },
    Retired { word: "Letter", instead: "EngineMessage", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Inquiry", instead: "Query", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "lay_down", instead: "release", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Crew", instead: "ThreadStates", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Pace", instead: "CallDurationAverage", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Alarm", instead: "NextDeadline", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Seat", instead: "ActiveCall", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Tools", instead: "EngineContext", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "dress", instead: "wrap_transport", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Parcel", instead: "HandoverMessage", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Departure", instead: "SendOutcome", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Member", instead: "SharingState", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Vault", instead: "SharedCertificates", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Keeper", instead: "CertificateReloader", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Supply", instead: "CertificateSource", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Station", instead: "WorkerContext", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Forebear", instead: "ForkedWorker", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Possessions", instead: "OwnedResources", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Inheritance", instead: "ForkContext", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Ladder", instead: "TimeoutEscalation", within: DATA_PLANE, reason: METAPHOR },
    Retired { word: "Offence", instead: "ProtocolViolation", within: DATA_PLANE, reason: METAPHOR },
    Retired {
        word: "keep_fixed",
        instead: "Setting::applies",
        within: &["crates/portico-python/"],
        reason: TABLE,
    },
];

/// Where the words stand in order to be found.
const LIST: &str = "crates/tidy/src/retired.rs";

pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path == LIST {
        return findings;
    }
    let here = |word: &&Retired| {
        word.within.is_empty() || word.within.iter().any(|beginning| file.path.starts_with(beginning))
    };
    let words: Vec<&Retired> = RETIRED.iter().filter(here).collect();
    for (index, line) in file.text.lines().enumerate() {
        for Retired { word, instead, reason, .. } in words.iter().filter(|it| has_word(line, it.word)) {
            findings.push(Finding {
                path: file.path.clone(),
                line: index + 1,
                message: format!("{word} is retired ({reason}); say {instead}"),
            });
        }
    }
    findings
}

/// Whether `word` stands in `line`, and not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        !is_part(before) && !is_part(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&TextFile { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn each_retired_word_is_found_where_it_had_its_meaning() {
        for Retired { word, within, .. } in RETIRED {
            let path = format!("{}src/a.rs", within.first().unwrap_or(&"docs/"));
            assert_eq!(count(&path, &format!("// a {word} b")), 1, "{word}");
            assert_eq!(count(&path, &format!("// a{word} {word}b")), 0, "{word}");
            let elsewhere = usize::from(within.is_empty());
            assert_eq!(count("crates/portico-edge/src/a.rs", &format!("\n {word} ")), elsewhere, "{word}");
        }
    }

    #[test]
    fn the_line_and_what_to_say_are_told() {
        let file = TextFile { path: "docs/a.md".to_owned(), text: "ok\nthe control line\n".to_owned() };
        assert_eq!(
            check(&file)[0].to_string(),
            "docs/a.md:2: control line is retired (a metaphor of our own); say control socket"
        );
    }
}
