//! Group normalisation (Wu & He 2018), of which instance normalisation (Ulyanov et al. 2016) is the case of one channel
//! a group.

use rayon::prelude::*;

use super::statistics::{affine, gradient_sums, mean_and_squares};
use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::{Init, ParamId, ParamSpec, Params};
use crate::simd::InstructionSet;

/// Added to the variance.
pub(crate) const EPSILON: f64 = 1e-5;

/// Brings groups of channels to mean 0 and variance 1, then scales and shifts each channel; a ReLU behind
/// it where asked for.
#[derive(Debug, Clone)]
pub(crate) struct GroupNorm {
    pub(crate) name: String,
    pub(crate) channels: usize,
    /// Divides `channels`.
    pub(crate) groups: usize,
    pub(crate) relu: bool,
}

/// The weight (1) and bias (0) of a normalisation.
pub(super) fn scale_and_shift(name: &str, channels: usize) -> Vec<ParamSpec> {
    let spec = |suffix, value| ParamSpec {
        name: format!("{name}.{suffix}"),
        shape: vec![channels],
        init: Init::Constant(value),
        trainable: true,
    };
    vec![spec("weight", 1.0), spec("bias", 0.0)]
}

impl Op for GroupNorm {
    fn params(&self) -> Vec<ParamSpec> {
        scale_and_shift(&self.name, self.channels)
    }

    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(GroupNormKernel {
            shape: site.output,
            groups: self.groups,
            relu: self.relu,
            params: [ParamId(site.first_param), ParamId(site.first_param + 1)],
            moments: vec![Moments::default(); site.batch * self.groups],
            set: site.set,
        }))
    }
}

/// Mean and 1 / standard deviation of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    mean: f32,
    inverse_deviation: f32,
}

struct GroupNormKernel {
    shape: Shape,
    groups: usize,
    relu: bool,
    params: [ParamId; 2],
    /// Of each batch entry and group.
    moments: Vec<Moments>,
    set: InstructionSet,
}

impl Kernel for GroupNormKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], params: &mut Params, _: Pass) {
        let volume = self.shape.volume();
        let per_group = self.shape.channels / self.groups;
        let (groups, relu, set) = (self.groups, self.relu, self.set);
        let (scale, shift) = (params.value(self.params[0]), params.value(self.params[1]));
        let group_inputs = inputs[0].par_chunks(per_group * volume);
        let work = output
            .par_chunks_mut(per_group * volume)
            .zip(group_inputs)
            .zip(&mut self.moments);
        work.enumerate().for_each(|(i, ((y, x), moments))| {
            let (mean, squares) = mean_and_squares(set, x);
            let (mean, variance) = (mean as f32, squares / x.len() as f64);
            *moments = Moments {
                mean,
                inverse_deviation: (1.0 / (variance + EPSILON).sqrt()) as f32,
            };
            let first = i % groups * per_group;
            for (channel, (y, x)) in y.chunks_exact_mut(volume).zip(x.chunks_exact(volume)).enumerate() {
                let scale = scale[first + channel] * moments.inverse_deviation;
                affine(x, y, scale, shift[first + channel] - mean * scale, relu);
            }
        });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: true,
            output: self.relu,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, params: &mut Params) {
        let volume = self.shape.volume();
        let channels = self.shape.channels;
        let per_group = channels / self.groups;
        let (groups, relu, set, moments) = (self.groups, self.relu, self.set, &self.moments);
        let [weight, bias] = self.params;
        let outputs = if relu { step.output } else { step.inputs[0] };
        // Per channel of each entry: sum of the gradient, and of the gradient times the normalised input.
        let sums: Vec<(f64, f64)> = step
            .gradient
            .par_chunks_mut(volume)
            .zip(outputs.par_chunks(volume))
            .zip(step.inputs[0].par_chunks(volume))
            .enumerate()
            .map(|(i, ((gradient, output), x))| {
                let Moments {
                    mean,
                    inverse_deviation,
                } = moments[i / per_group];
                let (plain, dot) = gradient_sums(set, gradient, relu.then_some(output), x, mean);
                (plain, dot * f64::from(inverse_deviation))
            })
            .collect();
        params.with_gradients(weight, bias, |_, weight_gradient, bias_gradient| {
            for channel in 0..channels {
                let entries = || sums.iter().skip(channel).step_by(channels);
                bias_gradient[channel] = entries().map(|s| s.0).sum::<f64>() as f32;
                weight_gradient[channel] = entries().map(|s| s.1).sum::<f64>() as f32;
            }
        });
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let scale = params.value(weight);
        let gradient = &*step.gradient;
        input_gradient
            .par_chunks_mut(volume)
            .enumerate()
            .for_each(|(i, to)| {
                let (entry, group) = (i / channels, i % channels / per_group);
                let members = (group * per_group..(group + 1) * per_group)
                    .map(|c| (sums[entry * channels + c], scale[c]));
                let (mut a, mut b) = (0.0, 0.0);
                for ((plain, dot), scale) in members {
                    a += plain * f64::from(scale);
                    b += dot * f64::from(scale);
                }
                let count = (per_group * volume) as f64;
                let Moments {
                    mean,
                    inverse_deviation,
                } = moments[entry * groups + group];
                // dx = r * (scale * g - (a + b * (x - mean) * r) / count), with r the inverse deviation.
                let g_factor = scale[i % channels] * inverse_deviation;
                let x_factor = (-b / count) as f32 * inverse_deviation * inverse_deviation;
                let constant = (-a / count) as f32 * inverse_deviation - mean * x_factor;
                let at = i * volume..(i + 1) * volume;
                let pairs = gradient[at.clone()].iter().zip(&step.inputs[0][at]);
                to.iter_mut()
                    .zip(pairs)
                    .for_each(|(to, (g, x))| *to = g * g_factor + x * x_factor + constant);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::super::statistics::{squared_deviation, sum};
    use super::*;
    use crate::ops::check::{check, compare_with_peer, run};

    fn norm(relu: bool) -> GroupNorm {
        GroupNorm {
            name: "n".into(),
            channels: 4,
            groups: 2,
            relu,
        }
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&norm(false), &[(4, [2, 3, 4])], 2);
        check(&norm(true), &[(4, [2, 3, 4])], 1);
    }

    #[test]
    fn values_and_gradients_are_pytorchs() {
        compare_with_peer(&norm(false), "group_norm");
        // Every channel a group of its own: instance normalisation.
        compare_with_peer(
            &GroupNorm {
                groups: 4,
                ..norm(false)
            },
            "instance_norm",
        );
        check(
            &GroupNorm {
                groups: 4,
                ..norm(true)
            },
            &[(4, [2, 3, 4])],
            2,
        );
    }

    #[test]
    fn groups_get_mean_0_and_variance_1() {
        let y = run(&norm(false), &[(4, [3, 4, 5])], 2);
        for group in y.chunks(120) {
            let mean = sum(group) / 120.0;
            assert!(mean.abs() < 1e-6);
            assert!((squared_deviation(group, mean as f32) / 120.0 - 1.0).abs() < 1e-3);
        }
    }
}
