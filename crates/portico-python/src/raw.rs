//! Every `unsafe` block of this crate: calls, and a place to write at, for which PyO3, rustix and std have no safe
//! form.
//!
//! Each function here is safe to call; what makes it so stands beside its block.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Decodes latin-1 into a `str`: the form in which PEP 3333 wants text from the network ("native strings").
///
/// `PyString::new` would need the bytes checked and, above 0x7F, re-encoded as UTF-8 first.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: the pointer and the length are those of one live slice (a slice is never longer than
    // isize::MAX); the call returns a new reference to a `str`, or null with an exception set.
    unsafe {
        let pointer =
            ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), bytes.len() as isize, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, pointer)?.cast_into_unchecked())
    }
}

/// How many references to `object` exist; 1 means that the caller's is the only one. With a GIL no thread makes or
/// drops any meanwhile.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub(crate) fn known_references<T>(py: Python<'_>, object: &Py<T>) -> Option<isize> {
    let _ = py;
    // SAFETY: `object` is alive and this thread is attached, which `py` proves.
    Some(unsafe { ffi::Py_REFCNT(object.as_ptr()) as isize })
}

/// How many references to `object`, which the calling thread has made, exist: 1 means that the caller's is the
/// only one. `None` where others than that thread's exist, or may: without a GIL they come and go at any time.
/// Those that are counted do not, and no other thread can come by one unless it is given one. By the same rule the
/// interpreter decides whether it may write to an object in its place.
#[cfg(Py_GIL_DISABLED)]
pub(crate) fn known_references<T>(py: Python<'_>, object: &Py<T>) -> Option<isize> {
    use std::sync::atomic::Ordering;
    let _ = py;
    let object = object.as_ptr();
    // SAFETY: the object is alive. Both numbers are atomic ones, and no reference to the rest of it is made.
    let (local, shared) = unsafe { (&(*object).ob_ref_local, &(*object).ob_ref_shared) };
    // Acquire: what another thread has done with the object, before it let go of it, comes before what follows.
    // The number of other threads' references is 0, and so are the two bits that say that it has been merged with
    // the maker's, is about to be, or that there may be weak references.
    let is_own = shared.load(Ordering::Acquire) == 0;
    is_own.then(|| local.load(Ordering::Relaxed) as isize)
}

/// A `str` of ASCII that is written anew while nobody can tell. For one thread: the one that has made the `str`.
///
/// Kept because a new `str` for each request's port and id costs 2.6 % of a hello whose requests have ids (22,737
/// instructions of the thread that serves against 22,151, access log in JSON). That nobody can tell is shown in
/// [`Rewritable::write`], and tried by `tests/log/test_access_log_formats.py` with an application that keeps ids.
pub(crate) struct Rewritable {
    text: Py<PyString>,
    /// Its characters; in itself, so that they are there as long as it is.
    characters: NonNull<u8>,
    length: usize,
}

impl Rewritable {
    /// `text`, to be kept; `None` if it is not ASCII.
    pub(crate) fn new(text: &Bound<'_, PyString>) -> Option<Self> {
        let length = text.to_str().ok().filter(|text| text.is_ascii())?.len();
        // Not the address of a `&str`, through which nothing may be written.
        // SAFETY: the object is a `str` and alive. What is ASCII has its UTF-8 in itself.
        let characters = unsafe { ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), std::ptr::null_mut()) };
        let characters = NonNull::new(characters.cast_mut().cast())?;
        Some(Self { text: text.clone().unbind(), characters, length })
    }

    /// Writes `bytes` there if they are as many, and ASCII, and there are no more than so many `references`, this
    /// one among them, all of which the caller knows of, and it is neither hashed nor interned. By the same rule
    /// the interpreter appends to a `str` in its place. `false` if it was left as it is.
    pub(crate) fn write(&self, py: Python<'_>, references: isize, bytes: &[u8]) -> bool {
        if known_references(py, &self.text) != Some(references) {
            return false;
        }
        // SAFETY: the object is a `str` and alive, and this thread is attached, which `py` proves. No other thread
        // has a reference, so that none sets the hash meanwhile.
        let hash = unsafe { (*self.text.as_ptr().cast::<ffi::PyASCIIObject>()).hash };
        if hash != -1 || bytes.len() != self.length || !bytes.is_ascii() {
            return false;
        }
        // SAFETY: there are as many characters, in the object, which this keeps alive. Being ASCII they leave true
        // what it says of itself. Nobody else has a reference through which it could be read meanwhile, no other
        // thread either; one that is interned has a hash. `bytes` may be they themselves, for which `copy_from` is
        // made.
        unsafe { self.characters.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
        true
    }
}

/// Python's identity of the calling thread, as `threading.get_ident()` has it.
pub(crate) fn thread_ident(py: Python<'_>) -> u64 {
    let _ = py;
    // SAFETY: it reads the calling thread's own identity and has no precondition.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// Has `exception`, a class, raised in the thread `ident` at its next step in Python; with `None`, takes back
/// what has not been raised yet. A thread that has ended is left alone.
pub(crate) fn raise_in_thread(py: Python<'_>, ident: u64, exception: Option<&Bound<'_, PyAny>>) {
    let _ = py;
    let exception = exception.map_or(std::ptr::null_mut(), |exception| exception.as_ptr());
    // SAFETY: this thread is attached, which `py` proves. The interpreter looks the thread up among the
    // living and takes a reference of its own to the exception, which is alive here, or null.
    unsafe { ffi::PyThreadState_SetAsyncExc(ident as std::ffi::c_long, exception) };
}

/// Sends signal `number` to the thread of this process with the kernel's number `thread`.
///
/// # Errors
/// The kernel's: there is no such thread.
pub(crate) fn send_signal_to_thread(thread: u64, number: i32) -> io::Result<()> {
    let thread = libc::pid_t::try_from(thread).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: it passes three numbers to the kernel, which checks them; the C library has no function for it that
    // takes the kernel's number of a thread.
    match unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Duplicates a descriptor that Python code named by its number, close-on-exec.
///
/// # Errors
/// `EBADF` if nothing is open under that number, `EMFILE` if the process has no descriptor left.
pub(crate) fn duplicate(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the descriptor is borrowed for this one system call, which checks that it is open; it is not
    // -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Puts /dev/null in the place of `descriptor`, if that is still the file of this inode: its number stays taken,
/// so that whoever owns it closes nothing of another's. Nothing is done otherwise.
///
/// # Errors
/// The kernel's; /dev/null cannot be opened.
pub(crate) fn replace_by_null(descriptor: RawFd, inode: u64) -> io::Result<()> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is borrowed for this one system call, which checks that it is open; it is not -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if !rustix::fs::fstat(borrowed).is_ok_and(|stat| stat.st_ino == inode) {
        return Ok(());
    }
    let null = File::open("/dev/null")?;
    // SAFETY: both are open, and no memory is concerned. Its owner in this process, if there is one, is left
    // with a descriptor that is open and does nothing.
    match unsafe { libc::dup3(null.as_raw_fd(), descriptor, libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends the process as Python ends it: hooks of `atexit` run, threads are waited for, output is written,
/// modules are torn down. The frames of Python code that are on the stack are left where they are.
pub(crate) fn exit(py: Python<'_>, status: i32) -> ! {
    let _ = py;
    // SAFETY: this thread is attached, which `py` proves; the call does not come back, so that nothing uses
    // the interpreter afterwards. Python itself ends so where SystemExit reaches it with frames on the stack.
    unsafe { ffi::Py_Exit(status) }
}

/// `os.fork`, twice: the process in between forks the other and ends at once, with 0, or with 1 if it cannot. It
/// runs no code of Python's, so that hooks of forks run as if there had been one: neither are threads started
/// there which the second fork would cut down, nor does it wait for such as it has not. 0 in the new process,
/// which somebody else will reap; in this one the process in between, which is to be reaped here.
///
/// # Errors
/// The kernel's.
pub(crate) fn fork_twice(py: Python<'_>) -> io::Result<u32> {
    let _ = py;
    // SAFETY: this thread is attached, which `py` proves. The three calls of Python's stand around the fork as in
    // `os.fork`, each in the process that it is for. In between nothing is done but `fork` and `_exit`, which may
    // follow a fork in a process with several threads.
    unsafe {
        ffi::PyOS_BeforeFork();
        let middle = libc::fork();
        let error = io::Error::last_os_error();
        if middle == 0 {
            match libc::fork() {
                0 => ffi::PyOS_AfterFork_Child(),
                other => libc::_exit(i32::from(other < 0)),
            }
        } else {
            ffi::PyOS_AfterFork_Parent();
        }
        u32::try_from(middle).map_err(|_| error)
    }
}
