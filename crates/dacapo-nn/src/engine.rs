//! The engine trait: what the pipeline asks of whatever computes networks. Engines live in modules of
//! their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, PartialEq)]
pub struct OutputGroup {
    /// How many there are.
    pub channels: usize,
    /// Applied to predictions, not to what the loss sees.
    pub activation: Activation,
    /// What a training step minimises of them: each loss, and how much it counts in the sum over all groups.
    pub losses: Vec<(Loss, f32)>,
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
    /// Predictions are made with an exponential moving average of the weights, of this decay; none: with the weights.
    pub ema: Option<f64>,
    /// Keep less memory for the backward pass, and compute it once more: for about one more forward pass a step.
    pub recompute: bool,
    /// Determines the initial weights, and what dropout drops.
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
                losses: vec![(Loss::BceWithLogits, 1.0)],
            }],
            optimizer: OptimizerConfig::default(),
            clip_gradient_norm: None,
            ema: None,
            recompute: false,
            seed: 0,
        }
    }

    /// Channels that the head predicts.
    pub fn out_channels(&self) -> usize {
        self.outputs.iter().map(|group| group.channels).sum()
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
    /// The mean of the batches' losses.
    pub loss: f64,
    /// Euclidean norm of all gradients, before clipping.
    pub gradient_norm: f64,
}

/// Memory that a network takes, in bytes: an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its weights, with gradients, the optimiser's state and the average.
    pub parameters: u64,
    /// Everything in a training step, the parameters and the batch among it.
    pub training: u64,
    /// Everything in a prediction, the parameters, the input and the output among it.
    pub prediction: u64,
}

/// Builds networks.
pub trait Engine: Send + Sync {
    /// A network with freshly initialised weights.
    ///
    /// # Errors
    /// [`Error::Config`] where the spec makes no sense, [`Error::InputShape`] where the architecture's own
    /// input shape does not fit it.
    fn build(&self, spec: &NetworkSpec) -> Result<Box<dyn Network>>;

    /// What a network would take for `batch` inputs of a spatial shape, in voxels. Nothing is built.
    ///
    /// # Errors
    /// As [`Engine::build`], for this input shape.
    fn memory(&self, spec: &NetworkSpec, input: &[usize], batch: usize) -> Result<Memory>;

    /// Bytes that networks can have now, where that can be told.
    fn free_memory(&self) -> Option<u64>;
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
    /// the network cannot take, [`Error::NotFinite`] if the input or the prediction is NaN or infinite somewhere.
    fn forward(&mut self, input: &Tensor, output: &mut Tensor) -> Result<()>;

    /// Forward, loss and backward of one batch, whose gradients wait for the next [`Network::update`]. Gives the
    /// batch's loss, of all heads.
    ///
    /// # Errors
    /// As [`Network::forward`] for shapes, and [`Error::NotFinite`] if the loss is NaN or infinite: then
    /// [`Network::prediction`] shows what was predicted, and the batches since the last update are forgotten.
    fn accumulate(&mut self, batch: &Batch) -> Result<f64>;

    /// Changes the weights by the mean of the gradients of all batches since the last update, clipped.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the gradients' norm is NaN or infinite: then no weight has changed.
    /// [`Error::NoGradients`] if there was no batch.
    fn update(&mut self, learning_rate: f64) -> Result<Step>;

    /// One step of training on one batch.
    ///
    /// # Errors
    /// As [`Network::accumulate`] and [`Network::update`].
    fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<Step> {
        self.accumulate(batch)?;
        self.update(learning_rate)
    }

    /// What was predicted for the last training batch, without the activation.
    fn prediction(&self) -> &Tensor;

    /// Weights and statistics (`model/…`), the optimiser's state (`optimizer/…`) and the averaged weights
    /// (`average/…`), in a fixed order.
    ///
    /// # Errors
    /// [`Error::Torch`] if they cannot be had from the device that they are on.
    fn export(&self) -> Result<Vec<NamedTensor>>;

    /// Takes over tensors that [`Network::export`] gave. Without any `optimizer/…` the optimiser starts anew, without
    /// any `average/…` the average does.
    ///
    /// # Errors
    /// [`Error::Weights`], naming what is missing, unknown, of another shape or not finite; then nothing was taken.
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

/// Checks the axes and the channels of an input.
///
/// # Errors
/// [`Error::TensorShape`].
pub(crate) fn expect_input(architecture: &UNetConfig, input: &Tensor) -> Result<()> {
    let samples = input.shape.first().copied().unwrap_or(1).max(1);
    let mut expected = vec![samples, architecture.fmaps_in];
    expected.extend(input.shape.get(2..).unwrap_or_default());
    expected.resize(2 + architecture.dims(), 1);
    expect_shape("the input", input, &expected)
}

/// What gradients of a Euclidean norm are multiplied by, so that it becomes at most the spec's.
///
/// # Errors
/// [`Error::NotFinite`] if the norm is NaN or infinite.
pub(crate) fn clipping(spec: &NetworkSpec, gradient_norm: f64) -> Result<f64> {
    if !gradient_norm.is_finite() {
        return Err(Error::NotFinite {
            what: "gradient norm",
            value: gradient_norm,
        });
    }
    Ok(match spec.clip_gradient_norm {
        Some(limit) if gradient_norm > limit => limit / gradient_norm,
        _ => 1.0,
    })
}

/// Refuses values that are NaN or infinite.
///
/// # Errors
/// [`Error::NotFinite`] with the first of them.
pub(crate) fn finite(what: &'static str, values: &[f32]) -> Result<()> {
    use rayon::prelude::*;
    // Without a branch, so that the compiler makes vectors of it; looking at each value by itself was a fifth of a
    // prediction's time.
    let all_finite = |values: &&[f32]| {
        let bad = values
            .iter()
            .fold(0, |bad, value| bad | u32::from(!value.is_finite()));
        bad == 0
    };
    let chunk = values.par_chunks(1 << 14).find_first(|chunk| !all_finite(chunk));
    match chunk.and_then(|chunk| chunk.iter().find(|value| !value.is_finite())) {
        None => Ok(()),
        Some(&value) => Err(Error::NotFinite {
            what,
            value: f64::from(value),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate;

    #[test]
    fn groups_have_activations_of_their_own() {
        let group = |channels, activation| OutputGroup {
            channels,
            activation,
            losses: vec![(Loss::Mse, 1.0)],
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
        assert!(large[0] == 1.0 && large[1] < 1e-37, "{large:?}");
        activate(&[], 1, &mut []);
    }
}
