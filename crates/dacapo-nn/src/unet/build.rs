//! From a U-Net's config to its graph. Parameters have the names that the original's modules give them.

use super::config::{Nonlinearity, Norm, Padding, UNetConfig, Upsampling};
use crate::Result;
use crate::cpu::graph::{Auxiliary, Buffer, Fold, Graph};
use crate::ops::{
    Activate, Add, Align, BatchNorm, Concat, Conv, Dropout, Equivariance, Function, GroupNorm, MaxPool,
    Multiply, Op, TransposedConv, Trilinear, Upsample,
};

/// Groups of a group normalisation, at most.
const MOST_GROUPS: usize = 8;

/// What a graph is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Train,
    /// Without what only training needs. Batch normalisations are not there: they go into the convolutions before
    /// them ([`Graph::folds`]).
    Predict,
}

impl UNetConfig {
    /// The network's operations, with a head of `out_channels`; without one, the output has the
    /// architecture's own channels (and the head's shape).
    pub(crate) fn graph(&self, out_channels: Option<usize>, purpose: Purpose) -> Result<Graph> {
        self.validate()?;
        let mut builder = Builder {
            config: self,
            purpose,
            graph: Graph::new(self.fmaps_in),
            coarse: Vec::new(),
            fine_segments: false,
        };
        let mut x = 0;
        if let Some(stem) = &self.stem_factors {
            x = builder.stem(x, self.zyx(stem));
        }
        x = builder.level(x, 0);
        for (i, factor) in self.upsample_factors.iter().enumerate() {
            x = builder.upsample_output(x, i, self.zyx(factor));
        }
        let output = builder.head(x, out_channels);
        builder.graph.output = output;
        if let (true, Purpose::Train, Some(channels)) = (self.deep_supervision, purpose, out_channels) {
            builder.coarse_heads(output, channels);
        }
        Ok(builder.graph)
    }

    fn out_width(&self) -> usize {
        self.fmaps_out.unwrap_or(self.num_fmaps)
    }

    /// Channels of the upsampled features that meet a level's skip connection.
    fn upsampled_width(&self, level: usize) -> usize {
        let narrow = level > 0 || self.narrow_upsampling;
        self.width(if narrow { level } else { level + 1 })
    }

    fn function(&self) -> Function {
        match self.activation {
            Nonlinearity::Relu => Function::Relu,
            Nonlinearity::LeakyRelu => Function::LeakyRelu,
            Nonlinearity::Gelu => Function::Gelu,
        }
    }
}

/// What a convolution pass does with the outputs of its convolutions.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// The config's activation.
    Activation,
    Nothing,
    Sigmoid,
}

struct Builder<'a> {
    config: &'a UNetConfig,
    purpose: Purpose,
    graph: Graph,
    /// What the coarser levels on the way up end in, and their level.
    coarse: Vec<(Buffer, usize)>,
    /// Each convolution, with what follows it, is a segment of its own; otherwise each level is. The backward pass
    /// begins while all that was kept is still there: then a level at once would be too much.
    fine_segments: bool,
}

impl Builder<'_> {
    fn conv(&self, name: &str, input: Buffer, out_channels: usize, kernel: [usize; 3]) -> Conv {
        Conv {
            name: name.into(),
            in_channels: self.graph.channels(input),
            out_channels,
            kernel,
            stride: [1; 3],
            padding: match self.config.padding {
                Padding::Valid => [0; 3],
                Padding::Same => kernel.map(|k| k / 2),
            },
            relu: false,
            dims: self.config.dims(),
        }
    }

    /// A level of the U: convolve; below the surface, pool, go on, upsample, join and convolve.
    fn level(&mut self, input: Buffer, level: usize) -> Buffer {
        let config = self.config;
        let kernels = config.kernels(&config.kernel_size_down, level);
        self.graph.begin_segment();
        let left = self.block(input, &format!("l_conv.{level}"), config.width(level), &kernels);
        if level + 1 == config.levels() {
            return left;
        }
        let factor = config.zyx(&config.downsample_factors[level]);
        let pooled = self.graph.push(MaxPool { factor }, &[left]);
        let below = self.level(pooled, level + 1);
        self.graph.begin_segment();
        let skip = if config.use_attention {
            self.attention(below, left, level, factor)
        } else {
            left
        };
        let name = format!("r_up.0.{level}.up");
        let upsampled = self.upsample(below, &name, config.upsampled_width(level), factor);
        let kernels = config.kernels(&config.kernel_size_up, level);
        let equivariant = (config.padding == Padding::Valid).then(|| Equivariance {
            factor: self.stride_below(level),
            crop: std::array::from_fn(|axis| kernels.iter().map(|kernel| kernel[axis] - 1).sum()),
        });
        // Repetition is the concatenation's affair: its result is only read there.
        let factor = match config.effective_upsampling() {
            Upsampling::Nearest => factor,
            Upsampling::Transposed | Upsampling::Trilinear => [1; 3],
        };
        let joined = self
            .graph
            .push(Concat { factor, equivariant }, &[skip, upsampled]);
        let width = if level == 0 {
            config.out_width()
        } else {
            config.width(level)
        };
        self.fine_segments = level == 0;
        let right = self.block(joined, &format!("r_conv.0.{level}"), width, &kernels);
        if level > 0 {
            self.coarse.push((right, level));
        }
        right
    }

    /// Product of the downsampling factors of a level and all below it.
    fn stride_below(&self, level: usize) -> [usize; 3] {
        let factors = self.config.downsample_factors[level..]
            .iter()
            .map(|f| self.config.zyx(f));
        factors.fold([1; 3], |product, factor| {
            std::array::from_fn(|axis| product[axis] * factor[axis])
        })
    }

    /// An operation with the config's activation behind it: its own where that is a ReLU.
    fn activated<O: Op + 'static>(&mut self, op: impl FnOnce(bool) -> O, inputs: &[Buffer]) -> Buffer {
        let function = self.config.function();
        let x = self.graph.push(op(function == Function::Relu), inputs);
        match function {
            Function::Relu => x,
            function => self.graph.push(Activate(function), &[x]),
        }
    }

    /// What a level does with its features: a pass of convolutions, the residual connection round it where the
    /// config asks for one, dropout.
    fn block(&mut self, input: Buffer, name: &str, width: usize, kernels: &[[usize; 3]]) -> Buffer {
        let x = if self.config.residual {
            self.residual(input, name, width, kernels)
        } else {
            self.conv_pass(input, name, width, kernels, After::Activation, true)
        };
        let rate = self.config.dropout;
        if rate == 0.0 || self.purpose == Purpose::Predict {
            return x;
        }
        let layer = self.graph.nodes.len() as u64;
        self.graph.push(Dropout { rate, layer }, &[x])
    }

    fn residual(&mut self, input: Buffer, name: &str, width: usize, kernels: &[[usize; 3]]) -> Buffer {
        // Before the convolutions, which then are the last to read the input.
        let around = if self.graph.channels(input) == width {
            input
        } else {
            let conv = self.conv(&format!("{name}.residual"), input, width, [1; 3]);
            self.graph.push(conv, &[input])
        };
        let main = self.conv_pass(input, name, width, kernels, After::Activation, false);
        self.activated(|relu| Add { relu }, &[main, around])
    }

    /// Convolutions, each with its normalisation and what comes `after`; after the last one only if
    /// `to_the_end`.
    fn conv_pass(
        &mut self,
        input: Buffer,
        name: &str,
        width: usize,
        kernels: &[[usize; 3]],
        after: After,
        to_the_end: bool,
    ) -> Buffer {
        let (mut x, mut layer) = (input, 0);
        for (i, &kernel) in kernels.iter().enumerate() {
            let after = if to_the_end || i + 1 < kernels.len() {
                after
            } else {
                After::Nothing
            };
            if self.fine_segments && i > 0 {
                self.graph.begin_segment();
            }
            let function = self.config.function();
            let relu = after == After::Activation && function == Function::Relu;
            let norm = self.config.effective_norm();
            let folded = norm == Norm::Batch && self.purpose == Purpose::Predict;
            let conv_name = format!("{name}.conv_pass.{layer}");
            let norm_name = format!("{name}.conv_pass.{}", layer + 1);
            let mut conv = self.conv(&conv_name, x, width, kernel);
            conv.relu = relu && (norm == Norm::None || folded);
            x = self.graph.push(conv, &[x]);
            layer += 1 + usize::from(norm != Norm::None);
            if folded {
                self.graph.folds.push(Fold {
                    conv: conv_name,
                    norm: norm_name,
                });
            } else {
                x = self.normalised(x, norm_name, width, relu);
            }
            match after {
                After::Sigmoid => x = self.graph.push(Activate(Function::Sigmoid), &[x]),
                After::Activation if !relu => x = self.graph.push(Activate(function), &[x]),
                After::Activation | After::Nothing => {}
            }
            layer += usize::from(after != After::Nothing);
        }
        x
    }

    /// A convolution's output, normalised as the config says, with a ReLU behind it where asked for (and where there is
    /// a normalisation).
    fn normalised(&mut self, x: Buffer, name: String, channels: usize, relu: bool) -> Buffer {
        let groups = match self.config.effective_norm() {
            Norm::None => return x,
            Norm::Batch => {
                let norm = BatchNorm { name, channels, relu };
                return self.graph.push(norm, &[x]);
            }
            Norm::Group => (1..=MOST_GROUPS.min(channels))
                .rev()
                .find(|g| channels.is_multiple_of(*g))
                .unwrap_or(1),
            Norm::Instance => channels,
        };
        let norm = GroupNorm {
            name,
            channels,
            groups,
            relu,
        };
        self.graph.push(norm, &[x])
    }

    /// Upsampling to `width` channels with the activation, all but the repetition of voxels where that is the kind: a
    /// convolution of kernel 1 commutes with repetition and with interpolation (not with the activation), so it comes
    /// first, where there are fewer voxels.
    fn upsample(&mut self, input: Buffer, name: &str, width: usize, factor: [usize; 3]) -> Buffer {
        let one = |builder: &Self| builder.conv(&format!("{name}.1"), input, width, [1; 3]);
        match self.config.effective_upsampling() {
            Upsampling::Nearest => {
                let conv = one(self);
                self.activated(|relu| Conv { relu, ..conv }, &[input])
            }
            Upsampling::Trilinear => {
                let x = self.graph.push(one(self), &[input]);
                let align = match self.config.padding {
                    Padding::Valid => Align::InnerParts,
                    Padding::Same => Align::Parts,
                };
                let x = self.graph.push(Trilinear { factor, align }, &[x]);
                self.graph.push(Activate(self.config.function()), &[x])
            }
            Upsampling::Transposed => {
                let conv = self.conv(&format!("{name}.0"), input, width, factor);
                let transposed = |relu| {
                    TransposedConv(Conv {
                        stride: factor,
                        padding: [0; 3],
                        relu,
                        ..conv
                    })
                };
                self.activated(transposed, &[input])
            }
        }
    }

    /// Features of the left side, gated by those from below.
    fn attention(&mut self, below: Buffer, left: Buffer, level: usize, factor: [usize; 3]) -> Buffer {
        let config = self.config;
        let width = if level == 0 {
            config.out_width()
        } else {
            config.upsampled_width(level)
        };
        let name = format!("attention.0.{level}");
        let kernels = [[1; 3]; 2];
        let gate = self.conv_pass(
            below,
            &format!("{name}.W_g"),
            width,
            &kernels,
            After::Nothing,
            true,
        );
        let features = self.conv_pass(
            left,
            &format!("{name}.W_x.0"),
            width,
            &kernels,
            After::Nothing,
            true,
        );
        let features = self.graph.push(MaxPool { factor }, &[features]);
        let sum = self.graph.push(Add { relu: true }, &[features, gate]);
        let map = self.conv_pass(sum, &format!("{name}.psi"), 1, &kernels, After::Sigmoid, true);
        let align = Align::Corners;
        let map = self.graph.push(Trilinear { factor, align }, &[map]);
        self.graph.push(Multiply, &[left, map])
    }

    fn upsample_output(&mut self, input: Buffer, i: usize, factor: [usize; 3]) -> Buffer {
        let config = self.config;
        let width = config.out_width();
        self.graph.begin_segment();
        let conv = self.conv(&format!("upsample.{i}.up.1"), input, width, [1; 3]);
        let x = self.activated(|relu| Conv { relu, ..conv }, &[input]);
        let x = self.graph.push(Upsample { factor }, &[x]);
        let kernels = vec![config.zyx(&vec![3; config.dims()]); 2];
        self.conv_pass(
            x,
            &format!("upsample.{i}"),
            width,
            &kernels,
            After::Activation,
            true,
        )
    }

    fn stem(&mut self, input: Buffer, factor: [usize; 3]) -> Buffer {
        let conv = self.conv("stem", input, self.config.num_fmaps, stem_kernel(factor));
        let conv = Conv {
            stride: factor,
            padding: factor.map(|f| f / 2),
            ..conv
        };
        self.graph.push(conv, &[input])
    }

    /// The last layer; returns what it writes.
    fn head(&mut self, input: Buffer, out_channels: Option<usize>) -> Buffer {
        match (&self.config.stem_factors, out_channels) {
            (Some(stem), out_channels) => {
                let factor = self.config.zyx(stem);
                let channels = out_channels.unwrap_or(self.graph.channels(input));
                let conv = self.conv("prediction_head", input, channels, stem_kernel(factor));
                let conv = Conv {
                    stride: factor,
                    padding: factor.map(|f| f / 2),
                    ..conv
                };
                self.graph.push(TransposedConv(conv), &[input])
            }
            (None, Some(channels)) => {
                let conv = self.conv("prediction_head", input, channels, [1; 3]);
                self.graph.push(conv, &[input])
            }
            (None, None) => input,
        }
    }

    /// Heads at the coarser levels, their voxels repeated to the shape of `output`: a coarse voxel is compared with
    /// the target of every voxel that it covers.
    fn coarse_heads(&mut self, output: Buffer, channels: usize) {
        self.graph.begin_segment();
        let config = self.config;
        let total: f64 = 1.0
            + self
                .coarse
                .iter()
                .map(|&(_, level)| half_to_the(level))
                .sum::<f64>();
        self.graph.share = 1.0 / total;
        for (features, level) in std::mem::take(&mut self.coarse) {
            let name = format!("deep_supervision.{level}");
            let x = self
                .graph
                .push(self.conv(&name, features, channels, [1; 3]), &[features]);
            let pooled = config.downsample_factors[..level]
                .iter()
                .chain(&config.upsample_factors);
            let factors = pooled.chain(&config.stem_factors).map(|f| config.zyx(f));
            let factor = factors.fold([1; 3], |product, factor| {
                std::array::from_fn(|axis| product[axis] * factor[axis])
            });
            let buffer = self.graph.push(Upsample { factor }, &[x, output]);
            let share = half_to_the(level) / total;
            self.graph.auxiliary.push(Auxiliary { buffer, share });
        }
    }
}

fn half_to_the(level: usize) -> f64 {
    0.5f64.powi(level as i32)
}

/// Two strides wide, so that neighbouring outputs overlap by half.
fn stem_kernel(factor: [usize; 3]) -> [usize; 3] {
    factor.map(|f| if f == 1 { 1 } else { 2 * f })
}
