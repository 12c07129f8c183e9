//! The sum of several arrays.

use std::sync::Arc;

use ndarray::ArrayD;

use super::parts::{Parts, of_one_type, on_one_grid, union};
use super::values::Number;
use super::window::{padded, read_inside, refuse};
use crate::dtype::with_dtype;
use crate::{ArrayRead, ArraySpec, DType, Element, Error, NdData, Result, Roi};

/// A lazy sum, 0 where a part is not.
pub struct Sum {
    parts: Parts,
    spec: ArraySpec,
}

impl Sum {
    /// The sum of the parts, in their type. A sum that the type does not have is [`Error::Cast`] when it is read.
    ///
    /// # Errors
    /// [`Error::Spec`] for parts that differ in grid, type or channels, and for booleans.
    pub fn new(parts: Vec<Arc<dyn ArrayRead>>) -> Result<Self> {
        let first = on_one_grid("a sum", &parts)?;
        if of_one_type("a sum", &parts)? == DType::Bool {
            return refuse("a sum of booleans; cast them, or ask for any of them");
        }
        let differs = |part: &Arc<dyn ArrayRead>| part.spec().channels != first.channels;
        if let Some(index) = parts.iter().position(differs) {
            return refuse(format!(
                "a sum of arrays with channels {:?} and, as array {}, {:?}",
                first.channels,
                index + 1,
                parts[index].spec().channels
            ));
        }
        let spec = ArraySpec {
            roi: union(&parts).unwrap_or_else(|| first.roi.clone()),
            ..first.clone()
        };
        Ok(Self { parts, spec })
    }
}

impl ArrayRead for Sum {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            with_dtype!(self.spec.dtype, T => {
                let (_, shape) = self.spec.window(shared)?;
                let shape = [self.spec.channels.as_slice(), &shape].concat();
                let mut sum: ArrayD<T> = crate::memory::filled(&shape, T::default())?;
                for part in &self.parts {
                    let values: ArrayD<T> = read_inside(&**part, shared)?.into_typed()?;
                    for (sum, &value) in sum.iter_mut().zip(&values) {
                        *sum = Number::add(*sum, value).ok_or_else(|| Error::Cast {
                            value: Some(format!("the sum {sum:?} + {value:?}")),
                            from: self.spec.dtype,
                            to: self.spec.dtype,
                        })?;
                    }
                }
                Ok(T::wrap(sum))
            })
        })
    }
}
