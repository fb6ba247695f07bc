//! The extension module `portico._portico`: its table of contents, nothing else.

#[pyo3::pymodule(gil_used = false)]
mod _portico {}
