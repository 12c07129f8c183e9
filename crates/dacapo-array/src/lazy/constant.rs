//! One value everywhere.

use super::values::Number;
use super::window::padded;
use crate::dtype::with_dtype;
use crate::memory::filled;
use crate::{ArrayRead, ArraySpec, Element, NdData, Result, Roi};

/// An array of one value, of which nothing is stored.
pub struct Constant {
    value: f64,
    spec: ArraySpec,
}

impl Constant {
    /// `value` wherever an array of this spec has voxels.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] if the spec makes no sense, [`crate::Error::Cast`] if its type does not have the
    /// value.
    pub fn new(spec: ArraySpec, value: f64) -> Result<Self> {
        spec.check()?;
        let one = NdData::F64(ndarray::ArrayD::from_elem(vec![1], value));
        with_dtype!(spec.dtype, T => one.cast::<T>().map(drop))?;
        Ok(Self { value, spec })
    }

    /// Ones on the voxels that an array of this spec has: a mask that says that all of it counts.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] if the spec makes no sense.
    pub fn ones(like: &ArraySpec) -> Result<Self> {
        Self::new(
            super::window::with_values(like, crate::DType::U8, Vec::new()),
            1.0,
        )
    }
}

impl ArrayRead for Constant {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let (_, shape) = self.spec.window(shared)?;
            let shape = [self.spec.channels.as_slice(), &shape].concat();
            with_dtype!(self.spec.dtype, T => Ok(T::wrap(filled(&shape, T::nearest(self.value))?)))
        })
    }
}
