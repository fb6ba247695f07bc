//! What a command prints, and on which of the two streams.

/// The outcome of a command: text for standard output, and why it failed if it did.
#[derive(Debug, Default)]
pub struct Output {
    /// For standard output.
    pub output: String,
    /// For standard error: what went wrong, in a line.
    pub error: Option<String>,
}

impl Output {
    pub(crate) fn of(output: String) -> Self {
        Self { output, error: None }
    }

    pub(crate) fn failure(error: String) -> Self {
        Self { output: String::new(), error: Some(error) }
    }
}
