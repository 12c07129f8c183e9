//! From a U-Net's config to its graph. Parameters have the names that the original's modules give them.

use super::config::{Norm, Padding, UNetConfig};
use crate::Result;
use crate::cpu::graph::{Buffer, Graph};
use crate::ops::{
    Activate, Add, BatchNorm, Concat, Conv, Equivariance, Function, GroupNorm, MaxPool, Multiply,
    TransposedConv, Trilinear, Upsample,
};

/// Groups of a group normalisation, at most.
const MOST_GROUPS: usize = 8;

impl UNetConfig {
    /// The network's operations, with a head of `out_channels`; without one, the output has the
    /// architecture's own channels (and the head's shape).
    pub(crate) fn graph(&self, out_channels: Option<usize>) -> Result<Graph> {
        self.validate()?;
        let mut builder = Builder {
            config: self,
            graph: Graph::new(self.fmaps_in),
        };
        let mut x = 0;
        if let Some(stem) = &self.stem_factors {
            x = builder.stem(x, self.zyx(stem));
        }
        x = builder.level(x, 0);
        for (i, factor) in self.upsample_factors.iter().enumerate() {
            x = builder.upsample_output(x, i, self.zyx(factor));
        }
        builder.head(x, out_channels);
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
}

/// What a convolution pass does with the outputs of its convolutions.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Relu,
    Nothing,
    Sigmoid,
}

struct Builder<'a> {
    config: &'a UNetConfig,
    graph: Graph,
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
        let left = self.block(input, &format!("l_conv.{level}"), config.width(level), &kernels);
        if level + 1 == config.levels() {
            return left;
        }
        let factor = config.zyx(&config.downsample_factors[level]);
        let pooled = self.graph.push(MaxPool { factor }, &[left]);
        let below = self.level(pooled, level + 1);
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
        let factor = if config.constant_upsample { factor } else { [1; 3] };
        let joined = self
            .graph
            .push(Concat { factor, equivariant }, &[skip, upsampled]);
        let width = if level == 0 {
            config.out_width()
        } else {
            config.width(level)
        };
        self.block(joined, &format!("r_conv.0.{level}"), width, &kernels)
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

    /// A pass of convolutions, with the residual connection round it where the config asks for one.
    fn block(&mut self, input: Buffer, name: &str, width: usize, kernels: &[[usize; 3]]) -> Buffer {
        if !self.config.residual {
            return self.conv_pass(input, name, width, kernels, After::Relu, true);
        }
        let main = self.conv_pass(input, name, width, kernels, After::Relu, false);
        let around = if self.graph.channels(input) == width {
            input
        } else {
            let conv = self.conv(&format!("{name}.residual"), input, width, [1; 3]);
            self.graph.push(conv, &[input])
        };
        self.graph.push(Add { relu: true }, &[main, around])
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
            let relu = after == After::Relu;
            let norm = self.config.effective_norm();
            let mut conv = self.conv(&format!("{name}.conv_pass.{layer}"), x, width, kernel);
            conv.relu = relu && norm == Norm::None;
            x = self.graph.push(conv, &[x]);
            layer += 1;
            let norm_name = format!("{name}.conv_pass.{layer}");
            match norm {
                Norm::None => {}
                Norm::Batch => {
                    x = self.graph.push(
                        BatchNorm {
                            name: norm_name,
                            channels: width,
                            relu,
                        },
                        &[x],
                    );
                    layer += 1;
                }
                Norm::Group => {
                    let groups = (1..=MOST_GROUPS.min(width))
                        .rev()
                        .find(|g| width.is_multiple_of(*g));
                    let groups = groups.unwrap_or(1);
                    x = self.graph.push(
                        GroupNorm {
                            name: norm_name,
                            channels: width,
                            groups,
                            relu,
                        },
                        &[x],
                    );
                    layer += 1;
                }
            }
            if after == After::Sigmoid {
                x = self.graph.push(Activate(Function::Sigmoid), &[x]);
            }
            layer += usize::from(after != After::Nothing);
        }
        x
    }

    /// Upsampling to `width` channels with a ReLU, all but the repetition of voxels where that is the kind: a
    /// convolution of kernel 1 and the repetition commute, so the convolution comes first, where there are fewer
    /// voxels.
    fn upsample(&mut self, input: Buffer, name: &str, width: usize, factor: [usize; 3]) -> Buffer {
        if self.config.constant_upsample {
            let mut conv = self.conv(&format!("{name}.1"), input, width, [1; 3]);
            conv.relu = true;
            self.graph.push(conv, &[input])
        } else {
            let conv = self.conv(&format!("{name}.0"), input, width, factor);
            let conv = Conv {
                stride: factor,
                padding: [0; 3],
                relu: true,
                ..conv
            };
            self.graph.push(TransposedConv(conv), &[input])
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
        let map = self.graph.push(Trilinear { factor }, &[map]);
        self.graph.push(Multiply, &[left, map])
    }

    fn upsample_output(&mut self, input: Buffer, i: usize, factor: [usize; 3]) -> Buffer {
        let config = self.config;
        let width = config.out_width();
        let mut conv = self.conv(&format!("upsample.{i}.up.1"), input, width, [1; 3]);
        conv.relu = true;
        let x = self.graph.push(conv, &[input]);
        let x = self.graph.push(Upsample { factor }, &[x]);
        let kernels = vec![config.zyx(&vec![3; config.dims()]); 2];
        self.conv_pass(x, &format!("upsample.{i}"), width, &kernels, After::Relu, true)
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

    fn head(&mut self, input: Buffer, out_channels: Option<usize>) {
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
                self.graph.push(TransposedConv(conv), &[input]);
            }
            (None, Some(channels)) => {
                let conv = self.conv("prediction_head", input, channels, [1; 3]);
                self.graph.push(conv, &[input]);
            }
            (None, None) => {}
        }
    }
}

/// Two strides wide, so that neighbouring outputs overlap by half.
fn stem_kernel(factor: [usize; 3]) -> [usize; 3] {
    factor.map(|f| if f == 1 { 1 } else { 2 * f })
}
