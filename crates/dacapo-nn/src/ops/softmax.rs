//! Softmax over channels: probabilities of classes.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;
use crate::math::exp_negative;

/// Voxels that are worked on together: their sums stay in the first cache.
const CHUNK: usize = 1 << 10;

/// e^x over the sum of e^x of all channels of a voxel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Softmax;

impl Softmax {
    /// For values of a shape, any number of them behind one another.
    pub(crate) fn kernel(self, shape: Shape) -> Box<dyn Kernel> {
        Box::new(SoftmaxKernel { shape })
    }
}

impl Op for Softmax {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(self.kernel(site.output))
    }
}

struct SoftmaxKernel {
    shape: Shape,
}

impl Kernel for SoftmaxKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let volume = self.shape.volume();
        let entries = output.par_chunks_mut(self.shape.len());
        entries
            .zip(inputs[0].par_chunks(self.shape.len()))
            .for_each(|(y, x)| {
                for start in (0..volume).step_by(CHUNK) {
                    let voxels = start..(start + CHUNK).min(volume);
                    let (mut largest, mut sums) = ([f32::NEG_INFINITY; CHUNK], [0f32; CHUNK]);
                    for x in x.chunks_exact(volume) {
                        let pairs = largest.iter_mut().zip(&x[voxels.clone()]);
                        // A NaN stays: every channel of its voxel becomes NaN.
                        pairs.for_each(|(m, &x)| *m = if (x > *m) | x.is_nan() { x } else { *m });
                    }
                    for (y, x) in y.chunks_exact_mut(volume).zip(x.chunks_exact(volume)) {
                        let values = y[voxels.clone()].iter_mut().zip(&x[voxels.clone()]);
                        for ((y, x), (m, sum)) in values.zip(largest.iter().zip(&mut sums)) {
                            *y = exp_negative(x - m);
                            *sum += *y;
                        }
                    }
                    for y in y.chunks_exact_mut(volume) {
                        y[voxels.clone()]
                            .iter_mut()
                            .zip(&sums)
                            .for_each(|(y, sum)| *y /= sum);
                    }
                }
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: true,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let (volume, len) = (self.shape.volume(), self.shape.len());
        let entries = step.output.par_chunks(len).zip(step.gradient.par_chunks(len));
        input_gradient
            .par_chunks_mut(len)
            .zip(entries)
            .for_each(|(gx, (y, gy))| {
                for start in (0..volume).step_by(CHUNK) {
                    let voxels = start..(start + CHUNK).min(volume);
                    let mut dots = [0f32; CHUNK];
                    for (y, gy) in y.chunks_exact(volume).zip(gy.chunks_exact(volume)) {
                        let products = y[voxels.clone()].iter().zip(&gy[voxels.clone()]);
                        dots.iter_mut()
                            .zip(products)
                            .for_each(|(dot, (y, gy))| *dot += y * gy);
                    }
                    let channels = y.chunks_exact(volume).zip(gy.chunks_exact(volume));
                    for (gx, (y, gy)) in gx.chunks_exact_mut(volume).zip(channels) {
                        let values = y[voxels.clone()].iter().zip(&gy[voxels.clone()]).zip(&dots);
                        let pairs = gx[voxels.clone()].iter_mut().zip(values);
                        pairs.for_each(|(gx, ((y, gy), dot))| *gx = y * (gy - dot));
                    }
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check, compare_with_peer, run};

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Softmax, &[(3, [2, 3, 4])], 2);
        check(&Softmax, &[(5, [1, 1, 7])], 1);
    }

    #[test]
    fn values_and_gradients_are_pytorchs() {
        compare_with_peer(&Softmax, "softmax");
    }

    #[test]
    fn sums_to_1_over_several_chunks() {
        let y = run(&Softmax, &[(3, [3, 20, 30])], 2);
        for entry in y.chunks(3 * 1800) {
            for voxel in 0..1800 {
                let sum: f32 = (0..3).map(|c| entry[c * 1800 + voxel]).sum();
                assert!((sum - 1.0).abs() < 1e-6);
            }
        }
    }
}
