//! What in a process does not survive a fork: threads, connections, processes, and modules that hold such
//! things where nobody sees them.

use std::fs;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use crate::fork::{OtherThread, other_threads};

/// Modules that break in a forked process, and why; loaded is enough, but where a check is named.
const MODULES: &[(&str, &str)] = &[
    ("confluent_kafka", "its producers and consumers have threads that stay behind"),
    ("ddtrace.profiling.profiler", "its profiler's threads stay behind"),
    ("grpc", "its channels stop working, or hang, in a forked process"),
    ("jax", "its runtime has threads that stay behind, and forking it may deadlock"),
    ("pyroscope", "its profiler's thread stays behind"),
    ("ray", "its connection to the cluster is of this process alone"),
    ("tensorflow", "its runtime has threads that stay behind, and forking it may deadlock"),
];

/// What there is, each in words for the operator. Threads with the names of `restarted`, those that the process
/// had which has forked this one, are started anew after each fork by whoever has them.
///
/// # Errors
/// Modules of Python's own raise.
pub(crate) fn obstacles(py: Python<'_>, restarted: &[String]) -> PyResult<Vec<String>> {
    let mut found = threads(py, restarted);
    found.extend(children(py)?);
    found.extend(connections(py)?);
    found.extend(modules(py)?);
    Ok(found)
}

/// The threads but for the main one and `restarted`; Python's own by their Python names.
fn threads(py: Python<'_>, restarted: &[String]) -> Vec<String> {
    let left = other_threads(py).into_iter().filter(|thread| !restarted.contains(&thread.name));
    left.map(|OtherThread { id, name, is_python }| match is_python {
        true => format!("the thread {name}"),
        false => format!("the thread {name} (number {id}) of a C library"),
    })
    .collect()
}

/// Processes that were started by `multiprocessing`: only who has started them can wait for them.
fn children(py: Python<'_>) -> PyResult<Vec<String>> {
    let Some(multiprocessing) = loaded(py, "multiprocessing.process")? else { return Ok(Vec::new()) };
    let children = multiprocessing.call_method0("active_children")?;
    let name = |child: PyResult<Bound<'_, PyAny>>| -> PyResult<String> {
        Ok(format!("the child process {}", child?.getattr("name")?.str()?.to_string_lossy()))
    };
    children.try_iter()?.map(name).collect()
}

/// Stream sockets that are connected to something with a name: pairs within the process have none.
fn connections(py: Python<'_>) -> PyResult<Vec<String>> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for descriptor in descriptors.flatten() {
        let is_socket = fs::read_link(descriptor.path())
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        let number = descriptor.file_name().to_str().and_then(|number| number.parse::<i32>().ok());
        if let Some(number) = number.filter(|_| is_socket)
            && let Some(peer) = peer(py, number)?
        {
            found.push(format!("the open connection to {peer}"));
        }
    }
    Ok(found)
}

/// Who is at the other end of a stream socket, if somebody is and has a name.
fn peer(py: Python<'_>, descriptor: i32) -> PyResult<Option<String>> {
    let module = py.import("_socket")?;
    let keywords = PyDict::new(py);
    keywords.set_item("fileno", descriptor)?;
    let Ok(socket) = module.getattr("socket")?.call((), Some(&keywords)) else { return Ok(None) };
    let kind = socket.getattr("type").and_then(|kind| kind.eq(module.getattr("SOCK_STREAM")?));
    let peer = socket.call_method0("getpeername");
    // The socket is another's: it must not be closed with this object.
    socket.call_method0("detach")?;
    let (Ok(true), Ok(peer)) = (kind, peer) else { return Ok(None) };
    if let Ok((host, port)) =
        peer.get_item(0).and_then(|host| Ok((host.extract::<String>()?, peer.get_item(1)?.extract::<u16>()?)))
    {
        return Ok(Some(format!("{host} port {port}")));
    }
    let path = peer.str()?.to_string_lossy().into_owned();
    Ok((!path.is_empty()).then_some(path))
}

fn modules(py: Python<'_>) -> PyResult<Vec<String>> {
    let mut found = Vec::new();
    for (name, why) in MODULES {
        if loaded(py, name)?.is_some() {
            found.push(format!("the module {name}: {why}"));
        }
    }
    if let Some(cuda) = loaded(py, "torch.cuda")? {
        let initialized = cuda.call_method0("is_initialized")?;
        if initialized.cast::<PyBool>().is_ok_and(|initialized| initialized.is_true()) {
            found.push("torch has initialised CUDA, which cannot be used in a forked process".to_owned());
        }
    }
    Ok(found)
}

/// The module of this name, if it has been imported.
fn loaded<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let module = py.import("sys")?.getattr("modules")?.call_method1("get", (name,))?;
    Ok((!module.is_none()).then_some(module))
}
