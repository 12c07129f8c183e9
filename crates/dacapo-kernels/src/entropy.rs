//! The variation of information, from sums that are exact.

/// Steps of [`information`] in a bit.
const STEPS: f64 = (1u64 << 40) as f64;

/// n log₂ n, in steps of 2⁻⁴⁰ bits. As an integer it can be added and taken away in any order with the same
/// result, so a score that is kept up to date is the score computed anew, to the last bit.
pub(crate) fn information(n: u64) -> i128 {
    let n = n as f64;
    // 0 log 0 is 0.
    if n > 0.0 {
        (n * n.log2() * STEPS).round() as i128
    } else {
        0
    }
}

/// Variation of information in bits (Meilă 2007): 0 is perfect, lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voi {
    /// H(segmentation | truth): how far objects are split.
    pub split: f64,
    /// H(truth | segmentation): how far objects are merged.
    pub merge: f64,
}

impl Voi {
    /// From the sums of [`information`] over objects, over segments and over what they share, of `total` voxels;
    /// nothing where no voxel counts.
    pub(crate) fn new(objects: i128, segments: i128, shared: i128, total: u64) -> Option<Self> {
        (total > 0).then(|| Self {
            split: bits(objects - shared, total),
            merge: bits(segments - shared, total),
        })
    }

    /// Split and merge together: the distance itself.
    pub fn sum(&self) -> f64 {
        self.split + self.merge
    }
}

/// A sum of [`information`] in bits a voxel. Rounding makes it no less than nothing.
pub(crate) fn bits(sum: i128, total: u64) -> f64 {
    (sum.max(0) as f64) / (STEPS * total as f64)
}
