//! `portico migrate` on files of the kinds that public projects have: each `uwsgi/NAME.ini` and `nginx/NAME.conf`,
//! and what it becomes.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use portico_config::{ConfigError, FileValue, Parsed, PythonFile, parse_with_files};

/// What is in the environment of each.
const VARIABLES: [(&str, &str); 2] = [("PORT", "9000"), ("STAGE", "production")];

fn variable(name: &str) -> Option<OsString> {
    VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
}

#[test]
fn each_becomes_what_stands_beside_it_and_what_is_lost_is_said() {
    for (kind, ending, least) in [("uwsgi", "ini", 12), ("nginx", "conf", 9)] {
        check(kind, ending, least);
    }
}

fn check(kind: &str, ending: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(kind);
    let cpus = std::thread::available_parallelism().unwrap().to_string();
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    files.sort();
    assert!(files.len() >= least, "{}", files.len());
    for path in files {
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap().replace("CPUS", &cpus);
        let (told, text): (Vec<&str>, Vec<&str>) = expected.lines().partition(|line| line.starts_with("# "));
        let mut python = |_: &PythonFile| -> Result<Vec<FileValue>, ConfigError> { unreachable!() };
        let arguments = ["migrate".into(), path.clone().into_os_string()];
        let Parsed::Print(done) = parse_with_files(arguments.into_iter(), &variable, &mut python).unwrap()
        else {
            panic!("{}", path.display())
        };
        let name = path.file_name().unwrap().to_string_lossy();
        assert_eq!(done.text.lines().skip(1).collect::<Vec<_>>(), text, "{name}: {:?}", done.problems);
        for (kind, lines) in [("# note: ", &done.notes), ("# problem: ", &done.problems)] {
            let wanted: Vec<&str> = told.iter().filter_map(|line| line.strip_prefix(kind)).collect();
            for wanted in &wanted {
                assert!(lines.iter().any(|line| line.contains(wanted)), "{name}: {wanted} in {lines:#?}");
            }
            // Nothing else is wrong with it.
            assert!(kind == "# note: " || lines.len() == wanted.len(), "{name}: {lines:#?}");
        }
    }
}

#[test]
fn a_file_that_breaks_off_or_is_garbled_is_told_of() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folder = tempfile::tempdir().unwrap();
    for (kind, ending) in [("uwsgi", "ini"), ("nginx", "conf")] {
        for entry in fs::read_dir(tests.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|it| it != ending) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let broken = folder.path().join(format!("broken.{ending}"));
            // A step that no line has as its length.
            for end in (0..text.len()).step_by(53).filter(|end| text.is_char_boundary(*end)) {
                let (start, rest) = text.split_at(end);
                for garbled in
                    [start.to_owned(), format!("{start}\\{{\u{e4}${rest}"), format!("{start};{rest}")]
                {
                    fs::write(&broken, garbled).unwrap();
                    let mut python =
                        |_: &PythonFile| -> Result<Vec<FileValue>, ConfigError> { unreachable!() };
                    let arguments = ["migrate".into(), broken.clone().into_os_string()];
                    let done = parse_with_files(arguments.into_iter(), &variable, &mut python);
                    assert!(matches!(done, Ok(Parsed::Print(_))), "{}", path.display());
                }
            }
        }
    }
}
