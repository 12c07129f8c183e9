//! The backward pass of a Winograd convolution: slabs of z tiles, their sums and what they leave for one another.

use super::layout::Block;
use super::tile::Tile;
use super::{Winograd, each, share, stages, weights};
use crate::conv::kernel::{self, ROWS};
use crate::conv::pack::Gated;
use crate::conv::scratch::{Scratch, Shared};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Most slabs that a sample is split into.
pub(super) const SLABS: usize = 8;
/// Fewest products that are added up before a sum of the input's gradient begins anew.
const LEAST_CHAIN: usize = 6;
/// Sums that one task clears or adds up.
const CHUNK: usize = 4096;

impl Winograd {
    pub(super) fn backward_tiled<Z: Tile, Y: Tile>(
        &self,
        x: &[f32],
        w: &[f32],
        gy: Gated,
        mut dx: Option<&mut [f32]>,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let l = &self.layout;
        let g = &l.geometry;
        let u = dx.is_some().then(|| self.transform_weights::<Z, Y>(w, true));
        let zeros = self.zeros();
        let slabs = self.slabs();
        let units = self.batch * slabs;
        // Sums of a part: the weights' gradient at all positions, then the bias'.
        let du = l.positions * l.weights;
        let part = du + g.out_channels.next_multiple_of(16);
        let parts = if self.by_slab { units } else { 1 };
        let mut sums = Scratch::take(parts * part);
        sums.par_chunks_mut(CHUNK).for_each(|sums| sums.fill(0.0));
        let overhang = if dx.is_some() && slabs > 1 {
            g.in_channels * Z::OVERLAP * g.input[1] * g.input[2]
        } else {
            0
        };
        let mut aside = Scratch::take(units * overhang);
        let whole_slabs = |slab: usize| slab * l.tile_rows() / slabs;
        // The first plane that is not a slab's own, if it shares planes with the next slab.
        let limit = |slab: usize| {
            let (volume, tile) = l.volume_and_tile(whole_slabs(slab + 1));
            (tile > 0).then(|| (volume, (tile * Z::OUT) as isize - g.padding[0] as isize))
        };
        let pass = Pass {
            plan: self,
            x,
            gy,
            u: u.as_deref(),
            zeros: &zeros,
            dx: dx.as_deref_mut().map(Shared::new),
            tiles: PhantomData::<(Z, Y)>,
        };
        let (sums_shared, aside_shared) = (Shared::new(&mut sums), Shared::new(&mut aside));
        each(self.by_slab, units, |unit| {
            let (sample, slab) = (unit / slabs, unit % slabs);
            let own = if self.by_slab { unit } else { 0 };
            // SAFETY: a unit's sums and overhang are its own, or the units run one after another.
            let (sums, aside) = unsafe {
                (
                    sums_shared.part(own * part..(own + 1) * part),
                    aside_shared.part(unit * overhang..(unit + 1) * overhang),
                )
            };
            let (du, db) = sums.split_at_mut(du);
            let limit = limit(slab).unwrap_or((usize::MAX, 0));
            let blocks = l.blocks(sample, whole_slabs(slab), whole_slabs(slab + 1));
            pass.run(blocks, whole_slabs(slab), limit, du, db, Shared::new(aside));
        });
        if let Some(dx) = dx {
            self.add_overhang(slabs, limit, &aside, overhang, dx);
        }
        add_parts(&mut sums, part);
        if let Some(db) = db {
            db.copy_from_slice(&sums[du..du + db.len()]);
        }
        let matrix = self.matrix(false);
        let (u, step): (&[f32], _) = (&sums[..du], l.weights);
        dw.par_chunks_mut(ROWS * matrix.out_step)
            .enumerate()
            .for_each(|(group, dw)| {
                self.set.run(weights::Gradient {
                    matrix,
                    group,
                    u,
                    step,
                    dw,
                    tiles: PhantomData::<(Z, Y)>,
                });
            });
    }

    /// Adds to each slab's first planes what the slab before has left for them.
    fn add_overhang(
        &self,
        slabs: usize,
        limit: impl Fn(usize) -> Option<(usize, isize)> + Sync,
        aside: &[f32],
        overhang: usize,
        dx: &mut [f32],
    ) {
        if overhang == 0 {
            return;
        }
        let l = &self.layout;
        let g = &l.geometry;
        let plane = g.input[1] * g.input[2];
        let planes = overhang / g.in_channels / plane;
        dx.par_chunks_exact_mut(g.input[0] * plane)
            .enumerate()
            .for_each(|(i, dx)| {
                let (i, volume) = (i / l.stack, i % l.stack);
                let (sample, channel) = (i / g.in_channels, i % g.in_channels);
                for slab in 0..slabs - 1 {
                    let Some((_, limit)) = limit(slab).filter(|limit| limit.0 == volume) else {
                        continue;
                    };
                    let from = &aside[(sample * slabs + slab) * overhang + channel * planes * plane..];
                    for (k, from) in from.chunks_exact(plane).take(planes).enumerate() {
                        let z = limit + k as isize;
                        if z >= 0 && z < g.input[0] as isize {
                            let to = &mut dx[z as usize * plane..][..plane];
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        }
                    }
                }
            });
    }
}

/// Adds all parts to the first, in order.
fn add_parts(sums: &mut [f32], part: usize) {
    let (first, others) = sums.split_at_mut(part);
    if others.is_empty() {
        return;
    }
    let others: &[f32] = others;
    first.par_chunks_mut(CHUNK).enumerate().for_each(|(i, to)| {
        for other in others.chunks_exact(part) {
            to.iter_mut()
                .zip(&other[i * CHUNK..])
                .for_each(|(to, from)| *to += from);
        }
    });
}

/// What all units of a backward pass share.
struct Pass<'a, Z, Y> {
    plan: &'a Winograd,
    x: &'a [f32],
    gy: Gated<'a>,
    u: Option<&'a [f32]>,
    zeros: &'a [f32],
    dx: Option<Shared<'a>>,
    tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Pass<'_, Z, Y> {
    /// The blocks of one slab, in order: `first` its first z tile, `limit` the first plane that is not its own, with
    /// its volume.
    fn run(
        &self,
        blocks: impl Iterator<Item = Block>,
        first: usize,
        limit: (usize, isize),
        du: &mut [f32],
        db: &mut [f32],
        aside: Shared,
    ) {
        let Self {
            plan,
            x,
            gy,
            u,
            zeros,
            dx,
            tiles,
        } = *self;
        let l = &plan.layout;
        let g = &l.geometry;
        let parallel = !plan.by_slab;
        let mut v = Scratch::take(l.positions * l.input.position);
        let mut gradient = Scratch::take(l.positions * l.gradient.position);
        let mut products = Scratch::take(if u.is_some() {
            l.positions * l.adjoint.position
        } else {
            0
        });
        // What a long chain of additions loses is several times what it is in a direct convolution, through two
        // transforms; as many chains as each has products lose least.
        let chain = plan.taps_back.len().isqrt().max(LEAST_CHAIN);
        let (du, bias) = (Shared::new(du), Shared::new(db));
        for block in blocks {
            plan.input::<Z, Y>(block, x, zeros, Shared::new(&mut v));
            let to = Shared::new(&mut gradient);
            let tasks = plan.tasks(g.out_channels);
            each(parallel, tasks, |task| {
                let mut half = Scratch::take(l.half);
                let (half, channels) = (&mut half[..], share(g.out_channels, tasks, task));
                plan.set.run(stages::Gradient {
                    layout: l,
                    block,
                    channels,
                    gy,
                    zeros,
                    half,
                    to,
                    bias,
                    tiles,
                });
            });
            let (from, gradient): (&[f32], &[f32]) = (&v, &gradient);
            let sums = Shared::new(&mut products);
            let columns = l.columns(&block);
            each(parallel, l.positions, |p| {
                let gradient = &gradient[p * l.gradient.position..][..l.gradient.position];
                // SAFETY: each position is touched by its own task alone.
                let du = unsafe { du.part(p * l.weights..(p + 1) * l.weights) };
                let from = &from[p * l.input.position..][..l.input.position];
                let inner = columns - (g.kernel[2] - 1);
                for (start, rows, taps) in plan.parts() {
                    kernel::accumulate(
                        plan.set,
                        from,
                        taps,
                        &gradient[l.lead + start * l.gradient.row..],
                        rows,
                        l.gradient.row,
                        inner,
                        &mut du[start * taps.len()..],
                    );
                }
                if let Some(u) = u {
                    // SAFETY: as above.
                    let to = unsafe { sums.part(p * l.adjoint.position..(p + 1) * l.adjoint.position) };
                    let u = &u[p * l.weights_adjoint..][..l.weights_adjoint];
                    let (taps, rows) = (&plan.taps_back, (g.in_channels, ROWS));
                    kernel::correlate(
                        plan.set,
                        gradient,
                        taps,
                        u,
                        rows,
                        columns,
                        to,
                        l.adjoint.row,
                        chain,
                    );
                }
            });
            let Some(dx) = dx else { continue };
            let (sums, tasks): (&[f32], _) = (&products, plan.tasks(g.in_channels));
            each(parallel, tasks, |task| {
                let mut half = Scratch::take(l.half);
                let (half, channels) = (&mut half[..], share(g.in_channels, tasks, task));
                let layout = l;
                plan.set.run(stages::Adjoint {
                    layout,
                    block,
                    channels,
                    sums,
                    half,
                    dx,
                    first,
                    limit,
                    aside,
                    tiles,
                });
            });
        }
    }
}
