//! Nearest-neighbour upsampling.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Op, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Every voxel becomes a block of `factor` voxels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upsample {
    pub(crate) factor: [usize; 3],
}

impl Op for Upsample {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0] * self.factor[axis])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(UpsampleKernel {
            factor: self.factor,
            input: site.inputs[0],
            output: site.output,
        }))
    }
}

struct UpsampleKernel {
    factor: [usize; 3],
    input: Shape,
    output: Shape,
}

impl Kernel for UpsampleKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Mode) {
        let ([fz, fy, fx], [_, height, width]) = (self.factor, self.input.voxels);
        let [_, out_height, out_width] = self.output.voxels;
        let channels = inputs[0].par_chunks(self.input.volume());
        output
            .par_chunks_mut(self.output.volume())
            .zip(channels)
            .for_each(|(to, from)| {
                for (row, from) in from.chunks_exact(width).enumerate() {
                    let first = ((row / height) * fz * out_height + (row % height) * fy) * out_width;
                    for (to, &value) in to[first..first + out_width].chunks_exact_mut(fx).zip(from) {
                        to.fill(value);
                    }
                    for copy in 1..fz * fy {
                        let at = first + ((copy / fy) * out_height + copy % fy) * out_width;
                        to.copy_within(first..first + out_width, at);
                    }
                }
            });
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let ([fz, fy, fx], [_, height, width]) = (self.factor, self.input.voxels);
        let [_, out_height, out_width] = self.output.voxels;
        let channels = step.gradient.par_chunks(self.output.volume());
        input_gradient
            .par_chunks_mut(self.input.volume())
            .zip(channels)
            .for_each(|(to, from)| {
                let mut sums = vec![0f32; out_width];
                for (row, to) in to.chunks_exact_mut(width).enumerate() {
                    let first = ((row / height) * fz * out_height + (row % height) * fy) * out_width;
                    sums.fill(0.0);
                    for copy in 0..fz * fy {
                        let at = first + ((copy / fy) * out_height + copy % fy) * out_width;
                        sums.iter_mut()
                            .zip(&from[at..at + out_width])
                            .for_each(|(sum, g)| *sum += g);
                    }
                    for (to, block) in to.iter_mut().zip(sums.chunks_exact(fx)) {
                        *to = block.iter().sum();
                    }
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Upsample { factor: [2; 3] }, &[(2, [2, 3, 4])], 2);
        check(&Upsample { factor: [1, 3, 2] }, &[(1, [2, 2, 3])], 1);
    }
}
