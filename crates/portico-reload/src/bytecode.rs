//! What Python keeps of the compiled form of a file that has changed.
//!
//! It takes bytecode for fresh if the source's size and whole second of change are those that it was compiled
//! from: of two versions of the same size that are saved within one second the first would be run for good.

use std::fs;
use std::path::Path;

/// Removes the bytecode of the source file at `path`; what is not there is no concern.
pub(crate) fn forget(path: &Path) {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return;
    };
    let of_source = |name: &str| {
        let tag = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        tag.and_then(|tag| tag.strip_suffix(".pyc")).is_some_and(|tag| tag.starts_with("cpython-"))
    };
    for entry in folder.join("__pycache__").read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(of_source)
            && let Err(error) = fs::remove_file(entry.path())
        {
            log::debug!("stale bytecode {} cannot be removed: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
#[test]
fn bytecode_of_the_file_alone_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("__pycache__");
    fs::create_dir(&cache).unwrap();
    let others = ["views2.cpython-311.pyc", "views.extra.cpython-311.pyc", "views.cpython-311.txt"];
    for name in ["views.cpython-311.pyc", "views.cpython-313.opt-1.pyc"].iter().chain(&others) {
        fs::write(cache.join(name), "").unwrap();
    }
    forget(&folder.path().join("views.py"));
    let mut left: Vec<_> = cache.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let mut others = others;
    others.sort();
    assert_eq!(left, others);
    forget(&folder.path().join("elsewhere/views.py"));
}
