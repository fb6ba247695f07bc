//! Spans that wait to be sent: encoded, in batches, within a bound.

use std::collections::VecDeque;

use crate::protobuf::MessageWriter;
use crate::span::ServerSpan;

/// Spans between the engine and the sender. Behind a lock, which is held to encode one span or to take a batch.
#[derive(Debug, Default)]
pub(crate) struct SpanQueue {
    /// Full ones, the oldest first.
    full: VecDeque<SpanBatch>,
    open: SpanBatch,
    /// One span, before its length is known.
    scratch: Vec<u8>,
    dropped: u64,
}

/// Spans that are sent together: each a field of `ScopeSpans`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanBatch {
    bytes: Vec<u8>,
    spans: u64,
}

/// The field of `ScopeSpans` that a span is.
pub(crate) const SPAN_FIELD: u32 = 2;

/// Spans of one message. Collectors take messages of some megabytes.
pub(crate) const BATCH_SPANS_MAX: u64 = 2048;
/// Bytes of one message, up to the last span's end.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Full batches that wait. With the open one and the one that is sent, a worker holds 6 MiB of spans at most.
pub(crate) const BATCHES_MAX: usize = 4;

impl SpanQueue {
    /// Adds `span`, or counts it as dropped. Whether there is a full batch now that was not before.
    pub(crate) fn push(&mut self, span: &ServerSpan<'_>) -> bool {
        if self.open.is_full() && self.full.len() >= BATCHES_MAX {
            self.dropped += 1;
            return false;
        }
        let filled = self.open.is_full();
        if filled {
            self.full.push_back(std::mem::take(&mut self.open));
        }
        self.scratch.clear();
        span.encode(&mut self.scratch);
        MessageWriter(&mut self.open.bytes).bytes(SPAN_FIELD, &self.scratch);
        self.open.spans += 1;
        filled || self.open.is_full()
    }

    /// The oldest batch, also one that is not full; `None` if there is no span.
    pub(crate) fn take(&mut self) -> Option<SpanBatch> {
        let batch = self.full.pop_front().unwrap_or_else(|| std::mem::take(&mut self.open));
        (batch.spans > 0).then_some(batch)
    }

    /// Whether no span waits, and none was dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.spans == 0 && self.dropped == 0
    }

    /// Whether a full batch waits.
    pub(crate) fn has_full(&self) -> bool {
        !self.full.is_empty() || self.open.is_full()
    }

    /// How many spans found no room since the last time this was asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl SpanBatch {
    /// The spans.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many these are.
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    fn is_full(&self) -> bool {
        self.spans >= BATCH_SPANS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::SPAN_BYTES_MAX;
    use crate::span::tests::span;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let mut queue = SpanQueue::default();
        assert!(queue.is_empty() && queue.take().is_none());
        let room = BATCH_SPANS_MAX * (BATCHES_MAX as u64 + 1);
        let told = (0..room).filter(|_| queue.push(&span())).count();
        assert_eq!(told, 2 * BATCHES_MAX + 1, "the sender is woken when a batch is full");
        assert!(!queue.push(&span()) && !queue.push(&span()));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (2, 0));
        let taken: Vec<u64> = std::iter::from_fn(|| queue.take()).map(|batch| batch.spans()).collect();
        assert_eq!(taken, [BATCH_SPANS_MAX; BATCHES_MAX + 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_has_found_room_again_is_sent_in_order() {
        let mut queue = SpanQueue::default();
        for number in 0..BATCH_SPANS_MAX + 1 {
            let mut span = span();
            span.times.start = number;
            queue.push(&span);
        }
        assert!(queue.has_full());
        let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
        assert_eq!((first.spans(), second.spans()), (BATCH_SPANS_MAX, 1));
        assert!(!queue.has_full());
    }

    #[test]
    fn large_spans_fill_a_batch_by_their_bytes() {
        let path = vec![0xff; 5000];
        let mut queue = SpanQueue::default();
        while !queue.push(&ServerSpan { path: Some(&path), ..span() }) {}
        let batch = queue.take().unwrap();
        assert!(batch.spans() < BATCH_SPANS_MAX);
        assert!(batch.bytes().len() < BATCH_BYTES_MAX + SPAN_BYTES_MAX);
    }
}
