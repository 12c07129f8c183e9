//! The operations that networks are made of: one file each, with its shape rule, forward, backward and
//! test. How they are put in order, and where their buffers come from, is `cpu`'s affair.
//!
//! Buffers are planar: batch, channels, z, y, x; 2D has one plane in z. Every operation is divided by its
//! shape, never by the number of threads, and sums in a fixed order, so its bits depend on its inputs only.

use crate::Result;
use crate::cpu::params::{ParamSpec, Params};
use crate::onnx::ToOnnx;
use crate::simd::InstructionSet;
use crate::torch::ToTorch;

mod activation;
mod add;
pub(crate) mod batch_norm;
mod concat;
mod convolution;
mod dropout;
mod group_norm;
mod max_pool;
mod multiply;
mod repeat;
mod rows;
mod softmax;
pub(crate) mod statistics;
mod trilinear;
mod upsample;

#[cfg(test)]
pub(crate) mod check;

pub(crate) use activation::{Activate, Function, LEAK};
pub(crate) use add::Add;
pub(crate) use batch_norm::{BatchNorm, fold as fold_batch_norm};
pub(crate) use concat::{Concat, Equivariance};
pub(crate) use convolution::{Conv, TransposedConv};
pub(crate) use dropout::Dropout;
pub(crate) use group_norm::{EPSILON, GroupNorm};
pub(crate) use max_pool::MaxPool;
pub(crate) use multiply::Multiply;
pub(crate) use softmax::Softmax;
pub(crate) use trilinear::{Align, Trilinear};
pub(crate) use upsample::Upsample;

/// Shape of a buffer without its batch axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) channels: usize,
    /// z, y, x.
    pub(crate) voxels: [usize; 3],
}

impl Shape {
    /// Voxels of a channel.
    pub(crate) fn volume(&self) -> usize {
        self.voxels.iter().product()
    }

    /// Values of a batch entry.
    pub(crate) fn len(&self) -> usize {
        self.channels * self.volume()
    }
}

/// Whether statistics come from the batch or from training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Train,
    Predict,
}

/// What a forward pass is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) mode: Mode,
    /// Tells the batches of a training apart: what is random is a function of this, of the operation and of the place.
    pub(crate) stream: u64,
    /// The batch that was the last, once more, for values that were not kept: running statistics have it already.
    pub(crate) again: bool,
}

/// One operation of an architecture, for any shape.
pub(crate) trait Op: ToOnnx + ToTorch + std::fmt::Debug + Send + Sync {
    /// The parameters that it needs; their ids are handed to [`Op::plan`] in this order.
    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// What it is called where it is told of.
    fn name(&self) -> String {
        let name = format!("{self:?}");
        name.chars().take_while(|c| c.is_alphanumeric()).collect()
    }

    /// Output channels, from the inputs' channels.
    fn channels(&self, inputs: &[usize]) -> usize;

    /// The shape rule along one axis (0 to 2: z, y, x), from the inputs' lengths, in voxels. The error says
    /// what does not fit.
    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String>;

    /// Whether the values of an input matter, or only its shape.
    fn reads(&self, _input: usize) -> bool {
        true
    }

    /// Prepares the operation for shapes.
    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>>;
}

/// Where an operation stands in a plan.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) batch: usize,
    pub(crate) inputs: &'a [Shape],
    pub(crate) output: Shape,
    /// Place of the operation's first parameter.
    pub(crate) first_param: usize,
    /// The instructions to compute with.
    pub(crate) set: InstructionSet,
}

/// An operation for given shapes, with what it keeps from forward to backward.
pub(crate) trait Kernel: Send {
    /// Overwrites the whole output.
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], params: &mut Params, pass: Pass);

    /// Values that it keeps for the backward pass beside its output, in f32.
    fn kept(&self, _mode: Mode) -> usize {
        0
    }

    /// Values of working memory that it takes on so many threads.
    fn scratch(&self, _mode: Mode, _threads: usize) -> usize {
        0
    }

    /// Multiplications in inner products: forward, or backward (to the input as well?).
    fn multiplications(&self, _backward: Option<bool>) -> u64 {
        0
    }

    /// What the backward pass reads of the forward's values.
    fn needs(&self) -> Needs {
        Needs {
            inputs: true,
            output: true,
        }
    }

    /// Whether the backward pass can add to a gradient that its only input already has ([`BackwardStep::add`]).
    fn adds(&self) -> bool {
        false
    }

    /// Whether the backward pass leaves the gradient of its first input, which is as long as the output, in
    /// [`BackwardStep::gradient`]. It is never asked to write it anywhere else.
    fn in_place(&self) -> bool {
        false
    }

    /// Overwrites the gradients of the inputs that are asked for, and of the parameters.
    fn backward(&mut self, step: BackwardStep<'_>, params: &mut Params);
}

/// Values that are kept for a backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) inputs: bool,
    pub(crate) output: bool,
}

/// What a backward pass works on.
pub(crate) struct BackwardStep<'a> {
    /// Empty where no operation needs them, as the output.
    pub(crate) inputs: &'a [&'a [f32]],
    pub(crate) output: &'a [f32],
    /// Gradient of the output; the kernel may use it as scratch.
    pub(crate) gradient: &'a mut [f32],
    /// Gradients of the inputs, to be overwritten; `None` where nobody wants it.
    pub(crate) input_gradients: &'a mut [Option<&'a mut [f32]>],
    /// The input's gradient is to be added to, not overwritten: only where [`Kernel::adds`].
    pub(crate) add: bool,
}
