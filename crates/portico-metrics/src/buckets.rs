//! The buckets of histograms of durations.
//!
//! Each power of two of microseconds, up to 134 s, has four buckets, so that a percentile is wrong by a quarter at
//! most. The bounds that OpenTelemetry advises, in which Prometheus' users and their dashboards reckon, lie within
//! such buckets: each of those is divided there, so that what is counted below an advised bound is exact.

/// How many durations there were in each bucket.
pub type Buckets = [u64; BUCKETS];

/// The number of buckets. The last one has no upper bound.
pub(crate) const BUCKETS: usize = LINEAR + ADVISED_NANOS.len();

/// None in any bucket.
pub(crate) const NO_DURATIONS: Buckets = [0; BUCKETS];

/// Upper bounds that OpenTelemetry advises for the duration of requests, inclusive.
pub(crate) const ADVISED_NANOS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Buckets before the division: of 0, 1, 2 and 3 us, four for each power of two from 2^2 to 2^26 us, and one for
/// what is longer.
const LINEAR: usize = 4 * (TOP_BITS - 1) + 1;

/// Bits of the longest duration in microseconds that has a bucket with an upper bound.
const TOP_BITS: usize = 27;

/// Where the buckets of each undivided one begin, and where it is divided.
const DIVIDED: ([u8; LINEAR], [u64; LINEAR]) = divided();

/// The upper bound of each bucket in nanoseconds: the least duration that is longer than those in it.
const UPPER_NANOS: [u64; BUCKETS] = upper_bounds();

/// The undivided bucket of a duration in microseconds.
#[inline]
const fn linear(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let bits = (u64::BITS - micros.leading_zeros()) as usize;
    if bits > TOP_BITS {
        return LINEAR - 1;
    }
    4 * (bits - 2) + ((micros >> (bits - 3)) & 3) as usize
}

const fn divided() -> ([u8; LINEAR], [u64; LINEAR]) {
    let (mut begins, mut divisions) = ([0; LINEAR], [u64::MAX; LINEAR]);
    let mut advised = 0;
    while advised < ADVISED_NANOS.len() {
        let place = &mut divisions[linear(ADVISED_NANOS[advised] / 1_000)];
        assert!(*place == u64::MAX, "two advised bounds in one bucket");
        *place = ADVISED_NANOS[advised];
        advised += 1;
    }
    let (mut bucket, mut begin) = (0, 0);
    while bucket < LINEAR {
        begins[bucket] = begin;
        begin += if divisions[bucket] == u64::MAX { 1 } else { 2 };
        bucket += 1;
    }
    assert!(begin as usize == BUCKETS);
    (begins, divisions)
}

const fn upper_bounds() -> [u64; BUCKETS] {
    let mut bounds = [u64::MAX; BUCKETS];
    let mut bucket = 0;
    while bucket < LINEAR - 1 {
        let begin = DIVIDED.0[bucket] as usize;
        // The least duration of the next bucket.
        let next = bucket as u64 + 1;
        let micros = if next < 4 { next } else { (4 + next % 4) << (next / 4 - 1) };
        if DIVIDED.1[bucket] == u64::MAX {
            bounds[begin] = micros * 1_000;
        } else {
            bounds[begin] = DIVIDED.1[bucket] + 1;
            bounds[begin + 1] = micros * 1_000;
        }
        bucket += 1;
    }
    bounds
}

/// The upper bound of each bucket in nanoseconds: the least duration that is longer than those in it. The last
/// bucket has none: `u64::MAX`.
pub fn bucket_bounds_nanos() -> &'static Buckets {
    &UPPER_NANOS
}

/// The bucket that a duration belongs to.
#[inline]
pub(crate) fn bucket_of(nanos: u64) -> usize {
    let bucket = linear(nanos / 1_000);
    DIVIDED.0[bucket] as usize + usize::from(nanos > DIVIDED.1[bucket])
}

/// How many durations there were up to each of [`ADVISED_NANOS`], and in all.
pub(crate) fn cumulated(buckets: &Buckets) -> ([u64; ADVISED_NANOS.len()], u64) {
    let up_to = |bound: u64| {
        let within = buckets.iter().zip(UPPER_NANOS).take_while(|(_, upper)| *upper <= bound + 1);
        sum(within.map(|(count, _)| *count))
    };
    (ADVISED_NANOS.map(up_to), sum(buckets.iter().copied()))
}

/// What so many in a hundred durations were shorter than, in nanoseconds; `None` if there were none. `u64::MAX` if
/// that is longer than the buckets go.
pub fn quantile_nanos(buckets: &Buckets, percent: u64) -> Option<u64> {
    let total = sum(buckets.iter().copied());
    let mut below = 0_u64;
    let found = buckets.iter().position(|count| {
        below = below.saturating_add(*count);
        u128::from(below) * 100 >= u128::from(total) * u128::from(percent)
    });
    found.filter(|_| total > 0).map(|bucket| UPPER_NANOS[bucket])
}

/// How many durations there were of less than a microsecond, less than two, four, eight, and so on.
pub fn octave_counts(buckets: &Buckets) -> [u64; 32] {
    let mut counts = [0_u64; 32];
    for (count, upper) in buckets.iter().zip(UPPER_NANOS) {
        let micros = (upper - 1) / 1_000;
        let octave = (u64::BITS - micros.leading_zeros()) as usize;
        let octave = &mut counts[octave.min(TOP_BITS + 1)];
        *octave = octave.saturating_add(*count);
    }
    counts
}

/// A sum of numbers of which a process may have made anything.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Durations around every bound that there is.
    fn durations() -> impl Iterator<Item = u64> {
        let around = |bound: u64| [bound.saturating_sub(1), bound, bound.saturating_add(1)];
        UPPER_NANOS.into_iter().chain(ADVISED_NANOS).chain([0]).flat_map(around)
    }

    #[test]
    fn a_duration_is_in_the_bucket_whose_bounds_it_is_between() {
        assert!(UPPER_NANOS.is_sorted_by(|one, next| one < next));
        for nanos in durations() {
            let bucket = bucket_of(nanos);
            let lower = if bucket == 0 { 0 } else { UPPER_NANOS[bucket - 1] };
            assert!(lower <= nanos && (nanos < UPPER_NANOS[bucket] || bucket == BUCKETS - 1), "{nanos}");
        }
    }

    #[test]
    fn no_bucket_is_wider_than_a_quarter() {
        for pair in UPPER_NANOS[4..BUCKETS - 1].windows(2) {
            assert!((pair[1] - pair[0]) * 4 <= pair[0] + 4, "{pair:?}");
        }
    }

    #[test]
    fn advised_bounds_are_exact() {
        for (index, bound) in ADVISED_NANOS.into_iter().enumerate() {
            for (nanos, within) in [(bound - 1, true), (bound, true), (bound + 1, false)] {
                let mut buckets = [0; BUCKETS];
                buckets[bucket_of(nanos)] += 1;
                let (counts, total) = cumulated(&buckets);
                assert_eq!((counts[index], total), (u64::from(within), 1), "{nanos}");
            }
        }
    }

    #[test]
    fn a_percentile_is_the_bound_of_its_bucket() {
        let mut buckets = [0; BUCKETS];
        assert_eq!(quantile_nanos(&buckets, 99), None);
        buckets[bucket_of(7_500)] = 99;
        buckets[bucket_of(1_000_000_000)] = 1;
        assert_eq!(quantile_nanos(&buckets, 99), Some(8_000));
        buckets[bucket_of(1_000_000_000)] = 2;
        assert_eq!(quantile_nanos(&buckets, 99), Some(1_000_000_001));
        buckets[BUCKETS - 1] = 100;
        assert_eq!(quantile_nanos(&buckets, 99), Some(u64::MAX));
    }

    #[test]
    fn octaves_are_powers_of_two_of_microseconds() {
        for nanos in durations() {
            let mut buckets = [0; BUCKETS];
            buckets[bucket_of(nanos)] += 1;
            let octave = (u64::BITS - (nanos / 1_000).leading_zeros()) as usize;
            let counts = octave_counts(&buckets);
            assert_eq!(counts[octave.min(TOP_BITS + 1)], 1, "{nanos}");
        }
    }

    #[test]
    fn nonsense_in_the_cells_makes_no_panic() {
        let buckets = [u64::MAX; BUCKETS];
        assert_eq!(cumulated(&buckets).1, u64::MAX);
        assert!(quantile_nanos(&buckets, 99).is_some());
        octave_counts(&buckets);
    }
}
