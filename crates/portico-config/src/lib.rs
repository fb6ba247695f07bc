//! Every setting, declared once: `RawConfig` (what was said) becomes `Config` (resolved, every invariant held).

mod resolved;

pub use resolved::{AccessLogFormat, Bind, Config, LogLevel, LogTarget};
