//! Transposed convolutions that double a volume's sides, of 4 taps with a stride of 2 and a padding of 1, as one
//! convolution with tiles. Along an axis the outputs 2i and 2i + 1 have two taps each:
//!
//! ```text
//! input           i − 1     i     i + 1
//! output 2i         3       1       ·        elements of the kernel
//! output 2i + 1     ·       2       0
//! ```
//!
//! so that the 2³ outputs of a voxel are channels of a convolution with 3 taps, all of which read the same transformed
//! input. Along z and y a tap of zero costs no more than another, in a tile; along x, where taps are direct, each half of the
//! channels has its own two. That is 4.5 multiplications an output where the direct way takes 8.
//!
//! Tiles of 4 outputs serve the backward pass as well, however few the channels: an input's gradient sums 64 products a
//! channel, so that a direct convolution loses enough itself (`tests/peers.rs` holds them to three times that).

use super::layout::Layout;
use super::stages::{self, half_outputs, store_some, whole_outputs};
use super::tile::{F4, OUT, Tile};
use super::{Tiling, Winograd};
use crate::conv::ConvGeometry;
use crate::conv::direct::Finish;
use crate::conv::pack::Gated;
use crate::conv::scratch::Scratch;
use crate::simd::{InstructionSet, Job, Vector};
use rayon::prelude::*;

/// Outputs of a voxel.
pub(super) const OUTPUTS: usize = 8;
/// Elements of the kernel, and of that of the convolution with tiles.
const KERNEL: usize = 64;
const TILED: usize = 18;

/// Of the direct way's multiplications, most that are worth the transforms: more are done where tiles hang far over the ends.
const MOST_PRODUCTS: f64 = 0.75;

/// A transposed convolution that doubles.
pub(in crate::conv) struct Doubling {
    channels: [usize; 2],
    elements: Elements,
    plan: Winograd,
}

/// The channel of the convolution's output, and which of a voxel's outputs (along z, y, x) a channel of the tiles is.
/// The half of even outputs along x comes first.
pub(super) fn place(channel: usize, out_channels: usize) -> (usize, [usize; 3]) {
    let (phase, channel) = (channel / out_channels, channel % out_channels);
    (channel, [phase / 2 % 2, phase % 2, phase / 4])
}

/// For each of a voxel's outputs: the taps of the convolution with tiles that are elements of the kernel, and which.
type Elements = [[(usize, usize); 8]; OUTPUTS];

fn elements() -> Elements {
    std::array::from_fn(|output| {
        let (_, [pz, py, px]) = place(output, 1);
        std::array::from_fn(|i| {
            // One of the two taps that the output has along each axis, of 3 or, along x, of its own two.
            let [tz, ty, tx] = [pz + i / 4, py + i / 2 % 2, i % 2];
            let [kz, ky, kx] = [(pz, tz), (py, ty), (px, px + tx)].map(|(output, t)| 3 + output - 2 * t);
            ((tz * 3 + ty) * 2 + tx, (kz * 4 + ky) * 4 + kx)
        })
    })
}

impl Doubling {
    /// Plans it, if the geometry is of this kind and tiles take far fewer multiplications than the direct way.
    pub(in crate::conv) fn new(geometry: &ConvGeometry, batch: usize, set: InstructionSet) -> Option<Self> {
        let g = geometry;
        if (g.kernel, g.stride, g.padding) != ([4; 3], [2; 3], [1; 3]) || g.in_channels < 2 {
            return None;
        }
        let tiled = ConvGeometry {
            out_channels: OUTPUTS * g.out_channels,
            kernel: [3, 3, 2],
            stride: [1; 3],
            ..g.clone()
        };
        let columns = super::block_columns(&tiled);
        let layout = Layout {
            step: 2,
            ..Layout::new::<F4, F4>(tiled, g.input, 1, false, columns)
        };
        let products = layout.tiles[0] * layout.tiles[1] * layout.positions;
        // The direct way has 2 × 2 taps along z and y; along x both have 2.
        let direct = 4 * g.input[0] * g.input[1];
        if products as f64 > MOST_PRODUCTS * direct as f64 {
            return None;
        }
        Some(Self {
            channels: [g.in_channels, g.out_channels],
            elements: elements(),
            plan: Winograd::with_layout(layout, Tiling::ZY, &[0, 1], batch, set),
        })
    }

    /// As [`Winograd::forward`].
    pub(in crate::conv) fn forward(&self, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
        self.plan.forward(x, &self.expand(w), finish, y);
    }

    /// As [`Winograd::backward`].
    pub(in crate::conv) fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        gy: Gated,
        dx: Option<&mut [f32]>,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let [ins, outs] = self.channels;
        let weights = self.expand(w);
        let mut gradient = Scratch::take(self.taps());
        let mut biases = Scratch::take(OUTPUTS * outs);
        self.plan
            .backward(x, &weights, gy, dx, &mut gradient, Some(&mut biases));
        let gradient: &[f32] = &gradient;
        dw.par_chunks_exact_mut(KERNEL).enumerate().for_each(|(i, dw)| {
            let (ci, co) = (i / outs, i % outs);
            for (output, elements) in self.elements.iter().enumerate() {
                let taps = &gradient[((output * outs + co) * ins + ci) * TILED..];
                for &(tap, element) in elements {
                    dw[element] = taps[tap];
                }
            }
        });
        if let Some(db) = db {
            for (c, db) in db.iter_mut().enumerate() {
                *db = biases.iter().skip(c).step_by(outs).sum();
            }
        }
    }

    /// The kernel `[ci][co][4][4][4]` as taps `[outputs of a voxel · co][ci][3][3][2]`, zero where it has none.
    fn expand(&self, w: &[f32]) -> Scratch {
        let [ins, outs] = self.channels;
        let mut taps = Scratch::zeroed(self.taps());
        taps.par_chunks_exact_mut(ins * TILED)
            .enumerate()
            .for_each(|(channel, taps)| {
                let (output, co) = (channel / outs, channel % outs);
                for (ci, taps) in taps.chunks_exact_mut(TILED).enumerate() {
                    let kernel = &w[(ci * outs + co) * KERNEL..];
                    for &(tap, element) in &self.elements[output] {
                        taps[tap] = kernel[element];
                    }
                }
            });
        taps
    }

    /// As [`Winograd::multiplications`].
    pub(in crate::conv) fn multiplications(&self) -> [u64; 2] {
        self.plan.multiplications()
    }

    /// As [`Winograd::scratch_forward`].
    pub(in crate::conv) fn scratch_forward(&self, threads: usize) -> usize {
        self.plan.scratch_forward(threads) + self.taps()
    }

    /// As [`Winograd::scratch_backward`].
    pub(in crate::conv) fn scratch_backward(&self, threads: usize) -> usize {
        self.plan.scratch_backward(threads) + 2 * self.taps()
    }

    /// Taps of all channels.
    fn taps(&self) -> usize {
        let [ins, outs] = self.channels;
        OUTPUTS * outs * ins * TILED
    }
}

/// The output stage for the channels of even outputs along x, each with that of the odd ones.
pub(super) struct Pairs<'a, Z, Y>(pub(super) stages::Output<'a, Z, Y>);

impl<Z: Tile, Y: Tile> Job for Pairs<'_, Z, Y> {
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "indices are positions and taps; closures would not be inlined"
    )]
    unsafe fn run<V: Vector>(self) {
        let stages::Output {
            layout: l,
            block: b,
            channels,
            sums,
            finish,
            y,
            ..
        } = self.0;
        let [depth, height, width] = l.output;
        let outs = l.geometry.out_channels / OUTPUTS;
        let odd = l.geometry.out_channels / 2;
        let floor = if finish.relu { 0.0 } else { f32::NEG_INFINITY };
        // SAFETY: the contract of the stages (see `stages`).
        unsafe {
            let floor = V::splat(floor);
            for c in channels {
                let (co, [pz, py, _]) = place(c, outs);
                let bias = V::splat(finish.bias.map_or(0.0, |bias| bias[co]));
                let planes_before = (b.sample * outs + co) * 2 * depth;
                for tile in 0..b.tiles_z * b.tiles_y {
                    let (z, row) = (
                        (b.z + tile / b.tiles_y) * Z::OUT,
                        (b.y + tile % b.tiles_y) * Y::OUT,
                    );
                    let (planes, rows) = (Z::OUT.min(depth - z), Y::OUT.min(height - row));
                    let mut x = 0;
                    while x < width {
                        let mut voxels = [[[floor; OUT]; OUT]; 2];
                        for half in 0..2 {
                            let from = (c + half * odd) * l.sums.row + tile * l.pitch + x;
                            let from = sums.as_ptr().add(from);
                            let along_y = half_outputs::<V, Z, Y>(from, l.sums.position);
                            voxels[half] = whole_outputs::<V, Z, Y>(along_y, (bias, floor));
                        }
                        let left = 2 * (width - x);
                        for k in 0..Z::OUT {
                            for j in 0..Y::OUT {
                                if k < planes && j < rows {
                                    let plane = planes_before + 2 * (z + k) + pz;
                                    let to = (plane * 2 * height + 2 * (row + j) + py) * 2 * width + 2 * x;
                                    let to = y.start().add(to);
                                    let [low, high] = voxels[0][k][j].zip(voxels[1][k][j]);
                                    store_some(low, to, left);
                                    if left > V::LANES {
                                        store_some(high, to.add(V::LANES), left - V::LANES);
                                    }
                                }
                            }
                        }
                        x += V::LANES;
                    }
                }
            }
        }
    }
}
