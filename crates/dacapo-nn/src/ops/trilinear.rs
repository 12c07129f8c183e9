//! Linear upsampling along every axis.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Needs, Op, Pass, Shape, Site};
use crate::Result;
use crate::cpu::params::Params;

/// Which places of the input the outputs are interpolated at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// The first and the last voxel's centres stay where they are (PyTorch's `align_corners=True`).
    Corners,
    /// Every voxel is divided into `factor` parts, at whose centres the values are taken. Outside of the outermost
    /// centres the outermost values hold (PyTorch's `align_corners=False`).
    Parts,
    /// The same without the parts that have a neighbour on one side only, `factor / 2` at each end: what is left is
    /// the same wherever the input was cut out of a larger one.
    InnerParts,
}

/// Trilinear (in 2D bilinear) upsampling by `factor`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trilinear {
    pub(crate) factor: [usize; 3],
    pub(crate) align: Align,
}

impl Trilinear {
    /// For each output voxel of an axis: the two input voxels beside it, and the second one's share.
    fn taps(&self, axis: usize, input: usize, output: usize) -> Vec<(usize, usize, f32)> {
        let factor = self.factor[axis];
        // A place as a fraction, so that shifted inputs have exactly the same shares.
        let place = |i: usize| match self.align {
            Align::Corners => (i * (input - 1), (output - 1).max(1)),
            Align::Parts => ((2 * i + 1).saturating_sub(factor), 2 * factor),
            Align::InnerParts => ((2 * (i + factor / 2) + 1).saturating_sub(factor), 2 * factor),
        };
        let tap = |i: usize| {
            let (at, unit) = place(i);
            match at / unit {
                low if low + 1 < input => (low, low + 1, ((at % unit) as f64 / unit as f64) as f32),
                _ => (input - 1, input - 1, 0.0),
            }
        };
        (0..output).map(tap).collect()
    }
}

impl Op for Trilinear {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, axis: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        let factor = self.factor[axis];
        match self.align {
            Align::Corners | Align::Parts => Ok(inputs[0] * factor),
            Align::InnerParts => (inputs[0] * factor)
                .checked_sub(factor / 2 * 2)
                .filter(|&length| length > 0)
                .ok_or_else(|| format!("{} voxels are too few to interpolate between", inputs[0])),
        }
    }

    fn plan(&self, site: &Site<'_>) -> Result<Box<dyn Kernel>> {
        let (input, output) = (site.inputs[0], site.output);
        let taps = std::array::from_fn(|axis| self.taps(axis, input.voxels[axis], output.voxels[axis]));
        Ok(Box::new(TrilinearKernel { input, output, taps }))
    }
}

struct TrilinearKernel {
    input: Shape,
    output: Shape,
    taps: [Vec<(usize, usize, f32)>; 3],
}

impl TrilinearKernel {
    /// Calls `f` for every output row, in order, with the starts of the four input rows that it lies between and
    /// their shares.
    fn rows(&self, mut f: impl FnMut(usize, [(usize, f32); 4])) {
        let [_, height, width] = self.input.voxels;
        let row = |z: usize, y: usize| (z * height + y) * width;
        let mut out = 0;
        for &(z0, z1, wz) in &self.taps[0] {
            for &(y0, y1, wy) in &self.taps[1] {
                let corners = [
                    (row(z0, y0), (1.0 - wz) * (1.0 - wy)),
                    (row(z0, y1), (1.0 - wz) * wy),
                    (row(z1, y0), wz * (1.0 - wy)),
                    (row(z1, y1), wz * wy),
                ];
                f(out, corners);
                out += self.output.voxels[2];
            }
        }
    }

    fn upsample(&self, from: &[f32], to: &mut [f32]) {
        let width = self.input.voxels[2];
        let mut between = vec![0f32; width];
        self.rows(|out, corners| {
            let [a, b, c, d] = corners.map(|(start, share)| (&from[start..start + width], share));
            for (x, between) in between.iter_mut().enumerate() {
                *between = (a.0[x] * a.1 + b.0[x] * b.1) + (c.0[x] * c.1 + d.0[x] * d.1);
            }
            let to = to[out..].iter_mut().zip(&self.taps[2]);
            to.for_each(|(to, &(x0, x1, share))| {
                *to = between[x0] * (1.0 - share) + between[x1] * share;
            });
        });
    }

    /// The adjoint of [`Self::upsample`].
    fn gather(&self, from: &[f32], to: &mut [f32]) {
        let width = self.input.voxels[2];
        let mut between = vec![0f32; width];
        to.fill(0.0);
        self.rows(|out, corners| {
            between.fill(0.0);
            for (&gradient, &(x0, x1, share)) in from[out..].iter().zip(&self.taps[2]) {
                between[x0] += gradient * (1.0 - share);
                between[x1] += gradient * share;
            }
            for (start, share) in corners {
                if share != 0.0 {
                    let to = to[start..start + width].iter_mut();
                    to.zip(&between).for_each(|(to, between)| *to += share * between);
                }
            }
        });
    }
}

impl Kernel for TrilinearKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let channels = inputs[0].par_chunks(self.input.volume());
        output
            .par_chunks_mut(self.output.volume())
            .zip(channels)
            .for_each(|(to, from)| self.upsample(from, to));
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
            .for_each(|(to, from)| self.gather(from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check, compare_with_peer};

    const ALL: [Align; 3] = [Align::Corners, Align::Parts, Align::InnerParts];

    #[test]
    fn gradients_agree_with_central_differences() {
        for align in ALL {
            for (factor, input) in [
                ([2, 1, 3], [2, 3, 2]),
                ([1, 2, 2], [1, 4, 3]),
                ([2, 2, 4], [3, 2, 2]),
            ] {
                check(&Trilinear { factor, align }, &[(1, input)], 2);
            }
        }
    }

    #[test]
    fn values_and_gradients_are_pytorchs() {
        for (align, name) in [(Align::Corners, "trilinear_corners"), (Align::Parts, "trilinear")] {
            compare_with_peer(
                &Trilinear {
                    factor: [2, 3, 2],
                    align,
                },
                name,
            );
        }
        let factor = [1, 2, 2];
        compare_with_peer(
            &Trilinear {
                factor,
                align: Align::Parts,
            },
            "bilinear",
        );
    }

    #[test]
    fn corners_keep_their_values() {
        let taps = |input, output| {
            let op = Trilinear {
                factor: [2; 3],
                align: Align::Corners,
            };
            op.taps(0, input, output)
        };
        assert_eq!(taps(3, 6)[0], (0, 1, 0.0));
        assert_eq!(taps(3, 6)[5], (2, 2, 0.0));
        assert_eq!(taps(1, 2), vec![(0, 0, 0.0), (0, 0, 0.0)]);
    }

    /// What is left of the parts of a part of a row is a part of what is left of the parts of the row.
    #[test]
    fn inner_parts_do_not_depend_on_where_the_input_ends() {
        for factor in 1..6 {
            let op = Trilinear {
                factor: [factor; 3],
                align: Align::InnerParts,
            };
            let taps = |input| op.taps(0, input, op.length(0, &[input]).unwrap());
            // A neighbour without a share does not count.
            let places = |taps: &[(usize, usize, f32)], shift| -> Vec<(usize, usize, f32)> {
                let place = |&(a, b, share)| (a + shift, if share == 0.0 { a } else { b } + shift, share);
                taps.iter().map(place).collect()
            };
            let (whole, part) = (taps(9), taps(5));
            let window = places(&whole[2 * factor..][..part.len()], 0);
            assert_eq!(window, places(&part, 2), "{factor}");
        }
        let op = Trilinear {
            factor: [2; 3],
            align: Align::InnerParts,
        };
        assert!(op.length(0, &[1]).is_err());
    }
}
