//! Static files, as decisions: which name may be asked for, what a file's headers are, which of its bytes are
//! sent.
//!
//! Nothing here opens a file. Whoever does passes in what the descriptor says (size, time, sidecars), and gets
//! back a whole response but for its bytes.

mod accel;
mod caching;
mod conditional;
mod encoding;
mod fallback;
mod listing;
mod mime;
mod name;
mod range;
mod response;
mod tag;

pub use accel::{accel_path, sendfile_below, survives_redirect};
pub use caching::{ImmutableNames, NOT_FOUND_CACHE_CONTROL, cache_control};
pub use conditional::{Precondition, Preconditions, Validators};
pub use encoding::{AcceptedCodings, ContentCoding, Sidecar, choose_sidecar};
pub use fallback::{MethodDecision, directory_location, method_decision, wants_page};
pub use listing::{ListedEntry, listing_page};
pub use mime::content_type;
pub use name::is_served;
pub use range::{RangeSelection, select_ranges};
pub use response::{FileBody, FileFacts, FileQuery, FileResponse, MultipartPart, respond};
pub use tag::EntityTag;
