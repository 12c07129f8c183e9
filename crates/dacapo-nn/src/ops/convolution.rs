//! Convolution and transposed convolution as operations: parameters and shape rules. The arithmetic is in
//! `conv`.

use super::{BackwardStep, Kernel, Mode, Needs, Op, Pass, Site};
use crate::Result;
use crate::conv::{ConvGeometry, Convolution, TransposedConvolution};
use crate::cpu::params::{Init, ParamId, ParamSpec, Params};

/// A convolution with bias, and a ReLU behind it where asked for.
#[derive(Debug, Clone)]
pub(crate) struct Conv {
    /// Of the parameters: `<name>.weight`, `<name>.bias`.
    pub(crate) name: String,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) padding: [usize; 3],
    pub(crate) relu: bool,
    /// 2 leaves the z axis out of the weights' shape.
    pub(crate) dims: usize,
}

/// A transposed convolution with bias, and a ReLU behind it where asked for.
#[derive(Debug, Clone)]
pub(crate) struct TransposedConv(pub(crate) Conv);

impl Conv {
    /// The weight's shape (its first two lengths given) and the bias's.
    fn specs(&self, channels: [usize; 2], fan_in: usize) -> Vec<ParamSpec> {
        let mut shape = channels.to_vec();
        shape.extend_from_slice(&self.kernel[3 - self.dims..]);
        let spec = |suffix, shape, init| ParamSpec {
            name: format!("{}.{suffix}", self.name),
            shape,
            init,
            trainable: true,
        };
        vec![
            spec("weight", shape, Init::Kaiming(fan_in)),
            spec("bias", vec![self.out_channels], Init::Constant(0.0)),
        ]
    }

    fn geometry(&self, input: [usize; 3]) -> ConvGeometry {
        ConvGeometry {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            input,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

impl Op for Conv {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn params(&self) -> Vec<ParamSpec> {
        let taps: usize = self.kernel.iter().product();
        self.specs([self.out_channels, self.in_channels], self.in_channels * taps)
    }

    fn channels(&self, _: &[usize]) -> usize {
        self.out_channels
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
        let padded = inputs[0] + 2 * self.padding[axis];
        if padded < kernel {
            return Err(format!(
                "{} voxels are left where a convolution needs {kernel}",
                inputs[0]
            ));
        }
        if !(padded - kernel).is_multiple_of(stride) {
            return Err(format!(
                "{} voxels do not divide by the stride {stride}",
                inputs[0]
            ));
        }
        Ok((padded - kernel) / stride + 1)
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let plan = Convolution::with(self.geometry(site.inputs[0].voxels), site.batch, site.set)?;
        Ok(Box::new(ConvKernel {
            plan,
            params: param_ids(site),
            relu: self.relu,
        }))
    }
}

impl Op for TransposedConv {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn params(&self) -> Vec<ParamSpec> {
        let taps: usize = self
            .0
            .kernel
            .iter()
            .zip(self.0.stride)
            .map(|(k, s)| k.div_ceil(s))
            .product();
        self.0.specs(
            [self.0.in_channels, self.0.out_channels],
            self.0.in_channels * taps,
        )
    }

    fn channels(&self, _: &[usize]) -> usize {
        self.0.out_channels
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let full = inputs[0].saturating_sub(1) * self.0.stride[axis] + self.0.kernel[axis];
        full.checked_sub(2 * self.0.padding[axis])
            .filter(|&length| length > 0 && inputs[0] > 0)
            .ok_or_else(|| format!("{} voxels are too few for a transposed convolution", inputs[0]))
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let plan = TransposedConvolution::with(self.0.geometry(site.inputs[0].voxels), site.batch, site.set)?;
        Ok(Box::new(TransposedConvKernel {
            plan,
            params: param_ids(site),
            relu: self.0.relu,
        }))
    }
}

fn param_ids(site: &Site<'_>) -> [ParamId; 2] {
    [ParamId(site.first_param), ParamId(site.first_param + 1)]
}

struct ConvKernel {
    plan: Convolution,
    params: [ParamId; 2],
    relu: bool,
}

struct TransposedConvKernel {
    plan: TransposedConvolution,
    params: [ParamId; 2],
    relu: bool,
}

macro_rules! impl_kernel {
    ($kernel:ty) => {
        impl Kernel for $kernel {
            fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], params: &mut Params, _: Pass) {
                let [weight, bias] = self.params;
                self.plan.forward(
                    inputs[0],
                    params.value(weight),
                    Some(params.value(bias)),
                    self.relu,
                    output,
                );
            }

            fn multiplications(&self, backward: Option<bool>) -> u64 {
                self.plan.multiplications(backward)
            }

            fn scratch(&self, mode: Mode, threads: usize) -> usize {
                self.plan.scratch(mode == Mode::Train, threads)
            }

            fn needs(&self) -> Needs {
                Needs {
                    inputs: true,
                    output: self.relu,
                }
            }

            fn adds(&self) -> bool {
                self.plan.adds()
            }

            fn backward(&mut self, step: BackwardStep<'_>, params: &mut Params) {
                let [weight, bias] = self.params;
                params.with_gradients(weight, bias, |value, weight_gradient, bias_gradient| {
                    self.plan.backward(
                        step.inputs[0],
                        value,
                        self.relu.then_some(step.output),
                        step.gradient,
                        step.input_gradients[0].as_deref_mut(),
                        step.add,
                        weight_gradient,
                        Some(bias_gradient),
                    );
                });
            }
        }
    };
}
impl_kernel!(ConvKernel);
impl_kernel!(TransposedConvKernel);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    fn conv(kernel: [usize; 3], stride: [usize; 3], padding: [usize; 3], relu: bool) -> Conv {
        Conv {
            name: "c".into(),
            in_channels: 2,
            out_channels: 3,
            kernel,
            stride,
            padding,
            relu,
            dims: 3,
        }
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&conv([3; 3], [1; 3], [0; 3], false), &[(2, [5, 6, 7])], 2);
        // With a ReLU the shape is one that leaves no output so near to 0 that a difference crosses it.
        check(&conv([3; 3], [1; 3], [1; 3], true), &[(2, [4, 6, 9])], 1);
        check(&conv([4; 3], [2; 3], [1; 3], false), &[(2, [4, 6, 8])], 1);
        check(&conv([1, 3, 3], [1; 3], [0; 3], false), &[(2, [2, 5, 8])], 1);
        // With channels enough for tiles along x.
        let wide = Conv {
            in_channels: 16,
            out_channels: 17,
            ..conv([1, 3, 3], [1; 3], [0, 1, 1], false)
        };
        check(&wide, &[(16, [1, 5, 6])], 2);
        // Direct, and with tiles.
        for shape in [[2, 3, 4], [4, 4, 5]] {
            let doubling = TransposedConv(conv([4; 3], [2; 3], [1; 3], false));
            check(&doubling, &[(2, shape)], 1);
        }
        check(
            &TransposedConv(conv([2; 3], [2; 3], [0; 3], true)),
            &[(2, [2, 3, 4])],
            2,
        );
    }
}
