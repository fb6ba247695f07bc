//! Which traces are sampled: the rule of the settings, applied to one request.

use portico_config::{RootSampler, TraceSampler};
use portico_proto::TraceContext;

/// Whether the span of a request is sent, whose trace is `trace_id` and which continues `parent`.
pub(crate) fn is_sampled(sampler: TraceSampler, parent: Option<&TraceContext>, trace_id: &[u8; 16]) -> bool {
    match parent {
        Some(parent) if sampler.is_parent_based => parent.is_sampled(),
        _ => match sampler.root {
            RootSampler::AlwaysOn => true,
            RootSampler::AlwaysOff => false,
            RootSampler::Below(bound) => lower_half(trace_id) < bound,
        },
    }
}

/// The 64 bits that all SDKs decide by, so that whoever samples with the same ratio samples the same traces.
fn lower_half(trace_id: &[u8; 16]) -> u64 {
    trace_id.last_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFF: RootSampler = RootSampler::AlwaysOff;
    const ON: RootSampler = RootSampler::AlwaysOn;

    fn sampler(is_parent_based: bool, root: RootSampler) -> TraceSampler {
        TraceSampler { is_parent_based, root }
    }

    #[test]
    fn the_parent_decides_if_the_sampler_goes_by_it() {
        let yes = TraceContext::root([1; 16], [1; 8], true);
        let no = TraceContext::root([1; 16], [1; 8], false);
        for (is_parent_based, root, parent, expected) in [
            (true, ON, Some(&yes), true),
            (true, ON, Some(&no), false),
            (true, OFF, Some(&yes), true),
            (true, OFF, None, false),
            (true, ON, None, true),
            (false, ON, Some(&no), true),
            (false, OFF, Some(&yes), false),
        ] {
            assert_eq!(is_sampled(sampler(is_parent_based, root), parent, &[1; 16]), expected);
        }
    }

    #[test]
    fn a_ratio_is_that_of_the_ids_last_64_bits() {
        let quarter = sampler(false, RootSampler::Below(1 << 62));
        let id = |lower: u64| (u128::MAX << 64 | u128::from(lower)).to_be_bytes();
        for (lower, expected) in [(0, true), ((1 << 62) - 1, true), (1 << 62, false), (u64::MAX, false)] {
            assert_eq!(is_sampled(quarter, None, &id(lower)), expected);
        }
    }

    proptest! {
        #[test]
        fn a_higher_ratio_samples_what_a_lower_one_does(id: [u8; 16], one: u64, other: u64) {
            let at = |bound| is_sampled(sampler(true, RootSampler::Below(bound)), None, &id);
            prop_assert!(!at(one.min(other)) || at(one.max(other)));
        }
    }
}
