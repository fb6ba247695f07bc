//! What a path is to an application, told by its name alone.

use std::path::{Component, Path};

/// The way in which a file that is an application's counts: only if it is imported, or in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Code, or a folder that may hold some: it counts if it is imported.
    Code,
    /// A template, a catalogue of messages, or what was named besides: it counts in any case.
    Read,
}

/// Folders in which nothing of the application lies, besides hidden ones.
const FOREIGN_FOLDERS: [&str; 5] =
    ["__pycache__", "dist-packages", "node_modules", "site-packages", "__pypackages__"];

/// Folders in which every file is a template.
const TEMPLATE_FOLDERS: [&str; 2] = ["jinja2", "templates"];

/// What is a template wherever it lies.
const TEMPLATE_EXTENSIONS: [&str; 3] = ["j2", "jinja", "jinja2"];

const CODE_EXTENSIONS: [&str; 2] = ["py", "so"];

/// Compiled messages of gettext, which frameworks keep in memory.
const MESSAGES_EXTENSION: &str = "mo";

/// Ends of the names that editors give to their own files.
const TEMPORARY_ENDS: [&str; 9] =
    ["~", ".bak", ".orig", ".swp", ".swx", ".swo", ".tmp", "___jb_old___", "___jb_tmp___"];

/// vim looks whether it may write by making a file of this name.
const PROBE: &str = "4913";

/// Whether a folder of this name is left out, with all that is in it.
pub(crate) fn is_foreign_folder(name: &str) -> bool {
    name.starts_with('.') || FOREIGN_FOLDERS.contains(&name)
}

/// What a file at this path below the application's folder is; `None` if it is nothing to the application.
pub(crate) fn of_file(path: &Path) -> Option<FileKind> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with(['.', '#']) || name == PROBE || TEMPORARY_ENDS.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if CODE_EXTENSIONS.contains(&extension) {
        return Some(FileKind::Code);
    }
    let is_read = TEMPLATE_EXTENSIONS.contains(&extension)
        || extension == MESSAGES_EXTENSION
        || path.parent().into_iter().flat_map(Path::components).any(is_template_folder);
    is_read.then_some(FileKind::Read)
}

fn is_template_folder(component: Component<'_>) -> bool {
    component.as_os_str().to_str().is_some_and(|name| TEMPLATE_FOLDERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        for (path, kind) in [
            ("blog/views.py", Some(FileKind::Code)),
            ("fast.cpython-311-x86_64-linux-gnu.so", Some(FileKind::Code)),
            ("blog/templates/blog/post.html", Some(FileKind::Read)),
            ("templates/mail.txt", Some(FileKind::Read)),
            ("mail.jinja2", Some(FileKind::Read)),
            ("locale/de/LC_MESSAGES/django.mo", Some(FileKind::Read)),
            ("htmlcov/index.html", None),
            ("db.sqlite3", None),
            ("notes.md", None),
            ("blog/.views.py.swp", None),
            ("blog/#views.py#", None),
            ("blog/.#views.py", None),
            ("blog/views.py~", None),
            ("blog/views.py___jb_tmp___", None),
            ("templates/4913", None),
            ("templates/.post.html.swx", None),
        ] {
            assert_eq!(of_file(Path::new(path)), kind, "{path}");
        }
    }

    #[test]
    fn folders_of_others_are_left_out() {
        for name in [".git", ".venv", "__pycache__", "node_modules", "site-packages", ".mypy_cache"] {
            assert!(is_foreign_folder(name), "{name}");
        }
        for name in ["blog", "templates", "static", "venv2"] {
            assert!(!is_foreign_folder(name), "{name}");
        }
    }
}
