//! docs/reference/settings.md, written from the table of settings.

use std::fmt::Write;

use crate::error::ParseError;
use crate::route_table::KEYS;
use crate::setting::{Area, Setting, ValueType};
use crate::settings;

const HEAD: &str = "\
# Settings

<!-- Written by `make docs-settings` from crates/portico-config/src/settings; a test keeps it up to date. -->

Each setting can be set in several ways. If several are used, the later one in this list takes precedence:

1. its default;
2. a variable of a hosting platform, if the setting names one;
3. the configuration file: `gunicorn.conf.py`, `portico.toml`, the table `[tool.portico]` of `pyproject.toml`, or
   the value of `--config`;
4. the environment: `PORTICO_<NAME>`, such as `PORTICO_MAX_QUEUE=100`; an empty variable is ignored;
5. `GUNICORN_CMD_ARGS`, then `PORTICO_CMD_ARGS`: options in one string, split as a shell splits it;
6. the command line, or in Python the keyword arguments of `portico.serve`.

A long option may be shortened if it stays unambiguous. If an option is given twice, the last one is used, except
for lists. Times are seconds or have a suffix (`500ms`, `1.5s`, `2m`, `1h`); sizes are bytes or have a suffix for
powers of 1024 (`64k`, `1m`, `2g`). As a keyword, a switch is `True` or `False`. If commas separate the items of a
list, write `\\,` for a comma in an item; in a list of TOML or of Python a comma needs no escape.

A reload (SIGHUP, `portico reload`) and an upgrade (SIGUSR2, `portico upgrade`) read the configuration file again;
command line and environment stay those of the start. Each setting says how its changes apply. If a reload cannot
change a setting, it keeps its value, and a warning names it.

A mistake is reported in one line that names the option or the variable. The exit status is then 2 for the command
line and 1 for the environment; `portico.serve` raises `ValueError`.
";

/// The reference of all settings, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for area in Area::ALL {
        push(&mut page, format_args!("\n## {area}\n"));
        if area == Area::Compatibility {
            compatibility(&mut page);
            continue;
        }
        for setting in settings::all().filter(|setting| setting.area == area) {
            section(&mut page, setting);
        }
    }
    page
}

/// All that there is to know of one setting, by any of its names: `max_queue`, `--max-queue`, `PORTICO_MAX_QUEUE`.
///
/// # Errors
/// There is none of that name.
pub(crate) fn about(name: &str) -> Result<String, ParseError> {
    let flag = name.trim_start_matches('-');
    let plain = flag.strip_prefix("PORTICO_").unwrap_or(flag).to_ascii_lowercase().replace('-', "_");
    let is_meant = |setting: &&Setting| {
        let short = setting.short.map(|short| short.to_string());
        setting.flags.contains(&flag) || setting.is_called(&plain) || short.as_deref() == Some(flag)
    };
    let setting = settings::all().find(is_meant).ok_or_else(|| match settings::likely(&plain) {
        Some(likely) => format!("help: {name} is not a setting; did you mean {likely}?"),
        None => format!("help: {name} is not a setting; `portico --help` lists them"),
    })?;
    let mut page = String::new();
    section(&mut page, setting);
    if let ValueType::Ignored { why, .. } | ValueType::Refused { why, .. } = setting.value {
        page.push('\n');
        wrap(&mut page, &format!("This is {}: {why}.", setting.value.describe()), "");
    }
    Ok(page.trim_start_matches(['\n', '#', ' ']).to_owned())
}

/// What is ignored and what is refused, a line for each reason.
fn compatibility(page: &mut String) {
    for (title, wanted) in [
        ("Accepted without effect, with a warning in the log", false),
        ("Refused; a value that changes nothing, such as the default of gunicorn, is accepted", true),
    ] {
        push(page, format_args!("\n{title}:\n\n"));
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for setting in settings::all() {
            let why = match setting.value {
                ValueType::Ignored { why, .. } if !wanted => why,
                ValueType::Refused { why, .. } if wanted => why,
                _ => continue,
            };
            let name = format!("`{}`", setting.option());
            match reasons.iter_mut().find(|(other, _)| *other == why) {
                Some((_, names)) => names.push(name),
                None => reasons.push((why, vec![name])),
            }
        }
        for (why, names) in reasons {
            wrap(page, &format!("* {}: {why}.", names.join(", ")), "  ");
        }
    }
}

fn section(page: &mut String, setting: &Setting) {
    push(page, format_args!("\n### `{}`\n\n{}.\n\n", setting.option(), setting.help));
    let spellings: Vec<String> = setting
        .short
        .iter()
        .map(|short| format!("`-{short}`"))
        .chain(setting.flags.iter().map(|flag| format!("`--{flag}`")))
        .collect();
    if spellings.len() > 1 {
        push(page, format_args!("* Spellings: {}\n", spellings.join(", ")));
    }
    push(page, format_args!("* Keyword: `{}`\n", setting.name));
    if let Some(name) = setting.gunicorn {
        push(page, format_args!("* In gunicorn.conf.py: `{name}`\n"));
    }
    let mut variables = format!("* Environment: `{}`", setting.variable());
    for variable in setting.platform.iter().flat_map(|platform| platform.variables) {
        push(&mut variables, format_args!(", `{variable}`"));
    }
    wrap(page, &variables, "  ");
    wrap(page, &format!("* Type: {}", setting.value.describe()), "  ");
    match (&setting.value, setting.default) {
        (_, "") => page.push_str("* Default: none\n"),
        (ValueType::Switch { .. }, default) => {
            push(page, format_args!("* Default: `{}`\n", if default == "true" { "True" } else { "False" }));
        }
        (_, default) => push(page, format_args!("* Default: `{default}`\n")),
    }
    push(page, format_args!("* Changes apply: {}\n", setting.applies.describe()));
    push(page, format_args!("* Since: {}\n", setting.since));
    if matches!(setting.value, ValueType::Tables { .. }) {
        page.push_str("\n| Key | Meaning |\n|---|---|\n");
        for key in KEYS {
            push(page, format_args!("| `{}` | {} |\n", key.name, key.help.replace('|', "\\|")));
        }
    }
    for paragraph in setting.details.split("\n\n") {
        page.push('\n');
        wrap(page, paragraph, "");
    }
}

/// Adds `paragraph` in lines of at most 110 columns, as Markdown that people read in the repository should
/// be; all but the first begin with `indent`.
fn wrap(page: &mut String, paragraph: &str, indent: &str) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        if column + 1 + word.len() > 110 {
            page.push('\n');
            page.push_str(indent);
            column = indent.len();
        } else if column > 0 {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += word.len();
    }
    page.push('\n');
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = page.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/settings.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == reference(), "docs/reference/settings.md is out of date: run `make docs-settings`");
    }

    #[test]
    fn one_setting_is_told_of_by_any_of_its_names() {
        for name in ["keep_alive", "--keep-alive", "keep-alive", "PORTICO_KEEP_ALIVE", "keepalive"] {
            let text = about(name).unwrap();
            assert!(text.starts_with("`--keep-alive`\n\n"), "{text}");
            assert!(text.contains("* Environment: `PORTICO_KEEP_ALIVE`"), "{text}");
        }
        assert!(about("-w").unwrap().starts_with("`--workers`"));
        assert!(about("spew").unwrap().contains("This is accepted without effect: "));
        assert_eq!(about("thraeds"), Err("help: thraeds is not a setting; did you mean threads?".into()));
        for setting in settings::all() {
            assert!(about(setting.name).is_ok(), "{}", setting.name);
        }
    }

    #[test]
    fn every_line_fits() {
        for line in reference().lines() {
            assert!(line.len() <= 115, "{line}");
        }
    }
}
