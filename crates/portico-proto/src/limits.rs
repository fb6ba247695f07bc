//! How much a peer may send.

/// Limits on what a peer may send; each is a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its line end (`--limit-request-line`); beyond it 414.
    pub request_line_bytes_max: usize,
    /// Number of field lines (`--limit-request-fields`), also of trailers; beyond it 431.
    pub fields_max: usize,
    /// Bytes of one field line without its line end (`--limit-request-field_size`); beyond it 431.
    pub field_bytes_max: usize,
    /// Bytes of the whole head (`--limit-request-head`); beyond it 431.
    pub head_bytes_max: usize,
    /// Bytes of a request's body after decoding (`--limit-request-body`); 0 means no limit; beyond it 413.
    pub body_bytes_max: u64,
    /// Bytes of a chunk's size line, extensions included (`--limit-chunk-line`); beyond it 400.
    pub chunk_line_bytes_max: usize,
}

impl Limits {
    /// Bytes of extensions in all size lines of one body; beyond it 400. A client could have us read one byte of a
    /// body in each line otherwise.
    pub fn chunk_extension_bytes_max(&self) -> usize {
        self.chunk_line_bytes_max.saturating_mul(2)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: 8190,
            fields_max: 100,
            field_bytes_max: 8190,
            head_bytes_max: 64 * 1024,
            body_bytes_max: 0,
            chunk_line_bytes_max: 8192,
        }
    }
}
