//! `include` of nginx: the files that a pattern names, in the place of the directive.

use std::fs;
use std::path::{Path, PathBuf};

use super::syntax::{self, NginxDirective};
use crate::draft::MigrationDraft;

/// Files within files; one that names itself goes no further.
const DEPTH_MAX: usize = 8;

/// Files that come with nginx or certbot and say nothing that a route would.
const COMMON: [&str; 8] = [
    "mime.types",
    "proxy_params",
    "uwsgi_params",
    "scgi_params",
    "fastcgi_params",
    "fastcgi.conf",
    "options-ssl-nginx.conf",
    "modules-enabled/*.conf",
];

/// The directives with those of included files in their places.
pub(super) fn expand(
    directives: Vec<NginxDirective>,
    path: &Path,
    draft: &mut MigrationDraft,
) -> Vec<NginxDirective> {
    // nginx takes names from the folder of its main file, wherever the directive stands.
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    within(directives, &folder, 0, draft)
}

fn within(
    directives: Vec<NginxDirective>,
    folder: &Path,
    depth: usize,
    draft: &mut MigrationDraft,
) -> Vec<NginxDirective> {
    let mut all = Vec::new();
    for mut it in directives {
        if it.name != "include" {
            it.block = it.block.map(|block| within(block, folder, depth, draft));
            all.push(it);
            continue;
        }
        let named = it.first();
        if COMMON.iter().any(|common| named.ends_with(common)) {
            continue;
        }
        if depth >= DEPTH_MAX {
            draft.problems.push(format!("{}: {named} is the {DEPTH_MAX}th file within another", it.place));
            continue;
        }
        let files = files(&folder.join(named));
        if files.is_empty() && !named.contains(['*', '?', '[']) {
            draft.problems.push(format!("{}: {named} cannot be read: there is no such file", it.place));
        }
        for file in files {
            let read = fs::read_to_string(&file).map_err(|error| error.to_string());
            match read.and_then(|text| syntax::parse(&text, &file.display().to_string())) {
                Ok(inner) => all.extend(within(inner, folder, depth + 1, draft)),
                Err(problem) => {
                    draft.problems.push(format!(
                        "{}: {} cannot be read: {problem}",
                        it.place,
                        file.display()
                    ));
                }
            }
        }
    }
    all
}

/// The files that a pattern names, in the order of their names.
fn files(pattern: &Path) -> Vec<PathBuf> {
    let found = pattern.to_str().and_then(|pattern| glob::glob(pattern).ok());
    let mut files: Vec<PathBuf> =
        found.into_iter().flatten().flatten().filter(|path| path.is_file()).collect();
    files.sort();
    files
}
