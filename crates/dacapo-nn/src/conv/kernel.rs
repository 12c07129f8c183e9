//! The two inner loops that all convolutions end in, over *taps*: a tap is a place in the input, given by its
//! offset, from which one row of values is read, shifted against the output columns. A 3³ convolution of c channels
//! has 27 c taps, one position of a Winograd transform 3 c.
//!
//! - [`correlate`]: output rows from taps and weights (forward, and the gradient of the input);
//! - [`accumulate`]: dot products of gradient rows with taps (the gradient of the weights).
//!
//! Both check their slices and then run on pointers. Columns lie along x, so no lane is ever shuffled; a tile of
//! 4 rows × 3 vectors keeps 12 sums in registers, which is what 16 registers hold, 4 × 6 or 8 × 3 what 32 do, or
//! 4 × 3 with as many totals, where sums are of several chains.
#![allow(
    clippy::needless_range_loop,
    reason = "indices are positions and taps; closures would not be inlined"
)]

use crate::simd::{InstructionSet, Job, Vector};
use std::ops::Range;

/// Most rows that are computed together.
pub(super) const ROWS: usize = 4;
/// Room that a row needs behind its last column: vectors are read and written whole. (Rows that are only read need
/// none behind whole vectors of so many columns.)
pub(super) const SLACK: usize = 16;

/// Number of groups of [`ROWS`] rows.
pub(super) fn groups(rows: usize) -> usize {
    rows.div_ceil(ROWS)
}

/// The size of the groups in which the fewest rows are computed for nothing.
pub(super) fn group(rows: usize) -> usize {
    match rows {
        0..=ROWS => rows.max(1),
        _ if rows.next_multiple_of(3) < rows.next_multiple_of(ROWS) => 3,
        _ => ROWS,
    }
}

/// `output[r][n] = Σ_t weights[r / group][t][r % group] · input[taps[t] + n]` for n in `0..columns`, with `group` at
/// most [`ROWS`]. Sums of `chain` taps are added up: many short chains are more exact than a long one.
///
/// `output` has `rows` rows of `pitch` elements, rounded up to whole groups, and so have the weights. Up to
/// [`SLACK`] columns behind the last are overwritten with what the taps happen to hold there.
#[allow(clippy::too_many_arguments, reason = "three matrices and their shapes")]
pub(super) fn correlate(
    set: InstructionSet,
    input: &[f32],
    taps: &[usize],
    weights: &[f32],
    (rows, group): (usize, usize),
    columns: usize,
    output: &mut [f32],
    pitch: usize,
    chain: usize,
) {
    let groups = rows.div_ceil(group);
    let reach = taps.iter().copied().max().unwrap_or(0);
    assert!(
        taps.is_empty() || reach + columns.next_multiple_of(SLACK) <= input.len(),
        "the taps read beyond the input"
    );
    assert!(
        groups * taps.len() * group <= weights.len(),
        "the weights are too few"
    );
    assert!(
        columns + SLACK <= pitch + 1 && groups * group * pitch <= output.len(),
        "the output is too small"
    );
    let (input, weights, output) = (input.as_ptr(), weights.as_ptr(), output.as_mut_ptr());
    macro_rules! run {
        ($rows:literal) => {
            set.run(Correlate::<$rows> {
                input,
                taps,
                weights,
                groups,
                columns,
                output,
                pitch,
                chain,
            })
        };
    }
    match group {
        1 => run!(1),
        2 => run!(2),
        3 => run!(3),
        4 => run!(4),
        _ => unreachable!("groups have at most four rows"),
    }
}

struct Correlate<'a, const R: usize> {
    input: *const f32,
    taps: &'a [usize],
    weights: *const f32,
    groups: usize,
    columns: usize,
    output: *mut f32,
    pitch: usize,
    chain: usize,
}

impl<const R: usize> Job for Correlate<'_, R> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            input,
            taps,
            weights,
            groups,
            columns,
            output,
            pitch,
            chain,
        } = self;
        let chained = chain < taps.len();
        let mut n = 0;
        while n < columns {
            let left = (columns - n).div_ceil(V::LANES);
            let vectors = if V::REGISTERS >= 32 {
                // As equal as they can be: a tile of few vectors loads more than it multiplies. Several chains need registers
                // for their total as well.
                let most = if chained { 3 } else { 6 };
                left.div_ceil(left.div_ceil(most))
            } else if left == 4 {
                // 4 = 2 + 2: a tile of one vector has too few sums to hide the latency of an addition.
                2
            } else {
                left.min(3)
            };
            let mut g = 0;
            while g < groups {
                let more = groups - g;
                // SAFETY: `correlate` has checked the taps' reach, the weights and the output's rows; whole
                // vectors overrun by less than SLACK.
                unsafe {
                    let x = input.add(n);
                    let w = weights.add(g * taps.len() * R);
                    let y = output.add(g * R * pitch + n);
                    macro_rules! tile {
                        ($groups:literal, $vectors:literal) => {{
                            tile::<V, R, $groups, $vectors>(x, taps, w, y, pitch, chain);
                            g += $groups;
                        }};
                    }
                    if R == 4 && V::TILE > 0 && vectors == V::TILE {
                        let mut first = 0usize;
                        loop {
                            let end = first.saturating_add(chain).min(taps.len());
                            V::tile(x, &taps[first..end], w.add(first * R), y, pitch, first > 0);
                            if end == taps.len() {
                                break;
                            }
                            first = end;
                        }
                        g += 1;
                    } else if V::REGISTERS >= 32 {
                        match vectors {
                            6 => tile!(1, 6),
                            5 => tile!(1, 5),
                            4 => tile!(1, 4),
                            3 if more >= 2 && !chained => tile!(2, 3),
                            3 => tile!(1, 3),
                            2 if more >= 3 && !chained => tile!(3, 2),
                            2 => tile!(1, 2),
                            _ if more >= 3 => tile!(3, 1),
                            _ => tile!(1, 1),
                        }
                    } else {
                        match vectors {
                            3 => tile!(1, 3),
                            2 => tile!(1, 2),
                            _ if more >= 3 => tile!(3, 1),
                            _ => tile!(1, 1),
                        }
                    }
                }
            }
            n += vectors * V::LANES;
        }
    }
}

/// `G` groups of `R` rows × `N` vectors of columns.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const G: usize, const N: usize>(
    input: *const f32,
    taps: &[usize],
    weights: *const f32,
    output: *mut f32,
    pitch: usize,
    chain: usize,
) {
    // SAFETY: as in `Correlate::run`, which calls this with groups and vectors that it has counted.
    unsafe {
        let mut end = chain.min(taps.len());
        let mut totals = chain_sums::<V, R, G, N>(input, taps, 0..end, weights);
        while end < taps.len() {
            let first = end;
            end = (first + chain).min(taps.len());
            let sums = chain_sums::<V, R, G, N>(input, taps, first..end, weights);
            for g in 0..G {
                for r in 0..R {
                    for j in 0..N {
                        totals[g][r][j] = totals[g][r][j].add(sums[g][r][j]);
                    }
                }
            }
        }
        for g in 0..G {
            for r in 0..R {
                for j in 0..N {
                    totals[g][r][j].store(output.add((g * R + r) * pitch + j * V::LANES));
                }
            }
        }
    }
}

/// The sums of one chain of taps, which is a range of theirs.
#[inline(always)]
unsafe fn chain_sums<V: Vector, const R: usize, const G: usize, const N: usize>(
    input: *const f32,
    taps: &[usize],
    chain: Range<usize>,
    weights: *const f32,
) -> [[[V; N]; R]; G] {
    // SAFETY: as in `tile`, which also keeps the chain inside of the taps.
    unsafe {
        let mut sums = [[[V::splat(0.0); N]; R]; G];
        for t in chain {
            let from = input.add(*taps.get_unchecked(t));
            let mut x = [V::splat(0.0); N];
            for j in 0..N {
                x[j] = V::load(from.add(j * V::LANES));
            }
            for g in 0..G {
                let w = weights.add((g * taps.len() + t) * R);
                for r in 0..R {
                    let factor = V::splat(*w.add(r));
                    for j in 0..N {
                        sums[g][r][j] = factor.fma(x[j], sums[g][r][j]);
                    }
                }
            }
        }
        sums
    }
}

/// `sums[r / 4][t][r % 4] += Σ_n gradient[r][n] · input[taps[t] + n]` for n in `0..columns`.
///
/// `gradient` has `rows` rows of `pitch` elements and must be zero in the [`SLACK`] columns behind the last; the
/// input must be finite there. Sums of rows behind the last (in a group of four) are meaningless.
#[allow(clippy::too_many_arguments, reason = "two matrices and their shapes")]
pub(super) fn accumulate(
    set: InstructionSet,
    input: &[f32],
    taps: &[usize],
    gradient: &[f32],
    rows: usize,
    pitch: usize,
    columns: usize,
    sums: &mut [f32],
) {
    let reach = taps.iter().copied().max().unwrap_or(0);
    assert!(
        reach + columns.next_multiple_of(SLACK) <= input.len(),
        "the taps read beyond the input"
    );
    assert!(
        rows > 0 && (rows - 1) * pitch + columns.next_multiple_of(SLACK) <= gradient.len(),
        "the gradient is too small"
    );
    assert!(
        groups(rows) * taps.len() * ROWS <= sums.len(),
        "the sums are too few"
    );
    set.run(Accumulate {
        input: input.as_ptr(),
        taps,
        gradient: gradient.as_ptr(),
        rows,
        pitch,
        columns,
        sums: sums.as_mut_ptr(),
    });
}

struct Accumulate<'a> {
    input: *const f32,
    taps: &'a [usize],
    gradient: *const f32,
    rows: usize,
    pitch: usize,
    columns: usize,
    sums: *mut f32,
}

impl Job for Accumulate<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self {
            input,
            taps,
            gradient,
            rows,
            pitch,
            columns,
            sums,
        } = self;
        for g in 0..groups(rows) {
            // SAFETY: `accumulate` has checked all extents; rows behind the last repeat the last.
            unsafe {
                let row = [0, 1, 2, 3].map(|r| gradient.add((g * ROWS + r).min(rows - 1) * pitch));
                let mut t = 0;
                while t < taps.len() {
                    let to = sums.add((g * taps.len() + t) * ROWS);
                    let some = &taps[t..];
                    if V::DOTS
                        && let [a, b, c, d, e, f, ..] = some
                    {
                        let mut x = [input; 6];
                        let taps = [*a, *b, *c, *d, *e, *f];
                        for j in 0..6 {
                            x[j] = input.add(taps[j]);
                        }
                        V::dots(x, row, columns, to);
                        t += 6;
                        continue;
                    }
                    match some {
                        [a, b, c, ..] => dots::<V, 3>(input, [*a, *b, *c], row, columns, to),
                        [a, b] => dots::<V, 2>(input, [*a, *b], row, columns, to),
                        _ => dots::<V, 1>(input, [some[0]], row, columns, to),
                    }
                    t += 3;
                }
            }
        }
    }
}

/// Four gradient rows × `T` taps.
#[inline(always)]
unsafe fn dots<V: Vector, const T: usize>(
    input: *const f32,
    taps: [usize; T],
    gradient: [*const f32; ROWS],
    columns: usize,
    to: *mut f32,
) {
    // SAFETY: as in `Accumulate::run`.
    unsafe {
        let mut sums = [[V::splat(0.0); ROWS]; T];
        let mut n = 0;
        while n < columns {
            let mut x = [V::splat(0.0); T];
            for t in 0..T {
                x[t] = V::load(input.add(taps[t] + n));
            }
            for r in 0..ROWS {
                let g = V::load(gradient[r].add(n));
                for t in 0..T {
                    sums[t][r] = g.fma(x[t], sums[t][r]);
                }
            }
            n += V::LANES;
        }
        for (t, sums) in sums.iter().enumerate() {
            let found = V::sums(*sums);
            for (r, found) in found.iter().enumerate() {
                *to.add(t * ROWS + r) += found;
            }
        }
    }
}
