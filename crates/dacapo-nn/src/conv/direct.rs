//! Direct convolution for any kernel, stride and padding.
//!
//! A unit of work is a few output rows of one plane. The input that it needs is packed, a plane for each input
//! channel and tap in z, with zeros where the padding is and with the phases of a stride side by side, so that
//! every tap reads consecutive elements; the unit's rows then lie behind one another with one pitch, and one call
//! of the inner loop does them all (the few columns between rows are computed and dropped).
//!
//! The gradient of the input, which is also the forward of a transposed convolution, is a convolution of stride 1
//! for each phase of the stride: of the taps, those that meet the phase, in reverse.

use super::geometry::{Adjoint, ConvGeometry};
use super::kernel::{self, ROWS, SLACK, groups};
use super::scratch::{Scratch, Shared};
use crate::simd::InstructionSet;
use rayon::prelude::*;

/// Columns that a unit of work aims at.
const COLUMNS: usize = 384;
/// Most partial sums of a weight gradient, and the most elements that they may take together.
const PARTS: usize = 16;
const PART_ELEMENTS: usize = 1 << 22;

/// A direct convolution of one shape.
pub(super) struct Direct {
    batch: usize,
    set: InstructionSet,
    forward: Pass,
    adjoint: Vec<Pass>,
}

/// What is added to and done with an output on its way out.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// One for each output channel.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
}

/// A gradient that came through a ReLU: zero where `output`, what the ReLU gave, is not positive.
#[derive(Clone, Copy)]
pub(super) struct Gated<'a> {
    pub(super) gradient: &'a [f32],
    pub(super) output: Option<&'a [f32]>,
}

impl Direct {
    pub(super) fn new(
        geometry: &ConvGeometry,
        output: [usize; 3],
        batch: usize,
        set: InstructionSet,
    ) -> Self {
        let g = geometry;
        let forward = [0, 1, 2].map(|a| Axis {
            input: g.input[a],
            output: output[a],
            taps: g.kernel[a],
            stride: g.stride[a],
            start: -(g.padding[a] as isize),
            place: Place {
                step: 1,
                offset: 0,
                len: output[a],
            },
            first_tap: 0,
            tap_step: 1,
        });
        let phases = [0, 1, 2].map(|a| Axis::adjoint(g, output, a));
        let mut adjoint = Vec::new();
        for z in &phases[0] {
            for y in &phases[1] {
                for x in &phases[2] {
                    adjoint.push(Pass::new(
                        [*z, *y, *x],
                        g.out_channels,
                        g.in_channels,
                        g.kernel,
                        true,
                    ));
                }
            }
        }
        Self {
            batch,
            set,
            forward: Pass::new(forward, g.in_channels, g.out_channels, g.kernel, false),
            adjoint,
        }
    }

    pub(super) fn forward(&self, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
        let x = Gated {
            gradient: x,
            output: None,
        };
        self.forward
            .run(self.set, self.batch, x, w, finish, Shared::new(y));
    }

    /// The adjoint: from the output's gradient to the input's, or a transposed convolution.
    pub(super) fn adjoint(&self, gy: Gated, w: &[f32], finish: Finish, dx: &mut [f32]) {
        let dx = Shared::new(dx);
        for phase in &self.adjoint {
            phase.run(self.set, self.batch, gy, w, finish, dx);
        }
    }

    pub(super) fn weight_gradient(&self, x: &[f32], gy: Gated, dw: &mut [f32], db: Option<&mut [f32]>) {
        self.forward.weight_gradient(self.set, self.batch, x, gy, dw, db);
    }
}

/// Where the values of an axis go: every `step`-th from `offset` on, of `len`.
#[derive(Clone, Copy)]
struct Place {
    step: usize,
    offset: usize,
    len: usize,
}

/// One axis of a pass: output `o` takes the inputs `o · stride + start + t`, `t` in `0..taps`, times the kernel's
/// elements `first_tap + tap_step · t`.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    taps: usize,
    stride: usize,
    start: isize,
    place: Place,
    first_tap: usize,
    tap_step: isize,
}

impl Axis {
    /// The phases of the adjoint. The convolution's input i meets tap k at the output (i + padding − k) / stride;
    /// the inputs of one phase, i = stride · m + r, all meet the taps k ≡ r + padding.
    fn adjoint(g: &ConvGeometry, output: [usize; 3], axis: usize) -> Vec<Self> {
        let (stride, kernel, len) = (g.stride[axis], g.kernel[axis], g.input[axis]);
        let phases = 0..stride.min(len);
        phases
            .map(|offset| {
                let Adjoint { first, taps, shift } = Adjoint::of(offset + g.padding[axis], stride, kernel);
                Self {
                    input: output[axis],
                    output: (len - offset).div_ceil(stride),
                    taps,
                    stride: 1,
                    start: shift as isize - taps as isize + 1,
                    place: Place {
                        step: stride,
                        offset,
                        len,
                    },
                    first_tap: first + stride * taps.saturating_sub(1),
                    tap_step: -(stride as isize),
                }
            })
            .collect()
    }

    /// Phases of the stride that any tap meets.
    fn phases(&self) -> usize {
        self.stride.min(self.taps)
    }

    /// Packed elements before those of an output's last tap.
    fn reach(&self) -> usize {
        self.taps.saturating_sub(1) / self.stride
    }

    fn kernel_index(&self, tap: usize) -> usize {
        (self.first_tap as isize + self.tap_step * tap as isize) as usize
    }
}

/// One run over an output, or over one phase of it.
struct Pass {
    axes: [Axis; 3],
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 3],
    /// The weights' outermost axis is the input's channels.
    transposed: bool,
    /// Output rows of a unit of work.
    rows: usize,
    /// Elements from one row of a unit to the next.
    pitch: usize,
    /// Elements of a packed phase of a plane.
    plane: usize,
    /// Offsets into the packed input: input channel, z, y, x.
    taps: Vec<usize>,
}

/// The output rows of one unit of work.
struct Unit {
    sample: usize,
    z: usize,
    y: usize,
    rows: usize,
}

impl Pass {
    fn new(
        axes: [Axis; 3],
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 3],
        transposed: bool,
    ) -> Self {
        let [z, y, x] = &axes;
        let pitch = x.output + x.reach();
        let blocks = y.output.div_ceil((COLUMNS / pitch).max(1));
        let rows = y.output.div_ceil(blocks.max(1)).max(1);
        let plane = odd_lines((rows + y.reach()) * pitch + SLACK);
        let mut taps = Vec::with_capacity(in_channels * z.taps * y.taps * x.taps);
        for slab in 0..in_channels * z.taps {
            for ky in 0..y.taps {
                for kx in 0..x.taps {
                    let phase = (slab * y.phases() + ky % y.stride) * x.phases() + kx % x.stride;
                    taps.push(phase * plane + ky / y.stride * pitch + kx / x.stride);
                }
            }
        }
        Self {
            axes,
            in_channels,
            out_channels,
            kernel,
            transposed,
            rows,
            pitch,
            plane,
            taps,
        }
    }

    fn units(&self, batch: usize) -> usize {
        batch * self.axes[0].output * self.axes[1].output.div_ceil(self.rows)
    }

    fn unit(&self, index: usize) -> Unit {
        let [z, y, _] = &self.axes;
        let blocks = y.output.div_ceil(self.rows);
        let row = index % blocks * self.rows;
        Unit {
            sample: index / blocks / z.output,
            z: index / blocks % z.output,
            y: row,
            rows: self.rows.min(y.output - row),
        }
    }

    /// Columns that a unit computes.
    fn columns(&self, unit: &Unit) -> usize {
        (unit.rows - 1) * self.pitch + self.axes[2].output
    }

    fn packed_len(&self) -> usize {
        let [z, y, x] = &self.axes;
        self.in_channels * z.taps * y.phases() * x.phases() * self.plane
    }

    /// Elements from one channel of a unit's output to the next.
    fn output_pitch(&self) -> usize {
        odd_lines(self.rows * self.pitch + SLACK)
    }

    /// Weights in groups of output channels: `[group][tap][channel in the group]`, zero for channels there are not.
    fn pack_weights(&self, w: &[f32]) -> Scratch {
        let mut packed = Scratch::zeroed(groups(self.out_channels) * self.taps.len() * ROWS);
        let [z, y, x] = &self.axes;
        let volume = self.kernel.iter().product::<usize>();
        for co in 0..self.out_channels {
            let group = &mut packed[co / ROWS * self.taps.len() * ROWS..];
            let mut to = group.iter_mut().skip(co % ROWS).step_by(ROWS);
            for ci in 0..self.in_channels {
                let outer = if self.transposed {
                    ci * self.out_channels + co
                } else {
                    co * self.in_channels + ci
                };
                for kz in 0..z.taps {
                    for ky in 0..y.taps {
                        let row = (outer * volume)
                            + (z.kernel_index(kz) * self.kernel[1] + y.kernel_index(ky)) * self.kernel[2];
                        for kx in 0..x.taps {
                            if let Some(to) = to.next() {
                                *to = w[row + x.kernel_index(kx)];
                            }
                        }
                    }
                }
            }
        }
        packed
    }

    /// Packs what a unit needs of the input.
    fn pack(&self, unit: &Unit, input: Gated, packed: &mut [f32]) {
        let [z, y, x] = &self.axes;
        let rows = unit.rows + y.reach();
        let mut planes = packed.chunks_exact_mut(self.plane);
        for ci in 0..self.in_channels {
            for kz in 0..z.taps {
                let iz = (unit.z * z.stride + kz) as isize + z.start;
                for phase_y in 0..y.phases() {
                    for phase_x in 0..x.phases() {
                        let Some(plane) = planes.next() else { return };
                        for (r, to) in plane.chunks_exact_mut(self.pitch).take(rows).enumerate() {
                            let iy = ((unit.y + r) * y.stride + phase_y) as isize + y.start;
                            if iz < 0 || iz >= z.input as isize || iy < 0 || iy >= y.input as isize {
                                to.fill(0.0);
                                continue;
                            }
                            let channel = unit.sample * self.in_channels + ci;
                            let row = (channel * z.input + iz as usize) * y.input + iy as usize;
                            let from = row * x.input..(row + 1) * x.input;
                            let gate = input.output.map(|o| &o[from.clone()]);
                            let start = x.start + phase_x as isize;
                            pack_row(&input.gradient[from], gate, start, x.stride, to);
                        }
                        // What vectors read behind the last row must be finite.
                        plane[rows * self.pitch..][..SLACK].fill(0.0);
                    }
                }
            }
        }
    }

    fn run(&self, set: InstructionSet, batch: usize, input: Gated, w: &[f32], finish: Finish, y: Shared) {
        let weights = self.pack_weights(w);
        let weights: &[f32] = &weights;
        (0..self.units(batch)).into_par_iter().for_each(|index| {
            let unit = self.unit(index);
            let mut packed = Scratch::take(self.packed_len());
            self.pack(&unit, input, &mut packed);
            let pitch = self.output_pitch();
            let mut sums = Scratch::take(groups(self.out_channels) * ROWS * pitch);
            let columns = self.columns(&unit);
            kernel::correlate(
                set,
                &packed,
                &self.taps,
                weights,
                self.out_channels,
                columns,
                &mut sums,
                pitch,
            );
            self.store(&unit, &sums, finish, y);
        });
    }

    fn store(&self, unit: &Unit, sums: &[f32], finish: Finish, y: Shared) {
        let [az, ay, ax] = &self.axes;
        let pitch = self.output_pitch();
        for co in 0..self.out_channels {
            let bias = finish.bias.map_or(0.0, |b| b[co]);
            let floor = if finish.relu { 0.0 } else { f32::NEG_INFINITY };
            let plane = (unit.sample * self.out_channels + co) * az.place.len
                + unit.z * az.place.step
                + az.place.offset;
            for r in 0..unit.rows {
                let row = plane * ay.place.len + (unit.y + r) * ay.place.step + ay.place.offset;
                let from = &sums[co * pitch + r * self.pitch..][..ax.output];
                let start = row * ax.place.len + ax.place.offset;
                let len = (ax.output - 1) * ax.place.step + 1;
                // SAFETY: units have rows of their own; phases, which share rows, run one after another.
                let to = unsafe { y.part(start..start + len) };
                let finished = |v: f32| if v + bias < floor { floor } else { v + bias };
                if ax.place.step == 1 {
                    for (to, &v) in to.iter_mut().zip(from) {
                        *to = finished(v);
                    }
                } else {
                    for (to, &v) in to.iter_mut().step_by(ax.place.step).zip(from) {
                        *to = finished(v);
                    }
                }
            }
        }
    }

    /// Units in a fixed number of parts, each with its own sums, which are then added in order.
    fn weight_gradient(
        &self,
        set: InstructionSet,
        batch: usize,
        x: &[f32],
        gy: Gated,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let taps = self.taps.len();
        let weights = groups(self.out_channels) * taps * ROWS;
        let len = weights + self.out_channels;
        let units = self.units(batch);
        let parts = units.min(PARTS).min((PART_ELEMENTS / len).max(4));
        let mut sums = Scratch::zeroed(parts * len);
        sums.par_chunks_exact_mut(len)
            .enumerate()
            .for_each(|(part, sums)| {
                let (dw, db) = sums.split_at_mut(weights);
                let pitch = self.output_pitch();
                let mut packed = Scratch::take(self.packed_len());
                let mut gradient = Scratch::take(self.out_channels * pitch);
                for index in part * units / parts..(part + 1) * units / parts {
                    let unit = self.unit(index);
                    self.pack(
                        &unit,
                        Gated {
                            gradient: x,
                            output: None,
                        },
                        &mut packed,
                    );
                    self.pack_gradient(&unit, gy, &mut gradient, db);
                    let columns = self.columns(&unit);
                    kernel::accumulate(
                        set,
                        &packed,
                        &self.taps,
                        &gradient,
                        self.out_channels,
                        pitch,
                        columns,
                        dw,
                    );
                }
            });
        for (co, dw) in dw.chunks_exact_mut(taps).enumerate() {
            for (t, dw) in dw.iter_mut().enumerate() {
                let at = (co / ROWS * taps + t) * ROWS + co % ROWS;
                *dw = sums.chunks_exact(len).map(|part| part[at]).sum();
            }
        }
        if let Some(db) = db {
            for (co, db) in db.iter_mut().enumerate() {
                *db = sums.chunks_exact(len).map(|part| part[weights + co]).sum();
            }
        }
    }

    /// The unit's rows of the output's gradient, at the pitch of the packed input, zero between the rows.
    fn pack_gradient(&self, unit: &Unit, gy: Gated, packed: &mut [f32], db: &mut [f32]) {
        let [z, y, x] = &self.axes;
        let columns = self.columns(unit);
        for (co, packed) in packed.chunks_exact_mut(self.output_pitch()).enumerate() {
            let plane = (unit.sample * self.out_channels + co) * z.output + unit.z;
            for r in 0..unit.rows {
                let start = (plane * y.output + unit.y + r) * x.output;
                let row = start..start + x.output;
                let to = &mut packed[r * self.pitch..][..self.pitch];
                pack_row(&gy.gradient[row.clone()], gy.output.map(|o| &o[row]), 0, 1, to);
                db[co] += sum(&to[..x.output]);
            }
            packed[columns..columns + SLACK].fill(0.0);
        }
    }
}

/// `to[i] = row[start + i · stride]`, zero outside of the row and where the gate is closed.
fn pack_row(row: &[f32], gate: Option<&[f32]>, start: isize, stride: usize, to: &mut [f32]) {
    let before = (-start).max(0) as usize;
    let lead = before.div_ceil(stride).min(to.len());
    let first = (start + (lead * stride) as isize) as usize;
    let inside = row
        .len()
        .saturating_sub(first)
        .div_ceil(stride)
        .min(to.len() - lead);
    to[..lead].fill(0.0);
    let (body, tail) = to[lead..].split_at_mut(inside);
    tail.fill(0.0);
    if inside == 0 {
        return;
    }
    match (gate, stride) {
        (None, 1) => body.copy_from_slice(&row[first..first + inside]),
        (None, 2) => {
            for (to, pair) in body.iter_mut().zip(row[first..].chunks(2)) {
                *to = pair[0];
            }
        }
        (None, _) => {
            for (to, &v) in body.iter_mut().zip(row[first..].iter().step_by(stride)) {
                *to = v;
            }
        }
        (Some(gate), _) => {
            let from = row[first..].iter().zip(&gate[first..]).step_by(stride);
            for (to, (&v, &gate)) in body.iter_mut().zip(from) {
                *to = if gate <= 0.0 { 0.0 } else { v };
            }
        }
    }
}

/// A sum in eight lanes, in a fixed order.
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// At least `len` elements in an odd number of cache lines: neighbouring rows then fall into different cache sets.
pub(super) fn odd_lines(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}
