//! What stands behind a network's last layer when it predicts.

use crate::cpu::params::Params;
use crate::ops::{Activate, Function, Kernel, Mode, Pass, Shape, Softmax};
use crate::{Activation, Tensor};

impl Activation {
    /// Predictions out of what the loss sees (batch, channels, voxels).
    ///
    /// ```
    /// use dacapo_nn::{Activation, Tensor};
    /// let values = Tensor::from_vec(&[1, 2, 1, 2], vec![0.0, 9.0, 0.0, 9.0]).unwrap();
    /// assert_eq!(Activation::Softmax.apply(&values).data, [0.5; 4]);
    /// assert_eq!(Activation::Sigmoid.apply(&values).data[0], 0.5);
    /// ```
    pub fn apply(self, values: &Tensor) -> Tensor {
        let mut predicted = values.clone();
        if let [batch, channels, voxels @ ..] = &values.shape[..] {
            let shape = Shape {
                channels: *channels,
                voxels: [1, 1, voxels.iter().product()],
            };
            activate(self, *batch, shape, &values.data, &mut predicted.data);
        }
        predicted
    }
}

/// `to` = the activation of `from`, both of `batch` entries of `shape`.
pub(crate) fn activate(activation: Activation, batch: usize, shape: Shape, from: &[f32], to: &mut [f32]) {
    let mut kernel: Box<dyn Kernel> = match activation {
        Activation::None => return to.copy_from_slice(from),
        Activation::Sigmoid => Box::new(Activate(Function::Sigmoid)),
        Activation::Softmax => Softmax.kernel(shape),
    };
    debug_assert_eq!(from.len(), batch * shape.len());
    let pass = Pass {
        mode: Mode::Predict,
        stream: 0,
        again: false,
    };
    kernel.forward(&[from], to, &mut Params(Vec::new()), pass);
}
