//! Product of features with a one-channel map.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Every channel of the first input times the single channel of the second: an attention gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Multiply;

impl Op for Multiply {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        if inputs[0] != inputs[1] {
            return Err(format!(
                "a gate of {} voxels meets features of {}",
                inputs[1], inputs[0]
            ));
        }
        Ok(inputs[0])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(MultiplyKernel { shape: site.output }))
    }
}

struct MultiplyKernel {
    shape: Shape,
}

impl Kernel for MultiplyKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let Shape { channels, .. } = self.shape;
        let volume = self.shape.volume();
        output.par_chunks_mut(volume).enumerate().for_each(|(i, to)| {
            let gate = &inputs[1][i / channels * volume..][..volume];
            let from = &inputs[0][i * volume..][..volume];
            to.iter_mut()
                .zip(from)
                .zip(gate)
                .for_each(|((y, x), g)| *y = x * g);
        });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: true,
            output: false,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Shape { channels, .. } = self.shape;
        let volume = self.shape.volume();
        let gradient = &*step.gradient;
        let [features, gate] = step.input_gradients else {
            return;
        };
        if let Some(features) = features {
            features.par_chunks_mut(volume).enumerate().for_each(|(i, to)| {
                let gate = &step.inputs[1][i / channels * volume..][..volume];
                let from = &gradient[i * volume..][..volume];
                to.iter_mut()
                    .zip(from)
                    .zip(gate)
                    .for_each(|((y, x), g)| *y = x * g);
            });
        }
        if let Some(gate) = gate {
            gate.par_chunks_mut(volume).enumerate().for_each(|(entry, to)| {
                to.fill(0.0);
                for channel in 0..channels {
                    let at = (entry * channels + channel) * volume;
                    let (x, g) = (&step.inputs[0][at..at + volume], &gradient[at..at + volume]);
                    to.iter_mut().zip(x).zip(g).for_each(|((to, x), g)| *to += x * g);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Multiply, &[(3, [2, 3, 4]), (1, [2, 3, 4])], 2);
    }
}
