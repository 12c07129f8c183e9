//! Some channels of an array.

use std::sync::Arc;

use ndarray::Axis;

use super::window::{channels, flat, padded, refuse, shaped, with_values};
use crate::dtype::with_data;
use crate::{ArrayRead, ArraySpec, Element, NdData, Result, Roi};

/// A lazy choice of channels.
pub struct Channels {
    array: Arc<dyn ArrayRead>,
    chosen: Vec<usize>,
    spec: ArraySpec,
}

impl Channels {
    /// These channels of an array, in this order, counted from 0 over all its leading axes. A single one has no
    /// channel axis.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] if none is chosen, or one that is not there.
    pub fn new(array: Arc<dyn ArrayRead>, chosen: Vec<usize>) -> Result<Self> {
        let there = channels(array.spec());
        if chosen.is_empty() {
            return refuse("no channel is chosen");
        }
        if let Some(wrong) = chosen.iter().find(|&&channel| channel >= there) {
            return refuse(format!(
                "channel {wrong} is chosen, the array has {there}, counted from 0"
            ));
        }
        let left = Some(chosen.len()).filter(|&n| n > 1).into_iter().collect();
        let spec = with_values(array.spec(), array.spec().dtype, left);
        Ok(Self { array, chosen, spec })
    }
}

impl ArrayRead for Channels {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let shape = [
                self.spec.channels.as_slice(),
                &shared.voxels(&self.spec.voxel_size).unwrap_or_default(),
            ]
            .concat();
            with_data!(self.array.read(shared)?, values => {
                let values = flat(self.array.spec(), values)?.select(Axis(0), &self.chosen);
                Ok(Element::wrap(shaped(&shape, values.into_dyn())?))
            })
        })
    }
}
