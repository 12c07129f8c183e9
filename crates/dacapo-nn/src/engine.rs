//! The engine trait: what the pipeline asks of whatever computes networks. Engines live in modules of
//! their own.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::math::sigmoid;
use crate::{Error, Loss, NamedTensor, OptimizerConfig, Result, Tensor, UNetConfig};

/// What stands behind a network's last layer when it predicts. Losses work on the values before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The values as they are.
    #[default]
    None,
    /// 1 / (1 + e^-x), for probabilities.
    Sigmoid,
    /// e^x of each channel by their sum over the group's, for probabilities of classes.
    Softmax,
}

/// Channels of the head that belong together, in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputGroup {
    /// How many there are.
    pub channels: usize,
    /// Applied to predictions, not to what the loss sees.
    pub activation: Activation,
    /// What a training step minimises of them.
    pub loss: Loss,
    /// How much that counts in the sum over all groups.
    pub loss_weight: f32,
}

/// All that determines a network: two engines given the same spec build the same function of the same
/// named tensors, and the same initial values.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    /// The layers.
    pub architecture: UNetConfig,
    /// What the head predicts, group after group.
    pub outputs: Vec<OutputGroup>,
    /// How it is minimised.
    pub optimizer: OptimizerConfig,
    /// Gradients are scaled down to this Euclidean norm where theirs is larger.
    pub clip_gradient_norm: Option<f64>,
    /// Determines the initial weights.
    pub seed: u64,
}

impl NetworkSpec {
    /// A network with one group of sigmoid outputs, binary cross-entropy, the default optimiser and seed 0.
    pub fn new(architecture: UNetConfig, out_channels: usize) -> Self {
        Self {
            architecture,
            outputs: vec![OutputGroup {
                channels: out_channels,
                activation: Activation::Sigmoid,
                loss: Loss::BceWithLogits,
                loss_weight: 1.0,
            }],
            optimizer: OptimizerConfig::default(),
            clip_gradient_norm: None,
            seed: 0,
        }
    }

    /// Channels that the head predicts.
    pub fn out_channels(&self) -> usize {
        self.outputs.iter().map(|group| group.channels).sum()
    }
}

/// Applies the activations of groups to what a network put out, in place: samples, channels, voxels.
pub fn activate(outputs: &[OutputGroup], samples: usize, values: &mut [f32]) {
    for (group, begin, len) in groups(outputs, samples, values.len()) {
        let values = &mut values[begin..begin + len];
        match group.activation {
            Activation::None => {}
            Activation::Sigmoid => values
                .par_iter_mut()
                .with_min_len(1 << 14)
                .for_each(|value| *value = sigmoid(*value)),
            Activation::Softmax => softmax(values, group.channels),
        }
    }
}

/// Where the values of each group are, in each sample: begin and length.
pub(crate) fn groups(
    outputs: &[OutputGroup],
    samples: usize,
    len: usize,
) -> impl Iterator<Item = (&OutputGroup, usize, usize)> {
    let channels: usize = outputs.iter().map(|group| group.channels).sum();
    let voxels = len / (samples * channels).max(1);
    let mut begin = 0;
    (0..samples).flat_map(move |_| outputs).map(move |group| {
        let len = group.channels * voxels;
        begin += len;
        (group, begin - len, len)
    })
}

/// In place: channels, voxels.
fn softmax(values: &mut [f32], channels: usize) {
    let voxels = values.len() / channels.max(1);
    for voxel in 0..voxels {
        let of = |channel: usize| channel * voxels + voxel;
        let most = (0..channels).fold(f32::NEG_INFINITY, |most, c| most.max(values[of(c)]));
        let mut sum = 0.0;
        for c in 0..channels {
            let value = (values[of(c)] - most).exp();
            values[of(c)] = value;
            sum += value;
        }
        (0..channels).for_each(|c| values[of(c)] /= sum);
    }
}

/// One training batch: input of the network's input shape, target and weight of its output shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Batch, input channels, input voxels.
    pub input: Tensor,
    /// Batch, output channels, output voxels.
    pub target: Tensor,
    /// Like the target; 0 where the target is unknown.
    pub weight: Tensor,
}

/// What a training step found, before it changed the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The batch's loss.
    pub loss: f64,
    /// Euclidean norm of all gradients, before clipping.
    pub gradient_norm: f64,
}

/// Builds networks.
pub trait Engine: Send + Sync {
    /// A network with freshly initialised weights.
    ///
    /// # Errors
    /// [`Error::Config`] where the spec makes no sense, [`Error::InputShape`] where the architecture's own
    /// input shape does not fit it.
    fn build(&self, spec: &NetworkSpec) -> Result<Box<dyn Network>>;
}

/// A network with its weights and its optimiser's state.
///
/// Its outputs are a function of its tensors and its inputs alone; the CPU engine's are so to the last bit,
/// at any number of threads.
pub trait Network: Send {
    /// What it was built from.
    fn spec(&self) -> &NetworkSpec;

    /// Predicts: evaluation mode, the head's activation applied. `output` is reshaped; its memory is reused.
    ///
    /// # Errors
    /// [`Error::TensorShape`] for a wrong number of axes or channels, [`Error::InputShape`] for voxels that
    /// the network cannot take.
    fn forward(&mut self, input: &Tensor, output: &mut Tensor) -> Result<()>;

    /// One step of training: forward, loss, backward, clipping, update.
    ///
    /// # Errors
    /// As [`Network::forward`], and [`Error::NotFinite`] if the loss or the gradients' norm is NaN or
    /// infinite: then no weight has changed, and [`Network::prediction`] shows what was predicted.
    fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<Step>;

    /// What the last training step predicted, without the activation.
    fn prediction(&self) -> &Tensor;

    /// Weights and statistics (`model/…`) and the optimiser's state (`optimizer/…`), in a fixed order.
    fn export(&self) -> Vec<NamedTensor>;

    /// Takes over tensors that [`Network::export`] gave. Without any `optimizer/…` the optimiser starts anew.
    ///
    /// # Errors
    /// [`Error::Weights`], naming what is missing, unknown or of another shape; then nothing was taken.
    fn import(&mut self, tensors: &[NamedTensor]) -> Result<()>;

    /// Spatial output shape for a spatial input shape, in voxels.
    ///
    /// # Errors
    /// [`Error::InputShape`], with the nearest shape that fits.
    fn output_shape(&self, input: &[usize]) -> Result<Vec<usize>> {
        self.spec().architecture.output_shape(input)
    }
}

pub(crate) fn expect_shape(what: &'static str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.shape == expected && tensor.data.len() == expected.iter().product::<usize>() {
        return Ok(());
    }
    Err(Error::TensorShape {
        what,
        found: tensor.shape.clone(),
        expected: expected.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_activations_of_their_own() {
        let group = |channels, activation| OutputGroup {
            channels,
            activation,
            loss: Loss::Mse,
            loss_weight: 1.0,
        };
        let outputs = [
            group(1, Activation::None),
            group(3, Activation::Softmax),
            group(1, Activation::Sigmoid),
        ];
        let (samples, voxels) = (2, 4);
        let before: Vec<f32> = (0..samples * 5 * voxels)
            .map(|i| (i * 37 % 23) as f32 - 11.0)
            .collect();
        let mut after = before.clone();
        activate(&outputs, samples, &mut after);
        for sample in 0..samples {
            for voxel in 0..voxels {
                let at = |values: &[f32], c: usize| f64::from(values[(sample * 5 + c) * voxels + voxel]);
                assert_eq!(at(&after, 0), at(&before, 0));
                let sum: f64 = (1..4).map(|c| at(&before, c).exp()).sum();
                for c in 1..4 {
                    assert!((at(&after, c) - at(&before, c).exp() / sum).abs() < 1e-6);
                }
                assert!((at(&after, 4) - 1.0 / (1.0 + (-at(&before, 4)).exp())).abs() < 1e-6);
            }
        }
        // Large values are no overflow.
        let mut large = [500.0, -500.0];
        activate(&[group(2, Activation::Softmax)], 1, &mut large);
        assert_eq!(large, [1.0, 0.0]);
        activate(&[], 1, &mut []);
    }
}
