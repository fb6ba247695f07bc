//! Pages for errors: which of a folder's pages a status gets.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The pages of one folder, read at the start: an error must not depend on what can be opened when it happens.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    by_status: HashMap<u16, Arc<[u8]>>,
    /// `4xx.html` and `5xx.html`.
    by_class: HashMap<u16, Arc<[u8]>>,
}

/// The statuses that a page can be for: all that are registered for errors, and all others.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

impl ErrorPages {
    /// Reads the pages of `folder`; `read` says of a page that is not there that it is not found.
    ///
    /// # Errors
    /// A page cannot be read, or the folder has none; the end of a line.
    pub(crate) fn load(
        folder: &Path,
        read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, String> {
        let mut pages = Self::default();
        let mut page = |name: String| {
            let path = folder.join(name);
            match read(&path) {
                Ok(content) => Ok(Some(Arc::from(content))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
            }
        };
        for class in [4, 5] {
            pages.by_class.extend(page(format!("{class}xx.html"))?.map(|content| (class, content)));
        }
        for status in STATUSES {
            pages.by_status.extend(page(format!("{status}.html"))?.map(|content| (status, content)));
        }
        if pages == Self::default() {
            return Err(format!("{} has no page such as 404.html or 5xx.html; add one", folder.display()));
        }
        Ok(pages)
    }

    /// The page for a status: its own, or that of its class.
    pub fn page(&self, status: u16) -> Option<&Arc<[u8]>> {
        self.by_status.get(&status).or_else(|| self.by_class.get(&(status / 100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_the_status_counts_before_one_for_its_class() {
        let mut read = |path: &Path| match path.to_str() {
            Some("errors/404.html" | "errors/5xx.html") => Ok(path.display().to_string().into_bytes()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let pages = ErrorPages::load(Path::new("errors"), &mut read).unwrap();
        let page = |status| pages.page(status).map(|page| String::from_utf8(page.to_vec()).unwrap());
        assert_eq!(page(404).as_deref(), Some("errors/404.html"));
        assert_eq!(page(503).as_deref(), Some("errors/5xx.html"));
        assert_eq!((page(403), page(200)), (None, None));
        let none = ErrorPages::load(Path::new("other"), &mut read).unwrap_err();
        assert!(none.starts_with("other has no page"), "{none}");
        let mut denied = |_: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(
            ErrorPages::load(Path::new("x"), &mut denied).unwrap_err().contains("4xx.html cannot be read")
        );
    }
}
