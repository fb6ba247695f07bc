//! Reads an ini file as uWSGI does: its section, conditions and loops followed with this environment and these
//! files, placeholders put in.
//!
//! The crate rust-ini was tried and reads another language: it takes quotes and backslashes away, joins a line
//! without `=` with the next one, and tells no numbers of lines, which notes and problems name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// The options of a file in its order.
#[derive(Debug, Default)]
pub(crate) struct Ini {
    /// Those that count.
    pub options: Vec<IniOption>,
    /// Options that others have put in, and what `set` defines: variables of the file's own.
    pub used: Vec<String>,
    /// What its operator should know, a line each.
    pub notes: Vec<String>,
    /// Why the options are not all that there are, a line each.
    pub problems: Vec<String>,
    /// As it was named.
    pub file: String,
    placeholders: Vec<(String, String)>,
}

/// An option of a file for uWSGI, after conditions and loops were followed and placeholders put in.
#[derive(Debug)]
pub(crate) struct IniOption {
    /// With hyphens.
    pub name: String,
    /// With placeholders put in.
    pub value: String,
    /// Placeholders that nothing is known of.
    pub unknown: Vec<String>,
    /// File and line.
    pub place: String,
}

/// A line of the section as it stands in the file, before anything is followed.
#[derive(Debug)]
struct IniLine {
    name: String,
    value: String,
    number: usize,
}

/// The facts beside options that placeholders stand for: the file's name, the environment, how deep it is
/// included. The reader makes one for each file; it is only read.
struct Context<'a> {
    path: PathBuf,
    /// As it was named.
    shown: String,
    env: Environment<'a>,
    depth: usize,
}

/// Files within files; one that names itself goes no further.
const DEPTH_MAX: usize = 8;

/// Options that loops may make.
const OPTIONS_MAX: usize = 10_000;

/// The section that counts.
const SECTION: &str = "uwsgi";

impl Ini {
    /// Reads the section `uwsgi`. What cannot be followed is noted.
    pub(crate) fn read(text: &str, path: &Path, env: Environment<'_>) -> Self {
        let mut ini = Self { file: path.display().to_string(), ..Self::default() };
        ini.take(text, SECTION, path, env, 0);
        ini
    }

    /// The last value of an option.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|option| option.name == name).map(|option| option.value.as_str())
    }

    /// Whether an option is there and not false.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| !is_false(value))
    }

    fn take(&mut self, text: &str, section: &str, path: &Path, env: Environment<'_>, depth: usize) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let context = Context { path: absolute, shown: path.display().to_string(), env, depth };
        let lines = lines_of(text, section);
        self.run(&lines, None, &context);
    }

    /// Goes through lines, in a loop or a condition for this `item`.
    fn run(&mut self, lines: &[IniLine], item: Option<&str>, context: &Context<'_>) {
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            at += 1;
            if is_end(&line.name) {
                continue;
            }
            if !(line.name.starts_with("if-") || line.name == "for" || line.name.starts_with("for-")) {
                self.option(line, item, context);
                continue;
            }
            let length = block(&lines[at..]);
            let body = &lines[at..at + length];
            at += length;
            let value = self.put_in(&line.value, item, context).0;
            match items(&line.name, &value, self, context) {
                Some(items) => items.iter().for_each(|item| self.run(body, Some(item), context)),
                None => self.problems.push(format!(
                    "{}:{}: {} is not followed; write what it comes to in its place",
                    context.shown, line.number, line.name
                )),
            }
        }
    }

    fn option(&mut self, line: &IniLine, item: Option<&str>, context: &Context<'_>) {
        let (value, unknown) = self.put_in(&line.value, item, context);
        let place = format!("{}:{}", context.shown, line.number);
        match line.name.as_str() {
            "ini" | "include" | "inherit" => self.include(&value, &place, context),
            "set" | "set-placeholder" | "set-ph" => match value.split_once('=') {
                Some((name, value)) => {
                    self.placeholders.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                None => self.notes.push(format!("{place}: {}: it defines nothing", line.name)),
            },
            name if self.options.len() < OPTIONS_MAX => {
                self.options.push(IniOption { name: name.to_owned(), value, unknown, place });
            }
            _ => {}
        }
    }

    /// Takes the options of another file, `PATH` or `PATH:SECTION`, as those of this one.
    fn include(&mut self, named: &str, place: &str, context: &Context<'_>) {
        let (name, section) = match named.rsplit_once(':') {
            Some((path, section)) if !section.contains('/') => (path, section),
            _ => (named, SECTION),
        };
        let path = if name.is_empty() { context.path.clone() } else { PathBuf::from(name) };
        let beside = context.path.parent().map(|folder| folder.join(&path));
        let path =
            [Some(path.clone()), beside].into_iter().flatten().find(|path| path.is_file()).unwrap_or(path);
        match fs::read_to_string(&path) {
            _ if context.depth >= DEPTH_MAX => {
                self.problems.push(format!("{place}: {named} is the {DEPTH_MAX}th file within another"));
            }
            Ok(text) => self.take(&text, section, &path, context.env, context.depth + 1),
            Err(error) => self.problems.push(format!("{place}: {named} cannot be read: {error}")),
        }
    }

    /// Puts in `%(option)`, `$(VARIABLE)`, `@(file)` and `%` with a letter. Returns with it what nothing is
    /// known of.
    fn put_in(&mut self, value: &str, item: Option<&str>, context: &Context<'_>) -> (String, Vec<String>) {
        let (mut rest, mut whole, mut unknown) = (value, String::new(), Vec::new());
        while let Some(at) = rest.find(['%', '$', '@']) {
            let (before, from) = rest.split_at(at);
            whole.push_str(before);
            let named = from[1..].strip_prefix('(').and_then(|text| text.split_once(')'));
            let (found, length) = match (named, from.as_bytes()) {
                (Some((name, _)), [b'%', ..]) => (self.placeholder(name, item), name.len() + 3),
                (Some((name, _)), [b'$', ..]) => {
                    // One that is not there is put in as nothing.
                    let value = (context.env)(name).and_then(|value| value.into_string().ok());
                    (Some(value.unwrap_or_default()), name.len() + 3)
                }
                (Some((name, _)), _) => {
                    let read = fs::read_to_string(name).ok().map(|text| text.trim_end().to_owned());
                    (read, name.len() + 3)
                }
                (None, [b'%', letter, ..]) if letter.is_ascii() => (context.magic(*letter), 2),
                _ => {
                    // A sign by itself, as in an address of an abstract socket.
                    whole.push_str(&from[..1]);
                    rest = &from[1..];
                    continue;
                }
            };
            let (placeholder, after) = from.split_at(length.min(from.len()));
            match found {
                Some(found) => whole.push_str(&found),
                None => {
                    unknown.push(placeholder.to_owned());
                    whole.push_str(placeholder);
                }
            }
            rest = after;
        }
        (whole + rest, unknown)
    }

    fn placeholder(&mut self, name: &str, item: Option<&str>) -> Option<String> {
        if name == "_" {
            return item.map(str::to_owned);
        }
        let name = name.replace('_', "-");
        self.used.push(name.clone());
        let set = self.placeholders.iter().rev().find(|(known, _)| known.replace('_', "-") == name);
        set.map(|(_, value)| value.clone()).or_else(|| self.last(&name).map(str::to_owned))
    }
}

impl Context<'_> {
    /// What `%` and this letter stand for; `None` where that is known at the start of uWSGI alone.
    fn magic(&self, letter: u8) -> Option<String> {
        let text = |name: Option<&std::ffi::OsStr>| name.map(|name| name.to_string_lossy().into_owned());
        let folder = self.path.parent();
        Some(match letter {
            b'%' => "%".to_owned(),
            b'd' => format!("{}/", folder?.display()),
            b'p' => self.path.display().to_string(),
            b'o' => self.shown.clone(),
            b's' => text(self.path.file_name())?,
            b'n' => text(self.path.file_stem())?,
            b'e' => text(self.path.extension())?,
            b'c' => text(folder?.file_name())?,
            b'x' => SECTION.to_owned(),
            b'k' => std::thread::available_parallelism().ok()?.to_string(),
            b'h' => fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned(),
            _ => return None,
        })
    }
}

/// The lines of a section. Names have hyphens, and a name alone is true.
fn lines_of(text: &str, section: &str) -> Vec<IniLine> {
    let mut ours = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            ours = name.split(']').next().is_some_and(|name| name.trim() == section);
        } else if ours && !line.is_empty() && !line.starts_with(['#', ';']) {
            let (name, value) = line.split_once('=').unwrap_or((line, "true"));
            let (name, value) = (name.trim().replace('_', "-"), value.trim().to_owned());
            lines.push(IniLine { name, value, number: index + 1 });
        }
    }
    lines
}

fn is_end(name: &str) -> bool {
    matches!(name, "endif" | "end-if" | "endfor" | "end-for")
}

/// How many lines come before the end of the block that has begun. Blocks do not lie in each other.
fn block(lines: &[IniLine]) -> usize {
    lines.iter().position(|line| is_end(&line.name)).unwrap_or(lines.len())
}

/// For which items the lines of a block are gone through: none or one for a condition. `None` where that cannot be
/// told.
fn items(name: &str, value: &str, ini: &Ini, context: &Context<'_>) -> Option<Vec<String>> {
    let wanted = |is: bool, item: &str| if is { vec![item.to_owned()] } else { Vec::new() };
    let (kind, negated) = match name.strip_prefix("if-not-") {
        Some(kind) => (kind, true),
        None => (name.strip_prefix("if-").unwrap_or(name), false),
    };
    let (key, is) = value.split_once('=').map_or((value, None), |(key, is)| (key, Some(is)));
    let path = Path::new(value);
    Some(match kind {
        "for" => value.split_ascii_whitespace().map(str::to_owned).collect(),
        "for-times" => (1..=value.parse::<u32>().ok()?.min(1000)).map(|number| number.to_string()).collect(),
        "for-readline" => fs::read_to_string(value).ok()?.lines().map(str::to_owned).collect(),
        "env" => {
            let found = (context.env)(key).and_then(|value| value.into_string().ok());
            let holds = found.as_deref().is_some_and(|found| is.is_none_or(|is| is == found));
            wanted(holds != negated, found.as_deref().unwrap_or_default())
        }
        "opt" => {
            let found = ini.last(&key.replace('_', "-"));
            let holds = found.is_some_and(|found| is.is_none_or(|is| is == found));
            wanted(holds != negated, found.unwrap_or_default())
        }
        "exists" => wanted(path.exists() != negated, value),
        "file" => wanted(path.is_file() != negated, value),
        "dir" | "directory" => wanted(path.is_dir() != negated, value),
        "hostname" => wanted((context.magic(b'h').as_deref() == Some(value)) != negated, value),
        // The file is read as at a start.
        "reload" => wanted(negated, value),
        _ => return None,
    })
}

/// Whether uWSGI takes it for off.
pub(crate) fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0" | "n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    fn options(text: &str) -> (Vec<String>, Ini) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.ini");
        fs::write(&path, text).unwrap();
        fs::write(folder.path().join("more.ini"), "[uwsgi]\nthreads = 3\n[other]\nthreads = 4\n").unwrap();
        fs::write(folder.path().join("two"), "2\n").unwrap();
        let text = text.replace("{}", folder.path().to_str().unwrap());
        let ini = Ini::read(&text, &path, &environment(&[("MODE", "dev"), ("PORT", "9000")]));
        let shown = ini.options.iter().map(|it| format!("{}={}", it.name, it.value));
        let shown = shown.map(|it| it.replace(folder.path().to_str().unwrap(), "DIR")).collect();
        (shown, ini)
    }

    #[test]
    fn conditions_are_followed() {
        for (text, expected) in [
            ("if-env = MODE\na = %(_)\nendif =\nb = 1", &["a=dev", "b=1"][..]),
            ("if-env = MODE=dev\na = 1\nendif\nif-env = MODE=prod\na = 2\nendif", &["a=1"]),
            ("if-not-env = NONE\na = 1\nend-if", &["a=1"]),
            ("if-not-env = MODE\na = 1\nendif", &[]),
            ("x = 1\nif-opt = x=1\na = 1\nendif\nif-not-opt = y\nb = 1\nendif", &["x=1", "a=1", "b=1"]),
            ("if-exists = {}/two\na = %(_)\nendif\nif-file = {}\nb = 1\nendif", &["a=DIR/two"]),
            ("if-dir = {}\na = 1\nendif\nif-not-exists = {}/none\nb = 1\nendif", &["a=1", "b=1"]),
            ("if-reload = true\na = 1\nendif\nif-not-reload = true\nb = 1\nendif", &["b=1"]),
            ("for = a b\nx = %(_)\nendfor\ny = 1", &["x=a", "x=b", "y=1"]),
            ("for-times = 2\nx = %(_)\nendfor", &["x=1", "x=2"]),
            ("for-readline = {}/two\nx = %(_)\nendfor", &["x=2"]),
        ] {
            let (shown, ini) = options(&format!("[uwsgi]\n{text}\n"));
            assert_eq!(shown, expected, "{text}");
            assert_eq!(ini.problems, [""; 0], "{text}");
        }
        let (shown, ini) = options("[uwsgi]\nif-uid = 0\na = 1\nendif\nb = 1\n");
        assert_eq!(shown, ["b=1"]);
        assert!(
            ini.problems[0]
                .ends_with("site.ini:2: if-uid is not followed; write what it comes to in its place")
        );
    }

    #[test]
    fn placeholders_are_put_in() {
        for (text, expected) in [
            ("a = 1\nb = %(a)%(a)", &["a=1", "b=11"][..]),
            ("set = p = q\nset-ph = r=s\nb = %(r)", &["b=s"]),
            ("some_name = 1\nb = %(some_name)", &["some-name=1", "b=1"]),
            ("a = :$(PORT)\nb = [$(NONE)]", &["a=:9000", "b=[]"]),
            ("a = %d%n.sock\nb = %s\nc = 100%%", &["a=DIR/site.sock", "b=site.ini", "c=100%"]),
            ("a = @({}/two)", &["a=2"]),
            ("a = @abstract", &["a=@abstract"]),
            ("a = 100%", &["a=100%"]),
        ] {
            let (shown, ini) = options(&format!("[uwsgi]\n{text}\n"));
            assert_eq!(shown, expected, "{text}");
            assert!(ini.options.iter().all(|it| it.unknown.is_empty()), "{text}");
        }
        let (_, ini) = options("[uwsgi]\na = %(none) @(/no/such/file) %j\n");
        assert_eq!(ini.options[0].unknown, ["%(none)", "@(/no/such/file)", "%j"]);
    }

    #[test]
    fn other_files_are_read_and_other_sections_are_not() {
        assert_eq!(options("[uwsgi]\nini = more.ini\nx = 1\n[app]\ny = 1\n").0, ["threads=3", "x=1"]);
        assert_eq!(options("[uwsgi]\ninclude = {}/more.ini:other\n").0, ["threads=4"]);
        assert_eq!(options("[uwsgi]\nini = :app\n[app]\ny = 1\n").0, ["y=1"]);
        let (_, ini) = options("[uwsgi]\nini = none.ini\n");
        assert!(ini.problems[0].contains("none.ini cannot be read"), "{:?}", ini.problems);
        let (_, ini) = options("[uwsgi]\nini = :uwsgi\n");
        assert!(ini.problems[0].contains("within another"), "{:?}", ini.problems);
    }
}
