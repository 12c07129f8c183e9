//! Dividing values among ranges that hold equally many of them: the first step of sorting, or of keeping sorted, what
//! is spread unevenly.

/// Heights, affinities and the like are first counted in so many bins.
const BINS: u32 = 1 << 16;

/// Which range a key is in: a lower one than every larger key, or the same.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// The range of each bin of keys.
    ranges: Vec<u16>,
    least: u32,
    /// Keys a bin: 2 to the power of it.
    shift: u32,
}

impl Ranges {
    /// For these keys, in at most `count` ranges.
    pub fn new<I: Iterator<Item = u32>>(keys: impl Fn() -> I, count: u16) -> Self {
        let (least, most) = keys().fold((u32::MAX, 0), |(least, most), key| {
            (least.min(key), most.max(key))
        });
        let span = most.saturating_sub(least);
        let shift = (u32::BITS - span.leading_zeros()).saturating_sub(BINS.trailing_zeros());
        let mut counts = vec![0u64; BINS as usize];
        keys().for_each(|key| counts[((key - least) >> shift) as usize] += 1);
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
    pub fn of(&self, key: u32) -> usize {
        usize::from(self.ranges[((key - self.least) >> self.shift) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_the_order_and_are_of_equal_size() {
        let spread: Vec<u32> = (0..10_000u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let narrow: Vec<u32> = (0..10_000).map(|i| 1 << 31 | i % 300).collect();
        for keys in [spread, narrow, vec![7], vec![0, u32::MAX]] {
            let ranges = Ranges::new(|| keys.iter().copied(), 50);
            let mut sorted: Vec<_> = keys.iter().map(|&key| (key, ranges.of(key))).collect();
            sorted.sort_unstable();
            assert!(sorted.is_sorted_by_key(|&(_, range)| range));
            assert!(sorted.iter().all(|&(_, range)| range < 50));
            let largest = sorted.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).max().unwrap();
            assert!(largest <= keys.len() / 50 + 40, "{largest} of {}", keys.len());
        }
        Ranges::new(std::iter::empty, 50);
    }
}
