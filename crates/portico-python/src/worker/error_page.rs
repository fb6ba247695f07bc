//! The page that stands in for an application which cannot be imported, under `--reload`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PySyntaxError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::app::{LoadError, Loaded};

/// A WSGI application that answers every request with why there is no other.
#[pyclass(frozen, name = "ErrorPage", module = "portico._portico")]
struct ErrorPage {
    html: Vec<u8>,
    text: Vec<u8>,
}

/// A line of source that an error page shows.
struct ErrorPosition {
    file: PathBuf,
    line: usize,
}

/// Lines of source that are shown on either side of the one that failed.
const LINES_AROUND: usize = 6;

/// The application that tells `error`.
///
/// # Errors
/// Python has no memory left.
pub(crate) fn standing_in(py: Python<'_>, error: &LoadError) -> PyResult<Loaded> {
    let place = error.cause.as_ref().and_then(|cause| place(py, cause));
    let text = error.traceback.as_deref().unwrap_or(&error.message);
    let page = ErrorPage {
        html: html(error, place.as_ref()).into_bytes(),
        text: format!("{}\n\n{text}\n", error.message).into_bytes(),
    };
    Ok(Loaded {
        application: Py::new(py, page)?.into_any(),
        target: "the error page".to_owned(),
        mounted: Vec::new(),
        modules: Vec::new(),
    })
}

#[pymethods]
impl ErrorPage {
    fn __call__<'py>(
        &self,
        environ: &Bound<'py, PyDict>,
        start_response: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = environ.py();
        let accepted = environ.get_item("HTTP_ACCEPT")?;
        let accepted = accepted.and_then(|accepted| accepted.extract::<String>().ok()).unwrap_or_default();
        let (kind, body) = match accepted.contains("text/html") {
            true => ("text/html; charset=utf-8", &self.html),
            false => ("text/plain; charset=utf-8", &self.text),
        };
        let fields = PyList::new(
            py,
            [
                ("Content-Type", kind.to_owned()),
                ("Content-Length", body.len().to_string()),
                ("Cache-Control", "no-store".to_owned()),
                ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'".to_owned()),
            ],
        )?;
        start_response.call1(("500 Internal Server Error", fields))?;
        PyList::new(py, [PyBytes::new(py, body)])
    }
}

/// Where it was raised: the innermost line of the application's own code, else of all.
fn place(py: Python<'_>, error: &PyErr) -> Option<ErrorPosition> {
    let value = error.value(py);
    if error.is_instance_of::<PySyntaxError>(py)
        && let Ok(file) = value.getattr("filename").and_then(|file| file.extract::<PathBuf>())
        && let Ok(line) = value.getattr("lineno").and_then(|line| line.extract::<usize>())
    {
        return Some(ErrorPosition { file, line });
    }
    let mut places = Vec::new();
    let mut next = error.traceback(py).map(Bound::into_any);
    while let Some(step) = next {
        places.extend(place_of(&step));
        next = step.getattr("tb_next").ok().filter(|next| !next.is_none());
    }
    let is_foreign =
        |place: &ErrorPosition| place.file.components().any(|part| part.as_os_str() == "site-packages");
    let own =
        places.iter().rposition(|place| !is_foreign(place) && place.file.is_file() && is_below_here(place));
    let index = own.or(places.len().checked_sub(1))?;
    Some(places.swap_remove(index))
}

fn place_of(step: &Bound<'_, PyAny>) -> Option<ErrorPosition> {
    let code = step.getattr("tb_frame").and_then(|frame| frame.getattr("f_code")).ok()?;
    let file = code.getattr("co_filename").and_then(|file| file.extract()).ok()?;
    let line = step.getattr("tb_lineno").and_then(|line| line.extract()).ok()?;
    Some(ErrorPosition { file, line })
}

/// Whether it lies in the folder that the server works in, as the application does most likely.
fn is_below_here(place: &ErrorPosition) -> bool {
    std::env::current_dir().is_ok_and(|folder| place.file.starts_with(folder))
}

fn html(error: &LoadError, place: Option<&ErrorPosition>) -> String {
    let title = escaped(&error.message);
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let _ =
        write!(page, "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n");
    if let Some(place) = place {
        let file = escaped(&place.file.to_string_lossy());
        let _ = writeln!(page, "<p class=\"place\">{file}, line {}</p>", place.line);
        if let Some(source) = source(&place.file, place.line) {
            let _ = writeln!(page, "<pre class=\"source\">{source}</pre>");
        }
    }
    if let Some(traceback) = &error.traceback {
        let _ = writeln!(page, "<h2>Traceback</h2>\n<pre>{}</pre>", escaped(traceback));
    }
    page.push_str(
        "<p class=\"note\">Portico answers every request with this page until the application can be imported; \
         it tries again when a file changes. Reload the page then.</p>\n</body>\n</html>\n",
    );
    page
}

/// The lines around line number `line`, that one marked.
fn source(file: &Path, line: usize) -> Option<String> {
    let text = std::fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut shown = String::new();
    let first = line.saturating_sub(LINES_AROUND).max(1);
    for (number, content) in (1..).zip(text.lines()).skip(first - 1).take(line + LINES_AROUND + 1 - first) {
        let content = escaped(content);
        let _ = match number == line {
            true => writeln!(shown, "<mark>{number:>5}  {content}</mark>"),
            false => writeln!(shown, "{number:>5}  {content}"),
        };
    }
    (!shown.is_empty()).then_some(shown)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "\
    body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; \
    margin: 2rem auto; padding: 0 1rem }\n\
    h1 { font-size: 1.3rem; color: #a11; overflow-wrap: anywhere } h2 { font-size: 1rem }\n\
    pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; font-size: .85rem }\n\
    mark { background: #fdd; color: inherit; display: inline-block; min-width: 100% }\n\
    .place { font-family: monospace } .note { color: #666; font-size: .9rem }\n\
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b } h1 { color: #f88 } \
    pre { background: #262626 } mark { background: #622 } .note { color: #999 } }\n";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_application_says_is_no_markup() {
        assert_eq!(escaped("<b title=\"x\">&</b>"), "&lt;b title=&quot;x&quot;&gt;&amp;&lt;/b&gt;");
    }

    #[test]
    fn the_failed_line_is_marked_among_its_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wsgi.py");
        let text: String = (1..=20).map(|number| format!("line_{number} < 1\n")).collect();
        fs::write(&file, text).unwrap();
        let shown = source(&file, 10).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            (lines.len(), lines[LINES_AROUND]),
            (2 * LINES_AROUND + 1, "<mark>   10  line_10 &lt; 1</mark>")
        );
        assert_eq!(source(&file, 1).unwrap().lines().count(), 1 + LINES_AROUND);
        assert_eq!((source(&file, 100), source(&folder.path().join("gone.py"), 1)), (None, None));
    }
}
