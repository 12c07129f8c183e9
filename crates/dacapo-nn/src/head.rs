//! What stands behind a network's last layer when it predicts.

use crate::cpu::params::Params;
use crate::engine::groups;
use crate::ops::{Activate, Function, Kernel, Mode, Pass, Shape, Softmax};
use crate::{Activation, OutputGroup};

/// Predictions out of what the losses see, in place: samples, channels, voxels.
///
/// ```
/// use dacapo_nn::{Activation, Loss, OutputGroup, activate};
///
/// let group = |channels, activation, loss| OutputGroup { channels, activation, losses: vec![(loss, 1.0)] };
/// let groups = [
///     group(1, Activation::Sigmoid, Loss::BceWithLogits),
///     group(2, Activation::Softmax, Loss::CrossEntropy),
/// ];
/// let mut values = [0.0, 0.0, 7.0, 9.0, 7.0, 9.0];
/// activate(&groups, 1, &mut values);
/// assert_eq!(values, [0.5; 6]);
/// ```
pub fn activate(outputs: &[OutputGroup], samples: usize, values: &mut [f32]) {
    let before = values.to_vec();
    activate_to(outputs, samples, &before, values);
}

/// The same out of `from`.
pub(crate) fn activate_to(outputs: &[OutputGroup], samples: usize, from: &[f32], to: &mut [f32]) {
    debug_assert_eq!(from.len(), to.len());
    for (group, begin, len) in groups(outputs, samples, from.len()) {
        let (from, to) = (&from[begin..begin + len], &mut to[begin..begin + len]);
        if len == 0 {
            continue;
        }
        let shape = Shape {
            channels: group.channels,
            voxels: [1, 1, len / group.channels],
        };
        let mut kernel: Box<dyn Kernel> = match group.activation {
            Activation::None => {
                to.copy_from_slice(from);
                continue;
            }
            Activation::Sigmoid => Box::new(Activate(Function::Sigmoid)),
            Activation::Softmax => Softmax.kernel(shape),
        };
        let pass = Pass {
            mode: Mode::Predict,
            stream: 0,
            again: false,
        };
        kernel.forward(&[from], to, &mut Params(Vec::new()), pass);
    }
}
