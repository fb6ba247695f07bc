//! The commands that have the workers of a running portico find out about themselves: `portico profile PID` and
//! `portico memory PID`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::ParseError;

/// What is to be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectionCommand {
    /// Where calls spend their time.
    Profile(ProfileOrder),
    /// What memory is full of.
    Memory(MemoryOrder),
}

/// `portico profile PID [10s]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileOrder {
    /// The process id of the supervisor, or of one worker.
    pub pid: u32,
    /// For how long.
    pub duration: Duration,
    /// How often it is looked in a second.
    pub rate: u64,
    /// Whether only time of a processor counts.
    pub of_cpu: bool,
    /// Where it is written; `None` prints it.
    pub file: Option<PathBuf>,
    /// The form; `None` prints the hottest lines.
    pub format: Option<ProfileFormat>,
    /// The slot of the only worker that is asked.
    pub slot: Option<u32>,
    /// Whether Python's own profiler is run instead, from outside.
    pub is_external: bool,
}

/// The form in which a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileFormat {
    /// A picture.
    Svg,
    /// One line for each stack.
    Collapsed,
    /// JSON for speedscope.
    Speedscope,
}

/// `portico memory PID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryOrder {
    /// The process id of the supervisor, or of one worker.
    pub pid: u32,
    /// The slot of the only worker that is asked.
    pub slot: Option<u32>,
    /// For how long allocations are traced; `None` counts objects.
    pub trace: Option<Duration>,
    /// Whether it is done without a question.
    pub is_confirmed: bool,
}

/// What a profile takes where nothing else is said.
const DURATION: Duration = Duration::from_secs(10);

/// A longer one has to be asked for twice: it slows requests meanwhile.
const UNASKED_MAX: Duration = Duration::from_secs(60);

/// No profile or trace takes longer.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// Samples in a second.
const RATE: u64 = 100;

/// More would slow four threads by more than some percent.
const RATE_MAX: u64 = 1_000;

const PROFILE_USAGE: &str = "portico profile PID [10s] [--rate 100] [--cpu] [-o FILE]";
const MEMORY_USAGE: &str = "portico memory PID [--slot N] [--trace 30s] [--yes]";

/// Word, what follows it, and its line in the help.
const WORDS: [(&str, &str, &str); 2] = [
    ("profile", "PID [10s] [OPTIONS]", "Show where its calls spend time; -o FILE.svg makes a flame graph"),
    ("memory", "PID [--trace 30s]", "Count its objects by type, or trace which lines allocate memory"),
];

/// The options of each command, for the help and for what is refused.
const PROFILE_OPTIONS: &str =
    "--rate N, --cpu, --slot N, -o FILE, --format svg|collapsed|speedscope, --long, --external";
const MEMORY_OPTIONS: &str = "--slot N, --trace 30s, --long, --yes";

/// The command that `args` are, which come without the program's name; `None` where they are settings: an
/// application that has such a name is followed by no process id.
///
/// # Errors
/// One line: something is missing, or not known.
pub(crate) fn read(args: &[OsString]) -> Result<Option<InspectionCommand>, ParseError> {
    let words: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let Some((name, rest)) = words.as_deref().and_then(<[_]>::split_first) else { return Ok(None) };
    let Some((name, ..)) = WORDS.iter().find(|(word, ..)| word == name) else { return Ok(None) };
    let usage = if *name == "profile" { PROFILE_USAGE } else { MEMORY_USAGE };
    let pid = match rest {
        [] => return Err(format!("{name}: a process id is missing; write {usage}").into()),
        [first, ..] => match (process_id(first), rest.len()) {
            (Some(pid), _) => pid,
            (None, 1) => return Err(format!("{name}: {first:?} is no process id; write {usage}").into()),
            (None, _) => return Ok(None),
        },
    };
    let command = match *name {
        "profile" => profile(pid, &rest[1..]).map(InspectionCommand::Profile),
        _ => memory(pid, &rest[1..]).map(InspectionCommand::Memory),
    };
    command.map(Some).map_err(|problem| format!("{name}: {problem}").into())
}

fn profile(pid: u32, words: &[&str]) -> Result<ProfileOrder, String> {
    let mut order = ProfileOrder {
        pid,
        duration: DURATION,
        rate: RATE,
        of_cpu: false,
        file: None,
        format: None,
        slot: None,
        is_external: false,
    };
    let (mut words, mut is_long) = (Words(words.iter()), false);
    while let Some((option, value)) = words.next_option() {
        match option {
            "--cpu" => order.of_cpu = true,
            "--external" => order.is_external = true,
            "--long" => is_long = true,
            "--rate" => order.rate = number(option, &words.value(option, value)?, 1, RATE_MAX)?,
            "--slot" => order.slot = Some(slot(option, &words.value(option, value)?)?),
            "-o" | "--output" => order.file = Some(words.value(option, value)?.into()),
            "--format" => order.format = Some(format_named(&words.value(option, value)?)?),
            text if !text.starts_with('-') => order.duration = duration(text)?,
            other => return Err(format!("{other} is no option of it; there are {PROFILE_OPTIONS}")),
        }
    }
    order.duration = allowed(order.duration, is_long)?;
    if order.format.is_none() {
        let extension = order.file.as_ref().map(|file| file.extension().and_then(|it| it.to_str()));
        order.format = extension.map(|extension| match extension {
            Some("svg") => ProfileFormat::Svg,
            Some("json") => ProfileFormat::Speedscope,
            _ => ProfileFormat::Collapsed,
        });
    }
    Ok(order)
}

fn memory(pid: u32, words: &[&str]) -> Result<MemoryOrder, String> {
    let mut order = MemoryOrder { pid, slot: None, trace: None, is_confirmed: false };
    let (mut words, mut is_long) = (Words(words.iter()), false);
    while let Some((option, value)) = words.next_option() {
        match option {
            "--yes" | "-y" => order.is_confirmed = true,
            "--long" => is_long = true,
            "--slot" => order.slot = Some(slot(option, &words.value(option, value)?)?),
            "--trace" => order.trace = Some(duration(&words.value(option, value)?)?),
            other => return Err(format!("{other} is no option of it; there are {MEMORY_OPTIONS}")),
        }
    }
    order.trace = order.trace.map(|duration| allowed(duration, is_long)).transpose()?;
    Ok(order)
}

/// What follows a command's process id.
struct Words<'a>(std::slice::Iter<'a, &'a str>);

impl<'a> Words<'a> {
    /// The next word, and what stands behind its equals sign.
    fn next_option(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let word = *self.0.next()?;
        match word.split_once('=').filter(|_| word.starts_with("--")) {
            Some((option, value)) => Some((option, Some(value))),
            None => Some((word, None)),
        }
    }

    /// The value of `option`: behind its equals sign, or the next word.
    fn value(&mut self, option: &str, value: Option<&str>) -> Result<String, String> {
        let value = value.or_else(|| self.0.next().copied());
        value.map(str::to_owned).ok_or_else(|| format!("{option} needs a value"))
    }
}

fn allowed(duration: Duration, is_long: bool) -> Result<Duration, String> {
    let seconds = duration.as_secs_f64();
    if duration > DURATION_MAX {
        return Err(format!(
            "{seconds} s is longer than {} s, the most that there is",
            DURATION_MAX.as_secs()
        ));
    }
    if duration > UNASKED_MAX && !is_long {
        return Err(format!(
            "{seconds} s is longer than {} s; add --long if that is meant",
            UNASKED_MAX.as_secs()
        ));
    }
    Ok(duration)
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('s') {
        Some(digits) => (digits, 1.0),
        None => text.strip_suffix('m').map_or((text, 1.0), |digits| (digits, 60.0)),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = digits.parse::<f64>().ok().filter(|_| is_number).map(|seconds| seconds * unit);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is no time such as 10s, 90 or 2m"))
}

fn format_named(text: &str) -> Result<ProfileFormat, String> {
    match text {
        "svg" => Ok(ProfileFormat::Svg),
        "collapsed" => Ok(ProfileFormat::Collapsed),
        "speedscope" => Ok(ProfileFormat::Speedscope),
        _ => Err(format!("--format {text:?} is none of svg, collapsed and speedscope")),
    }
}

fn slot(option: &str, text: &str) -> Result<u32, String> {
    number(option, text, 0, u64::from(u16::MAX)).map(|slot| slot as u32)
}

fn number(option: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| is_number && (min..=max).contains(value));
    value.ok_or_else(|| format!("{option} {text:?} is no number from {min} to {max}"))
}

fn process_id(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|pid: &u32| is_number && (1..=i32::MAX as u32).contains(pid))
}

/// Their words, each with its line in the help.
pub(crate) fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    WORDS.into_iter().map(|(word, _, help)| (word, help))
}

/// The commands as the help lists them, behind those of `server_command.rs`.
pub(crate) fn help() -> String {
    let lines =
        WORDS.map(|(word, after, help)| format!("  portico {:<27} {help}\n", format!("{word} {after}")));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    fn of(args: &[&str]) -> Result<Option<InspectionCommand>, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        read(&args).map_err(|error| error.to_string())
    }

    fn profile_of(args: &[&str]) -> ProfileOrder {
        match of(&[&["profile", "7"], args].concat()) {
            Ok(Some(InspectionCommand::Profile(order))) => order,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn a_profile_has_defaults_and_options() {
        let order = profile_of(&[]);
        assert_eq!((order.pid, order.duration, order.rate), (7, Duration::from_secs(10), 100));
        assert_eq!((order.of_cpu, order.file, order.format, order.slot), (false, None, None, None));
        let order = profile_of(&["30", "--rate=250", "--cpu", "--slot", "3", "-o", "x/y.svg"]);
        assert_eq!((order.duration, order.rate, order.slot), (Duration::from_secs(30), 250, Some(3)));
        assert!(
            order.of_cpu && order.file == Some("x/y.svg".into()) && order.format == Some(ProfileFormat::Svg)
        );
        for (args, format) in [
            (&["-o", "a.json"][..], Some(ProfileFormat::Speedscope)),
            (&["-o", "a.txt"], Some(ProfileFormat::Collapsed)),
            (&["-o", "a"], Some(ProfileFormat::Collapsed)),
            (&["-o", "a.svg", "--format", "collapsed"], Some(ProfileFormat::Collapsed)),
            (&["--format=speedscope"], Some(ProfileFormat::Speedscope)),
        ] {
            assert_eq!(profile_of(args).format, format, "{args:?}");
        }
        assert!(profile_of(&["--external"]).is_external);
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(profile_of(&["60s"]).duration, Duration::from_secs(60), "at the limit");
        assert_eq!(profile_of(&["10m", "--long"]).duration, Duration::from_secs(600), "at the limit");
        assert_eq!(profile_of(&["0.5"]).duration, Duration::from_millis(500));
        let refused = of(&["profile", "7", "61s"]).unwrap_err();
        assert_eq!(refused, "profile: 61 s is longer than 60 s; add --long if that is meant");
        let refused = of(&["memory", "7", "--trace", "601", "--long"]).unwrap_err();
        assert_eq!(refused, "memory: 601 s is longer than 600 s, the most that there is");
        for wrong in ["0", "x", "-1", "1e3", "inf", "10h", "s", ""] {
            assert!(of(&["profile", "7", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_counts_or_traces() {
        let order = MemoryOrder { pid: 7, slot: None, trace: None, is_confirmed: false };
        assert_eq!(of(&["memory", "7"]), Ok(Some(InspectionCommand::Memory(order.clone()))));
        let traced = MemoryOrder { slot: Some(0), trace: Some(Duration::from_secs(30)), ..order };
        let traced = MemoryOrder { is_confirmed: true, ..traced };
        let found = of(&["memory", "7", "--trace=30s", "--slot=0", "--yes"]);
        assert_eq!(found, Ok(Some(InspectionCommand::Memory(traced))));
    }

    #[test]
    fn what_is_wrong_is_told_in_a_line() {
        for (args, line) in [
            (&["profile"][..], "profile: a process id is missing; write portico profile PID"),
            (&["memory", "x"], "memory: \"x\" is no process id; write portico memory PID"),
            (&["profile", "0"], "profile: \"0\" is no process id"),
            (&["profile", "7", "--rate", "0"], "profile: --rate \"0\" is no number from 1 to 1000"),
            (&["profile", "7", "--rate", "1001"], "profile: --rate \"1001\" is no number"),
            (&["profile", "7", "--rate"], "profile: --rate needs a value"),
            (&["profile", "7", "--format", "png"], "profile: --format \"png\" is none of"),
            (&["profile", "7", "--gpu"], "profile: --gpu is no option of it; there are --rate N"),
            (&["memory", "7", "10s"], "memory: 10s is no option of it"),
            (&["memory", "7", "--slot", "-1"], "memory: --slot \"-1\" is no number"),
        ] {
            let told = of(args).unwrap_err();
            assert!(told.starts_with(line), "{told}");
        }
    }

    #[test]
    fn an_application_of_that_name_is_served() {
        assert_eq!(of(&["profile", "--threads", "2"]), Ok(None));
        assert_eq!(config(&["memory:app"]).app.as_deref(), Some("memory:app"));
    }
}
