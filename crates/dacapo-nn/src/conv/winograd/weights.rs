//! The transform of the weights, `U = G w Gᵀ`, rounded once, and its adjoint, which ends the weights' gradient. Lanes
//! hold four output channels side by side, as the inner loops want them, for as many input channels as there is room.
#![allow(
    clippy::needless_range_loop,
    reason = "indices are positions and taps; closures would not be inlined"
)]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "vectors are loaded from and stored to arrays that are as long as the longest of them"
)]

use super::tile::{IN, TAPS, Tile};
use crate::conv::kernel::ROWS;
use crate::conv::scratch::Shared;
use crate::simd::{Job, Loop, Vector};
use std::marker::PhantomData;

/// Longest vector.
const LANES: usize = 16;

/// Which way the weights are read: `w[out · out_step + in · in_step + tap]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) outs: usize,
    pub(super) ins: usize,
    pub(super) out_step: usize,
    pub(super) in_step: usize,
    /// Taps along x.
    pub(super) taps: usize,
}

impl Matrix {
    /// Start of the taps of lane `lane`, if there are such channels.
    #[inline(always)]
    fn lane(&self, group: usize, first: usize, lane: usize) -> Option<usize> {
        let (o, i) = (group * ROWS + lane % ROWS, first + lane / ROWS);
        (o < self.outs && i < self.ins).then(|| o * self.out_step + i * self.in_step)
    }

    /// Place of the `ROWS` elements of a group, input channel and tap.
    #[inline(always)]
    fn packed(&self, group: usize, input: usize, tap: usize) -> usize {
        ((group * self.ins + input) * self.taps + tap) * ROWS
    }
}

/// `U` of one group of output channels, all positions.
pub(super) struct Forward<'a, Z, Y> {
    pub(super) matrix: Matrix,
    pub(super) group: usize,
    pub(super) w: &'a [f32],
    /// `[position][group][input channel][tap][ROWS]`; `step` from one position to the next.
    pub(super) to: Shared<'a>,
    pub(super) step: usize,
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Loop for Forward<'_, Z, Y> {
    #[inline(always)]
    fn run(self) {
        let Self {
            matrix,
            group,
            w,
            to,
            step,
            ..
        } = self;
        for first in (0..matrix.ins).step_by(LANES / ROWS) {
            let channels = (LANES / ROWS).min(matrix.ins - first);
            for kx in 0..matrix.taps {
                let mut taps = [[[0.0; LANES]; TAPS]; TAPS];
                for l in 0..LANES {
                    if let Some(start) = matrix.lane(group, first, l) {
                        for k in 0..Z::TAPS * Y::TAPS {
                            taps[k / Y::TAPS][k % Y::TAPS][l] = f64::from(w[start + k * matrix.taps + kx]);
                        }
                    }
                }
                let mut half = [[[0.0; LANES]; TAPS]; IN];
                for kz in 0..Z::TAPS {
                    for l in 0..LANES {
                        let t = Y::weights([taps[kz][0][l], taps[kz][1][l], taps[kz][2][l]]);
                        for y in 0..Y::IN {
                            half[y][kz][l] = t[y];
                        }
                    }
                }
                for y in 0..Y::IN {
                    let mut u = [[0.0f32; LANES]; IN];
                    for l in 0..LANES {
                        let t = Z::weights([half[y][0][l], half[y][1][l], half[y][2][l]]);
                        for z in 0..Z::IN {
                            u[z][l] = t[z] as f32;
                        }
                    }
                    for z in 0..Z::IN {
                        for j in 0..channels {
                            let at = (z * Y::IN + y) * step + matrix.packed(group, first + j, kx);
                            // SAFETY: the group's elements are this task's own.
                            let to = unsafe { to.part(at..at + ROWS) };
                            to.copy_from_slice(&u[z][j * ROWS..][..ROWS]);
                        }
                    }
                }
            }
        }
    }
}

/// The weights' gradient out of that of `U`, of one group of output channels.
pub(super) struct Gradient<'a, Z, Y> {
    pub(super) matrix: Matrix,
    pub(super) group: usize,
    pub(super) u: &'a [f32],
    pub(super) step: usize,
    /// The group's rows.
    pub(super) dw: &'a mut [f32],
    pub(super) tiles: PhantomData<(Z, Y)>,
}

impl<Z: Tile, Y: Tile> Job for Gradient<'_, Z, Y> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            matrix,
            group,
            u,
            step,
            dw,
            ..
        } = self;
        let mut first = 0;
        while first < matrix.ins {
            let channels = (V::LANES / ROWS).min(matrix.ins - first);
            for kx in 0..matrix.taps {
                let mut half = [[unsafe { V::splat(0.0) }; TAPS]; IN];
                for y in 0..Y::IN {
                    let mut positions = [half[0][0]; IN];
                    for z in 0..Z::IN {
                        let mut lanes = [0.0f32; LANES];
                        for j in 0..channels {
                            let at = (z * Y::IN + y) * step + matrix.packed(group, first + j, kx);
                            lanes[j * ROWS..][..ROWS].copy_from_slice(&u[at..at + ROWS]);
                        }
                        positions[z] = unsafe { V::load(lanes.as_ptr()) };
                    }
                    half[y] = Z::weights_adjoint(positions);
                }
                for kz in 0..Z::TAPS {
                    let mut positions = [half[0][0]; IN];
                    for y in 0..Y::IN {
                        positions[y] = half[y][kz];
                    }
                    let taps = Y::weights_adjoint(positions);
                    for ky in 0..Y::TAPS {
                        let mut lanes = [0.0f32; LANES];
                        unsafe { taps[ky].store(lanes.as_mut_ptr()) };
                        for (l, lane) in lanes.iter().enumerate().take(V::LANES) {
                            if let Some(start) = matrix.lane(group, first, l) {
                                dw[start - group * ROWS * matrix.out_step
                                    + (kz * Y::TAPS + ky) * matrix.taps
                                    + kx] = *lane;
                            }
                        }
                    }
                }
            }
            first += V::LANES / ROWS;
        }
    }
}
