//! An array's values as another type.

use std::sync::Arc;

use super::window::padded;
use crate::dtype::with_dtype;
use crate::{ArrayRead, ArraySpec, DType, Element, NdData, Result, Roi};

/// A lazy cast: the same numbers as another type.
pub struct Cast {
    array: Arc<dyn ArrayRead>,
    spec: ArraySpec,
}

impl Cast {
    /// The array as `dtype`. Reading a value that this type does not have is [`crate::Error::Cast`], as
    /// [`NdData::cast`] says.
    pub fn new(array: Arc<dyn ArrayRead>, dtype: DType) -> Self {
        let spec = ArraySpec {
            dtype,
            ..array.spec().clone()
        };
        Self { array, spec }
    }
}

impl ArrayRead for Cast {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(
            &self.spec,
            roi,
            |shared| with_dtype!(self.spec.dtype, T => Ok(T::wrap(self.array.read(shared)?.cast()?))),
        )
    }
}
