//! Sorting places by keys of 32 bits: first by counting, into ranges that hold equally many, then within these.

use rayon::prelude::*;

/// Heights, affinities and the like are first counted in so many bins.
const BINS: u32 = 1 << 16;

/// Keys and places to sort: the same ones each time.
pub(crate) trait Pairs {
    fn for_each(&self, each: impl FnMut(u32, u32));
}

/// Sorts places by their keys, in at most `count` ranges; of equal keys by place. Each is the key above the place.
pub(crate) fn sorted(pairs: &impl Pairs, count: u16) -> Vec<u64> {
    let ranges = Ranges::new(pairs, count);
    let count = usize::from(count);
    let mut next = vec![0; count + 1];
    pairs.for_each(|key, _| next[ranges.of(key) + 1] += 1);
    for range in 0..count {
        next[range + 1] += next[range];
    }
    let starts = next.clone();
    let mut sorted = vec![0; starts[count]];
    pairs.for_each(|key, place| {
        let at = &mut next[ranges.of(key)];
        sorted[*at] = u64::from(key) << 32 | u64::from(place);
        *at += 1;
    });
    let mut parts = Vec::with_capacity(count);
    let mut left = &mut sorted[..];
    for range in starts.windows(2) {
        let part;
        (part, left) = left.split_at_mut(range[1] - range[0]);
        parts.push(part);
    }
    parts.into_par_iter().for_each(<[u64]>::sort_unstable);
    sorted
}

/// Which range a key is in: a lower one than every larger key, or the same.
#[derive(Debug)]
struct Ranges {
    /// The range of each bin of keys.
    ranges: Vec<u16>,
    least: u32,
    /// Keys a bin: 2 to the power of it.
    shift: u32,
}

impl Ranges {
    /// For these keys, in at most `count` ranges.
    fn new(pairs: &impl Pairs, count: u16) -> Self {
        let (mut least, mut most) = (u32::MAX, 0);
        pairs.for_each(|key, _| (least, most) = (least.min(key), most.max(key)));
        let span = most.saturating_sub(least);
        let shift = (u32::BITS - span.leading_zeros()).saturating_sub(BINS.trailing_zeros());
        let mut counts = vec![0u64; BINS as usize];
        pairs.for_each(|key, _| counts[((key - least) >> shift) as usize] += 1);
        let total = counts.iter().sum::<u64>().max(1);
        let mut before = 0;
        let ranges = counts.iter().map(|&n| {
            // Below `count`, for fewer than all are before any key.
            let range = before * u64::from(count) / total;
            before += n;
            range as u16
        });
        Self {
            ranges: ranges.collect(),
            least,
            shift,
        }
    }

    /// The range of one of the keys.
    #[inline]
    fn of(&self, key: u32) -> usize {
        usize::from(self.ranges[((key - self.least) >> self.shift) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pairs for Vec<u32> {
        /// Places from the last to the first.
        fn for_each(&self, mut each: impl FnMut(u32, u32)) {
            self.iter()
                .zip((0..self.len() as u32).rev())
                .for_each(|(&key, place)| each(key, place));
        }
    }

    #[test]
    fn places_are_sorted_in_ranges_of_equal_size() {
        let spread: Vec<u32> = (0..10_000u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let narrow: Vec<u32> = (0..10_000).map(|i| (1 << 31) + i % 300).collect();
        for keys in [spread, narrow, vec![7], vec![0, u32::MAX, 0], vec![]] {
            let ranges = Ranges::new(&keys, 50);
            let mut expected = Vec::new();
            keys.for_each(|key, place| expected.push(u64::from(key) << 32 | u64::from(place)));
            expected.sort_unstable();
            assert_eq!(sorted(&keys, 50), expected);
            let found: Vec<usize> = expected
                .iter()
                .map(|pair| ranges.of((pair >> 32) as u32))
                .collect();
            assert!(found.is_sorted() && found.iter().all(|&range| range < 50));
            let largest = found.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap_or(0);
            assert!(largest <= keys.len() / 50 + 40, "{largest} of {}", keys.len());
        }
    }
}
