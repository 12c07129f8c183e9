//! Convolution of 3 taps along z and y by Winograd's tiles, with direct taps along x: 6.75 multiplications an
//! output where the direct way takes 27, and every vector lies along x. In planes of 3 × 3 taps the second axis of
//! tiles is x itself: a column is then a tile, and 2.25 multiplications do for 9.
//!
//! A block of tiles is transformed to positions ([`stages`]), at each of which the work is a matrix product over
//! channels and x taps ([`kernel`]), and transformed back. Backward, the gradient is transformed once and serves
//! both the weights and the input, whose gradient goes back by the adjoint of the forward's input transform. That makes
//! more of what products and sums lose than the output's transform does, which counts where there are few channels: there
//! tiles are of 3 outputs along z, with 7.5 multiplications an output.
//!
//! A transposed convolution that doubles a volume is one with tiles as well ([`doubling`]).
//!
//! Two ways to share the work among threads, chosen by the shape:
//! - by slabs of z tiles (forward: by blocks), each with its own memory and its own sums of the weights' gradient;
//!   the input's gradient that a slab leaves on its neighbour's planes is added afterwards;
//! - by channels and positions inside of one block after the other, where the channels are many or the tiles few:
//!   no partial sums, less memory.

mod along_x;
mod backward;
mod doubling;
mod f3;
mod layout;
mod stages;
mod tile;
mod weights;

use super::ConvGeometry;
use super::direct::Finish;
use super::kernel::{self, ROWS, groups};
use super::pack::Gated;
use super::scratch::{Scratch, Shared};
use crate::simd::InstructionSet;
pub(super) use doubling::Doubling;
use f3::F3;
use layout::{Block, Layout};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use tile::{F4, Once, Tile};

/// Columns of a block, where the channels are few and where they are many.
const COLUMNS: [usize; 2] = [384, 192];
const MANY_CHANNELS: usize = 48;
/// With tiles along x: fewest and most columns. Between them a block reads as many weights as transformed values, which
/// then stay in the second cache.
const COLUMNS_ALONG_X: [usize; 2] = [96, 192];
/// Fewest channels in and out for tiles along x, in a plane and in a stack of planes: with fewer, the transforms take
/// what the products save (and tiles along y alone are faster in a stack, where they need no slabs).
const ALONG_X_CHANNELS: [usize; 2] = [16, 24];
/// Fewest channels out, of 3 taps along all axes and in planes, with which the sums of a direct convolution are so long
/// that they lose a third of what the input's gradient loses through tiles of 4 along two axes. With fewer, the backward
/// pass has tiles of 3 along one of them (but for [`doubling`], whose sums are long).
const LONG_SUMS: [usize; 2] = [160, 100];
/// Products of channels up to which the work is split by slabs.
const SLAB_CHANNELS: usize = 700;

/// A Winograd convolution of one shape.
pub(super) struct Winograd {
    layout: Layout,
    batch: usize,
    set: InstructionSet,
    tiling: Tiling,
    by_slab: bool,
    /// For each part of the output's channels, offsets of its taps into one position of the transformed input; then those of
    /// all channels into one of the transformed gradient. Parts are as large as one another: all channels, or whole groups
    /// of rows.
    taps: Vec<Vec<usize>>,
    taps_back: Vec<usize>,
}

/// What a plan is for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Passes {
    Forward,
    Backward,
}

/// The axes that have tiles. In a plane y takes the part of z, and along x in each of a stack of planes.
#[derive(Clone, Copy)]
enum Tiling {
    ZY,
    ZX,
    Z,
    Y,
    /// With smaller tiles along z.
    ExactZY,
    ExactZX,
}

/// Calls a method for the tiles of the plan.
macro_rules! with_tiles {
    ($plan:expr, $method:ident($($argument:expr),*)) => {
        match $plan.tiling {
            Tiling::ZY | Tiling::ZX => $plan.$method::<F4, F4>($($argument),*),
            Tiling::Z => $plan.$method::<F4, Once>($($argument),*),
            Tiling::Y => $plan.$method::<Once, F4>($($argument),*),
            Tiling::ExactZY | Tiling::ExactZX => $plan.$method::<F3, F4>($($argument),*),
        }
    };
}

/// Columns of a block with rows along x.
fn block_columns(g: &ConvGeometry) -> usize {
    COLUMNS[usize::from(g.in_channels.max(g.out_channels) > MANY_CHANNELS)]
}

/// Calls `f` for `0..count`, in order or by the threads of the pool.
fn each(parallel: bool, count: usize, f: impl Fn(usize) + Sync + Send) {
    if parallel {
        (0..count).into_par_iter().for_each(f)
    } else {
        (0..count).for_each(f)
    }
}

/// The channels of one task of `tasks`.
fn share(channels: usize, tasks: usize, task: usize) -> Range<usize> {
    task * channels / tasks..(task + 1) * channels / tasks
}

impl Winograd {
    /// Plans it, where the kernel has 3 taps in z or y and tiles take fewer multiplications than the direct way.
    pub(super) fn new(
        geometry: &ConvGeometry,
        output: [usize; 3],
        batch: usize,
        set: InstructionSet,
        passes: Passes,
    ) -> Option<Self> {
        if geometry.stride != [1; 3] || geometry.in_channels < 2 || geometry.out_channels < 2 {
            return None;
        }
        let mut g = geometry.clone();
        let mut output = output;
        let planes = g.input[0];
        let enough = ALONG_X_CHANNELS[usize::from(planes > 1)];
        let along_x =
            g.kernel == [1, 3, 3] && g.padding[0] == 0 && g.in_channels.min(g.out_channels) >= enough;
        if along_x || [g.kernel[0], planes, output[0]] == [1; 3] {
            // In planes, y takes the part of z: slabs are along it.
            (g.input[0], output[0]) = (1, 1);
            for axes in [&mut g.input, &mut g.kernel, &mut g.padding, &mut output] {
                axes.swap(0, 1);
            }
        }
        let exact = |planes: bool| {
            passes == Passes::Backward && geometry.out_channels < LONG_SUMS[usize::from(planes)]
        };
        let tiling = match g.kernel {
            [3, 3, _] if exact(false) => Tiling::ExactZY,
            [3, 3, _] => Tiling::ZY,
            _ if along_x && exact(true) => Tiling::ExactZX,
            _ if along_x => Tiling::ZX,
            [3, 1, _] => Tiling::Z,
            [1, 3, _] => Tiling::Y,
            _ => return None,
        };
        let columns = match tiling {
            Tiling::ZX | Tiling::ExactZX => {
                let [least, most] = COLUMNS_ALONG_X;
                let (ins, outs) = (g.in_channels, g.out_channels);
                (3 * ins * outs / (2 * (ins + outs))).clamp(least, most)
            }
            _ => block_columns(&g),
        };
        let layout = match tiling {
            Tiling::ZY => Layout::new::<F4, F4>(g, output, 1, false, columns),
            Tiling::ZX => Layout::new::<F4, F4>(g, output, planes, true, columns),
            Tiling::ExactZY => Layout::new::<F3, F4>(g, output, 1, false, columns),
            Tiling::ExactZX => Layout::new::<F3, F4>(g, output, planes, true, columns),
            Tiling::Z => Layout::new::<F4, Once>(g, output, 1, false, columns),
            Tiling::Y => Layout::new::<Once, F4>(g, output, 1, false, columns),
        };
        let g = &layout.geometry;
        let products = layout.tiles[0] * layout.tiles[1] * layout.positions;
        let (products, outputs) = match tiling {
            Tiling::ZX | Tiling::ExactZX => (products * layout.pitch, output[0] * output[2]),
            _ => (products, output[0] * output[1]),
        };
        if products >= outputs * g.kernel[0] * g.kernel[1] {
            return None;
        }
        Some(Self::with_layout(layout, tiling, &[0], batch, set))
    }

    /// With parts of the output's channels whose taps begin so many columns further along x.
    fn with_layout(
        layout: Layout,
        tiling: Tiling,
        shifts: &[usize],
        batch: usize,
        set: InstructionSet,
    ) -> Self {
        let g = &layout.geometry;
        let taps = |channels: usize, row: usize, at: &dyn Fn(usize, usize) -> usize| -> Vec<usize> {
            let tap = |t: usize| (t / g.kernel[2], t % g.kernel[2]);
            (0..channels * g.kernel[2])
                .map(tap)
                .map(|(c, k)| c * row + at(c, k))
                .collect()
        };
        let rows = g.out_channels / shifts.len();
        debug_assert!(shifts.len() == layout.step && (layout.step == 1 || rows.is_multiple_of(ROWS)));
        debug_assert!(layout.step == 1 || !layout.along_x && layout.stack == 1);
        debug_assert!(shifts.iter().all(|shift| shift + g.kernel[2] <= layout.lead + 1));
        Self {
            batch,
            set,
            tiling,
            by_slab: g.in_channels * g.out_channels <= SLAB_CHANNELS && batch * layout.tile_rows() >= 4,
            taps: shifts
                .iter()
                .map(|shift| taps(g.in_channels, layout.input.row, &|_, k| shift + k))
                .collect(),
            taps_back: taps(g.out_channels, layout.gradient.row, &|c, k| {
                layout.lead - shifts[c / rows] - k
            }),
            layout,
        }
    }

    /// Channels of a part of the output's.
    fn part(&self) -> usize {
        self.layout.geometry.out_channels / self.taps.len()
    }

    /// The parts of the output's channels: their first, how many they are, and their taps.
    fn parts(&self) -> impl Iterator<Item = (usize, usize, &[usize])> {
        let rows = self.part();
        self.taps
            .iter()
            .enumerate()
            .map(move |(part, taps)| (part * rows, rows, &taps[..]))
    }

    pub(super) fn forward(&self, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
        with_tiles!(self, forward_tiled(x, w, finish, y));
    }

    pub(super) fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        gy: Gated,
        dx: Option<&mut [f32]>,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        with_tiles!(self, backward_tiled(x, w, gy, dx, dw, db));
    }

    /// Multiplications of the forward (and of the weights' gradient), and of the input's gradient.
    pub(super) fn multiplications(&self) -> [u64; 2] {
        let l = &self.layout;
        let columns = self.batch * l.tile_rows() * l.tiles[1] * l.pitch * l.positions;
        [l.weights, l.weights_adjoint].map(|weights| columns as u64 * weights as u64)
    }

    /// Values of working memory of the forward pass on so many threads.
    pub(super) fn scratch_forward(&self, threads: usize) -> usize {
        let l = &self.layout;
        let blocks = self.batch * l.blocks(0, 0, l.tile_rows()).count();
        let block = l.input.position + l.sums.position;
        l.positions * (l.weights + self.at_once(blocks, threads) * block) + threads * l.half
    }

    /// The same of the backward pass.
    pub(super) fn scratch_backward(&self, threads: usize) -> usize {
        let l = &self.layout;
        let g = &l.geometry;
        let units = self.batch * self.slabs();
        let parts = if self.by_slab { units } else { 1 };
        let planes = match self.tiling {
            Tiling::Y => 0,
            _ if self.slabs() > 1 => F4::OVERLAP,
            _ => 0,
        };
        let overlap = planes * g.in_channels * g.input[1] * g.input[2];
        let block = l.input.position + l.gradient.position + l.adjoint.position;
        let blocks = self.at_once(units, threads) * block;
        units * overlap + l.positions * (l.weights_adjoint + parts * l.weights + blocks) + threads * l.half
    }

    /// Blocks that have memory at a time: by slabs each task's own; otherwise one is worked on by all.
    fn at_once(&self, units: usize, threads: usize) -> usize {
        if self.by_slab { threads.min(units) } else { 1 }
    }

    /// Slabs of a sample in the backward pass.
    fn slabs(&self) -> usize {
        if self.by_slab {
            self.layout
                .tile_rows()
                .min(backward::SLABS.div_ceil(self.batch).max(2))
        } else {
            1
        }
    }

    /// The weights as seen from the output (forward) or from the input (backward).
    fn matrix(&self, back: bool) -> weights::Matrix {
        let g = &self.layout.geometry;
        let volume = g.kernel.iter().product::<usize>();
        let row = g.in_channels * volume;
        let (outs, ins, out_step, in_step) = if back {
            (g.in_channels, g.out_channels, volume, row)
        } else {
            (g.out_channels, g.in_channels, row, volume)
        };
        weights::Matrix {
            outs,
            ins,
            out_step,
            in_step,
            taps: g.kernel[2],
        }
    }

    fn transform_weights<Z: Tile, Y: Tile>(&self, w: &[f32], back: bool) -> Scratch {
        let l = &self.layout;
        let step = if back { l.weights_adjoint } else { l.weights };
        let matrix = self.matrix(back);
        let mut u = Scratch::take(l.positions * step);
        let to = Shared::new(&mut u);
        each(true, groups(matrix.outs), |group| {
            self.set.run_loop(weights::Forward {
                matrix,
                group,
                w,
                to,
                step,
                tiles: PhantomData::<(Z, Y)>,
            });
        });
        u
    }

    /// A row of zeros that stands for rows outside.
    fn zeros(&self) -> Scratch {
        let l = &self.layout;
        Scratch::zeroed(l.step * l.geometry.input[2].max(l.output[2]).next_multiple_of(16))
    }

    /// Transforms the input of a block.
    fn input<Z: Tile, Y: Tile>(&self, block: Block, x: &[f32], zeros: &[f32], to: Shared) {
        let (layout, channels) = (&self.layout, self.layout.geometry.in_channels);
        let tasks = self.tasks(channels);
        each(!self.by_slab, tasks, |task| {
            let mut half = Scratch::take(layout.half);
            let channels = share(channels, tasks, task);
            let tiles = PhantomData::<(Z, Y)>;
            self.set.run(stages::Input {
                layout,
                block,
                channels,
                x,
                zeros,
                half: &mut half,
                to,
                tiles,
            });
        });
    }

    /// Tasks that a stage over channels is split into.
    fn tasks(&self, channels: usize) -> usize {
        if self.by_slab { 1 } else { channels.min(32) }
    }

    fn forward_tiled<Z: Tile, Y: Tile>(&self, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
        let l = &self.layout;
        let g = &l.geometry;
        let u = self.transform_weights::<Z, Y>(w, false);
        let (u, zeros, y): (&[f32], _, _) = (&u, self.zeros(), Shared::new(y));
        let zeros: &[f32] = &zeros;
        let blocks: Vec<Block> = (0..self.batch)
            .flat_map(|n| l.blocks(n, 0, l.tile_rows()))
            .collect();
        each(self.by_slab, blocks.len(), |i| {
            let block = blocks[i];
            let mut v = Scratch::take(l.positions * l.input.position);
            let mut m = Scratch::take(l.positions * l.sums.position);
            self.input::<Z, Y>(block, x, zeros, Shared::new(&mut v));
            let (v, sums): (&[f32], _) = (&v, Shared::new(&mut m));
            let columns = l.columns(&block) - (g.kernel[2] - 1);
            each(!self.by_slab, l.positions, |p| {
                // SAFETY: each position is touched by its own task alone.
                let to = unsafe { sums.part(p * l.sums.position..(p + 1) * l.sums.position) };
                let from = &v[p * l.input.position..][..l.input.position];
                let u = &u[p * l.weights..][..l.weights];
                for (first, rows, taps) in self.parts() {
                    kernel::correlate(
                        self.set,
                        from,
                        taps,
                        &u[first * taps.len()..],
                        (rows, ROWS),
                        columns,
                        &mut to[first * l.sums.row..],
                        l.sums.row,
                        usize::MAX,
                    );
                }
            });
            let sums: &[f32] = &m;
            // Where there are two parts, their outputs go to the same rows.
            let outputs = self.part();
            let tasks = self.tasks(outputs);
            each(!self.by_slab, tasks, |task| {
                let channels = share(outputs, tasks, task);
                let tiles = PhantomData::<(Z, Y)>;
                let output = stages::Output {
                    layout: l,
                    block,
                    channels,
                    sums,
                    finish,
                    y,
                    tiles,
                };
                if l.step == 1 {
                    self.set.run(output);
                } else {
                    self.set.run(doubling::Pairs(output));
                }
            });
        });
    }
}
