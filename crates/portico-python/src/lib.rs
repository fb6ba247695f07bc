//! The extension module `portico._portico`: its table of contents, nothing else.

#![deny(unreachable_pub)]

mod after_response;
mod conf;
mod daemon;
mod error;
mod fork;
mod forked_children;
mod gateway;
mod hub;
mod import_path;
mod interpreter;
mod metric_values;
mod raw;
mod stacks;
mod thread_status;
mod worker;

#[pyo3::pymodule(gil_used = false)]
mod _portico {
    #[pymodule_export]
    use crate::after_response::{AfterResponseRefused, after_response};
    #[pymodule_export]
    use crate::error::{ClientDisconnected, RequestCancelled, RequestTimeout};
    #[pymodule_export]
    use crate::gateway::FileWrapper;
    #[pymodule_export]
    use crate::metric_values::{MetricValue, leave_slot, worker_slot};
    #[pymodule_export]
    use crate::worker::entry::{main, serve};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
