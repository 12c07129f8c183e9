//! Batch normalisation (Ioffe & Szegedy 2015).

use rayon::prelude::*;

use super::group_norm::{EPSILON, scale_and_shift};
use super::statistics::{Spread, affine, blend, gradient_sums};
use super::{BackwardStep, Kernel, Mode, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::{Init, ParamId, ParamSpec, Params};
use crate::simd::InstructionSet;

/// Share of a new batch in the running statistics.
pub(crate) const MOMENTUM: f64 = 0.1;

/// Brings each channel to mean 0 and variance 1 over the batch (over all of training when predicting), then
/// scales and shifts it; a ReLU behind it where asked for.
#[derive(Debug, Clone)]
pub(crate) struct BatchNorm {
    pub(crate) name: String,
    pub(crate) channels: usize,
    pub(crate) relu: bool,
}

impl Op for BatchNorm {
    fn params(&self) -> Vec<ParamSpec> {
        let running = |suffix, value| ParamSpec {
            name: format!("{}.{suffix}", self.name),
            shape: vec![self.channels],
            init: Init::Constant(value),
            trainable: false,
        };
        let mut specs = scale_and_shift(&self.name, self.channels);
        specs.extend([running("running_mean", 0.0), running("running_var", 1.0)]);
        specs
    }

    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(BatchNormKernel {
            shape: site.output,
            batch: site.batch,
            relu: self.relu,
            params: std::array::from_fn(|i| ParamId(site.first_param + i)),
            mean: vec![0.0; self.channels],
            inverse_deviation: vec![0.0; self.channels],
            set: site.set,
        }))
    }
}

/// Puts the normalisation behind a convolution, as it is when predicting, into the convolution's weights (output
/// channels first) and bias. `norm` holds weight, bias, running mean, running variance.
pub(crate) fn fold(weights: &mut [f32], biases: &mut [f32], norm: [&[f32]; 4]) {
    let [scale, shift, mean, variance] = norm;
    let taps = weights.len() / biases.len();
    let channels = weights.chunks_exact_mut(taps).zip(biases);
    for (channel, (weights, bias)) in channels.enumerate() {
        let factor = f64::from(scale[channel]) / (f64::from(variance[channel]) + EPSILON).sqrt();
        weights
            .iter_mut()
            .for_each(|w| *w = (f64::from(*w) * factor) as f32);
        let centred = f64::from(*bias) - f64::from(mean[channel]);
        *bias = (centred * factor + f64::from(shift[channel])) as f32;
    }
}

struct BatchNormKernel {
    shape: Shape,
    batch: usize,
    relu: bool,
    /// Weight, bias, running mean, running variance.
    params: [ParamId; 4],
    /// Of each channel, of the last forward pass.
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
    set: InstructionSet,
}

impl BatchNormKernel {
    /// Mean and variance of each channel over the batch.
    fn batch_moments(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let volume = self.shape.volume();
        let moments = |channel| {
            let planes = x.chunks_exact(volume).skip(channel).step_by(self.shape.channels);
            let spread = planes.fold(Spread::default(), |all, plane| {
                all.with(Spread::of(self.set, plane))
            });
            (spread.mean, spread.variance())
        };
        (0..self.shape.channels).into_par_iter().map(moments).collect()
    }
}

impl Kernel for BatchNormKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], params: &mut Params, pass: Pass) {
        let [weight, bias, running_mean, running_variance] = self.params;
        let moments: Vec<(f64, f64)> = match pass.mode {
            Mode::Train => {
                let moments = self.batch_moments(inputs[0]);
                let count = (self.batch * self.shape.volume()) as f64;
                let unbiased = count / (count - 1.0).max(1.0);
                let update = |to: &mut f32, new: f64| {
                    *to = ((1.0 - MOMENTUM) * f64::from(*to) + MOMENTUM * new) as f32;
                };
                if !pass.again {
                    let running = params.value_mut(running_mean).iter_mut();
                    running
                        .zip(&moments)
                        .for_each(|(to, (mean, _))| update(to, *mean));
                    let running = params.value_mut(running_variance).iter_mut();
                    running
                        .zip(&moments)
                        .for_each(|(to, (_, variance))| update(to, variance * unbiased));
                }
                moments
            }
            Mode::Predict => {
                let pairs = params
                    .value(running_mean)
                    .iter()
                    .zip(params.value(running_variance));
                pairs
                    .map(|(&mean, &variance)| (f64::from(mean), f64::from(variance)))
                    .collect()
            }
        };
        for (channel, (mean, variance)) in moments.into_iter().enumerate() {
            self.mean[channel] = mean as f32;
            self.inverse_deviation[channel] = (1.0 / (variance + EPSILON).sqrt()) as f32;
        }
        let (scale, shift) = (params.value(weight), params.value(bias));
        let this = &*self;
        let volume = this.shape.volume();
        output
            .par_chunks_mut(volume)
            .zip(inputs[0].par_chunks(volume))
            .enumerate()
            .for_each(|(i, (y, x))| {
                let channel = i % this.shape.channels;
                let scale = scale[channel] * this.inverse_deviation[channel];
                affine(
                    this.set,
                    x,
                    y,
                    scale,
                    shift[channel] - this.mean[channel] * scale,
                    this.relu,
                );
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: true,
            output: self.relu,
        }
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward(&mut self, step: BackwardStep<'_>, params: &mut Params) {
        let Shape { channels, .. } = self.shape;
        let volume = self.shape.volume();
        let this = &*self;
        let (x, output) = (step.inputs[0], this.relu.then_some(step.output));
        let of = |i: usize| i * volume..(i + 1) * volume;
        let of_planes: Vec<(f64, f64)> = step
            .gradient
            .par_chunks_mut(volume)
            .enumerate()
            .map(|(i, gradient)| {
                let output = output.map(|output| &output[of(i)]);
                gradient_sums(this.set, gradient, output, &x[of(i)], this.mean[i % channels])
            })
            .collect();
        let sums: Vec<(f64, f64)> = (0..channels)
            .map(|channel| {
                let planes = || of_planes.iter().skip(channel).step_by(channels);
                let dot: f64 = planes().map(|sums| sums.1).sum();
                (
                    planes().map(|sums| sums.0).sum(),
                    dot * f64::from(this.inverse_deviation[channel]),
                )
            })
            .collect();
        params.with_gradients(
            self.params[0],
            self.params[1],
            |_, weight_gradient, bias_gradient| {
                for (channel, (plain, dot)) in sums.iter().enumerate() {
                    bias_gradient[channel] = *plain as f32;
                    weight_gradient[channel] = *dot as f32;
                }
            },
        );
        let scale = params.value(self.params[0]);
        let count = (self.batch * volume) as f64;
        step.gradient
            .par_chunks_mut(volume)
            .enumerate()
            .for_each(|(i, gradient)| {
                let channel = i % channels;
                let (plain, dot) = sums[channel];
                let inverse = self.inverse_deviation[channel];
                let factor = scale[channel] * inverse;
                let x_factor = (-dot / count) as f32 * inverse * factor;
                let constant = (-plain / count) as f32 * factor - self.mean[channel] * x_factor;
                blend(self.set, gradient, factor, &x[of(i)], x_factor, constant);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    /// A convolution and the normalisation behind it, as they predict, and the convolution that does both.
    #[test]
    fn a_folded_convolution_does_both() {
        use crate::conv::{ConvGeometry, Convolution};
        let values = |len: usize, salt: usize| -> Vec<f32> {
            let value = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0;
            (0..len).map(value).collect()
        };
        let geometry = ConvGeometry {
            in_channels: 3,
            out_channels: 4,
            input: [5, 6, 7],
            kernel: [3; 3],
            stride: [1; 3],
            padding: [1; 3],
        };
        let shape = Shape {
            channels: 4,
            voxels: [5, 6, 7],
        };
        let norm = BatchNorm {
            name: "n".into(),
            channels: 4,
            relu: true,
        };
        let mut params = Params::initialise(&norm.params(), 0);
        for (salt, param) in params.0.iter_mut().enumerate() {
            param.value = values(4, salt);
        }
        params.0[3].value.iter_mut().for_each(|v| *v = v.abs() + 0.01);
        let (x, mut w, mut b) = (values(3 * 210, 9), values(4 * 81, 10), values(4, 11));
        let conv = Convolution::new(geometry, 1).unwrap();
        let (mut between, mut apart, mut folded) = (vec![0.0; 840], vec![0.0; 840], vec![0.0; 840]);
        conv.forward(&x, &w, Some(&b), false, &mut between);
        let site = Site {
            batch: 1,
            inputs: &[shape],
            output: shape,
            first_param: 0,
            set: crate::simd::InstructionSet::detect(),
        };
        let pass = Pass {
            mode: Mode::Predict,
            stream: 0,
            again: false,
        };
        let mut kernel = norm.plan(&site).unwrap();
        kernel.forward(&[&between], &mut apart, &mut params, pass);
        fold(&mut w, &mut b, [0, 1, 2, 3].map(|i| &params.0[i].value[..]));
        conv.forward(&x, &w, Some(&b), true, &mut folded);
        let largest = apart.iter().fold(0f32, |m, v| m.max(*v));
        assert!(largest > 1.0);
        for (a, b) in apart.iter().zip(&folded) {
            assert!((a - b).abs() < 2e-6 * largest, "{a} {b}");
        }
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        check(
            &BatchNorm {
                name: "n".into(),
                channels: 2,
                relu: false,
            },
            &[(2, [2, 3, 4])],
            2,
        );
        check(
            &BatchNorm {
                name: "n".into(),
                channels: 2,
                relu: true,
            },
            &[(2, [2, 3, 4])],
            2,
        );
    }
}
