//! Dense f32 tensors as they cross the engine's border.

use crate::{Error, Result};

/// A dense f32 tensor, row-major: batch, channels, then 2 or 3 spatial axes (y, x or z, y, x), in voxels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensor {
    /// Batch, channels, spatial lengths.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![0.0; shape.iter().product()],
        }
    }

    /// A tensor over `data`.
    ///
    /// # Errors
    /// [`Error::TensorShape`] if the shape's product is not the number of values.
    pub fn from_vec(shape: &[usize], data: Vec<f32>) -> Result<Self> {
        if shape.iter().product::<usize>() != data.len() {
            return Err(Error::TensorShape {
                what: "the data",
                found: vec![data.len()],
                expected: shape.to_vec(),
            });
        }
        Ok(Self {
            shape: shape.to_vec(),
            data,
        })
    }

    /// Gives the tensor a shape, keeping its memory where it is large enough; the values are unspecified.
    pub(crate) fn reshape_uninit(&mut self, shape: &[usize]) {
        self.data.resize(shape.iter().product(), 0.0);
        self.shape.clear();
        self.shape.extend_from_slice(shape);
    }
}

/// A tensor with a name: a weight, a running statistic, or a piece of an optimiser's state.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// `model/…` for weights and statistics, `optimizer/…` for the optimiser's state.
    pub name: String,
    /// Lengths of its axes; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub data: Vec<f32>,
}
