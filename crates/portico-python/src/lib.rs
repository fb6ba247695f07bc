//! The extension module `portico._portico`: its table of contents, nothing else.

mod command;
mod error;
#[allow(dead_code, reason = "the supervisor will use it")]
mod fork;
mod gateway;
mod logging;
#[allow(dead_code, reason = "the supervisor will use it")]
mod raw;
#[allow(dead_code, reason = "the supervisor will use it")]
mod record;
#[allow(dead_code, reason = "the supervisor will use it")]
mod stacks;
#[allow(dead_code, reason = "the supervisor will use it")]
mod worker;

#[pyo3::pymodule(gil_used = false)]
mod _portico {
    #[pymodule_export]
    use crate::error::{ClientDisconnected, RequestTimeout};
    #[pymodule_export]
    use crate::gateway::FileWrapper;
    #[pymodule_export]
    use crate::worker::entry::{main, serve};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
