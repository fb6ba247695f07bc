//! Long options written short: any beginning that belongs to one option alone stands for it, as argparse has
//! it.
//!
//! Scripts have such beginnings, and options that gunicorn does not have must not break them: one that means
//! a single option among gunicorn's means that one, whatever else begins with it.

use std::ffi::OsString;

use crate::error::ParseError;
use crate::gunicorn::is_gunicorns;
use crate::route_table::later_setting;
use crate::setting::Setting;
use crate::settings;

/// The options that belong to no setting.
const OTHERS: [&str; 2] = ["help", "version"];

/// Writes the long options among `args` out.
///
/// # Errors
/// One line: a beginning stands for several options.
pub(crate) fn write_out(args: Vec<OsString>) -> Result<Vec<OsString>, ParseError> {
    let mut options_end = false;
    args.into_iter()
        .map(|arg| {
            options_end |= arg == "--";
            match arg.to_str().and_then(|text| text.strip_prefix("--")) {
                Some(text) if !options_end => option(text).map(|written| written.map_or(arg, OsString::from)),
                _ => Ok(arg),
            }
        })
        .collect()
}

/// `option`, which comes without its dashes, written out; `None` where that changes nothing.
fn option(option: &str) -> Result<Option<String>, ParseError> {
    let (beginning, value) = match option.split_once('=') {
        Some((beginning, value)) => (beginning, format!("={value}")),
        None => (option, String::new()),
    };
    let begun = all().filter(|(flag, _)| flag.starts_with(beginning));
    let (flags, settings): (Vec<&str>, Vec<&str>) = begun.unzip();
    if flags.is_empty() || flags.contains(&beginning) {
        return Ok(None);
    }
    let written = |flag: &str| Ok(Some(format!("--{flag}{value}")));
    if one(&settings) {
        return written(flags[0]);
    }
    let theirs =
        || flags.iter().zip(&settings).filter(|(flag, _)| is_gunicorns(flag) || OTHERS.contains(flag));
    match theirs().next() {
        Some((flag, _)) if one(&theirs().map(|(_, name)| *name).collect::<Vec<_>>()) => written(flag),
        _ => {
            if let Some(problem) = later_setting(beginning) {
                return Err(format!("--{problem}").into());
            }
            let flags: Vec<String> = flags.iter().map(|flag| format!("--{flag}")).collect();
            Err(format!(
                "--{beginning} is the beginning of several options: {}; write one of them",
                flags.join(", ")
            )
            .into())
        }
    }
}

/// Every long option, with the name of its setting.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let settings =
        settings::all().flat_map(|setting: &Setting| setting.flags.iter().map(|flag| (*flag, setting.name)));
    settings.chain(OTHERS.map(|flag| (flag, flag)))
}

fn one(names: &[&str]) -> bool {
    names.iter().all(|name| *name == names[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gunicorn::OPTIONS;

    fn check(arg: &str, expected: &str) {
        assert_eq!(write_out(vec![arg.into()]), Ok(vec![OsString::from(expected)]));
    }

    #[test]
    fn the_list_of_gunicorns_options_is_whole() {
        let mut flags: Vec<String> = crate::account::gunicorn()
            .into_iter()
            .flat_map(|setting| setting.options)
            .filter_map(|option| option.strip_prefix("--").map(str::to_owned))
            .collect();
        flags.sort();
        assert_eq!(flags, OPTIONS);
    }

    #[test]
    fn a_beginning_of_one_option_is_that_option() {
        check("--log-lev", "--log-level");
        check("--log-lev=debug", "--log-level=debug");
        check("--keep=a=b", "--keep-alive=a=b");
        check("--max-requests-j", "--max-requests-jitter");
        check("--limit-request-field_s", "--limit-request-field_size");
        check("--error-logf", "--error-logfile");
        check("--log-f", "--log-file");
        check("--threads", "--threads");
        check("--threads=1", "--threads=1");
        check("--zzz", "--zzz");
        check("--ver", "--version");
        check("--max-requests", "--max-requests");
        for text in ["-w", "app", "--", "-", ""] {
            check(text, text);
        }
    }

    #[test]
    fn what_gunicorn_takes_is_taken_beside_options_of_our_own() {
        check("--time", "--timeout");
        check("--proxy-p", "--proxy-protocol");
        check("--conf", "--config");
    }

    #[test]
    fn a_beginning_of_several_names_them() {
        let refusal = |arg: &str| write_out(vec![arg.into()]).unwrap_err().to_string();
        assert_eq!(
            refusal("--access-logf"),
            "--access-logf is the beginning of several options: --access-logfile, --access-logformat; \
             write one of them"
        );
        assert!(refusal("--limit-request-field=1").starts_with("--limit-request-field is the beginning"));
    }

    #[test]
    fn what_stands_behind_the_end_of_the_options_is_left_alone() {
        let args = ["--thr=1", "--", "--thr"].map(OsString::from).to_vec();
        assert_eq!(write_out(args), Ok(["--threads=1", "--", "--thr"].map(OsString::from).to_vec()));
    }

    #[test]
    fn every_beginning_that_gunicorn_takes_is_the_same_option_here() {
        // A script that writes --header for --header-map, which gunicorn has since 22.0, is told that its value is
        // no header.
        const OUR_OWN: [&str; 1] = ["header"];
        for flag in OPTIONS.iter().filter(|flag| all().any(|(other, _)| other == **flag)) {
            for end in 1..flag.len() {
                let beginning = &flag[..end];
                if OUR_OWN.contains(&beginning) {
                    continue;
                }
                let begun = OPTIONS.iter().chain(&OTHERS).filter(|other| other.starts_with(beginning));
                if begun.count() == 1 {
                    check(&format!("--{beginning}"), &format!("--{flag}"));
                }
            }
        }
    }
}
