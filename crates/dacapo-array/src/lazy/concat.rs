//! The channels of several arrays as one array.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, concatenate};

use super::parts::{Parts, intersection, of_one_type, on_one_grid};
use super::window::{channels, flat, padded, refuse, shaped, with_values};
use crate::dtype::with_dtype;
use crate::{ArrayRead, ArraySpec, Element, Error, NdData, Result, Roi};

/// A lazy concatenation of channels, where all parts are: no value is made up. A channel that is missing is a
/// [`super::Constant`] like another part.
pub struct Concat {
    parts: Parts,
    spec: ArraySpec,
}

impl Concat {
    /// The channels of the first part, then those of the second, and so on; a part without a channel axis is one
    /// channel.
    ///
    /// # Errors
    /// [`Error::Spec`] for parts that differ in grid or type, or do not overlap.
    pub fn new(parts: Vec<Arc<dyn ArrayRead>>) -> Result<Self> {
        let first = on_one_grid("channels", &parts)?;
        let dtype = of_one_type("channels", &parts)?;
        let count = parts.iter().map(|part| channels(part.spec())).sum();
        let roi = intersection(&parts).filter(|roi| !roi.is_empty());
        let Some(roi) = roi else {
            return refuse("channels of arrays that do not overlap");
        };
        let spec = ArraySpec {
            roi,
            ..with_values(first, dtype, vec![count])
        };
        Ok(Self { parts, spec })
    }
}

impl ArrayRead for Concat {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let (_, shape) = self.spec.window(shared)?;
            let shape = [self.spec.channels.as_slice(), &shape].concat();
            with_dtype!(self.spec.dtype, T => {
                let read = |part: &Arc<dyn ArrayRead>| {
                    let values: ArrayD<T> = part.read(shared)?.into_typed()?;
                    flat(part.spec(), values)
                };
                let parts = self.parts.iter().map(read).collect::<Result<Vec<_>>>()?;
                let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
                let values = concatenate(Axis(0), &views)
                    .map_err(|error| Error::Shape { reason: error.to_string() })?;
                Ok(T::wrap(shaped(&shape, values.into_dyn())?))
            })
        })
    }
}
