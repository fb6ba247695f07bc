//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").
//!
//! An iterable over blocks of a file-like object. Returned as it is from the application, and around a
//! regular file, it is recognised by `response`, which has the engine send the file without passing it
//! through memory.

use std::fs::File;
use std::os::fd::RawFd;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::raw;

/// Iterates over a file-like object in blocks.
#[pyclass(frozen, name = "FileWrapper", module = "portico._portico")]
pub struct FileWrapper {
    filelike: Py<PyAny>,
    block_size: isize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size=8192, /))]
    fn new(filelike: Py<PyAny>, block_size: isize) -> Self {
        Self { filelike, block_size }
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.block_size,))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    /// Closes the file-like object, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }
}

/// The part of a regular file that is to be sent: from where the application stands in it to its end.
pub struct FileRange {
    /// A descriptor of its own: the application may close its file.
    pub file: File,
    /// First byte to send.
    pub offset: u64,
    /// Bytes from there to the end of the file.
    pub length: u64,
}

impl FileWrapper {
    /// The file behind the wrapper, if its bytes are what reading the file-like object would give; `None` for
    /// anything that has to be read instead (pipes, `BytesIO`, decompressing and decrypting objects, text).
    pub fn regular_file(&self, py: Python<'_>) -> Option<FileRange> {
        // Whatever goes wrong here goes wrong again, and is told, when the object is read.
        self.try_regular_file(py).ok().flatten()
    }

    fn try_regular_file(&self, py: Python<'_>) -> PyResult<Option<FileRange>> {
        // A wrapper such as Django's File hands out the `read` of the file inside. One that has its own
        // `read` may give other bytes than its `fileno` (gzip.GzipFile does), so the owner of `read` decides.
        let read = self.filelike.bind(py).getattr(intern!(py, "read"))?;
        let source = read.getattr(intern!(py, "__self__"))?;
        if !reads_plainly(&source)? {
            return Ok(None);
        }
        let descriptor: RawFd = source.call_method0(intern!(py, "fileno"))?.extract()?;
        let offset: u64 = source.call_method0(intern!(py, "tell"))?.extract()?;
        let file = File::from(raw::duplicate(descriptor)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        Ok(Some(FileRange { file, offset, length: metadata.len().saturating_sub(offset) }))
    }
}

/// Whether `source` is a binary file of the `io` module whose bytes are those of its descriptor.
fn reads_plainly(source: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = source.py();
    let io = py.import(intern!(py, "_io"))?;
    let class = source.get_type();
    let is = |name: &Bound<'_, pyo3::types::PyString>, class: &Bound<'_, PyType>| -> PyResult<bool> {
        Ok(io.getattr(name)?.is(class))
    };
    let raw_file = intern!(py, "FileIO");
    if is(raw_file, &class)? {
        return Ok(true);
    }
    let buffered = is(intern!(py, "BufferedReader"), &class)? || is(intern!(py, "BufferedRandom"), &class)?;
    Ok(buffered && is(raw_file, &source.getattr(intern!(py, "raw"))?.get_type())?)
}
