//! Rows on their way into working memory, and their sums.

use crate::simd::{InstructionSet, Job, Vector};
use rayon::prelude::*;

/// A tensor that is taken as zero where `gate`, what a ReLU gave, is not positive.
#[derive(Clone, Copy)]
pub(super) struct Gated<'a> {
    pub(super) values: &'a [f32],
    pub(super) gate: Option<&'a [f32]>,
}

/// `to[i] = row[start + i · stride]`, zero outside of the row and where the gate is not positive. Gives the sum.
pub(super) fn pack_row(
    set: InstructionSet,
    row: &[f32],
    gate: Option<&[f32]>,
    start: isize,
    stride: usize,
    to: &mut [f32],
) -> f32 {
    let before = (-start).max(0) as usize;
    let lead = before.div_ceil(stride).min(to.len());
    let first = (start + (lead * stride) as isize).max(0) as usize;
    let inside = row
        .len()
        .saturating_sub(first)
        .div_ceil(stride)
        .min(to.len() - lead);
    to[..lead].fill(0.0);
    let (to, tail) = to[lead..].split_at_mut(inside);
    tail.fill(0.0);
    let mut sum = 0.0;
    if inside > 0 {
        let (row, gate) = (&row[first..], gate.map(|gate| &gate[first..]));
        set.run(Row {
            row,
            gate,
            stride,
            to,
            sum: &mut sum,
        });
    }
    sum
}

/// Elements to fetch ahead: the rows of a unit follow one another.
const AHEAD: usize = 192;

/// Every element or every second one, for a stride of 1 or 2.
#[inline(always)]
unsafe fn load_strided<V: Vector>(from: *const f32, stride: usize) -> V {
    // SAFETY: the caller's `stride · LANES` elements.
    unsafe {
        if stride == 1 {
            V::load(from)
        } else {
            V::load(from).unzip(V::load(from.add(V::LANES)))[0]
        }
    }
}

/// `to[i] = row[i · stride]` through the gate.
struct Row<'a> {
    row: &'a [f32],
    gate: Option<&'a [f32]>,
    stride: usize,
    to: &'a mut [f32],
    sum: &'a mut f32,
}

impl Job for Row<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            row,
            gate,
            stride,
            to,
            sum,
        } = self;
        let len = gate.map_or(row.len(), |gate| gate.len().min(row.len()));
        assert!((to.len() - 1) * stride < len, "a row that is too short");
        // SAFETY: below, whole vectors are only read and written where `len` and `to` have them.
        let mut total = unsafe { V::splat(0.0) };
        let mut i = 0;
        while stride <= 2 && i + V::LANES <= to.len() && (i + V::LANES) * stride <= len {
            // SAFETY: by the condition of the loop.
            unsafe {
                let at = i * stride;
                let mut v = load_strided::<V>(row.as_ptr().add(at), stride);
                if let Some(gate) = gate {
                    let gate = gate.as_ptr().add(at);
                    V::prefetch(gate.wrapping_add(AHEAD));
                    v = v.gated(load_strided(gate, stride));
                }
                V::prefetch(row.as_ptr().wrapping_add(at + AHEAD));
                total = total.add(v);
                v.store(to.as_mut_ptr().add(i));
            }
            i += V::LANES;
        }
        if stride == 1 && i < to.len() {
            let count = to.len() - i;
            // SAFETY: fewer than a vector's elements are left of `to`, and so many, at least, of the row.
            unsafe {
                let mut v = V::load_first(row.as_ptr().add(i), count);
                if let Some(gate) = gate {
                    v = v.gated(V::load_first(gate.as_ptr().add(i), count));
                }
                total = total.add(v);
                v.store_first(to.as_mut_ptr().add(i), count);
            }
            i = to.len();
        }
        let zero = total.like(0.0);
        *sum = V::sums([total, zero, zero, zero])[0];
        while i < to.len() {
            let v = match gate {
                Some(gate) if gate[i * stride] <= 0.0 => 0.0,
                _ => row[i * stride],
            };
            to[i] = v;
            *sum += v;
            i += 1;
        }
    }
}

/// `to = from + bias`, but at least `floor`.
pub(super) fn finish_row(set: InstructionSet, from: &[f32], bias: f32, floor: f32, to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "elements of a row");
    set.run(Finished {
        from,
        bias,
        floor,
        to,
    });
}

struct Finished<'a> {
    from: &'a [f32],
    bias: f32,
    floor: f32,
    to: &'a mut [f32],
}

impl Job for Finished<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            from,
            bias,
            floor,
            to,
        } = self;
        let mut i = 0;
        while i < to.len() {
            let count = (to.len() - i).min(V::LANES);
            // SAFETY: both slices, which are equally long, have `count` elements from i on.
            unsafe {
                let v = V::load_first(from.as_ptr().add(i), count);
                v.add(V::splat(bias))
                    .at_least(V::splat(floor))
                    .store_first(to.as_mut_ptr().add(i), count);
            }
            i += V::LANES;
        }
    }
}

/// The same for every second element of `to`, from the first or the second on; the others stay.
pub(super) fn finish_every_second(
    set: InstructionSet,
    from: &[f32],
    bias: f32,
    floor: f32,
    second: bool,
    to: &mut [f32],
) {
    let offset = usize::from(second);
    assert!(offset + 2 * from.len() <= to.len() + 1, "elements of a row");
    set.run(Interleaved {
        from,
        bias,
        floor,
        second,
        to,
    });
}

struct Interleaved<'a> {
    from: &'a [f32],
    bias: f32,
    floor: f32,
    second: bool,
    to: &'a mut [f32],
}

impl Job for Interleaved<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            from,
            bias,
            floor,
            second,
            to,
        } = self;
        let mut i = 0;
        while i + V::LANES <= from.len() && 2 * (i + V::LANES) <= to.len() {
            // SAFETY: by the condition of the loop.
            unsafe {
                let v = V::load(from.as_ptr().add(i))
                    .add(V::splat(bias))
                    .at_least(V::splat(floor));
                let to = to.as_mut_ptr().add(2 * i);
                let [even, odd] = V::load(to).unzip(V::load(to.add(V::LANES)));
                let [low, high] = if second { even.zip(v) } else { v.zip(odd) };
                low.store(to);
                high.store(to.add(V::LANES));
            }
            i += V::LANES;
        }
        while i < from.len() {
            let v = from[i] + bias;
            to[2 * i + usize::from(second)] = if v < floor { floor } else { v };
            i += 1;
        }
    }
}

/// Sums of a planar tensor over samples and voxels, one for each of the channels.
pub(super) fn channel_sums(set: InstructionSet, tensor: Gated, batch: usize, sums: &mut [f32]) {
    const CHUNK: usize = 512;
    let channels = sums.len();
    let plane = tensor.values.len() / (batch * channels);
    sums.par_iter_mut().enumerate().for_each(|(channel, to)| {
        let mut total = 0.0;
        for sample in 0..batch {
            let start = (sample * channels + channel) * plane;
            for at in (start..start + plane).step_by(CHUNK) {
                let chunk = at..(at + CHUNK).min(start + plane);
                let mut row = [0.0; CHUNK];
                let row = &mut row[..chunk.len()];
                let gate = tensor.gate.map(|gate| &gate[chunk.clone()]);
                total += f64::from(pack_row(set, &tensor.values[chunk], gate, 0, 1, row));
            }
        }
        *to = total as f32;
    });
}

/// At least `len` elements in an odd number of cache lines: neighbouring rows then fall into different cache sets.
pub(super) fn odd_lines(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}
