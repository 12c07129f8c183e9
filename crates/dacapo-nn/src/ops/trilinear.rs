//! Linear upsampling between the corners' centres, along every axis.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Needs, Op, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Trilinear (in 2D bilinear) upsampling by `factor` with aligned corners: the first and the last voxel
/// keep their values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trilinear {
    pub(crate) factor: [usize; 3],
}

impl Op for Trilinear {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0] * self.factor[axis])
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let (input, output) = (site.inputs[0], site.output);
        let taps = std::array::from_fn(|axis| taps(input.voxels[axis], output.voxels[axis]));
        Ok(Box::new(TrilinearKernel { input, output, taps }))
    }
}

/// For each output voxel of an axis: the two input voxels beside it, and the second one's share.
fn taps(input: usize, output: usize) -> Vec<(usize, usize, f32)> {
    let step = if output > 1 {
        (input - 1) as f64 / (output - 1) as f64
    } else {
        0.0
    };
    let tap = |i: usize| {
        let at = i as f64 * step;
        let low = (at as usize).min(input - 1);
        (low, (low + 1).min(input - 1), (at - low as f64) as f32)
    };
    (0..output).map(tap).collect()
}

struct TrilinearKernel {
    input: Shape,
    output: Shape,
    taps: [Vec<(usize, usize, f32)>; 3],
}

impl TrilinearKernel {
    /// Calls `f(output voxel, input voxel, share)` for the eight neighbours of every output voxel.
    fn shares(&self, mut f: impl FnMut(usize, usize, f32)) {
        let [_, height, width] = self.input.voxels;
        let mut out = 0;
        for &(z0, z1, wz) in &self.taps[0] {
            for &(y0, y1, wy) in &self.taps[1] {
                let corners = [
                    ((z0 * height + y0) * width, (1.0 - wz) * (1.0 - wy)),
                    ((z0 * height + y1) * width, (1.0 - wz) * wy),
                    ((z1 * height + y0) * width, wz * (1.0 - wy)),
                    ((z1 * height + y1) * width, wz * wy),
                ];
                for &(x0, x1, wx) in &self.taps[2] {
                    for (row, share) in corners {
                        f(out, row + x0, share * (1.0 - wx));
                        f(out, row + x1, share * wx);
                    }
                    out += 1;
                }
            }
        }
    }
}

impl Kernel for TrilinearKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Mode) {
        let channels = inputs[0].par_chunks(self.input.volume());
        output
            .par_chunks_mut(self.output.volume())
            .zip(channels)
            .for_each(|(to, from)| {
                to.fill(0.0);
                self.shares(|out, at, share| to[out] += share * from[at]);
            });
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: false,
        }
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let channels = step.gradient.par_chunks(self.output.volume());
        input_gradient
            .par_chunks_mut(self.input.volume())
            .zip(channels)
            .for_each(|(to, from)| {
                to.fill(0.0);
                self.shares(|out, at, share| to[at] += share * from[out]);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&Trilinear { factor: [2, 1, 3] }, &[(1, [2, 3, 2])], 2);
    }

    #[test]
    fn corners_keep_their_values() {
        assert_eq!(taps(3, 6)[0], (0, 1, 0.0));
        let (low, _, share) = taps(3, 6)[5];
        assert_eq!((low as f32 + share), 2.0);
        assert_eq!(taps(1, 2), vec![(0, 0, 0.0), (0, 0, 0.0)]);
    }
}
