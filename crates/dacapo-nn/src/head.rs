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
/// let group = |channels, activation, loss| OutputGroup { channels, activation, loss, loss_weight: 1.0 };
/// let groups = [
///     group(1, Activation::Sigmoid, Loss::BceWithLogits),
///     group(2, Activation::Softmax, Loss::CrossEntropy),
/// ];
/// let mut values = [0.0, 0.0, 7.0, 9.0, 7.0, 9.0];
/// activate(&groups, 1, &mut values);
/// assert_eq!(values, [0.5; 6]);
/// ```
pub fn activate(outputs: &[OutputGroup], samples: usize, values: &mut [f32]) {
    let mut before = Vec::new();
    for (group, begin, len) in groups(outputs, samples, values.len()) {
        if len == 0 {
            continue;
        }
        let shape = Shape {
            channels: group.channels,
            voxels: [1, 1, len / group.channels],
        };
        let mut kernel: Box<dyn Kernel> = match group.activation {
            Activation::None => continue,
            Activation::Sigmoid => Box::new(Activate(Function::Sigmoid)),
            Activation::Softmax => Softmax.kernel(shape),
        };
        let pass = Pass {
            mode: Mode::Predict,
            stream: 0,
            again: false,
        };
        let values = &mut values[begin..begin + len];
        before.clear();
        before.extend_from_slice(values);
        kernel.forward(&[&before], values, &mut Params(Vec::new()), pass);
    }
}
