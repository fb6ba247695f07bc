//! Durations by their length: the histograms of the server's metrics as plain values.

use portico_metrics::{Buckets, bucket_bounds_nanos};
use serde::Serialize;

use crate::reading::seconds;

/// How many durations there were of which length, since the server began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Durations {
    /// The least duration that is longer than those in each bucket; `None` for the last one, which has no bound.
    pub upper_seconds: Vec<Option<f64>>,
    /// How many there were in each.
    pub counts: Vec<u64>,
}

impl Durations {
    /// Those in the cells of a histogram.
    pub(crate) fn of(buckets: &Buckets) -> Self {
        let bounds = bucket_bounds_nanos().iter();
        Self {
            upper_seconds: bounds.map(|bound| (*bound != u64::MAX).then(|| seconds(*bound))).collect(),
            counts: buckets.to_vec(),
        }
    }

    /// How many there were in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().copied().fold(0, u64::saturating_add)
    }

    /// Those that have come since `before` was read.
    pub fn since(&self, before: &Self) -> Self {
        // Without buckets of its own `before` has counted nothing.
        let former = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(former).map(|(now, then)| now.saturating_sub(then)).collect();
        Self { upper_seconds: self.upper_seconds.clone(), counts }
    }

    /// What the share `part` of them, from 0 to 1, was shorter than; `None` if there were none.
    ///
    /// Within a bucket durations are taken for evenly spread, as Prometheus does, so it is wrong by less than the
    /// bucket's width, a quarter of its value. Beyond the last bound it is that bound.
    pub fn quantile_seconds(&self, part: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = total as f64 * part.clamp(0.0, 1.0);
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, upper) in self.counts.iter().zip(&self.upper_seconds) {
            let Some(upper) = *upper else { return Some(lower) };
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(pairs: &[(Option<f64>, u64)]) -> Durations {
        let (upper_seconds, counts) = pairs.iter().copied().unzip();
        Durations { upper_seconds, counts }
    }

    #[test]
    fn buckets_are_those_of_the_metrics() {
        let durations = Durations::of(&std::array::from_fn(|bucket| bucket as u64));
        assert_eq!(durations.upper_seconds.len(), durations.counts.len());
        assert_eq!(durations.upper_seconds[..3], [Some(1e-6), Some(2e-6), Some(3e-6)]);
        assert_eq!(durations.upper_seconds.iter().filter(|bound| bound.is_none()).count(), 1);
        assert!(durations.upper_seconds.last().unwrap().is_none());
    }

    #[test]
    fn a_quantile_is_spread_over_its_bucket() {
        let some = durations(&[(Some(1.0), 0), (Some(2.0), 10), (Some(4.0), 10), (None, 0)]);
        assert_eq!(some.quantile_seconds(0.0), Some(1.0));
        assert_eq!(some.quantile_seconds(0.25), Some(1.5));
        assert_eq!(some.quantile_seconds(0.5), Some(2.0));
        assert_eq!(some.quantile_seconds(0.75), Some(3.0));
        assert_eq!(some.quantile_seconds(1.0), Some(4.0));
        assert_eq!(some.quantile_seconds(7.0), Some(4.0));
        assert_eq!(durations(&[(Some(1.0), 0), (None, 0)]).quantile_seconds(0.5), None);
        assert_eq!(
            durations(&[(Some(1.0), 1), (None, 9)]).quantile_seconds(0.9),
            Some(1.0),
            "beyond all bounds"
        );
    }

    #[test]
    fn a_difference_has_what_came_since() {
        let before = durations(&[(Some(1.0), 4), (None, 2)]);
        let after = durations(&[(Some(1.0), 9), (None, 1)]);
        assert_eq!(after.since(&before).counts, [5, 0], "never below nothing");
        assert_eq!(after.since(&Durations::default()), after);
    }
}
