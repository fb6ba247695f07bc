//! Commands that neither serve nor talk to a running server, such as `portico config`. Each is the first argument;
//! a module of that name is served as `check:app`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::Shell;

use crate::error::ParseError;

/// The task that the first word of a command line names, where that is not to serve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Print the effective settings.
    Config { json: bool },
    /// Say whether it could be served.
    Check,
    /// Print what there is to know of one setting, or the help of all.
    Help { setting: Option<String> },
    /// Print a script that completes options in this shell.
    Completions(Shell),
    /// Print the JSON Schema of portico.toml.
    Schema,
    /// Write a certificate for this machine into this folder.
    DevCert { folder: PathBuf },
    /// Explain which route a request gets.
    Route(RouteQuestion),
    /// Turn routes with `if_file` on or off, or say which are on.
    Maintenance(MaintenanceOrder),
    /// Print a line for a file of users.
    HashPassword { user: Option<String> },
    /// Write portico.toml for another server's configuration file.
    Migrate { from: PathBuf, to: Option<PathBuf> },
}

/// The request that `portico route` is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteQuestion {
    /// As it was written, such as `GET`.
    pub method: String,
    /// The host, with its port if it has one; `None` where only a path was named.
    pub host: Option<String>,
    /// As it is sent.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
}

impl RouteQuestion {
    /// Reads `https://example.com/x?y`, or `/x?y`.
    ///
    /// # Errors
    /// It is neither.
    fn parse(method: &str, url: &str) -> Result<Self, ParseError> {
        let after_scheme = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let (host, target) = match after_scheme {
            Some(rest) => {
                let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(host).filter(|host| !host.is_empty()), target)
            }
            None => (None, url),
        };
        let is_url = host.is_some() || (after_scheme.is_none() && url.starts_with('/'));
        if !is_url || url.contains('#') || url.chars().any(char::is_whitespace) {
            let problem =
                format!("route: {url:?} is no URL; write portico route GET https://example.com/x, or /x");
            return Err(problem.into());
        }
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let owned = |text: &str| text.to_owned();
        Ok(Self { method: owned(method), host: host.map(owned), path: owned(path), query: query.map(owned) })
    }
}

/// What `portico maintenance` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceOrder {
    /// Whether the file is to be there; `None` only asks.
    pub on: Option<bool>,
    /// Which of the files that routes name with `if_file`, where there are several: as a route names it, or the
    /// last part of that.
    pub file: Option<PathBuf>,
}

/// The outcome of a command that prints or writes a file, with what its operator should see to. It is finished
/// text: whoever prints it decides nothing but where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printout {
    /// For standard output, or for `file`.
    pub text: String,
    /// Where the text goes instead of to standard output.
    pub file: Option<PathBuf>,
    /// One line each, for standard error.
    pub notes: Vec<String>,
    /// What is wrong with the text, one line each, for standard error; the exit status is 1 then.
    pub problems: Vec<String>,
    /// Whether it is what counts for each setting.
    pub of_settings: bool,
}

/// Word, what follows it, and its line in the help.
const TASKS: [(&str, &str, &str); 10] = [
    ("check", "[OPTIONS]", "Check settings, addresses and application; exit status 0 or 1"),
    ("config", "[--json] [OPTIONS]", "Print the value of each setting and who has set it"),
    ("route", "[METHOD] URL", "Explain which route a request gets, and why"),
    ("maintenance", "on|off|status [FILE]", "Make or remove the file that a route with if_file waits for"),
    (
        "hash-password",
        "[USER]",
        "Print a line for a file of users (--auth), for a password that is asked for",
    ),
    ("help", "SETTING", "Print all there is to know of one setting"),
    ("migrate", "FILE [-o FILE]", "Write portico.toml for a gunicorn.conf.py, uwsgi.ini or nginx.conf"),
    ("dev-cert", "[FOLDER]", "Write a certificate for localhost, to try https:// with"),
    ("completions", "SHELL", "Print completions for bash, zsh or fish"),
    ("schema", "", "Print the JSON Schema of portico.toml"),
];

/// The task that `args` begin with, and the rest of them, which are settings.
///
/// # Errors
/// One line: the task needs something else after its word.
pub(crate) fn read(args: Vec<OsString>) -> Result<(Option<Task>, Vec<OsString>), ParseError> {
    let Some(word) = args.first().and_then(|word| word.to_str()) else { return Ok((None, args)) };
    let rest = &args[1..];
    let task = match word {
        "check" => return Ok((Some(Task::Check), rest.to_vec())),
        "config" => {
            let (json, rest): (Vec<_>, Vec<_>) = rest.iter().cloned().partition(|arg| arg == "--json");
            return Ok((Some(Task::Config { json: !json.is_empty() }), rest));
        }
        "help" => match rest {
            [] => Task::Help { setting: None },
            [name] => Task::Help { setting: Some(name.to_string_lossy().into_owned()) },
            _ => return Err("help: name one setting; write portico help threads".to_owned().into()),
        },
        "schema" => match rest {
            [] => Task::Schema,
            _ => return Err("schema: nothing follows it; write portico schema".to_owned().into()),
        },
        "route" => return route(rest).map(|(task, rest)| (Some(task), rest)),
        "maintenance" => return maintenance(rest).map(|(task, rest)| (Some(task), rest)),
        "hash-password" => hash_password(rest)?,
        "completions" => completions(rest)?,
        "migrate" => migrate(rest)?,
        "dev-cert" => match rest {
            [] => Task::DevCert { folder: PathBuf::new() },
            [folder] if !is_option(folder) => Task::DevCert { folder: folder.into() },
            _ => {
                return Err("dev-cert: name one folder, or none; write portico dev-cert certificates"
                    .to_owned()
                    .into());
            }
        },
        _ => return Ok((None, args)),
    };
    Ok((Some(task), Vec::new()))
}

/// The method may be left out; what follows the URL are settings.
fn route(rest: &[OsString]) -> Result<(Task, Vec<OsString>), ParseError> {
    let words: Vec<&str> = rest.iter().map_while(|word| word.to_str()).collect();
    let is_method = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let (question, used) = match words[..] {
        [method, url, ..] if is_method(method) => (RouteQuestion::parse(method, url)?, 2),
        [url, ..] if !url.starts_with('-') => (RouteQuestion::parse("GET", url)?, 1),
        _ => return Err("route: name a URL; write portico route GET https://example.com/x".into()),
    };
    Ok((Task::Route(question), rest[used..].to_vec()))
}

/// What follows the file, or the order where none is named, are settings.
fn maintenance(rest: &[OsString]) -> Result<(Task, Vec<OsString>), ParseError> {
    let on = match rest.first().and_then(|word| word.to_str()) {
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some("status") => None,
        _ => return Err("maintenance: write portico maintenance on, off or status".into()),
    };
    let file = rest.get(1).filter(|word| !is_option(word)).map(PathBuf::from);
    let used = 1 + usize::from(file.is_some());
    Ok((Task::Maintenance(MaintenanceOrder { on, file }), rest[used..].to_vec()))
}

fn hash_password(rest: &[OsString]) -> Result<Task, ParseError> {
    match rest.iter().map(|arg| arg.to_str()).collect::<Vec<_>>()[..] {
        [] => Ok(Task::HashPassword { user: None }),
        [Some(user)] if !user.is_empty() && !user.starts_with('-') && !user.contains(':') => {
            Ok(Task::HashPassword { user: Some(user.to_owned()) })
        }
        _ => Err("hash-password: name one user, without a colon, or none; write portico hash-password alice"
            .into()),
    }
}

fn completions(rest: &[OsString]) -> Result<Task, ParseError> {
    match rest.iter().map(|arg| arg.to_str()).collect::<Vec<_>>()[..] {
        [Some("bash")] => Ok(Task::Completions(Shell::Bash)),
        [Some("zsh")] => Ok(Task::Completions(Shell::Zsh)),
        [Some("fish")] => Ok(Task::Completions(Shell::Fish)),
        _ => Err("completions: name a shell; write portico completions bash, zsh or fish".to_owned().into()),
    }
}

fn migrate(rest: &[OsString]) -> Result<Task, ParseError> {
    match rest {
        [from] if !is_option(from) => Ok(Task::Migrate { from: from.into(), to: None }),
        [from, option, to] | [option, to, from]
            if (option == "-o" || option == "--output") && !is_option(from) =>
        {
            Ok(Task::Migrate { from: from.into(), to: Some(to.into()) })
        }
        _ => Err("migrate: name one file; write portico migrate gunicorn.conf.py, or with -o portico.toml"
            .to_owned()
            .into()),
    }
}

fn is_option(arg: &OsString) -> bool {
    arg.as_encoded_bytes().first() == Some(&b'-')
}

/// Their words, each with its line in the help.
pub(crate) fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    TASKS.into_iter().map(|(word, _, help)| (word, help))
}

/// The tasks as the help lists them.
pub(crate) fn help() -> String {
    let mut text = "Commands:\n".to_owned();
    for (word, after, help) in TASKS {
        text.push_str(&format!("  portico {:<32} {help}\n", format!("{word} {after}").trim_end()));
    }
    text
}

impl Printout {
    /// Text for standard output.
    pub(crate) fn of(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    fn check(args: &[&str], expected: Option<Task>, rest: &[&str]) {
        let (task, left) = read(args.iter().map(OsString::from).collect()).unwrap();
        assert_eq!((task, left), (expected, rest.iter().map(OsString::from).collect()), "{args:?}");
    }

    #[test]
    fn words_are_tasks() {
        check(&["check"], Some(Task::Check), &[]);
        check(&["check", "-w", "2", "a:b"], Some(Task::Check), &["-w", "2", "a:b"]);
        check(&["config", "a:b", "--json", "-w2"], Some(Task::Config { json: true }), &["a:b", "-w2"]);
        check(&["config"], Some(Task::Config { json: false }), &[]);
        check(&["schema"], Some(Task::Schema), &[]);
        check(&["help"], Some(Task::Help { setting: None }), &[]);
        check(&["help", "threads"], Some(Task::Help { setting: Some("threads".to_owned()) }), &[]);
        let question = |method: &str, host: Option<&str>, path: &str, query: Option<&str>| {
            Some(Task::Route(RouteQuestion {
                method: method.to_owned(),
                host: host.map(str::to_owned),
                path: path.to_owned(),
                query: query.map(str::to_owned),
            }))
        };
        check(&["route", "/x?y"], question("GET", None, "/x", Some("y")), &[]);
        check(
            &["route", "POST", "https://a:8/x", "-w2"],
            question("POST", Some("a:8"), "/x", None),
            &["-w2"],
        );
        check(&["route", "http://a?q"], question("GET", Some("a"), "", Some("q")), &[]);
        let order = |on, file: Option<&str>| {
            Some(Task::Maintenance(MaintenanceOrder { on, file: file.map(PathBuf::from) }))
        };
        check(&["maintenance", "on"], order(Some(true), None), &[]);
        check(&["maintenance", "off", "x/DOWN", "-w2"], order(Some(false), Some("x/DOWN")), &["-w2"]);
        check(&["maintenance", "status", "-c", "x"], order(None, None), &["-c", "x"]);
        check(&["hash-password"], Some(Task::HashPassword { user: None }), &[]);
        check(&["hash-password", "bob"], Some(Task::HashPassword { user: Some("bob".to_owned()) }), &[]);
        check(&["completions", "fish"], Some(Task::Completions(Shell::Fish)), &[]);
        check(&["dev-cert"], Some(Task::DevCert { folder: PathBuf::new() }), &[]);
        check(&["dev-cert", "x/y"], Some(Task::DevCert { folder: "x/y".into() }), &[]);
        let from = || PathBuf::from("u.ini");
        check(&["migrate", "u.ini"], Some(Task::Migrate { from: from(), to: None }), &[]);
        let to = Some(PathBuf::from("p.toml"));
        check(
            &["migrate", "u.ini", "-o", "p.toml"],
            Some(Task::Migrate { from: from(), to: to.clone() }),
            &[],
        );
        check(&["migrate", "-o", "p.toml", "u.ini"], Some(Task::Migrate { from: from(), to }), &[]);
    }

    #[test]
    fn all_else_is_settings() {
        for args in [&["check:app"][..], &["-w", "check"], &["./check.py"], &[]] {
            check(args, None, args);
        }
        assert_eq!(config(&["config:app"]).app.as_deref(), Some("config:app"));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (args, word) in [
            (&["completions"][..], "completions: "),
            (&["completions", "tcsh"], "completions: "),
            (&["route"], "route: "),
            (&["route", "x"], "route: "),
            (&["route", "GET"], "route: "),
            (&["route", "https:///x"], "route: "),
            (&["route", "/a b"], "route: "),
            (&["maintenance"], "maintenance: "),
            (&["maintenance", "--on"], "maintenance: "),
            (&["maintenance", "ON"], "maintenance: "),
            (&["hash-password", "a:b"], "hash-password: "),
            (&["hash-password", "a", "b"], "hash-password: "),
            (&["schema", "x"], "schema: "),
            (&["help", "a", "b"], "help: "),
            (&["migrate"], "migrate: "),
            (&["migrate", "-o", "x"], "migrate: "),
            (&["migrate", "a", "b"], "migrate: "),
            (&["dev-cert", "a", "b"], "dev-cert: "),
            (&["dev-cert", "-o"], "dev-cert: "),
        ] {
            let refused = read(args.iter().map(OsString::from).collect()).unwrap_err().to_string();
            assert!(refused.starts_with(word), "{refused}");
        }
    }
}
