//! Rows of planes to tiles along x and back: a row is split into its elements 0, 4, 8, …, 1, 5, 9, … and so on, so that
//! a column of those is a tile, and vectors of tiles lie side by side as everywhere else.
//!
//! The buffer `half` has a row for each of a tile's columns at each position along z. A tile's columns that belong to
//! the next tile as well are the next column of the first rows.
#![allow(
    clippy::needless_range_loop,
    reason = "indices are positions and taps; closures would not be inlined"
)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each function is one block under the contract of the stage that it is a part of"
)]

use super::layout::Layout;
use super::stages::{load_some, store_some, whole_outputs};
use super::tile::{IN, OUT, Tile};
use crate::simd::Vector;

/// Longest vector.
const LANES: usize = 16;

/// Vectors that lie one behind the other, as those of every fourth element.
#[inline(always)]
fn split<V: Vector>(v: [V; OUT]) -> [V; OUT] {
    let ([a, b], [c, d]) = (v[0].unzip(v[1]), v[2].unzip(v[3]));
    let ([a, c], [b, d]) = (a.unzip(c), b.unzip(d));
    [a, b, c, d]
}

/// The inverse of `split`.
#[inline(always)]
fn merge<V: Vector>(v: [V; OUT]) -> [V; OUT] {
    let ([a, c], [b, d]) = (v[0].zip(v[2]), v[1].zip(v[3]));
    let ([a, b], [c, d]) = (a.zip(b), c.zip(d));
    [a, b, c, d]
}

/// `LANES` elements of a row of `len` from `start` on, zero outside of it.
#[inline(always)]
unsafe fn load_inside<V: Vector>(row: *const f32, start: isize, len: usize) -> V {
    unsafe {
        if start >= 0 {
            let start = start as usize;
            return load_some(row.wrapping_add(start), len.saturating_sub(start));
        }
        let mut lanes = [0.0f32; 2 * LANES];
        load_some::<V>(row, len).store(lanes.as_mut_ptr().add(V::LANES));
        V::load(lanes.as_ptr().add(V::LANES.saturating_sub(start.unsigned_abs())))
    }
}

/// Writes, or adds, the elements that are inside of a row of `len`.
#[inline(always)]
unsafe fn store_inside<V: Vector>(v: V, add: bool, row: *mut f32, start: isize, len: usize) {
    unsafe {
        let (mut v, mut to, mut count) = (v, row, len);
        if start >= 0 {
            to = row.wrapping_add(start as usize);
            count = len.saturating_sub(start as usize);
        } else {
            let mut lanes = [0.0f32; 2 * LANES];
            v.store(lanes.as_mut_ptr());
            let outside = start.unsigned_abs().min(V::LANES);
            v = V::load(lanes.as_ptr().add(outside));
            count = count.min(V::LANES - outside);
        }
        if add {
            v = v.add(load_some(to, count));
        }
        store_some(v, to, count);
    }
}

/// Vectors of a tile's input rows to positions along z.
#[inline(always)]
unsafe fn input_inside<V: Vector, Z: Tile>(rows: [*const f32; IN], start: isize, width: usize) -> [V; IN] {
    unsafe {
        let mut d = [V::splat(0.0); IN];
        for k in 0..Z::IN {
            d[k] = load_inside(rows[k], start, width);
            if k >= Z::OVERLAP {
                // The next tile's.
                V::prefetch(rows[k].wrapping_offset(start + (Z::OUT * width) as isize));
            }
        }
        Z::input(d)
    }
}

/// The adjoint of `input_inside`. Rows are those inside of the tensor, each with whether it is added to.
#[inline(always)]
unsafe fn adjoint_inside<V: Vector, Z: Tile>(
    m: [V; IN],
    rows: [Option<(*mut f32, bool)>; IN],
    start: isize,
    width: usize,
) {
    let t = Z::input_adjoint(m);
    for k in 0..Z::IN {
        if let Some((to, shared)) = rows[k] {
            unsafe { store_inside(t[k], shared, to, start, width) };
        }
    }
}

/// The input's rows of a tile along z to `half`, of which a position has `plane` elements.
#[inline(always)]
pub(super) unsafe fn split_input<V: Vector, Z: Tile, X: Tile>(
    l: &Layout,
    rows: [*const f32; IN],
    half: *mut f32,
    plane: usize,
) {
    let (width, padding) = (l.geometry.input[2], l.geometry.padding[2] as isize);
    unsafe {
        let mut tile = 0;
        while tile < l.pitch {
            let start = (tile * X::OUT) as isize - padding;
            let mut positions = [[V::splat(0.0); OUT]; IN];
            for v in 0..X::OUT {
                let start = start + (v * V::LANES) as isize;
                if start < width as isize {
                    let t = input_inside::<V, Z>(rows, start, width);
                    for k in 0..Z::IN {
                        positions[k][v] = t[k];
                    }
                }
            }
            for k in 0..Z::IN {
                let t = split(positions[k]);
                for j in 0..X::OUT {
                    t[j].store(half.add(k * plane + j * l.half_row + tile));
                }
            }
            tile += V::LANES;
        }
        if tile == l.pitch {
            // What the last tile has of one behind it.
            let start = (tile * X::OUT) as isize - padding;
            let t = input_inside::<V, Z>(rows, start, width);
            for k in 0..Z::IN {
                let mut lanes = [0.0f32; LANES];
                t[k].store(lanes.as_mut_ptr());
                for j in 0..X::OVERLAP {
                    *half.add(k * plane + j * l.half_row + tile) = lanes[j];
                }
            }
        }
    }
}

/// The adjoint of `split_input`. In `half` the columns that belong to the next tile have rows of their own, which begin
/// with its column.
#[inline(always)]
pub(super) unsafe fn merge_adjoint<V: Vector, Z: Tile, X: Tile>(
    l: &Layout,
    half: *mut f32,
    plane: usize,
    rows: [Option<(*mut f32, bool)>; IN],
) {
    let (width, padding) = (l.geometry.input[2], l.geometry.padding[2] as isize);
    let behind = X::OUT * l.half_row;
    unsafe {
        for k in 0..Z::IN {
            for j in 0..X::OVERLAP {
                // Before the first tile and behind the last there is none.
                let row = half.add(k * plane + j * l.half_row);
                *row.add(behind) = 0.0;
                *row.add(l.pitch) = 0.0;
            }
        }
        let mut tile = 0;
        while tile < l.pitch {
            let start = (tile * X::OUT) as isize - padding;
            let mut positions = [[V::splat(0.0); OUT]; IN];
            for k in 0..Z::IN {
                let mut t = [V::splat(0.0); OUT];
                for j in 0..X::OUT {
                    let from = half.add(k * plane + j * l.half_row + tile);
                    t[j] = V::load(from);
                    if j < X::OVERLAP {
                        t[j] = t[j].add(V::load(from.add(behind)));
                    }
                }
                positions[k] = merge(t);
            }
            for v in 0..X::OUT {
                let start = start + (v * V::LANES) as isize;
                if start < width as isize {
                    let mut m = [V::splat(0.0); IN];
                    for k in 0..Z::IN {
                        m[k] = positions[k][v];
                    }
                    adjoint_inside::<V, Z>(m, rows, start, width);
                }
            }
            tile += V::LANES;
        }
        let start = (tile * X::OUT) as isize - padding;
        if start < width as isize {
            // What the last tile leaves behind it.
            let mut m = [V::splat(0.0); IN];
            for k in 0..Z::IN {
                let mut lanes = [0.0f32; LANES];
                for j in 0..X::OVERLAP {
                    lanes[j] = *half.add(k * plane + behind + j * l.half_row + tile);
                }
                m[k] = V::load(lanes.as_ptr());
            }
            adjoint_inside::<V, Z>(m, rows, start, width);
        }
    }
}

/// The outputs of a vector of tiles, given after the transform along x, to `planes` rows of `width` elements.
#[inline(always)]
pub(super) unsafe fn merge_output<V: Vector, Z: Tile, X: Tile>(
    half: [[V; OUT]; IN],
    finish: (V, V),
    to: *mut f32,
    tile: usize,
    planes: usize,
    width: usize,
) {
    unsafe {
        let rows = whole_outputs::<V, Z, X>(half, finish);
        for k in 0..Z::OUT {
            if k < planes {
                let t = merge(rows[k]);
                for v in 0..X::OUT {
                    let at = tile * X::OUT + v * V::LANES;
                    if at < width {
                        store_some(t[v], to.add(k * width + at), width - at);
                    }
                }
            }
        }
    }
}

/// The gradient's rows of a tile along z, through their gates if there are any, to `half`. Gives `sum` with them added.
#[inline(always)]
pub(super) unsafe fn split_gradient<V: Vector, Z: Tile, X: Tile>(
    l: &Layout,
    rows: [*const f32; OUT],
    gates: Option<[*const f32; OUT]>,
    half: *mut f32,
    sum: V,
) -> V {
    let width = l.output[2];
    let mut sum = sum;
    unsafe {
        let mut tile = 0;
        while tile < l.pitch {
            let mut positions = [[V::splat(0.0); OUT]; IN];
            for v in 0..X::OUT {
                let at = tile * X::OUT + v * V::LANES;
                if at < width {
                    let mut d = [V::splat(0.0); OUT];
                    for k in 0..Z::OUT {
                        let next = at + Z::OUT * width;
                        d[k] = load_some(rows[k].add(at), width - at);
                        V::prefetch(rows[k].wrapping_add(next));
                        if let Some(gates) = gates {
                            d[k] = d[k].gated(load_some(gates[k].add(at), width - at));
                            V::prefetch(gates[k].wrapping_add(next));
                        }
                        sum = sum.add(d[k]);
                    }
                    let t = Z::output_adjoint(d);
                    for k in 0..Z::IN {
                        positions[k][v] = t[k];
                    }
                }
            }
            for k in 0..Z::IN {
                let t = split(positions[k]);
                for j in 0..X::OUT {
                    t[j].store(half.add((k * X::OUT + j) * l.half_row + tile));
                }
            }
            tile += V::LANES;
        }
    }
    sum
}
