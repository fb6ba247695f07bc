//! A client of few words: reads one response as RFC 9112, section 6.3 has a client read it, on httparse and its
//! own reading of chunks rather than on the parser under test.

/// A response as a client sees it.
#[derive(Debug)]
pub struct ReceivedResponse {
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Whether all of the body came; always, where only the end of the connection ends it.
    pub complete: bool,
    /// Bytes behind the response.
    pub rest: Vec<u8>,
}

impl ReceivedResponse {
    /// The response at the front of `bytes`, which are all that came on the connection, to a request that was HEAD
    /// or was not.
    pub fn read(bytes: &[u8], to_head: bool) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
        let httparse::Status::Complete(head_bytes) = parsed else { panic!("half a head") };
        let mut response = Self {
            status: response.code.expect("a whole head has a status"),
            reason: response.reason.unwrap_or_default().into(),
            fields: response.headers.iter().map(|field| (field.name.into(), field.value.into())).collect(),
            body: Vec::new(),
            complete: true,
            rest: Vec::new(),
        };
        response.read_body(&bytes[head_bytes..], to_head);
        response
    }

    /// The only value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut values =
            self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is repeated");
        value.map(Vec::as_slice)
    }

    fn read_body(&mut self, bytes: &[u8], to_head: bool) {
        let has_none = to_head || self.status < 200 || self.status == 204 || self.status == 304;
        let (body, complete, rest) = if has_none {
            (Vec::new(), true, bytes)
        } else if self.field("Transfer-Encoding").is_some() {
            assert_eq!(self.field("Transfer-Encoding"), Some(&b"chunked"[..]));
            assert_eq!(self.field("Content-Length"), None, "two ways to frame one body");
            read_chunks(bytes)
        } else if let Some(length) = self.field("Content-Length") {
            let length: usize =
                str::from_utf8(length).ok().and_then(|text| text.parse().ok()).expect("a number");
            let (body, rest) = bytes.split_at(length.min(bytes.len()));
            (body.to_vec(), body.len() == length, rest)
        } else {
            assert_eq!(self.field("Connection"), Some(&b"close"[..]), "nothing else ends the body");
            (bytes.to_vec(), true, &b""[..])
        };
        (self.body, self.complete, self.rest) = (body, complete, rest.to_vec());
    }
}

/// The data of chunks, whether they came to their end, and what is behind.
fn read_chunks(mut bytes: &[u8]) -> (Vec<u8>, bool, &[u8]) {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
            return (body, false, bytes);
        };
        let line = str::from_utf8(&bytes[..line_end]).expect("a size is ASCII");
        let size = usize::from_str_radix(line, 16).expect("a size is hexadecimal");
        let Some((chunk, rest)) = bytes[line_end + 2..].split_at_checked(size + 2) else {
            return (body, false, bytes);
        };
        assert!(chunk.ends_with(b"\r\n"), "a chunk ends in CRLF");
        body.extend_from_slice(&chunk[..size]);
        bytes = rest;
        if size == 0 {
            return (body, true, bytes);
        }
    }
}
