//! The commands to a running portico: `portico status PID` and its like.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};

use crate::error::ParseError;

/// A command to the server whose supervisor has this process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCommand {
    /// `portico status PID`: print its workers and what they do.
    Status(u32),
    /// `portico status PID --json`: the same for programs, with all metrics that are numbers.
    StatusJson(u32),
    /// `portico metrics PID`: print all metrics as OpenMetrics text.
    Metrics(u32),
    /// `portico metrics PID --prometheus`: the same in the older text format of Prometheus.
    MetricsOfPrometheus(u32),
    /// `portico requests PID`: print the requests that run, the oldest first.
    Requests(u32),
    /// `portico requests PID --json`: the same for programs.
    RequestsJson(u32),
    /// `portico stacks PID`: print the request and the Python stack of each thread.
    Stacks(u32),
    /// `portico stacks PID --grouped`: print each stack once, with how many threads have it.
    StacksGrouped(u32),
    /// `portico top PID`: show it on a screen.
    Top {
        /// Of its supervisor.
        pid: u32,
        /// What is shown.
        form: TopForm,
    },
    /// `portico web PID`: serve a page that shows it.
    Web(u32, PageOrder),
    /// `portico cancel PID ID`: end the call with this id.
    Cancel(u32, String),
    /// `portico reload PID`: replace its workers by ones that have imported the application anew.
    Reload(u32),
    /// `portico upgrade PID`: replace all of it, the program included, on the same sockets.
    Upgrade(u32),
}

impl ServerCommand {
    /// The process id that it names.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Status(pid)
            | Self::StatusJson(pid)
            | Self::Metrics(pid)
            | Self::MetricsOfPrometheus(pid)
            | Self::Requests(pid)
            | Self::RequestsJson(pid)
            | Self::Stacks(pid)
            | Self::StacksGrouped(pid)
            | Self::Top { pid, .. }
            | Self::Web(pid, _)
            | Self::Cancel(pid, _)
            | Self::Reload(pid)
            | Self::Upgrade(pid) => *pid,
        }
    }
}

/// How `portico web` serves its page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOrder {
    /// `--bind`: an address of this machine.
    pub address: SocketAddr,
    /// `--trace-url`: where a trace is shown, with `{trace_id}` in place of its id.
    pub trace_url: Option<String>,
}

/// The forms of `portico top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopForm {
    /// The screen of a terminal, until the operator leaves.
    Screen,
    /// `--once`: one screen as text.
    Once,
    /// `--json`: the same for programs.
    Json,
}

/// A command's word, what it makes of a process id, and its line in the help.
type CommandWord = (&'static str, fn(u32) -> ServerCommand, &'static str);

/// What a command becomes with an option behind the process id: its word, the option, the other command.
type CommandOption = (&'static str, &'static str, fn(u32) -> ServerCommand);

const OPTIONS: [CommandOption; 6] = [
    ("status", "--json", ServerCommand::StatusJson),
    ("metrics", "--prometheus", ServerCommand::MetricsOfPrometheus),
    ("requests", "--json", ServerCommand::RequestsJson),
    ("stacks", "--grouped", ServerCommand::StacksGrouped),
    ("top", "--once", |pid| ServerCommand::Top { pid, form: TopForm::Once }),
    ("top", "--json", |pid| ServerCommand::Top { pid, form: TopForm::Json }),
];

const COMMANDS: [CommandWord; 9] = [
    ("status", ServerCommand::Status, "Print its workers, their requests, queue and memory"),
    ("metrics", ServerCommand::Metrics, "Print its metrics as OpenMetrics text"),
    ("requests", ServerCommand::Requests, "Print the requests that run, the oldest first"),
    ("stacks", ServerCommand::Stacks, "Print the request and the Python stack of each thread"),
    (
        "top",
        |pid| ServerCommand::Top { pid, form: TopForm::Screen },
        "Show it on a screen, live, with keys to act",
    ),
    (
        "web",
        |pid| ServerCommand::Web(pid, PageOrder::default()),
        "Serve a page that shows it, to a browser on this machine",
    ),
    (CANCEL, |pid| ServerCommand::Cancel(pid, String::new()), "End the request with this id, and no other"),
    ("reload", ServerCommand::Reload, "Replace its workers by ones that import the application anew"),
    ("upgrade", ServerCommand::Upgrade, "Replace all of it, the program too, on the same sockets"),
];

/// What needs the id of a request behind the process id.
const CANCEL: &str = "cancel";

/// The largest that fits the kernel's `pid_t`.
const PID_MAX: u32 = i32::MAX as u32;

/// The command that `args` are, which come without the program's name; `None` where they are settings. With
/// more than one argument after it the word is an application's name, as `status:app` always is.
///
/// # Errors
/// One line: the process id is missing or is none.
pub(crate) fn read(args: &[OsString]) -> Result<Option<ServerCommand>, ParseError> {
    let Some((word, rest)) = args.split_first() else { return Ok(None) };
    let Some((name, command, _)) = COMMANDS.iter().find(|(name, _, _)| word == name) else {
        return Ok(None);
    };
    match rest {
        [] => Err(format!("{name}: a process id is missing; write portico {name} PID").into()),
        [text] if *name == CANCEL && process_id(text).is_some() => {
            Err("cancel: the id of a request is missing; write portico cancel PID ID".into())
        }
        [text] => process_id(text)
            .map(|pid| Some(command(pid)))
            .ok_or_else(|| format!("{name}: {text:?} is no process id; write portico {name} PID").into()),
        [text, id] if *name == CANCEL => {
            let id = id.to_str().filter(|id| id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
            Ok(process_id(text).zip(id).map(|(pid, id)| ServerCommand::Cancel(pid, id.to_owned())))
        }
        [text, options @ ..] if *name == "web" => Ok(process_id(text)
            .zip(PageOrder::read(options)?)
            .map(|(pid, order)| ServerCommand::Web(pid, order))),
        // Anything else behind it is an application's option.
        [text, option] => {
            let found = OPTIONS.iter().find(|(word, known, _)| word == name && option == known);
            Ok(found.zip(process_id(text)).map(|((_, _, command), pid)| command(pid)))
        }
        _ => Ok(None),
    }
}

impl Default for PageOrder {
    /// At a port of the kernel's choice.
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), trace_url: None }
    }
}

impl PageOrder {
    /// Reads the options behind the process id; `None` where there is another one, which is an application's.
    fn read(options: &[OsString]) -> Result<Option<Self>, ParseError> {
        let mut order = Self::default();
        for pair in options.chunks(2) {
            let [option, value] = pair else { return Ok(None) };
            let value = value.to_string_lossy();
            match option.to_str() {
                Some("--bind") => order.address = loopback(&value)?,
                Some("--trace-url") => order.trace_url = Some(trace_url(&value)?),
                _ => return Ok(None),
            }
        }
        Ok(Some(order))
    }
}

/// The template in `text`. It becomes a link, and `javascript:` would be one too.
fn trace_url(text: &str) -> Result<String, ParseError> {
    let is_web = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    match is_web && text.contains("{trace_id}") {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "web: {text:?} leads to no trace; write --trace-url 'https://traces.example/{{trace_id}}'"
        )
        .into()),
    }
}

/// The address in `text`, which no other machine reaches: whoever opens the page can do what the operator can.
fn loopback(text: &str) -> Result<SocketAddr, ParseError> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr =
        named.as_deref().unwrap_or(text).parse().map_err(|_| {
            format!("web: {text:?} is no address; write portico web PID --bind 127.0.0.1:8123")
        })?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => {
            Err(format!("web: {text} is reached from other machines; bind to 127.0.0.1 and use ssh -L")
                .into())
        }
    }
}

fn process_id(text: &OsStr) -> Option<u32> {
    let digits = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|pid| (1..=PID_MAX).contains(pid))
}

/// Their words, each with its line in the help.
pub(crate) fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.into_iter().map(|(word, _, help)| (word, help))
}

/// The commands as the help lists them.
pub(crate) fn help() -> String {
    let mut text = "Commands to a running portico, with the process id of its supervisor:\n".to_owned();
    for (name, _, help) in COMMANDS {
        let options = OPTIONS.iter().filter(|(word, ..)| *word == name);
        let options: Vec<&str> = options.map(|(_, option, _)| *option).collect();
        let options = if options.is_empty() { String::new() } else { format!(" [{}]", options.join("|")) };
        let options = if name == "web" { " [OPTIONS]".to_owned() } else { options };
        let id = if name == CANCEL { " ID" } else { "" };
        let usage = format!("{name} PID{id}{options}");
        text.push_str(&format!("  portico {usage:<27} {help}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Parsed, parse};
    use crate::testing::{config, environment, refusal};

    #[test]
    fn a_word_with_a_process_id_is_a_command() {
        for (word, command) in [
            ("status", ServerCommand::Status(1)),
            ("metrics", ServerCommand::Metrics(1)),
            ("requests", ServerCommand::Requests(1)),
            ("stacks", ServerCommand::Stacks(1)),
            ("web", ServerCommand::Web(1, PageOrder::default())),
            ("reload", ServerCommand::Reload(1)),
            ("upgrade", ServerCommand::Upgrade(1)),
        ] {
            assert_eq!(read(&[word.into(), "1".into()]), Ok(Some(command)));
        }
        assert_eq!(read(&["status".into(), "2147483647".into()]), Ok(Some(ServerCommand::Status(PID_MAX))));
    }

    #[test]
    fn an_option_behind_the_process_id_asks_for_another_form() {
        let of = |args: &[&str]| read(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["status", "7", "--json"]), Ok(Some(ServerCommand::StatusJson(7))));
        assert_eq!(of(&["metrics", "7", "--prometheus"]), Ok(Some(ServerCommand::MetricsOfPrometheus(7))));
        assert_eq!(of(&["requests", "7", "--json"]), Ok(Some(ServerCommand::RequestsJson(7))));
        for (option, form) in [("--once", TopForm::Once), ("--json", TopForm::Json)] {
            assert_eq!(of(&["top", "7", option]), Ok(Some(ServerCommand::Top { pid: 7, form })));
        }
        assert_eq!(of(&["top", "7"]), Ok(Some(ServerCommand::Top { pid: 7, form: TopForm::Screen })));
        assert_eq!(of(&["stacks", "7", "--grouped"]), Ok(Some(ServerCommand::StacksGrouped(7))));
        for other in [["metrics", "7", "--json"], ["status", "x", "--json"], ["stacks", "7", "--json"]] {
            assert_eq!(of(&other), Ok(None), "{other:?}: an application of that name, with options");
        }
    }

    #[test]
    fn the_page_is_bound_to_this_machine_alone() {
        let of = |text: &str| read(&["web", "7", "--bind", text].map(OsString::from));
        for (text, address) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.2:80", "127.0.0.2:80"),
            ("[::1]:8123", "[::1]:8123"),
            ("localhost:8123", "127.0.0.1:8123"),
        ] {
            let order = PageOrder { address: address.parse().unwrap(), trace_url: None };
            assert_eq!(of(text), Ok(Some(ServerCommand::Web(7, order))));
        }
        for text in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            assert!(of(text).unwrap_err().to_string().contains("use ssh -L"), "{text}");
        }
        for text in ["", "127.0.0.1", "8123", "evil.example:80", "unix:/x", "--help"] {
            assert!(of(text).unwrap_err().to_string().contains("is no address"), "{text:?}");
        }
        for other in [["web", "x", "--bind", "127.0.0.1:0"], ["web", "7", "--threads", "2"]] {
            assert_eq!(read(&other.map(OsString::from)), Ok(None), "{other:?}: a module");
        }
    }

    #[test]
    fn traces_are_linked_to_by_a_template_of_the_web() {
        let of = |text: &str| {
            read(&["web", "7", "--bind", "127.0.0.1:1", "--trace-url", text].map(OsString::from))
        };
        let order = PageOrder {
            address: "127.0.0.1:1".parse().unwrap(),
            trace_url: Some("https://traces.example/{trace_id}?a".to_owned()),
        };
        assert_eq!(of("https://traces.example/{trace_id}?a"), Ok(Some(ServerCommand::Web(7, order))));
        for text in ["", "javascript:alert('{trace_id}')", "https://traces.example/", "traces/{trace_id}"] {
            assert!(of(text).unwrap_err().to_string().contains("leads to no trace"), "{text:?}");
        }
    }

    #[test]
    fn cancel_needs_the_id_of_a_request() {
        let of = |args: &[&str]| read(&args.iter().map(OsString::from).collect::<Vec<_>>());
        let cancel = ServerCommand::Cancel(7, "0-2-48".to_owned());
        assert_eq!(of(&["cancel", "7", "0-2-48"]), Ok(Some(cancel.clone())));
        assert_eq!(cancel.pid(), 7);
        assert_eq!(
            refusal(&["cancel", "7"]),
            "cancel: the id of a request is missing; write portico cancel PID ID"
        );
        assert_eq!(of(&["cancel", "app", "0-2-48"]), Ok(None));
        assert_eq!(
            of(&["cancel", "7", "--threads=2"]),
            Ok(None),
            "an application of that name, with options"
        );
    }

    #[test]
    fn what_is_no_process_id_is_told_in_a_line() {
        assert_eq!(refusal(&["status"]), "status: a process id is missing; write portico status PID");
        assert_eq!(refusal(&["reload", "app"]), "reload: \"app\" is no process id; write portico reload PID");
        for text in ["", "0", "-1", "+1", "1.0", "2147483648", "--help", "--threads=2"] {
            assert!(refusal(&["stacks", text]).ends_with("write portico stacks PID"), "{text}");
        }
    }

    #[test]
    fn an_application_of_that_name_is_served() {
        assert_eq!(config(&["status:app"]).app.as_deref(), Some("status:app"));
        assert_eq!(config(&["status", "--threads", "2"]).app.as_deref(), Some("status"));
        assert_eq!(config(&["--threads=2", "status"]).app.as_deref(), Some("status"));
    }

    #[test]
    fn a_command_does_not_depend_on_settings() {
        let env = environment(&[("PORTICO_THREADS", "x"), ("PORTICO_CMD_ARGS", "--nonsense")]);
        let parsed = parse(["status", "7"].map(OsString::from).into_iter(), &env);
        assert_eq!(parsed, Ok(Parsed::Command(ServerCommand::Status(7))));
    }
}
