//! Max pooling over blocks.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Op, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// The largest value of each block of `factor` voxels. A NaN in a block wins; of equal values the first in
/// z, y, x order gets the gradient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxPool {
    pub(crate) factor: [usize; 3],
}

impl Op for MaxPool {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let factor = self.factor[axis];
        if inputs[0] == 0 || !inputs[0].is_multiple_of(factor) {
            return Err(format!(
                "{} voxels do not divide by the downsampling factor {factor}",
                inputs[0]
            ));
        }
        Ok(inputs[0] / factor)
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(PoolKernel {
            factor: self.factor,
            input: site.inputs[0],
            output: site.output,
        }))
    }
}

struct PoolKernel {
    factor: [usize; 3],
    input: Shape,
    output: Shape,
}

impl PoolKernel {
    /// Start of each input row (offset within a channel) that output row (z, y) is made of, in order.
    fn rows(&self, z: usize, y: usize) -> impl Iterator<Item = usize> {
        let [fz, fy, _] = self.factor;
        let [_, height, width] = self.input.voxels;
        (0..fz).flat_map(move |dz| (0..fy).map(move |dy| ((z * fz + dz) * height + y * fy + dy) * width))
    }
}

impl Kernel for PoolKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Mode) {
        let this = &*self;
        let ([_, height, width], fx, in_width) = (this.output.voxels, this.factor[2], this.input.voxels[2]);
        let channels = inputs[0].par_chunks(this.input.volume());
        output
            .par_chunks_mut(this.output.volume())
            .zip(channels)
            .for_each(|(to, from)| {
                let mut best = vec![0f32; in_width];
                for (row, to) in to.chunks_exact_mut(width).enumerate() {
                    let mut rows = this.rows(row / height, row % height);
                    if let Some(first) = rows.next() {
                        best.copy_from_slice(&from[first..first + in_width]);
                    }
                    for start in rows {
                        for (best, &value) in best.iter_mut().zip(&from[start..start + in_width]) {
                            *best = larger(*best, value);
                        }
                    }
                    for (to, block) in to.iter_mut().zip(best.chunks_exact(fx)) {
                        *to = block[1..]
                            .iter()
                            .fold(block[0], |best, &value| larger(best, value));
                    }
                }
            });
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let this = &*self;
        let ([_, height, width], fx) = (this.output.voxels, this.factor[2]);
        let (volume, out_volume) = (this.input.volume(), this.output.volume());
        let outputs = step
            .output
            .par_chunks(out_volume)
            .zip(step.gradient.par_chunks(out_volume));
        let inputs = step.inputs[0].par_chunks(volume);
        input_gradient
            .par_chunks_mut(volume)
            .zip(inputs)
            .zip(outputs)
            .for_each(|((to, x), (best, gradient))| {
                let mut taken = vec![false; width];
                for row in 0..out_volume / width {
                    taken.fill(false);
                    let out = row * width..(row + 1) * width;
                    for start in this.rows(row / height, row % height) {
                        let block = start..start + width * fx;
                        let blocks = to[block.clone()]
                            .chunks_exact_mut(fx)
                            .zip(x[block].chunks_exact(fx));
                        let outs = best[out.clone()]
                            .iter()
                            .zip(&gradient[out.clone()])
                            .zip(&mut taken);
                        for ((to, x), ((&best, &gradient), taken)) in blocks.zip(outs) {
                            for (to, &x) in to.iter_mut().zip(x) {
                                let hit = !*taken & ((x == best) | x.is_nan());
                                *to = if hit { gradient } else { 0.0 };
                                *taken |= hit;
                            }
                        }
                    }
                }
            });
    }
}

/// The larger of two values; NaN if the second is, or the first already was.
fn larger(best: f32, value: f32) -> f32 {
    if value > best || value.is_nan() {
        value
    } else {
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&MaxPool { factor: [2; 3] }, &[(2, [2, 4, 6])], 2);
        check(&MaxPool { factor: [1, 3, 2] }, &[(1, [3, 6, 4])], 1);
    }
}
