//! Several arrays on top of each other: whether one of them is there, and which.

use std::sync::Arc;

use ndarray::ArrayD;

use super::parts::{Parts, on_one_grid, union};
use super::values::Number;
use super::window::{flat, padded, read_inside, refuse, with_values};
use crate::dtype::with_data;
use crate::memory::filled;
use crate::{ArrayRead, ArraySpec, DType, NdData, Result, Roi};

/// A lazy logical or: true where any part, in any of its channels, is not 0.
pub struct AnyOf(Layers);

impl AnyOf {
    /// Of these parts.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] for parts that differ in grid.
    pub fn new(parts: Vec<Arc<dyn ArrayRead>>) -> Result<Self> {
        Layers::over("any", parts, DType::Bool).map(Self)
    }
}

impl ArrayRead for AnyOf {
    fn spec(&self) -> &ArraySpec {
        &self.0.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.0.spec, roi, |shared| {
            Ok(NdData::Bool(self.0.first(shared)?.mapv(|first| first != 0)))
        })
    }
}

/// Lazy layers: the number of the first part, from 1, that is not 0 in any of its channels; 0 where there is none.
/// Classes of one array each become classes of one array.
pub struct Layers {
    parts: Parts,
    spec: ArraySpec,
}

impl Layers {
    /// Of these parts, the topmost first.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] for parts that differ in grid, and for more than 255, which a byte holds.
    pub fn new(parts: Vec<Arc<dyn ArrayRead>>) -> Result<Self> {
        Self::over("layers", parts, DType::U8)
    }

    fn over(what: &str, parts: Parts, dtype: DType) -> Result<Self> {
        let first = on_one_grid(what, &parts)?;
        if parts.len() > usize::from(u8::MAX) {
            return refuse(format!("{what} of {} arrays: at most 255", parts.len()));
        }
        let spec = ArraySpec {
            roi: union(&parts).unwrap_or_else(|| first.roi.clone()),
            ..with_values(first, dtype, Vec::new())
        };
        Ok(Self { parts, spec })
    }

    /// For each voxel, the number of the first part that is not 0.
    fn first(&self, roi: &Roi) -> Result<ArrayD<u8>> {
        let (_, shape) = self.spec.window(roi)?;
        let mut first: ArrayD<u8> = filled(&shape, 0)?;
        for (index, part) in self.parts.iter().enumerate() {
            with_data!(read_inside(&**part, roi)?, values => {
                for channel in flat(part.spec(), values)?.outer_iter() {
                    for (first, value) in first.iter_mut().zip(channel) {
                        if *first == 0 && value.to_f64() != 0.0 {
                            *first = index as u8 + 1;
                        }
                    }
                }
            });
        }
        Ok(first)
    }
}

impl ArrayRead for Layers {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| Ok(NdData::U8(self.first(shared)?)))
    }
}
