//! Ids of traces and spans: random, none of them all zeros.

use portico_log::RandomBlocks;

/// Makes ids. Each engine has its own, made after the last fork.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    blocks: RandomBlocks,
    /// The half of a block that no span has got yet.
    left: Option<[u8; 8]>,
}

impl Ids {
    /// The id of a trace.
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        not_zero(self.blocks.next_block())
    }

    /// The id of a span.
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        if let Some(left) = self.left.take() {
            return not_zero(left);
        }
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.blocks.next_block();
        self.left = Some(rest);
        not_zero([a, b, c, d, e, f, g, h])
    }
}

/// All zeros is no id.
fn not_zero<const N: usize>(mut id: [u8; N]) -> [u8; N] {
    if id == [0; N] {
        id[0] = 1;
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_are_alike() {
        let (mut one, mut other) = (Ids::default(), Ids::default());
        let spans: HashSet<_> = (0..2000).flat_map(|_| [one.span_id(), other.span_id()]).collect();
        let traces: HashSet<_> = (0..2000).flat_map(|_| [one.trace_id(), other.trace_id()]).collect();
        assert_eq!((spans.len(), traces.len()), (4000, 4000));
    }

    #[test]
    fn zeros_are_no_id() {
        assert_eq!((not_zero([0; 2]), not_zero([0, 2])), ([1, 0], [0, 2]));
    }
}
