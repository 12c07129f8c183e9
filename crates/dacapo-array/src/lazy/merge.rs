//! Objects of several arrays in one.

use std::sync::Arc;

use ndarray::ArrayD;

use super::parts::{Parts, on_one_grid, union};
use super::values::Number;
use super::window::{check_ids, check_single, padded, read_inside, shaped, with_values};
use crate::dtype::with_data;
use crate::memory::filled;
use crate::{ArrayRead, ArraySpec, DType, Error, NdData, Result, Roi};

/// Lazily merged labels, as uint64: object `id` of part `i` of `n` becomes (id - 1) · n + i + 1, so that no two
/// objects meet, and every region says the same of them. Where parts overlap, the first one counts.
pub struct Merge {
    parts: Parts,
    spec: ArraySpec,
}

impl Merge {
    /// The objects of all parts. An id that would not fit is [`Error::Cast`] when it is read.
    ///
    /// # Errors
    /// [`Error::Spec`] for parts that differ in grid, have channels, or are no integers.
    pub fn new(parts: Vec<Arc<dyn ArrayRead>>) -> Result<Self> {
        let first = on_one_grid("merged objects", &parts)?;
        for part in &parts {
            check_ids("merged objects", part.spec())?;
            check_single("merged objects", part.spec())?;
        }
        let spec = ArraySpec {
            roi: union(&parts).unwrap_or_else(|| first.roi.clone()),
            ..with_values(first, DType::U64, Vec::new())
        };
        Ok(Self { parts, spec })
    }

    /// The id of an object of a part in the merged array.
    fn id(&self, part: usize, id: u64) -> Option<u64> {
        let (count, part) = (self.parts.len() as u64, part as u64);
        (id - 1).checked_mul(count)?.checked_add(part + 1)
    }
}

impl ArrayRead for Merge {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let (_, shape) = self.spec.window(shared)?;
            let mut merged: ArrayD<u64> = filled(&shape, 0)?;
            for (index, part) in self.parts.iter().enumerate() {
                let dtype = part.spec().dtype;
                with_data!(read_inside(&**part, shared)?, values => {
                    let values = shaped(&shape, values)?;
                    for (merged, &value) in merged.iter_mut().zip(&values) {
                        if *merged != 0 || value.to_f64() == 0.0 {
                            continue;
                        }
                        let id = value.id().and_then(|id| self.id(index, id));
                        *merged = id.ok_or_else(|| Error::Cast {
                            value: Some(format!("object {value:?} of {} merged arrays", self.parts.len())),
                            from: dtype,
                            to: DType::U64,
                        })?;
                    }
                });
            }
            Ok(NdData::U64(merged))
        })
    }
}
