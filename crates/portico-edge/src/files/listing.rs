//! The page that lists a folder.

use std::time::SystemTime;

use httpdate::fmt_http_date;

use super::name::is_served;
use crate::path::encode;

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// Its name, whatever its bytes.
    pub name: Vec<u8>,
    /// Whether it is a folder itself.
    pub is_folder: bool,
    /// Of a file.
    pub size: u64,
    /// Its time.
    pub modified: Option<SystemTime>,
}

/// Entries that a page lists; it says that there are more.
const ENTRIES_MAX: usize = 10_000;

/// The page of the folder `path`, folders first. Names that are not served are left out.
pub fn listing_page(path: &[u8], mut entries: Vec<ListedEntry>) -> String {
    entries.retain(|entry| is_served(&entry.name));
    entries.sort_by(|left, right| (!left.is_folder, &left.name).cmp(&(!right.is_folder, &right.name)));
    let title = escaped(&String::from_utf8_lossy(path));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <h1>{title}</h1>\n<table>\n"
    );
    if path != b"/" {
        page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    let more = entries.len().saturating_sub(ENTRIES_MAX);
    for entry in entries.iter().take(ENTRIES_MAX) {
        let slash = if entry.is_folder { "/" } else { "" };
        let size = if entry.is_folder { String::new() } else { entry.size.to_string() };
        let modified = entry.modified.map(fmt_http_date).unwrap_or_default();
        let (target, name) = (encode(&entry.name), escaped(&String::from_utf8_lossy(&entry.name)));
        // `./`, or a name such as `javascript:x` would be a scheme.
        let target = escaped(&target);
        page.push_str(&format!(
            "<tr><td><a href=\"./{target}{slash}\">{name}{slash}</a><td>{size}<td>{modified}\n"
        ));
    }
    page.push_str("</table>\n");
    if more > 0 {
        page.push_str(&format!("<p>{more} more\n"));
    }
    page
}

/// Text that is none of HTML's own, also in quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, is_folder: bool) -> ListedEntry {
        ListedEntry { name: name.into(), is_folder, size: 7, modified: Some(SystemTime::UNIX_EPOCH) }
    }

    #[test]
    fn a_page_has_folders_first_and_nothing_hidden() {
        let page = listing_page(b"/x/", vec![entry("b.txt", false), entry(".env", false), entry("z", true)]);
        assert!(page.find("./z/").unwrap() < page.find("./b.txt").unwrap());
        assert!(!page.contains(".env") && page.contains("../"));
        assert!(page.contains("<td>7<td>Thu, 01 Jan 1970 00:00:00 GMT"));
        assert!(!listing_page(b"/", Vec::new()).contains("../"));
    }

    #[test]
    fn names_are_no_html() {
        let name = "<script>alert('x')</script>\"&.txt";
        let page = listing_page(b"/<b>/", vec![entry(name, false), entry("javascript:alert(1)", false)]);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("'x'"), "{page}");
        assert!(page.contains("href=\"./javascript:alert(1)\""));
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    }

    #[test]
    fn a_page_lists_so_many_entries_and_says_that_there_are_more() {
        let entries = |number: usize| (0..number).map(|n| entry(&n.to_string(), false)).collect::<Vec<_>>();
        assert!(!listing_page(b"/", entries(ENTRIES_MAX)).contains(" more\n"));
        assert!(listing_page(b"/", entries(ENTRIES_MAX + 3)).contains("<p>3 more\n"));
    }
}
