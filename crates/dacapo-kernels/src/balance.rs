//! Weights that let classes of unequal size count the same.

use crate::{Error, Result};

/// The range that a class's share of the voxels is clipped to before it is inverted: it bounds the weight of
/// a rare class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// The smallest share, above 0.
    pub min: f64,
    /// The largest share, at most 1.
    pub max: f64,
}

impl Clip {
    /// Shares from `min` to `max`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < min ≤ max ≤ 1.
    pub fn new(min: f64, max: f64) -> Result<Self> {
        let bad = |name, value, expected| {
            Err(Error::Parameter {
                name,
                value,
                expected,
            })
        };
        if !(min > 0.0 && min <= 1.0) {
            return bad("clip_min", min, "above 0 and at most 1");
        }
        if !(max >= min && max <= 1.0) {
            return bad("clip_max", max, "between clip_min and 1");
        }
        Ok(Self { min, max })
    }
}

/// The weight of each class, of which there are `counts` voxels: 1 / (classes × share), the share clipped. The total
/// starts at 1, as DaCapo's `balance_weights` has it on its first call; later calls there average over what
/// came before, which would make a batch depend on the ones before it.
pub fn class_weights(counts: &[u64], clip: Clip) -> Vec<f32> {
    let total = (counts.iter().sum::<u64>() + 1) as f64;
    let even = 1.0 / counts.len() as f64;
    let weight = |&count: &u64| (even / (count as f64 / total).clamp(clip.min, clip.max)) as f32;
    counts.iter().map(weight).collect()
}
