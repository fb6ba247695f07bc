//! The protocols of Portico without I/O: bytes in, events out; parts in, bytes out.
//!
//! Nothing here names a socket, a file, a thread, a clock, the environment or a log. What a protocol needs
//! from outside (limits, today's date) is passed in. The layers above see [`Event`]s and [`Part`]s. The protocols
//! do not know each other: only [`Protocol`] and [`Session`], at the top, name all of them.
#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

mod added;
mod assemble;
mod content;
mod date;
mod error;
mod event;
pub mod fastcgi;
mod gateway;
mod grammar;
pub mod http1;
pub mod http2;
mod limits;
mod message;
mod path;
mod peer;
mod protocol;
mod proxy;
mod queue;
mod script_path;
mod session;
mod singletons;
mod status;
mod streams;
mod trace_context;

pub use added::{AddedFields, SERVER};
pub use date::HttpDate;
pub use error::{Error, ErrorKind};
pub use event::{Event, Part};
pub use grammar::{decimal, is_field_value, is_token};
pub use limits::Limits;
pub use message::{Fields, Framing, Initials, RequestHead, ResponseHead, Span, Version};
pub use path::{path_info, percent_decode, split_root_path};
pub use peer::Peer;
pub use protocol::Protocol;
pub use proxy::{ProxyAddresses, ProxyClient, ProxyError, ProxyHeader, ProxyVersions};
pub use queue::forget_taken;
pub use script_path::ScriptPath;
pub use session::{NewStream, ProtocolViolation, Session, SessionEvent, StreamIo};
pub use streams::{IoProgress, StreamEvent};
pub use trace_context::{TraceContext, TraceText};
