//! The Date field's value (RFC 9110, section 5.6.7). The clock is the caller's.

/// A moment in the form in which HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate(pub(crate) [u8; 29]);

impl HttpDate {
    /// The moment `seconds` after 1970-01-01T00:00:00Z (leap seconds not counted).
    pub fn from_unix(seconds: u64) -> Self {
        todo!("{seconds}")
    }
    /// The 29 bytes.
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}
