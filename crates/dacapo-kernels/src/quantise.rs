//! Values as bytes: which range the 256 of them stand for.

use ndarray::{ArrayD, ArrayView, Dimension};

use crate::elementwise::map;
use crate::{Error, Result};

/// From here on floats are one apart: 2²³.
const ONES: f32 = 8_388_608.0;

/// The values that 0 and 255 stand for, those between evenly apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    min: f32,
    max: f32,
}

impl ValueRange {
    /// Probabilities.
    pub const UNIT: Self = Self { min: 0.0, max: 1.0 };
    /// From -1 to 1, as a tanh is. Zero is no byte: 127 and 128 are half a step below and above it.
    pub const SIGNED: Self = Self { min: -1.0, max: 1.0 };

    /// From `min` to `max`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless both are finite, and `max` is larger.
    pub fn new(min: f32, max: f32) -> Result<Self> {
        if min.is_finite() && max.is_finite() && min < max && (max - min).is_finite() {
            return Ok(Self { min, max });
        }
        Err(Error::Parameter {
            name: "the end of a range of values",
            value: f64::from(max),
            expected: "finite and above its beginning",
        })
    }

    /// The value that 0 stands for.
    pub fn min(self) -> f32 {
        self.min
    }

    /// The value that 255 stands for.
    pub fn max(self) -> f32 {
        self.max
    }

    /// Between two neighbouring bytes.
    pub fn step(self) -> f32 {
        (self.max - self.min) / 255.0
    }

    /// The nearest byte, of halves the upper one. What is outside of the range is its end; NaN is 0.
    #[inline]
    pub fn byte(self, value: f32) -> u8 {
        let scaled = (value - self.min) * (255.0 / (self.max - self.min)) + 0.5;
        // NaN is not above 0.
        let above = if scaled > 0.0 { scaled } else { 0.0 };
        let inside = if above < 255.0 { above } else { 255.0 };
        // Where floats are one apart, the lowest bits of one are those of the nearest integer. There is no cast of several
        // values at once that saturates.
        let nearest = inside + ONES;
        let is_above = nearest - ONES > inside;
        (nearest.to_bits() as u8).wrapping_sub(u8::from(is_above))
    }

    /// What a byte stands for.
    #[inline]
    pub fn value(self, byte: u8) -> f32 {
        let part = f32::from(byte) / 255.0;
        // Exact at both ends.
        self.min * (1.0 - part) + self.max * part
    }
}

/// The bytes of values, in one pass: see [`ValueRange::byte`].
pub fn quantise<D: Dimension>(values: ArrayView<f32, D>, range: ValueRange) -> ArrayD<u8> {
    map(values.into_dyn(), |value| range.byte(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn bytes_are_the_nearest_and_come_back() {
        for range in [
            ValueRange::UNIT,
            ValueRange::SIGNED,
            ValueRange::new(-80.0, 3.5).unwrap(),
        ] {
            assert_eq!((range.value(0), range.value(255)), (range.min(), range.max()));
            for byte in 0..=255 {
                assert_eq!(range.byte(range.value(byte)), byte);
                let above = range.value(byte) + 0.49 * range.step();
                assert_eq!(range.byte(above), byte);
            }
            let ends = [
                f32::NEG_INFINITY,
                range.min() - 1.0,
                f32::NAN,
                range.max() + 1.0,
                f32::INFINITY,
            ];
            assert_eq!(ends.map(|value| range.byte(value)), [0, 0, 0, 255, 255]);
        }
        for (min, max) in [
            (1.0, 1.0),
            (1.0, 0.0),
            (f32::NAN, 1.0),
            (0.0, f32::INFINITY),
            (f32::MIN, f32::MAX),
        ] {
            assert!(ValueRange::new(min, max).is_err());
        }
    }

    #[test]
    fn bytes_are_those_of_a_cast_that_saturates() {
        for range in [
            ValueRange::UNIT,
            ValueRange::SIGNED,
            ValueRange::new(0.0, 255.0).unwrap(),
        ] {
            let expected = |value: f32| ((value - range.min) * (255.0 / (range.max - range.min)) + 0.5) as u8;
            // Of all floats, and of those beside each half byte.
            let any = (0..=u32::MAX).step_by(9973).map(f32::from_bits);
            let halves = (0..=512).map(|half| range.min + (range.max - range.min) * half as f32 / 510.0);
            let beside = halves.flat_map(|value| [value.next_down(), value, value.next_up()]);
            for value in any.chain(beside) {
                assert_eq!(range.byte(value), expected(value), "{value:e}");
            }
        }
    }

    #[test]
    fn any_layout_has_the_same_bytes() {
        let values = Array2::from_shape_fn((9, 13), |(y, x)| (y * 13 + x) as f32 / 116.0);
        let bytes = quantise(values.view(), ValueRange::UNIT);
        assert_eq!(bytes, values.mapv(|v| (v * 255.0).round() as u8).into_dyn());
        assert_eq!(quantise(values.t(), ValueRange::UNIT), bytes.t());
        assert!(quantise(array![[0.5f32; 0]].view(), ValueRange::UNIT).is_empty());
    }
}
