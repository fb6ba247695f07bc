//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling").
//!
//! An iterable over blocks of a file-like object, which has what `io.BufferedIOBase` has: frameworks look for
//! `seek` and `tell` to send a range. Returned as it is from the application, and around a regular file, it is
//! recognised by
//! `response`, which has the engine send the file without passing it through memory.

use std::fs::{File, Metadata};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString, PyTuple, PyType};

use super::unsupported;
use super::wsgi_input::fill_buffer;
use crate::raw;

/// Iterates over a file-like object in blocks. What else is asked of it, the object is asked.
#[pyclass(frozen, name = "FileWrapper", module = "portico._portico")]
pub(crate) struct FileWrapper {
    /// The object.
    #[pyo3(get)]
    filelike: Py<PyAny>,
    /// Bytes of a block.
    #[pyo3(get)]
    blksize: isize,
}

impl FileWrapper {
    /// What the object has by this name.
    fn own<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.filelike.bind(py).getattr_opt(PyString::intern(py, name))
    }

    /// Has the object do it.
    fn pass<'py>(&self, name: &str, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        match self.own(arguments.py(), name)? {
            Some(method) => method.call1(arguments),
            None => Err(unsupported(name)),
        }
    }

    /// Has the object read into `buffer` by `name`, or by `read` where it has no such method.
    fn read_into<'py>(&self, name: &str, buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = buffer.py();
        if let Some(method) = self.own(py, name)? {
            return method.call1((buffer,));
        }
        let read = |length: usize| {
            let data = self.filelike.bind(py).call_method1(intern!(py, "read"), (length,))?;
            Ok(data.cast_into::<PyBytes>()?)
        };
        Ok(fill_buffer(buffer, read)?.into_pyobject(py)?.into_any())
    }

    /// Asks the object whether; `otherwise` where it does not tell.
    fn ask<'py>(&self, py: Python<'py>, name: &str, otherwise: bool) -> PyResult<Bound<'py, PyAny>> {
        match self.own(py, name)? {
            Some(method) => method.call0(),
            None => Ok(PyBool::new(py, otherwise).to_owned().into_any()),
        }
    }
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: isize) -> Self {
        Self { filelike, blksize }
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1(intern!(py, "read"), (self.blksize,))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// Closes the file-like object, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }

    /// Whether the file-like object is closed.
    #[getter]
    fn closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.own(py, "closed")? {
            Some(closed) => Ok(closed),
            None => Ok(PyBool::new(py, false).to_owned().into_any()),
        }
    }

    /// What else the file-like object has, such as `name` and `mode`.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        if name.to_string_lossy().starts_with("__") {
            // What Python looks for by itself, to copy or to pickle, would be the object's.
            return Err(PyAttributeError::new_err(name.clone().unbind()));
        }
        self.filelike.bind(name.py()).getattr(name)
    }

    /// Reads of the file-like object.
    #[pyo3(signature = (*arguments))]
    fn read<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("read", arguments)
    }

    /// Reads of it what is at hand, where it can tell that; what `read` gives otherwise.
    #[pyo3(signature = (*arguments))]
    fn read1<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let has_own = self.own(arguments.py(), "read1")?.is_some();
        self.pass(if has_own { "read1" } else { "read" }, arguments)
    }

    /// Reads into a buffer.
    fn readinto<'py>(&self, buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.read_into("readinto", buffer)
    }

    /// Reads into a buffer what is at hand.
    fn readinto1<'py>(&self, buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.read_into("readinto1", buffer)
    }

    /// Reads a line.
    #[pyo3(signature = (*arguments))]
    fn readline<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("readline", arguments)
    }

    /// Reads lines.
    #[pyo3(signature = (*arguments))]
    fn readlines<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("readlines", arguments)
    }

    /// Moves to another place, if the object can.
    #[pyo3(signature = (*arguments))]
    fn seek<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("seek", arguments)
    }

    /// The place in the object.
    #[pyo3(signature = (*arguments))]
    fn tell<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("tell", arguments)
    }

    /// Has the object end here, if it can.
    #[pyo3(signature = (*arguments))]
    fn truncate<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("truncate", arguments)
    }

    /// The stream below the object, if that can be parted from it.
    #[pyo3(signature = (*arguments))]
    fn detach<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("detach", arguments)
    }

    /// The descriptor of the object, if it has one.
    #[pyo3(signature = (*arguments))]
    fn fileno<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("fileno", arguments)
    }

    /// Writes to the object, if it can.
    #[pyo3(signature = (*arguments))]
    fn write<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("write", arguments)
    }

    /// Writes to the object, if it can.
    #[pyo3(signature = (*arguments))]
    fn writelines<'py>(&self, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.pass("writelines", arguments)
    }

    /// Whether the object can be read.
    fn readable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, "readable", true)
    }

    /// Whether the object can move to another place.
    fn seekable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, "seekable", false)
    }

    /// Whether the object can be written to.
    fn writable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, "writable", false)
    }

    /// Whether the object is a terminal.
    fn isatty<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(py, "isatty", false)
    }

    /// Has the object write what it keeps, if it keeps something.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.own(py, "flush")?.map_or(Ok(()), |flush| flush.call0().map(drop))
    }
}

/// The part of a regular file that is to be sent: from where the application stands in it to its end.
pub(crate) struct FileRange {
    /// A descriptor of its own: the application may close its file.
    pub(crate) file: File,
    /// First byte to send.
    pub(crate) offset: u64,
    /// Bytes from there to the end of the file.
    pub(crate) length: u64,
}

impl FileWrapper {
    /// The file behind the wrapper, if its bytes are what reading the file-like object would give; `None` for
    /// anything that has to be read instead (pipes, `BytesIO`, decompressing and decrypting objects, text).
    pub(crate) fn regular_file(&self, py: Python<'_>) -> Option<FileRange> {
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
        if !metadata.is_file() || !tells_its_size(&file, &metadata, offset) {
            return Ok(None);
        }
        Ok(Some(FileRange { file, offset, length: metadata.len().saturating_sub(offset) }))
    }
}

/// Whether the size of a regular file is that of its content. The files of /proc have none, those of sysfs that of
/// a page; neither has blocks, and as little has a file that is nothing but a hole. FUSE leaves it to the program
/// behind it what both are.
fn tells_its_size(file: &File, metadata: &Metadata, offset: u64) -> bool {
    metadata.len() > offset && metadata.blocks() > 0 && !is_on_fuse(file)
}

/// Whether `file` is on a file system in user space.
fn is_on_fuse(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|status| status.f_type == FUSE_SUPER_MAGIC)
}

/// linux/magic.h
const FUSE_SUPER_MAGIC: rustix::fs::FsWord = 0x6573_5546;

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
