//! Rows on their way into working memory, and their sums.

use rayon::prelude::*;

/// A tensor that is taken as zero where `gate`, what a ReLU gave, is not positive.
#[derive(Clone, Copy)]
pub(super) struct Gated<'a> {
    pub(super) values: &'a [f32],
    pub(super) gate: Option<&'a [f32]>,
}

/// `to[i] = row[start + i · stride]`, zero outside of the row and where the gate is not positive.
pub(super) fn pack_row(row: &[f32], gate: Option<&[f32]>, start: isize, stride: usize, to: &mut [f32]) {
    let before = (-start).max(0) as usize;
    let lead = before.div_ceil(stride).min(to.len());
    let first = (start + (lead * stride) as isize).max(0) as usize;
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
    let row = &row[first..];
    match (gate.map(|gate| &gate[first..]), stride) {
        (None, 1) => body.copy_from_slice(&row[..inside]),
        (Some(gate), 1) => {
            for ((to, &v), &gate) in body.iter_mut().zip(row).zip(gate) {
                *to = gated(v, gate);
            }
        }
        (None, 2) => {
            // Whole pairs, which the compiler does with shuffles, then the last.
            let pairs = row.chunks_exact(2);
            if let ([last], Some(to)) = (pairs.remainder(), body.get_mut(row.len() / 2)) {
                *to = *last;
            }
            for (to, pair) in body.iter_mut().zip(pairs) {
                *to = pair[0];
            }
        }
        (None, _) => {
            for (to, &v) in body.iter_mut().zip(row.iter().step_by(stride)) {
                *to = v;
            }
        }
        (Some(gate), _) => {
            for (to, (&v, &gate)) in body.iter_mut().zip(row.iter().zip(gate).step_by(stride)) {
                *to = gated(v, gate);
            }
        }
    }
}

/// Zero where the gate is not positive; a NaN lets pass, as PyTorch's ReLU does.
#[inline]
pub(super) fn gated(value: f32, gate: f32) -> f32 {
    if gate <= 0.0 { 0.0 } else { value }
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

/// Sums of a planar tensor over samples and voxels, one for each of the channels.
pub(super) fn channel_sums(tensor: Gated, batch: usize, sums: &mut [f32]) {
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
                pack_row(
                    &tensor.values[chunk.clone()],
                    tensor.gate.map(|gate| &gate[chunk]),
                    0,
                    1,
                    row,
                );
                total += f64::from(sum(row));
            }
        }
        *to = total as f32;
    });
}

/// At least `len` elements in an odd number of cache lines: neighbouring rows then fall into different cache sets.
pub(super) fn odd_lines(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}
