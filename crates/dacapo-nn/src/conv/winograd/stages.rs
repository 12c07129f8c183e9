//! The transforms of a block: input to positions, products to output, and their adjoints. Lanes lie along x;
//! the transform along z goes through a buffer (`half`) that stays in the first cache.
//!
//! Addresses are computed from the [`Layout`], which the buffers were sized by; rows and planes of the tensors are
//! tested against the geometry before an address is made.
#![allow(
    clippy::needless_range_loop,
    reason = "indices are positions and taps; closures would not be inlined"
)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each stage is one block under one contract: tensors have the geometry's sizes (an output `step` times the \
              layout's along each axis, with so many channels fewer), buffers the layout's, \
              the block lies inside the layout, and no other task touches the stage's channels of its outputs"
)]

use super::along_x;
use super::doubling;
use super::layout::{Block, Layout};
use super::tile::{IN, OUT, Tile};
use crate::conv::direct::Finish;
use crate::conv::kernel::SLACK;
use crate::conv::pack::Gated;
use crate::conv::scratch::Shared;
use crate::simd::{Job, Vector};
use std::marker::PhantomData;
use std::ops::Range;

/// `LANES` elements, or those that are left of a row.
#[inline(always)]
pub(super) unsafe fn load_some<V: Vector>(from: *const f32, count: usize) -> V {
    unsafe {
        if count >= V::LANES {
            V::load(from)
        } else {
            V::load_first(from, count)
        }
    }
}

/// The elements `x, x + 1, …` of a row, of which `left` are left; with a step of 2 the elements `2x + odd, 2x + odd + 2, …`
/// of one twice as long.
#[inline(always)]
unsafe fn load_step<V: Vector>(row: *const f32, x: usize, left: usize, step: usize, odd: usize) -> V {
    unsafe {
        if step == 1 {
            return load_some(row.add(x), left);
        }
        let from = row.add(2 * x);
        let low = load_some::<V>(from, 2 * left);
        let high = if 2 * left > V::LANES {
            load_some(from.add(V::LANES), 2 * left - V::LANES)
        } else {
            V::splat(0.0)
        };
        low.unzip(high)[odd]
    }
}

#[inline(always)]
pub(super) unsafe fn store_some<V: Vector>(v: V, to: *mut f32, count: usize) {
    unsafe {
        if count >= V::LANES {
            v.store(to)
        } else {
            v.store_first(to, count)
        }
    }
}

/// Writes zeros to `to..to + count`, rounded up to whole vectors.
#[inline(always)]
unsafe fn clear<V: Vector>(to: *mut f32, count: usize) {
    let mut x = 0;
    while x < count {
        unsafe { V::splat(0.0).store(to.add(x)) };
        x += V::LANES;
    }
}

/// Input to positions: `V = Bᵀ d B`, zero behind the block's last column.
pub(super) struct Input<'a, Z, Y> {
    pub(super) layout: &'a Layout,
    pub(super) block: Block,
    pub(super) channels: Range<usize>,
    pub(super) x: &'a [f32],
    /// A row of zeros as long as an input row, in whole vectors.
    pub(super) zeros: &'a [f32],
    pub(super) half: &'a mut [f32],
    pub(super) to: Shared<'a>,
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Job for Input<'_, Z, Y> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            layout: l,
            block: b,
            channels,
            x,
            zeros,
            half,
            to,
            ..
        } = self;
        let g = &l.geometry;
        let [depth, height, width] = g.input;
        let [pad_z, pad_y, pad_x] = g.padding;
        let volume = depth * height * width;
        let rows = Y::OUT * b.tiles_y + Y::OVERLAP;
        let plane = rows * l.half_row;
        assert!(Z::IN * plane <= half.len() && zeros.len() >= width.next_multiple_of(16));
        let (x, half, to) = (x.as_ptr(), half.as_mut_ptr(), to.start());
        unsafe {
            for c in channels {
                let channel = x.add((b.sample * g.in_channels + c) * l.stack * volume);
                let to = to.add(c * l.input.row);
                for i in 0..b.tiles_z {
                    let (place, tile) = l.volume_and_tile(b.z + i);
                    let channel = channel.add(place * volume);
                    for r in 0..if l.along_x { 1 } else { rows } {
                        let row = half.add(r * l.half_row);
                        let mut from = [zeros.as_ptr(); IN];
                        let y = (b.y * Y::OUT + r).wrapping_sub(pad_y);
                        if y < height {
                            for (k, from) in from.iter_mut().enumerate().take(Z::IN) {
                                let z = (tile * Z::OUT + k).wrapping_sub(pad_z);
                                if z < depth {
                                    *from = channel.add((z * height + y) * width);
                                }
                            }
                        }
                        if l.along_x {
                            along_x::split_input::<V, Z, Y>(l, from, row, plane);
                            continue;
                        }
                        let behind = pad_x + width.next_multiple_of(V::LANES);
                        for k in 0..Z::IN {
                            clear::<V>(row.add(k * plane), pad_x);
                            clear::<V>(row.add(k * plane + behind), l.pitch.saturating_sub(behind));
                        }
                        let mut x = 0;
                        while x < width {
                            let mut d = [V::splat(0.0); IN];
                            for k in 0..Z::IN {
                                d[k] = load_some(from[k].add(x), width - x);
                                V::prefetch(from[k].wrapping_add(x + 2 * width));
                            }
                            let t = Z::input(d);
                            for k in 0..Z::IN {
                                t[k].store(row.add(k * plane + pad_x + x));
                            }
                            x += V::LANES;
                        }
                    }
                    for k in 0..Z::IN {
                        for ty in 0..b.tiles_y {
                            let first = half.add(k * plane + ty * Y::OUT * l.half_row);
                            let mut from = [first; IN];
                            for j in 0..Y::IN {
                                from[j] = first.add(l.half_offset::<Y>(j));
                            }
                            let to = to.add(k * Y::IN * l.input.position + (i * b.tiles_y + ty) * l.pitch);
                            let mut x = 0;
                            while x < l.pitch {
                                let mut d = [V::splat(0.0); IN];
                                for j in 0..Y::IN {
                                    d[j] = V::load(from[j].add(x));
                                }
                                let t = Y::input(d);
                                for j in 0..Y::IN {
                                    t[j].store(to.add(j * l.input.position + x));
                                }
                                x += V::LANES;
                            }
                        }
                    }
                }
                for position in 0..l.positions {
                    clear::<V>(to.add(position * l.input.position + l.columns(&b)), SLACK);
                }
            }
        }
    }
}

/// A tile's products, of which a position has `position` elements, to outputs along y.
#[inline(always)]
pub(super) unsafe fn half_outputs<V: Vector, Z: Tile, Y: Tile>(
    from: *const f32,
    position: usize,
) -> [[V; OUT]; IN] {
    unsafe {
        let mut half = [[V::splat(0.0); OUT]; IN];
        for k in 0..Z::IN {
            let mut m = [V::splat(0.0); IN];
            for j in 0..Y::IN {
                m[j] = V::load(from.add((k * Y::IN + j) * position));
            }
            half[k] = Y::output(m);
        }
        half
    }
}

/// What is left of [`half_outputs`] to outputs along z, plus bias, through ReLU.
#[inline(always)]
pub(super) fn whole_outputs<V: Vector, Z: Tile, Y: Tile>(
    half: [[V; OUT]; IN],
    (bias, floor): (V, V),
) -> [[V; OUT]; OUT] {
    let mut outputs = [[bias; OUT]; OUT];
    for j in 0..Y::OUT {
        let mut m = [bias; IN];
        for k in 0..Z::IN {
            m[k] = half[k][j];
        }
        let t = Z::output(m);
        for k in 0..Z::OUT {
            outputs[k][j] = t[k].add(bias).at_least(floor);
        }
    }
    outputs
}

/// Products to output: `y = Aᵀ M A`, plus bias, through ReLU.
pub(super) struct Output<'a, Z, Y> {
    pub(super) layout: &'a Layout,
    pub(super) block: Block,
    pub(super) channels: Range<usize>,
    pub(super) sums: &'a [f32],
    pub(super) finish: Finish<'a>,
    pub(super) y: Shared<'a>,
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Job for Output<'_, Z, Y> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            layout: l,
            block: b,
            channels,
            sums,
            finish,
            y,
            ..
        } = self;
        let [depth, height, width] = l.output;
        let volume = depth * height * width;
        let columns = if l.along_x { width.div_ceil(Y::OUT) } else { width };
        let floor = if finish.relu { 0.0 } else { f32::NEG_INFINITY };
        let (sums, y) = (sums.as_ptr(), y.start());
        unsafe {
            let floor = V::splat(floor);
            for c in channels {
                let bias = V::splat(finish.bias.map_or(0.0, |bias| bias[c]));
                let channel = y.add((b.sample * l.geometry.out_channels + c) * l.stack * volume);
                for i in 0..b.tiles_z {
                    let (place, tile) = l.volume_and_tile(b.z + i);
                    let channel = channel.add(place * volume);
                    let z = tile * Z::OUT;
                    let planes = Z::OUT.min(depth - z);
                    for ty in 0..b.tiles_y {
                        let row = (b.y + ty) * Y::OUT;
                        let rows = Y::OUT.min(height - row);
                        let from = sums.add(c * l.sums.row + (i * b.tiles_y + ty) * l.pitch);
                        let to = channel.add((z * height + row) * width);
                        let mut x = 0;
                        while x < columns {
                            let half = half_outputs::<V, Z, Y>(from.add(x), l.sums.position);
                            if l.along_x {
                                along_x::merge_output::<V, Z, Y>(half, (bias, floor), to, x, planes, width);
                                x += V::LANES;
                                continue;
                            }
                            for j in 0..Y::OUT {
                                if j < rows {
                                    let mut m = [V::splat(0.0); IN];
                                    for k in 0..Z::IN {
                                        m[k] = half[k][j];
                                    }
                                    let t = Z::output(m);
                                    for k in 0..Z::OUT {
                                        if k < planes {
                                            let to = to.add((k * height + j) * width + x);
                                            store_some(t[k].add(bias).at_least(floor), to, width - x);
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
}

/// The output's gradient to positions: `G = A g Aᵀ`, the adjoint of [`Output`], with the ReLU's gate and the sums
/// for the bias. Zero between the rows, in the lead, and behind the block's last column.
pub(super) struct Gradient<'a, Z, Y> {
    pub(super) layout: &'a Layout,
    pub(super) block: Block,
    pub(super) channels: Range<usize>,
    pub(super) gy: Gated<'a>,
    pub(super) zeros: &'a [f32],
    pub(super) half: &'a mut [f32],
    pub(super) to: Shared<'a>,
    /// Added to, an element a channel of the tiles.
    pub(super) bias: Shared<'a>,
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Job for Gradient<'_, Z, Y> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            layout: l,
            block: b,
            channels,
            gy,
            zeros,
            half,
            to,
            bias,
            ..
        } = self;
        let [depth, height, width] = l.output;
        let volume = depth * height * width;
        assert!(
            Z::IN * Y::OUT * l.half_row <= half.len() && zeros.len() >= l.step * width.next_multiple_of(16)
        );
        let (half, to) = (half.as_mut_ptr(), to.start());
        unsafe {
            for c in channels {
                let outs = l.geometry.out_channels / l.step.pow(3);
                let (channel, [pz, py, px]) = doubling::place(c, outs);
                let channel = (b.sample * outs + channel) * l.step.pow(3) * l.stack * volume;
                let to = to.add(c * l.gradient.row);
                let mut total = V::splat(0.0);
                for i in 0..b.tiles_z {
                    let (place, tile) = l.volume_and_tile(b.z + i);
                    let channel = channel + place * volume;
                    for ty in 0..b.tiles_y {
                        // Tile by tile: long sums in few lanes are less exact.
                        let mut sum = V::splat(0.0);
                        for r in 0..if l.along_x { 1 } else { Y::OUT } {
                            let row = half.add(r * l.half_row);
                            let y = (b.y + ty) * Y::OUT + r;
                            let mut from = [zeros.as_ptr(); OUT];
                            // Where there is no row, zeros gate zeros.
                            let mut gate = from;
                            for k in 0..Z::OUT {
                                let z = tile * Z::OUT + k;
                                if y < height && z < depth {
                                    let (z, y) = (l.step * z + pz, l.step * y + py);
                                    let start = channel + (z * l.step * height + y) * l.step * width;
                                    from[k] = gy.values.as_ptr().add(start);
                                    if let Some(output) = gy.gate {
                                        gate[k] = output.as_ptr().add(start);
                                    }
                                }
                            }
                            if l.along_x {
                                let gates = gy.gate.map(|_| gate);
                                sum = along_x::split_gradient::<V, Z, Y>(l, from, gates, row, sum);
                                continue;
                            }
                            let mut x = 0;
                            while x < l.pitch {
                                let left = width.saturating_sub(x);
                                let mut d = [V::splat(0.0); OUT];
                                if left > 0 {
                                    for k in 0..Z::OUT {
                                        d[k] = load_step(from[k], x, left, l.step, px);
                                        if gy.gate.is_some() {
                                            d[k] = d[k].gated(load_step(gate[k], x, left, l.step, px));
                                        }
                                        sum = sum.add(d[k]);
                                    }
                                }
                                let t = Z::output_adjoint(d);
                                for k in 0..Z::IN {
                                    t[k].store(row.add(k * Y::OUT * l.half_row + x));
                                }
                                x += V::LANES;
                            }
                        }
                        total = total.add(sum);
                        for k in 0..Z::IN {
                            let from = half.add(k * Y::OUT * l.half_row);
                            let column = l.lead + (i * b.tiles_y + ty) * l.pitch;
                            let to = to.add(k * Y::IN * l.gradient.position + column);
                            let mut x = 0;
                            while x < l.pitch {
                                let mut d = [V::splat(0.0); OUT];
                                for r in 0..Y::OUT {
                                    d[r] = V::load(from.add(r * l.half_row + x));
                                }
                                let t = Y::output_adjoint(d);
                                for j in 0..Y::IN {
                                    t[j].store(to.add(j * l.gradient.position + x));
                                }
                                x += V::LANES;
                            }
                        }
                    }
                }
                for position in 0..l.positions {
                    let row = to.add(position * l.gradient.position);
                    clear::<V>(row, l.lead);
                    clear::<V>(row.add(l.lead + l.columns(&b)), SLACK);
                }
                let zero = V::splat(0.0);
                bias.part(c..c + 1)[0] += V::sums([total, zero, zero, zero])[0];
            }
        }
    }
}

/// Products to the input's gradient: `dx += B E Bᵀ`, the adjoint of [`Input`]. Neighbouring tiles overlap; whoever
/// comes first writes, the others add. What a slab of z tiles leaves for the planes of the next slab goes aside.
pub(super) struct Adjoint<'a, Z, Y> {
    pub(super) layout: &'a Layout,
    pub(super) block: Block,
    pub(super) channels: Range<usize>,
    pub(super) sums: &'a [f32],
    pub(super) half: &'a mut [f32],
    pub(super) dx: Shared<'a>,
    /// The slab's first z tile, and the first plane that is not the slab's own, with the volume that it is in.
    pub(super) first: usize,
    pub(super) limit: (usize, isize),
    /// `[channel][Z::OVERLAP][height][width]`
    pub(super) aside: Shared<'a>,
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Job for Adjoint<'_, Z, Y> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            layout: l,
            block: b,
            channels,
            sums,
            half,
            dx,
            first,
            limit,
            aside,
            ..
        } = self;
        let g = &l.geometry;
        let [depth, height, width] = g.input;
        let [pad_z, pad_y, pad_x] = g.padding;
        let volume = depth * height * width;
        let rows = Y::OUT * b.tiles_y + Y::OVERLAP;
        let plane = rows * l.half_row;
        assert!(Z::IN * plane <= half.len());
        let (sums, half) = (sums.as_ptr(), half.as_mut_ptr());
        unsafe {
            for c in channels {
                let channel = dx.start().add((b.sample * g.in_channels + c) * l.stack * volume);
                let aside = aside.start().wrapping_add(c * Z::OVERLAP * height * width);
                for i in 0..b.tiles_z {
                    let (place, tile) = l.volume_and_tile(b.z + i);
                    let channel = channel.add(place * volume);
                    let limit = if place == limit.0 { limit.1 } else { isize::MAX };
                    let follows = tile > 0 && b.z + i > first;
                    for k in 0..Z::IN {
                        for ty in 0..b.tiles_y {
                            let column = c * l.adjoint.row + (i * b.tiles_y + ty) * l.pitch;
                            let from = sums.add(k * Y::IN * l.adjoint.position + column);
                            let to = half.add(k * plane + ty * Y::OUT * l.half_row);
                            let mut x = 0;
                            while x < l.pitch {
                                let mut m = [V::splat(0.0); IN];
                                for j in 0..Y::IN {
                                    m[j] = V::load(from.add(j * l.adjoint.position + x));
                                }
                                let t = Y::input_adjoint(m);
                                for j in 0..Y::IN {
                                    let behind = usize::from(l.along_x && j >= Y::OUT);
                                    let to = to.add(j * l.half_row + x + behind);
                                    let shared = j < Y::OVERLAP && ty > 0;
                                    if shared {
                                        t[j].add(V::load(to)).store(to)
                                    } else {
                                        t[j].store(to)
                                    }
                                }
                                x += V::LANES;
                            }
                        }
                    }
                    for r in 0..if l.along_x { 1 } else { rows } {
                        let y = (b.y * Y::OUT + r).wrapping_sub(pad_y);
                        if y >= height {
                            continue;
                        }
                        let mut to = [None; IN];
                        for (k, to) in to.iter_mut().enumerate().take(Z::IN) {
                            let z = (tile * Z::OUT + k) as isize - pad_z as isize;
                            if z >= 0 && z < depth as isize {
                                let start = if z < limit {
                                    channel.add(z as usize * height * width)
                                } else {
                                    aside.add((z - limit) as usize * height * width)
                                };
                                let shared = (b.y > 0 && r < Y::OVERLAP) || (follows && k < Z::OVERLAP);
                                *to = Some((start.add(y * width), shared));
                            }
                        }
                        if l.along_x {
                            along_x::merge_adjoint::<V, Z, Y>(l, half, plane, to);
                            continue;
                        }
                        let from = half.add(r * l.half_row + pad_x);
                        let mut x = 0;
                        while x < width {
                            let left = width - x;
                            let mut m = [V::splat(0.0); IN];
                            for k in 0..Z::IN {
                                m[k] = V::load(from.add(k * plane + x));
                            }
                            let t = Z::input_adjoint(m);
                            for k in 0..Z::IN {
                                if let Some((to, shared)) = to[k] {
                                    let to = to.add(x);
                                    let t = if shared {
                                        t[k].add(load_some(to, left))
                                    } else {
                                        t[k]
                                    };
                                    store_some(t, to, left);
                                }
                            }
                            x += V::LANES;
                        }
                    }
                }
            }
        }
    }
}
