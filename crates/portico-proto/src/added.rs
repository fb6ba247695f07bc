//! The fields that the server adds to responses.

use crate::HttpDate;

/// The fields that say where a response comes from (Server, Date), made by the server once a second. A protocol
/// writes each only where the application has not set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedFields {
    /// The Date field's value (RFC 9110, section 6.6.1).
    pub date: HttpDate,
    /// The Server field's value (RFC 9110, section 10.2.4); empty for no such field.
    pub server: &'static str,
}

/// The Server field's value where no other is asked for.
pub const SERVER: &str = "portico";

impl AddedFields {
    /// This date, and the usual server.
    pub fn new(date: HttpDate) -> Self {
        Self { date, server: SERVER }
    }
}
