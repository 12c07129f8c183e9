//! Direct convolution for any kernel, stride and padding.
//!
//! A unit of work is a few output rows of one plane. The input that it needs is packed, a plane for each input
//! channel and tap in z, with zeros where the padding is and with the phases of a stride side by side, so that
//! every tap reads consecutive elements; the unit's rows then lie behind one another with one pitch, and one call
//! of the inner loop does them all (the few columns between rows are computed and dropped). With a kernel of one voxel an
//! input of whole vectors is read where it lies.
//!
//! The gradient of the input, which is also the forward of a transposed convolution, is a convolution of stride 1
//! for each phase of the stride: of the taps, those that meet the phase, in reverse. All phases of a unit read the
//! same packed input.

use super::axis::{Axis, AxisPhase};
use super::geometry::ConvGeometry;
use super::kernel::{self, ROWS, SLACK};
use super::pack::{Gated, finish_every_second, finish_row, odd_lines, pack_row};
use super::scratch::{Scratch, Shared};
use crate::simd::InstructionSet;
use rayon::prelude::*;

/// Elements of working memory that a unit aims at, and its fewest and most columns: short rows of many channels are
/// slow to fetch.
const UNIT_ELEMENTS: usize = 1 << 16;
const COLUMNS: [usize; 2] = [384, 1536];
/// Most partial sums of a weight gradient, and the most elements that they may take together.
const PARTS: usize = 16;
const PART_ELEMENTS: usize = 1 << 22;

/// A direct convolution of one shape.
pub(super) struct Direct {
    batch: usize,
    forward: Pass,
    adjoint: Pass,
}

/// What is added to and done with an output on its way out.
#[derive(Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    /// One for each output channel.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
    /// It is added to what is there, which has neither bias nor ReLU.
    pub(super) add: bool,
}

impl Direct {
    pub(super) fn new(
        geometry: &ConvGeometry,
        output: [usize; 3],
        batch: usize,
        set: InstructionSet,
    ) -> Self {
        let g = geometry;
        let forward = [0, 1, 2].map(|a| Axis::forward(g, output, a));
        let adjoint = [0, 1, 2].map(|a| Axis::adjoint(g, output, a));
        Self {
            batch,
            forward: Pass::new(forward, [g.in_channels, g.out_channels], g.kernel, false, set),
            adjoint: Pass::new(adjoint, [g.out_channels, g.in_channels], g.kernel, true, set),
        }
    }

    /// Multiplications of the forward, the adjoint, and the weights' gradient.
    pub(super) fn multiplications(&self) -> (u64, u64, u64) {
        let rows = |pass: &Pass, rows: usize| {
            pass.multiplications(self.batch, pass.out_channels.next_multiple_of(rows))
        };
        (
            rows(&self.forward, self.forward.group),
            rows(&self.adjoint, self.adjoint.group),
            rows(&self.forward, ROWS),
        )
    }

    /// Values of working memory on so many threads.
    pub(super) fn scratch_forward(&self, threads: usize) -> usize {
        self.forward.scratch(self.batch, threads)
    }

    pub(super) fn scratch_adjoint(&self, threads: usize) -> usize {
        self.adjoint.scratch(self.batch, threads)
    }

    pub(super) fn scratch_gradient(&self, threads: usize) -> usize {
        self.forward.scratch_gradient(self.batch, threads)
    }

    pub(super) fn forward(&self, x: &[f32], w: &[f32], finish: Finish, y: &mut [f32]) {
        self.forward.run(
            self.batch,
            Gated {
                values: x,
                gate: None,
            },
            w,
            finish,
            y,
        );
    }

    /// The adjoint: from the output's gradient to the input's, or a transposed convolution.
    pub(super) fn adjoint(&self, gy: Gated, w: &[f32], finish: Finish, dx: &mut [f32]) {
        self.adjoint.run(self.batch, gy, w, finish, dx);
    }

    /// The gradients of the weights and the bias. With weights and an output (is it to be added to?), also the forward:
    /// both need the same packed input.
    pub(super) fn weight_gradient(
        &self,
        x: Gated,
        gy: Gated,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        forward: Option<(&[f32], bool, &mut [f32])>,
    ) {
        self.forward.weight_gradient(self.batch, x, gy, dw, db, forward);
    }
}

/// One run over an output.
struct Pass {
    axes: [Axis; 3],
    in_channels: usize,
    out_channels: usize,
    /// Elements of a kernel.
    kernel: usize,
    /// The weights' outermost axis is the input's channels.
    transposed: bool,
    phases: Vec<Phase>,
    /// Output rows of a unit of work.
    rows: usize,
    /// Elements from one row of a unit to the next.
    pitch: usize,
    /// Elements of a packed phase of a plane.
    plane: usize,
    /// Output channels that the inner loop takes together.
    group: usize,
    /// Where the channels are from a unit's first voxel on, if the input can be read where it lies: a kernel of one
    /// element over rows of whole vectors.
    in_place: Option<Vec<usize>>,
    set: InstructionSet,
}

/// The outputs that meet the same elements of the kernel.
struct Phase {
    /// Which phase of each axis.
    index: [usize; 3],
    /// Offsets into the packed input: input channel, z, y, x.
    taps: Vec<usize>,
    /// Elements of the kernel: z, y, x.
    elements: Vec<usize>,
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
        [in_channels, out_channels]: [usize; 2],
        kernel: [usize; 3],
        transposed: bool,
        set: InstructionSet,
    ) -> Self {
        let [z, y, x] = &axes;
        let pitch = x.steps + x.reach();
        let channels = in_channels * z.taps * y.strides() * x.strides() + out_channels;
        let columns = (UNIT_ELEMENTS / channels).clamp(COLUMNS[0], COLUMNS[1]);
        let rows = y.steps.div_ceil(y.steps.div_ceil((columns / pitch).max(1)));
        let plane = odd_lines((rows + y.reach()) * pitch + SLACK);
        let mut phases = Vec::new();
        for (iz, pz) in z.phases.iter().enumerate() {
            for (iy, py) in y.phases.iter().enumerate() {
                for (ix, px) in x.phases.iter().enumerate() {
                    let (mut offsets, mut elements) = (Vec::new(), Vec::new());
                    for &(tz, kz) in &pz.taps {
                        for &(ty, ky) in &py.taps {
                            for &(tx, kx) in &px.taps {
                                let packed = (tz * y.strides() + ty % y.stride) * x.strides() + tx % x.stride;
                                offsets.push(packed * plane + ty / y.stride * pitch + tx / x.stride);
                                elements.push((kz * kernel[1] + ky) * kernel[2] + kx);
                            }
                        }
                    }
                    let channel = z.taps * y.strides() * x.strides() * plane;
                    let taps = (0..in_channels).flat_map(|c| offsets.iter().map(move |o| c * channel + o));
                    phases.push(Phase {
                        index: [iz, iy, ix],
                        taps: taps.collect(),
                        elements,
                    });
                }
            }
        }
        let kernel = kernel.iter().product();
        let group = kernel::group(out_channels);
        let same = |axis: &Axis| (axis.taps, axis.stride, axis.start, axis.input) == (1, 1, 0, axis.steps);
        let in_place = kernel == 1 && axes.iter().all(same) && axes[2].steps.is_multiple_of(SLACK);
        let channel: usize = axes.iter().map(|axis| axis.input).product();
        Self {
            axes,
            in_channels,
            out_channels,
            kernel,
            transposed,
            phases,
            rows,
            pitch,
            plane,
            group,
            in_place: in_place.then(|| (0..in_channels).map(|c| c * channel).collect()),
            set,
        }
    }

    fn units(&self, batch: usize) -> usize {
        batch * self.axes[0].steps * self.axes[1].steps.div_ceil(self.rows)
    }

    fn unit(&self, index: usize) -> Unit {
        let [z, y, _] = &self.axes;
        let blocks = y.steps.div_ceil(self.rows);
        let row = index % blocks * self.rows;
        Unit {
            sample: index / blocks / z.steps,
            z: index / blocks % z.steps,
            y: row,
            rows: self.rows.min(y.steps - row),
        }
    }

    fn packed_len(&self) -> usize {
        let [z, y, x] = &self.axes;
        self.in_channels * z.taps * y.strides() * x.strides() * self.plane
    }

    /// Elements from one channel of a unit's output to the next.
    fn output_pitch(&self) -> usize {
        odd_lines(self.rows * self.pitch + SLACK)
    }

    fn sums_len(&self) -> usize {
        self.out_channels.next_multiple_of(self.group) * self.output_pitch()
    }

    /// Multiplications of a run with so many output rows.
    fn multiplications(&self, batch: usize, rows: usize) -> u64 {
        let [z, y, _] = &self.axes;
        let taps: usize = self.phases.iter().map(|phase| phase.taps.len()).sum();
        (batch * z.steps * y.steps * self.pitch) as u64 * (taps * rows) as u64
    }

    fn packed_weights_len(&self) -> usize {
        let taps: usize = self.phases.iter().map(|phase| phase.taps.len()).sum();
        taps * self.out_channels.next_multiple_of(self.group)
    }

    /// Values of working memory of a run.
    fn scratch(&self, batch: usize, threads: usize) -> usize {
        let tasks = threads.min(self.units(batch));
        self.packed_weights_len() + tasks * (self.packed_len() + self.sums_len())
    }

    /// Values of working memory of the weights' gradient, with the forward that goes with it.
    fn scratch_gradient(&self, batch: usize, threads: usize) -> usize {
        let (parts, len) = self.parts(batch);
        let gradient = self.out_channels * self.output_pitch();
        let task = self.packed_len() + self.sums_len() + gradient;
        parts * len + self.packed_weights_len() + threads.min(parts) * task
    }

    /// Of the weights' gradient: the number of partial sums, and the elements of each.
    fn parts(&self, batch: usize) -> (usize, usize) {
        let taps: usize = self.phases.iter().map(|phase| phase.taps.len()).sum();
        let len = self.out_channels.next_multiple_of(ROWS) * taps + self.out_channels;
        (
            self.units(batch).min(PARTS).min((PART_ELEMENTS / len).max(4)),
            len,
        )
    }

    /// Weights of all phases, each in groups of output channels: `[group][tap][channel in the group]`, zero for
    /// channels there are not.
    fn pack_weights(&self, w: &[f32]) -> Scratch {
        let rows = self.out_channels.next_multiple_of(self.group);
        let mut packed = Scratch::zeroed(self.packed_weights_len());
        let mut rest: &mut [f32] = &mut packed;
        for phase in &self.phases {
            let (own, others) = rest.split_at_mut(phase.taps.len() * rows);
            rest = others;
            if own.is_empty() {
                continue;
            }
            for co in 0..self.out_channels {
                let from = co / self.group * phase.taps.len() * self.group + co % self.group;
                let mut to = own[from..].iter_mut().step_by(self.group);
                for ci in 0..self.in_channels {
                    let outer = if self.transposed {
                        ci * self.out_channels + co
                    } else {
                        co * self.in_channels + ci
                    };
                    let kernel = &w[outer * self.kernel..][..self.kernel];
                    for (&element, to) in phase.elements.iter().zip(&mut to) {
                        *to = kernel[element];
                    }
                }
            }
        }
        packed
    }

    /// What a unit reads where it lies, and where the channels are in it.
    fn in_place<'a>(&'a self, unit: &Unit, input: Gated<'a>) -> Option<(&'a [f32], &'a [usize])> {
        let taps = self.in_place.as_deref().filter(|_| input.gate.is_none())?;
        let [z, y, x] = &self.axes;
        let row = (unit.sample * self.in_channels * z.input + unit.z) * y.input + unit.y;
        Some((&input.values[row * x.input..], taps))
    }

    /// Packs what a unit needs of the input.
    fn pack(&self, unit: &Unit, input: Gated, packed: &mut [f32]) {
        let [z, y, x] = &self.axes;
        let rows = unit.rows + y.reach();
        let mut planes = packed.chunks_exact_mut(self.plane);
        for ci in 0..self.in_channels {
            for kz in 0..z.taps {
                let iz = (unit.z * z.stride + kz) as isize + z.start;
                for phase_y in 0..y.strides() {
                    for phase_x in 0..x.strides() {
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
                            let gate = input.gate.map(|gate| &gate[from.clone()]);
                            pack_row(
                                self.set,
                                &input.values[from],
                                gate,
                                x.start + phase_x as isize,
                                x.stride,
                                to,
                            );
                        }
                        // What vectors read behind the last row must be finite.
                        plane[rows * self.pitch..][..SLACK].fill(0.0);
                    }
                }
            }
        }
    }

    fn run(&self, batch: usize, input: Gated, w: &[f32], finish: Finish, y: &mut [f32]) {
        let (weights, y) = (self.pack_weights(w), Shared::new(y));
        let weights: &[f32] = &weights;
        (0..self.units(batch)).into_par_iter().for_each(|index| {
            let unit = self.unit(index);
            if let Some(input) = self.in_place(&unit, input) {
                self.compute(&unit, input, weights, finish, y);
                return;
            }
            let mut packed = Scratch::take(self.packed_len());
            self.pack(&unit, input, &mut packed);
            self.compute(&unit, (&packed, &[]), weights, finish, y);
        });
    }

    /// All phases of a unit out of its packed input, or of an input with taps of its own.
    fn compute(
        &self,
        unit: &Unit,
        (input, taps): (&[f32], &[usize]),
        weights: &[f32],
        finish: Finish,
        y: Shared,
    ) {
        let rows = self.out_channels.next_multiple_of(self.group);
        let pitch = self.output_pitch();
        let mut sums = Scratch::take(self.sums_len());
        let mut weights = weights;
        for phase in &self.phases {
            let (own, others) = weights.split_at(phase.taps.len() * rows);
            weights = others;
            let [z, y_axis, x] = [0, 1, 2].map(|a| &self.axes[a].phases[phase.index[a]]);
            let rows = unit.rows.min(y_axis.steps.saturating_sub(unit.y));
            if unit.z >= z.steps || rows == 0 {
                continue;
            }
            let columns = (rows - 1) * self.pitch + x.steps;
            let channels = (self.out_channels, self.group);
            let taps = if taps.is_empty() { &phase.taps } else { taps };
            kernel::correlate(
                self.set,
                input,
                taps,
                own,
                channels,
                columns,
                &mut sums,
                pitch,
                usize::MAX,
            );
            self.store(unit, [z, y_axis, x], rows, &sums, finish, y);
        }
    }

    fn store(
        &self,
        unit: &Unit,
        phase: [&AxisPhase; 3],
        rows: usize,
        sums: &[f32],
        finish: Finish,
        y: Shared,
    ) {
        let [len_z, len_y, len_x] = [0, 1, 2].map(|a| self.axes[a].len);
        let [pz, py, px] = phase;
        let floor = if finish.relu { 0.0 } else { f32::NEG_INFINITY };
        for co in 0..self.out_channels {
            let bias = finish.bias.map_or(0.0, |b| b[co]);
            let plane = (unit.sample * self.out_channels + co) * len_z + pz.offset + unit.z * pz.step;
            for r in 0..rows {
                let row = plane * len_y + py.offset + (unit.y + r) * py.step;
                let from = &sums[co * self.output_pitch() + r * self.pitch..][..px.steps];
                // SAFETY: the rows of a unit are its own, and it does its phases one after another.
                let to = unsafe { y.part(row * len_x..(row + 1) * len_x) };
                match (finish.add, px.step) {
                    (false, 1) => finish_row(self.set, from, bias, floor, to),
                    (true, 1) => to.iter_mut().zip(from).for_each(|(to, v)| *to += v),
                    (false, 2) => finish_every_second(self.set, from, bias, floor, px.offset > 0, to),
                    (add, step) => {
                        for (to, &v) in to[px.offset..].iter_mut().step_by(step).zip(from) {
                            let v = if add { *to + v } else { v + bias };
                            *to = if v < floor { floor } else { v };
                        }
                    }
                }
            }
        }
    }

    /// Units in a fixed number of parts, each with its own sums, which are then added in order.
    #[allow(clippy::too_many_arguments, reason = "the tensors of a convolution")]
    fn weight_gradient(
        &self,
        batch: usize,
        x: Gated,
        gy: Gated,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
        forward: Option<(&[f32], bool, &mut [f32])>,
    ) {
        let [phase] = &self.phases[..] else {
            unreachable!("a forward pass has one phase")
        };
        let taps = phase.taps.len();
        let weights = self.out_channels.next_multiple_of(ROWS) * taps;
        let units = self.units(batch);
        let (parts, len) = self.parts(batch);
        let mut sums = Scratch::zeroed(parts * len);
        let forward = forward.map(|(w, add, y)| (self.pack_weights(w), add, Shared::new(y)));
        let forward = forward.as_ref().map(|(w, add, y)| -> (&[f32], Finish, Shared) {
            let finish = Finish {
                add: *add,
                ..Finish::default()
            };
            (w, finish, *y)
        });
        sums.par_chunks_exact_mut(len)
            .enumerate()
            .for_each(|(part, sums)| {
                let (dw, db) = sums.split_at_mut(weights);
                let pitch = self.output_pitch();
                let mut packed = Scratch::take(self.packed_len());
                let mut gradient = Scratch::take(self.out_channels * pitch);
                for index in part * units / parts..(part + 1) * units / parts {
                    let unit = self.unit(index);
                    let (input, taps) = match self.in_place(&unit, x) {
                        Some(found) => found,
                        None => {
                            self.pack(&unit, x, &mut packed);
                            (&packed[..], &phase.taps[..])
                        }
                    };
                    if let Some((weights, finish, y)) = forward {
                        self.compute(&unit, (input, taps), weights, finish, y);
                    }
                    let columns = (unit.rows - 1) * self.pitch + self.axes[2].steps;
                    self.pack_gradient(&unit, gy, columns, &mut gradient, db);
                    kernel::accumulate(
                        self.set,
                        input,
                        taps,
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
    fn pack_gradient(&self, unit: &Unit, gy: Gated, columns: usize, packed: &mut [f32], db: &mut [f32]) {
        let [z, y, x] = &self.axes;
        for (co, packed) in packed.chunks_exact_mut(self.output_pitch()).enumerate() {
            let plane = (unit.sample * self.out_channels + co) * z.len + unit.z;
            for r in 0..unit.rows {
                let start = (plane * y.len + unit.y + r) * x.len;
                let row = start..start + x.len;
                let to = &mut packed[r * self.pitch..][..self.pitch];
                let gate = gy.gate.map(|gate| &gate[row.clone()]);
                db[co] += pack_row(self.set, &gy.values[row], gate, 0, 1, to);
            }
            packed[columns..columns + SLACK].fill(0.0);
        }
    }
}
