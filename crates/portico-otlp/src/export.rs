//! `ExportTraceServiceRequest` around encoded spans, and what a collector says of it.

use crate::protobuf::{FieldValue, MalformedMessage, MessageReader, MessageWriter, bytes_len};
use crate::queue::SpanBatch;
use crate::span::encode_attribute;

/// What all messages of a process have in common: the resource, and the scope of its spans, both encoded.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The field `resource` of `ResourceSpans`.
    resource: Vec<u8>,
    /// The field `scope` of `ScopeSpans`.
    scope: Vec<u8>,
}

/// The part of an `ExportTraceServiceResponse` that says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    /// Spans that the collector has not taken.
    pub rejected: u64,
    /// Why, or another warning.
    pub message: String,
}

/// The name of the scope.
const SCOPE: &str = "portico";

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Envelope {
    /// For a process of which `resource` is known.
    pub(crate) fn new(resource: &[(String, String)]) -> Self {
        let mut attributes = Vec::new();
        let pid = std::process::id().to_string();
        let own = [
            ("telemetry.sdk.name", "portico"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", VERSION),
        ];
        let said = resource.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in said.chain(own) {
            encode_attribute(1, name, value, &mut attributes);
        }
        if !resource.iter().any(|(name, _)| name == "process.pid") {
            encode_attribute(1, "process.pid", &pid, &mut attributes);
        }
        let mut scope = Vec::new();
        MessageWriter(&mut scope).bytes(1, SCOPE.as_bytes());
        MessageWriter(&mut scope).bytes(2, VERSION.as_bytes());
        Self { resource: field(1, &attributes), scope: field(1, &scope) }
    }

    /// The message with the spans of `batch`.
    pub(crate) fn message(&self, batch: &SpanBatch) -> Vec<u8> {
        let scope_spans = self.scope.len() + batch.bytes().len();
        let resource_spans = self.resource.len() + bytes_len(2, scope_spans);
        let mut out = Vec::with_capacity(bytes_len(1, resource_spans));
        MessageWriter(&mut out).head(1, resource_spans);
        out.extend_from_slice(&self.resource);
        MessageWriter(&mut out).head(2, scope_spans);
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(batch.bytes());
        out
    }
}

fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes_len(number, value.len()));
    MessageWriter(&mut out).bytes(number, value);
    out
}

impl PartialSuccess {
    /// Reads an `ExportTraceServiceResponse`.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(message: &[u8]) -> Result<Self, MalformedMessage> {
        let mut told = Self::default();
        let mut response = MessageReader::new(message);
        while let Some(field) = response.next_field()? {
            let (1, FieldValue::Bytes(partial)) = field else { continue };
            let mut partial = MessageReader::new(partial);
            while let Some(field) = partial.next_field()? {
                match field {
                    // Signed in the schema; none is taken for many.
                    (1, FieldValue::Varint(rejected)) => {
                        told.rejected = (rejected as i64).max(0) as u64;
                    }
                    (2, FieldValue::Bytes(text)) => told.message = shown(text),
                    _ => {}
                }
            }
        }
        Ok(told)
    }
}

/// The message of a `google.rpc.Status`, which collectors send with an error.
pub(crate) fn status_message(message: &[u8]) -> Option<String> {
    let mut status = MessageReader::new(message);
    while let Ok(Some(field)) = status.next_field() {
        if let (2, FieldValue::Bytes(text)) = field {
            return Some(shown(text)).filter(|text| !text.is_empty());
        }
    }
    None
}

/// The longest text of a collector's that is told.
const TEXT_CHARS_MAX: usize = 200;

/// A text of a collector's so that it can stand in a line of the log: on one line, of bounded length.
pub(crate) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * TEXT_CHARS_MAX)]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(TEXT_CHARS_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::{SPAN_FIELD, SpanQueue};
    use crate::span::tests::span;

    fn bytes(message: &[u8], wanted: u32) -> Vec<&[u8]> {
        let mut reader = MessageReader::new(message);
        let fields = std::iter::from_fn(|| reader.next_field().unwrap());
        fields
            .filter_map(|(field, value)| match value {
                FieldValue::Bytes(bytes) if field == wanted => Some(bytes),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_message_has_its_spans_within_scope_and_resource() {
        let mut queue = SpanQueue::default();
        assert!((0..3).all(|_| !queue.push(&span())));
        let batch = queue.take().unwrap();
        let message = Envelope::new(&[("service.name".to_owned(), "shop".to_owned())]).message(&batch);
        let [resource_spans] = bytes(&message, 1)[..] else { panic!("{message:?}") };
        let [resource] = bytes(resource_spans, 1)[..] else { panic!("{resource_spans:?}") };
        assert_eq!(bytes(resource, 1).len(), 5);
        assert_eq!(bytes(bytes(resource, 1)[0], 1), [b"service.name"]);
        let [scope_spans] = bytes(resource_spans, 2)[..] else { panic!("{resource_spans:?}") };
        let [scope] = bytes(scope_spans, 1)[..] else { panic!("{scope_spans:?}") };
        assert_eq!(bytes(scope, 1), [b"portico"]);
        let spans = bytes(scope_spans, SPAN_FIELD);
        let mut expected = Vec::new();
        span().encode(&mut expected);
        assert_eq!(spans, [expected.as_slice(); 3]);
    }

    #[test]
    fn what_a_collector_has_not_taken_is_read() {
        let partial = |fields: &dyn Fn(&mut MessageWriter<'_>)| {
            let mut inner = Vec::new();
            fields(&mut MessageWriter(&mut inner));
            PartialSuccess::read(&field(1, &inner)).unwrap()
        };
        assert_eq!(PartialSuccess::read(b"").unwrap(), PartialSuccess::default());
        let told = partial(&|out| {
            out.varint(1, 3);
            out.bytes(2, b"too\nold\x1b[0m");
            out.fixed64(9, 1);
        });
        assert_eq!(told, PartialSuccess { rejected: 3, message: "too old [0m".to_owned() });
        assert_eq!(partial(&|out| out.varint(1, u64::MAX)).rejected, 0);
        assert_eq!(partial(&|out| out.bytes(2, &[b'a'; 1000])).message.len(), TEXT_CHARS_MAX);
        assert_eq!(PartialSuccess::read(b"{}"), Err(MalformedMessage));
    }

    #[test]
    fn the_message_of_an_error_is_read() {
        assert_eq!(status_message(b"\x08\x03\x12\x03bad"), Some("bad".to_owned()));
        assert_eq!(status_message(b"\x08\x03"), None);
        assert_eq!(status_message(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn no_response_makes_it_fail(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (PartialSuccess::read(&message), status_message(&message));
        }
    }
}
