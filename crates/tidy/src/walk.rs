//! Finds the files of the repository that people write.

use std::io;
use std::path::Path;

use crate::text::TextFile;

const EXTENSIONS: [&str; 12] =
    ["css", "html", "json", "md", "py", "pyi", "rs", "sh", "svg", "toml", "txt", "yml"];

/// Folders of build products; so is each one whose name begins with a dot, but for `.ci`.
const SKIPPED: [&str; 5] = ["__pycache__", "artifacts", "node_modules", "target", "venv"];

/// Every text file below `root` that is kept in the repository, with its path from there, in the order of
/// paths.
///
/// # Errors
/// A file or folder cannot be read.
pub fn text_files(root: &Path) -> io::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci";
                if !hidden && !SKIPPED.contains(&name.as_str()) {
                    folders.push(entry.path());
                }
            } else if is_text(&name)
                && let Ok(path) = entry.path().strip_prefix(root)
                // A corpus may hold bytes on purpose.
                && let Ok(text) = String::from_utf8(std::fs::read(entry.path())?)
            {
                files.push(TextFile { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// Whether a file of that name is written by people: also one without an extension, such as a Makefile or a
/// script.
fn is_text(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((_, extension)) => EXTENSIONS.contains(&extension),
        None => true,
    }
}
