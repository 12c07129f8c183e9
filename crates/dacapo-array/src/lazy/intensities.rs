//! Intensities on a scale of their own: from a range of values to 0 … 1.

use std::sync::Arc;

use super::values::Number;
use super::window::{padded, refuse};
use crate::dtype::with_data;
use crate::{ArrayRead, ArraySpec, DType, NdData, Result, Roi};

/// A lazy normalisation: (v - min) / (max - min) as f32.
pub struct Intensities {
    array: Arc<dyn ArrayRead>,
    scale: Scale,
    spec: ArraySpec,
}

impl Intensities {
    /// `min` becomes 0 and `max` becomes 1; with `clip`, what is past them too.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] unless `min` is below `max`, both finite.
    pub fn new(array: Arc<dyn ArrayRead>, min: f64, max: f64, clip: bool) -> Result<Self> {
        if !(min < max && min.is_finite() && max.is_finite()) {
            return refuse(format!(
                "intensities from {min} to {max} are no range: min below max"
            ));
        }
        let spec = ArraySpec {
            dtype: DType::F32,
            ..array.spec().clone()
        };
        let scale = Scale { min, max, clip };
        Ok(Self { array, scale, spec })
    }
}

impl ArrayRead for Intensities {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            Ok(self.scale.apply(self.array.read(shared)?))
        })
    }
}

/// Where 0 and 1 are on a scale of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub min: f64,
    pub max: f64,
    pub clip: bool,
}

impl Scale {
    /// All values on this scale; 0 for all if it has no length.
    pub fn apply(self, data: NdData) -> NdData {
        let length = self.max - self.min;
        let map = |value: f64| {
            let scaled = if length > 0.0 {
                (value - self.min) / length
            } else {
                0.0
            };
            (if self.clip { scaled.clamp(0.0, 1.0) } else { scaled }) as f32
        };
        with_data!(data, values => NdData::F32(values.mapv(|value| map(value.to_f64()))))
    }
}
