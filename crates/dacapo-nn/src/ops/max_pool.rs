//! Max pooling over blocks.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Mode, Needs, Op, Pass, Shape, Site};
use crate::cpu::params::Params;
use crate::simd::{InstructionSet, Loop};
use crate::{Error, Result};

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
        let places = self.factor.iter().product::<usize>();
        if places > MOST_PLACES {
            return Err(Error::Config {
                field: "downsample_factors",
                reason: format!("a block of {:?} voxels is too large", self.factor),
            });
        }
        Ok(Box::new(PoolKernel {
            factor: self.factor,
            input: site.inputs[0],
            output: site.output,
            batch: site.batch,
            set: site.set,
            winners: Vec::new(),
        }))
    }
}

/// Most voxels of a block.
const MOST_PLACES: usize = 1 << 16;

struct PoolKernel {
    factor: [usize; 3],
    input: Shape,
    output: Shape,
    batch: usize,
    set: InstructionSet,
    /// Of the last forward pass of a training. For each output, which voxel of its block it is, in z, y, x order.
    winners: Vec<u16>,
}

impl PoolKernel {
    /// Start of each input row (offset within a channel) that output row (z, y) is made of, in order.
    fn rows(&self, z: usize, y: usize) -> impl Iterator<Item = usize> {
        let [fz, fy, _] = self.factor;
        let [_, height, width] = self.input.voxels;
        (0..fz).flat_map(move |dz| (0..fy).map(move |dy| ((z * fz + dz) * height + y * fy + dy) * width))
    }
}

/// The largest values of one channel.
struct Largest<'a> {
    kernel: &'a PoolKernel,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Loop for Largest<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { kernel, from, to } = self;
        let ([_, height, width], fx) = (kernel.output.voxels, kernel.factor[2]);
        let mut best = vec![0f32; kernel.input.voxels[2]];
        for (row, to) in to.chunks_exact_mut(width).enumerate() {
            for (r, start) in kernel.rows(row / height, row % height).enumerate() {
                let from = &from[start..start + best.len()];
                if r == 0 {
                    best.copy_from_slice(from);
                } else {
                    let pairs = best.iter_mut().zip(from);
                    pairs.for_each(|(best, &value)| *best = larger(*best, value));
                }
            }
            match fx {
                2 => {
                    let pairs = to.iter_mut().zip(best.as_chunks::<2>().0);
                    pairs.for_each(|(to, &[a, b])| *to = larger(a, b));
                }
                _ => {
                    for (to, block) in to.iter_mut().zip(best.chunks_exact(fx)) {
                        *to = block[1..].iter().fold(block[0], |a, &b| larger(a, b));
                    }
                }
            }
        }
    }
}

/// The same, and which they are.
struct Winners<'a> {
    kernel: &'a PoolKernel,
    from: &'a [f32],
    to: &'a mut [f32],
    winners: &'a mut [u16],
}

impl Loop for Winners<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            kernel,
            from,
            to,
            winners,
        } = self;
        let ([_, height, width], fx) = (kernel.output.voxels, kernel.factor[2]);
        let in_width = kernel.input.voxels[2];
        // Of each column of the block's rows: the largest value, and its place in the block.
        let (mut best, mut places) = (vec![0f32; in_width], vec![0u32; in_width]);
        let columns: Vec<u32> = (0..in_width).map(|x| (x % fx) as u32).collect();
        let out_rows = to.chunks_exact_mut(width).zip(winners.chunks_exact_mut(width));
        for (row, (to, winners)) in out_rows.enumerate() {
            for (r, start) in kernel.rows(row / height, row % height).enumerate() {
                let from = &from[start..start + in_width];
                if r == 0 {
                    best.copy_from_slice(from);
                    places.copy_from_slice(&columns);
                    continue;
                }
                let first = (r * fx) as u32;
                let found = best.iter_mut().zip(&mut places);
                for ((best, place), (&value, &column)) in found.zip(from.iter().zip(&columns)) {
                    let wins = beats(value, *best);
                    *best = if wins { value } else { *best };
                    *place = if wins { first + column } else { *place };
                }
            }
            let found = to.iter_mut().zip(winners);
            if fx == 2 {
                // Of a length that the compiler knows, for several at once.
                let pairs = best.as_chunks::<2>().0.iter().zip(places.as_chunks::<2>().0);
                for ((to, winner), (best, places)) in found.zip(pairs) {
                    (*to, *winner) = winner_of(best, places);
                }
            } else {
                let blocks = best.chunks_exact(fx).zip(places.chunks_exact(fx));
                for ((to, winner), (best, places)) in found.zip(blocks) {
                    (*to, *winner) = winner_of(best, places);
                }
            }
        }
    }
}

/// The largest of a block's columns, and its place in the block: below [`MOST_PLACES`].
#[inline(always)]
fn winner_of(best: &[f32], places: &[u32]) -> (f32, u16) {
    let (mut value, mut place) = (best[0], places[0]);
    for (&other, &at) in best[1..].iter().zip(&places[1..]) {
        let tie = (other == value) | (other.is_nan() & value.is_nan());
        let wins = beats(other, value) | (tie & (at < place));
        value = if wins { other } else { value };
        place = if wins { at } else { place };
    }
    (value, place as u16)
}

impl Kernel for PoolKernel {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, pass: Pass) {
        let (volume, out_volume) = (self.input.volume(), self.output.volume());
        let (mut winners, output_len) = (std::mem::take(&mut self.winners), output.len());
        let this = &*self;
        let channels = output
            .par_chunks_mut(out_volume)
            .zip(inputs[0].par_chunks(volume));
        if pass.mode == Mode::Train {
            winners.resize(output_len, 0);
        }
        match pass.mode {
            Mode::Train => {
                channels
                    .zip(winners.par_chunks_mut(out_volume))
                    .for_each(|((to, from), winners)| {
                        this.set.run_loop(Winners {
                            kernel: this,
                            from,
                            to,
                            winners,
                        });
                    })
            }
            Mode::Predict => channels.for_each(|(to, from)| {
                this.set.run_loop(Largest {
                    kernel: this,
                    from,
                    to,
                });
            }),
        }
        self.winners = winners;
    }

    fn kept(&self, mode: Mode) -> usize {
        match mode {
            // Half the size of a value.
            Mode::Train => (self.batch * self.output.len()).div_ceil(2),
            Mode::Predict => 0,
        }
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: false,
            output: false,
        }
    }

    fn adds(&self) -> bool {
        true
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let Some(input_gradient) = step.input_gradients[0].as_deref_mut() else {
            return;
        };
        let this = &*self;
        let ([_, height, width], fx) = (this.output.voxels, this.factor[2]);
        let (volume, out_volume) = (this.input.volume(), this.output.volume());
        // Offset of each place of a block from its first voxel.
        let offsets: Vec<usize> = this
            .rows(0, 0)
            .flat_map(|start| (0..fx).map(move |x| start + x))
            .collect();
        let outputs = step
            .gradient
            .par_chunks(out_volume)
            .zip(this.winners.par_chunks(out_volume));
        input_gradient
            .par_chunks_mut(volume)
            .zip(outputs)
            .for_each(|(to, (gradient, winners))| {
                if !step.add {
                    to.fill(0.0);
                }
                let rows = gradient.chunks_exact(width).zip(winners.chunks_exact(width));
                for (row, (gradient, winners)) in rows.enumerate() {
                    let start = this.rows(row / height, row % height).next().unwrap_or_default();
                    for (x, (gradient, &winner)) in gradient.iter().zip(winners).enumerate() {
                        to[start + x * fx + offsets[usize::from(winner)]] += gradient;
                    }
                }
            });
    }
}

/// The larger of two values; NaN if the second is, or the first already was.
#[inline(always)]
fn larger(best: f32, value: f32) -> f32 {
    if (value > best) | value.is_nan() {
        value
    } else {
        best
    }
}

/// Whether a value takes the place of the one that was the largest so far. The first NaN does, and stays.
#[inline(always)]
fn beats(value: f32, best: f32) -> bool {
    (value > best) | (value.is_nan() & !best.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::check;

    #[test]
    fn gradients_agree_with_central_differences() {
        check(&MaxPool { factor: [2; 3] }, &[(2, [2, 4, 6])], 2);
        check(&MaxPool { factor: [1, 3, 2] }, &[(1, [3, 6, 4])], 1);
        check(&MaxPool { factor: [2, 1, 3] }, &[(1, [4, 3, 6])], 1);
    }

    #[test]
    fn the_first_of_equals_and_the_first_nan_win() {
        let kernel = PoolKernel {
            factor: [1, 2, 2],
            input: Shape {
                channels: 1,
                voxels: [1, 2, 6],
            },
            output: Shape {
                channels: 1,
                voxels: [1, 1, 3],
            },
            batch: 1,
            set: InstructionSet::detect(),
            winners: Vec::new(),
        };
        let nan = f32::NAN;
        let x = [0.0, 2.0, 1.0, 1.0, 5.0, nan, 2.0, 0.0, 1.0, 1.0, nan, 7.0];
        let (mut y, mut winners) = ([0.0; 3], [9; 3]);
        kernel.set.run_loop(Winners {
            kernel: &kernel,
            from: &x,
            to: &mut y,
            winners: &mut winners,
        });
        assert_eq!((y[0], y[1], winners), (2.0, 1.0, [1, 0, 1]));
        let mut predicted = [0.0; 3];
        kernel.set.run_loop(Largest {
            kernel: &kernel,
            from: &x,
            to: &mut predicted,
        });
        assert_eq!(predicted[..2], y[..2]);
        assert!(y[2].is_nan() && predicted[2].is_nan());
    }
}
