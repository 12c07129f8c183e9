//! One axis of a distance transform: at each place of a line, the least of `height[j] + (spacing × (i - j))²` over
//! all j. What the heights are, and what the lines mean, is decided by the caller.

use ndarray::{ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis};
use rayon::prelude::*;

/// Lines that are worked on side by side: a cache line of them.
const LANES: usize = 16;
/// Lines of a tile, which is copied together.
const TILE: usize = 4 * LANES;
/// Parabolas further away than this are not looked at one by one.
const REACH: usize = 64;
/// Steps between two looks at whether all lanes are done.
const STRIDE: usize = 4;
/// Where so few places of the lines have parabolas, each is looked at from everywhere.
const FEW: usize = 12;

type Lanes = [f32; LANES];

/// Where the values of a line change: bit `bit` of a voxel's byte is set if it differs from the one before it on its
/// line. Lines end in what differs too if there is a `border`.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    pub flags: ArrayView3<'a, u8>,
    pub bit: u8,
    pub border: bool,
}

/// Lowers each height to the envelope of the parabolas of its line, and where there are `changes`, to the squared
/// distance of the next one too. Squared distances come in, and go out: as their roots, if asked.
///
/// Axis 1 of the view is along the lines; tiles are taken along axis 2. What is infinite has no parabola.
///
/// A parabola that is `k` steps away adds `(k × spacing)²` to the least height of its line at least, so looking outwards
/// can end once that reaches the least found so far (Saito and Toriwaki 1994): after as many steps as the distance found,
/// or none where all heights are the same. Lanes do so side by side. Where it takes more than [`REACH`] steps, the lower
/// envelope is built instead (Felzenszwalb and Huttenlocher 2012), so that no input takes more than linear time.
pub(crate) fn lower(mut heights: ArrayViewMut3<f32>, changes: Option<Changes>, spacing: f64, root: bool) {
    let length = heights.len_of(Axis(1));
    let tables = Tables {
        spacing,
        squares: (0..length + REACH + STRIDE)
            .map(|k| (k as f64 * spacing).powi(2) as f32)
            .collect(),
        halves: (0..length).map(|k| 0.5 / k as f64).collect(),
    };
    let work = work();
    let mut tiles = Vec::new();
    for (outer, plane) in heights.outer_iter_mut().enumerate() {
        let mut rest = plane;
        let mut begin = 0;
        while rest.len_of(Axis(1)) > 0 {
            let width = rest.len_of(Axis(1)).min(TILE);
            let (tile, behind) = rest.split_at(Axis(1), width);
            let flags = changes.map(|changes| {
                let mut flags = changes.flags.index_axis_move(Axis(0), outer);
                flags.slice_axis_inplace(Axis(1), (begin..begin + width).into());
                flags
            });
            tiles.push((tile, flags));
            begin += width;
            rest = behind;
        }
    }
    tiles
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (mut tile, flags)| {
            work(scratch, &mut tile, changes.zip(flags), &tables, root);
        });
}

/// What only depends on the length of the lines.
struct Tables {
    spacing: f64,
    /// The squares of so many steps.
    squares: Vec<f32>,
    /// 1 / 2k by k.
    halves: Vec<f64>,
}

/// Lowers the lines of a tile.
type Work = fn(&mut Scratch, &mut ArrayViewMut2<f32>, Option<(Changes, ArrayView2<u8>)>, &Tables, bool);

/// The work for the machine's instruction set. All give the same bits: nothing is fused or reordered.
fn work() -> Work {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return |scratch, tile, lines, tables, root| unsafe { tile_avx2(scratch, tile, lines, tables, root) };
    }
    Scratch::tile
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn tile_avx2(
    scratch: &mut Scratch,
    tile: &mut ArrayViewMut2<f32>,
    lines: Option<(Changes, ArrayView2<u8>)>,
    tables: &Tables,
    root: bool,
) {
    scratch.tile(tile, lines, tables, root);
}

/// A few lines, one a lane.
#[derive(Default)]
struct Scratch {
    /// With [`REACH`] infinite rows, and those that a stride may go further, on either side.
    heights: Vec<Lanes>,
    bounds: Vec<Lanes>,
    /// The least height of each lane.
    least: Lanes,
    /// Places where any lane has a parabola; no more than one beyond [`FEW`].
    few: Vec<usize>,
    /// The lowest parabolas of a lane.
    lowest: Vec<Parabola>,
}

/// A parabola of an envelope.
struct Parabola {
    vertex: usize,
    /// Its height in squared steps, and the square of its place.
    key: f64,
    /// Where it begins to be the lowest.
    begin: f64,
}

const MARGIN: usize = REACH + STRIDE;

impl Scratch {
    #[inline(always)]
    fn tile(
        &mut self,
        tile: &mut ArrayViewMut2<f32>,
        lines: Option<(Changes, ArrayView2<u8>)>,
        tables: &Tables,
        root: bool,
    ) {
        for begin in (0..tile.len_of(Axis(1))).step_by(LANES) {
            self.load(tile.view(), begin);
            self.bound(lines, begin, tables.spacing as f32);
            if self.few.len() <= FEW {
                self.look_at_few(&tables.squares);
            } else {
                let undone = look_outwards(&self.heights, &mut self.bounds, &tables.squares, &self.least);
                for lane in (0..LANES).filter(|&lane| undone[lane]) {
                    self.envelope(lane, tables);
                }
            }
            self.store(tile, begin, root);
        }
    }

    #[inline(always)]
    fn load(&mut self, tile: ArrayView2<f32>, begin: usize) {
        let length = tile.len_of(Axis(0));
        self.heights.clear();
        self.heights.resize(length + 2 * MARGIN, [f32::INFINITY; LANES]);
        self.least = [f32::INFINITY; LANES];
        self.few.clear();
        for (place, (row, lanes)) in tile.outer_iter().zip(&mut self.heights[MARGIN..]).enumerate() {
            // Lanes without a line have no parabola, and are done at once.
            *lanes = gather(row, begin, f32::INFINITY);
            for (least, &height) in self.least.iter_mut().zip(&*lanes) {
                *least = if height < *least { height } else { *least };
            }
            if self.few.len() <= FEW && is_above(&[f32::INFINITY; LANES], lanes, 0.0) > 0 {
                self.few.push(place);
            }
        }
    }

    /// What each height is at most: itself, and the squared distance to the next change.
    #[inline(always)]
    fn bound(&mut self, lines: Option<(Changes, ArrayView2<u8>)>, begin: usize, spacing: f32) {
        let heights = &self.heights[MARGIN..self.heights.len() - MARGIN];
        self.bounds.clear();
        let Some((changes, flags)) = lines else {
            self.bounds.extend_from_slice(heights);
            return;
        };
        // Steps to the last voxel that differs, and then to the next one.
        let end = [if changes.border { 0.0 } else { f32::INFINITY }; LANES];
        let mut steps = end;
        for (row, flags) in flags.outer_iter().enumerate() {
            count(
                &mut steps,
                &gather(flags, begin, 0),
                if row > 0 { changes.bit } else { 0 },
            );
            self.bounds.push(steps);
        }
        steps = end;
        let mut changed = [0; LANES];
        let rows = self.bounds.iter_mut().zip(heights).zip(flags.outer_iter());
        for ((bound, heights), flags) in rows.rev() {
            count(&mut steps, &changed, changes.bit);
            changed = gather(flags, begin, 0);
            for ((bound, &height), &steps) in bound.iter_mut().zip(heights).zip(&steps) {
                let nearest = spacing * if steps < *bound { steps } else { *bound };
                let square = nearest * nearest;
                *bound = if square < height { square } else { height };
            }
        }
    }

    /// Lowers the bounds by the few parabolas that there are.
    #[inline(always)]
    fn look_at_few(&mut self, squares: &[f32]) {
        for (place, bound) in self.bounds.iter_mut().enumerate() {
            for &vertex in &self.few {
                let square = squares[place.abs_diff(vertex)];
                for (bound, &height) in bound.iter_mut().zip(&self.heights[MARGIN + vertex]) {
                    let value = height + square;
                    *bound = if value < *bound { value } else { *bound };
                }
            }
        }
    }

    /// Lowers the bounds of a lane to the envelope of its parabolas.
    fn envelope(&mut self, lane: usize, tables: &Tables) {
        let per_area = 1.0 / (tables.spacing * tables.spacing);
        let line = &self.heights[MARGIN..self.heights.len() - MARGIN];
        self.lowest.clear();
        for (vertex, height) in line.iter().map(|lanes| lanes[lane]).enumerate() {
            if height == f32::INFINITY {
                continue;
            }
            let x = vertex as f64;
            let key = f64::from(height) * per_area + x * x;
            let begin = loop {
                let Some(before) = self.lowest.last() else {
                    break f64::NEG_INFINITY;
                };
                let crossing = (key - before.key) * tables.halves[vertex - before.vertex];
                if crossing > before.begin {
                    break crossing;
                }
                self.lowest.pop();
            };
            self.lowest.push(Parabola { vertex, key, begin });
        }
        let mut parabolas = self.lowest.iter();
        let Some(mut current) = parabolas.next() else {
            return;
        };
        let mut next = parabolas.next();
        for (place, bound) in self.bounds.iter_mut().enumerate() {
            while let Some(parabola) = next.filter(|next| next.begin < place as f64) {
                (current, next) = (parabola, parabolas.next());
            }
            let value = line[current.vertex][lane] + tables.squares[place.abs_diff(current.vertex)];
            bound[lane] = bound[lane].min(value);
        }
    }

    #[inline(always)]
    fn store(&self, tile: &mut ArrayViewMut2<f32>, begin: usize, root: bool) {
        let width = LANES.min(tile.len_of(Axis(1)) - begin);
        for (mut row, bounds) in tile.outer_iter_mut().zip(&self.bounds) {
            let mut values = *bounds;
            if root {
                values = values.map(f32::sqrt);
            }
            let whole = row
                .as_slice_mut()
                .and_then(|row| row.get_mut(begin..begin + LANES));
            match whole.map(<&mut Lanes>::try_from) {
                Some(Ok(row)) => *row = values,
                _ => {
                    let part = row.iter_mut().skip(begin).take(width);
                    part.zip(values).for_each(|(to, value)| *to = value);
                }
            }
        }
    }
}

/// Values of a row from `begin` on, and others behind its end.
#[inline(always)]
fn gather<T: Copy>(row: ArrayView1<T>, begin: usize, others: T) -> [T; LANES] {
    let whole = row.to_slice().and_then(|row| row.get(begin..begin + LANES));
    // Of known length, this is a few moves and no call.
    if let Some(Ok(lanes)) = whole.map(<[T; LANES]>::try_from) {
        return lanes;
    }
    let mut lanes = [others; LANES];
    for (lane, &value) in lanes.iter_mut().zip(row.iter().skip(begin)) {
        *lane = value;
    }
    lanes
}

/// One step further from the last change, or one from it.
#[inline(always)]
fn count(steps: &mut Lanes, flags: &[u8; LANES], bit: u8) {
    for (steps, flag) in steps.iter_mut().zip(flags) {
        *steps = if flag & bit != 0 { 1.0 } else { *steps + 1.0 };
    }
}

/// Lowers the bounds by looking outwards; tells which lanes have a voxel for which that did not suffice. It is given
/// up when that is so for half of the lanes, which then all are undone.
#[inline(always)]
fn look_outwards(heights: &[Lanes], bounds: &mut [Lanes], squares: &[f32], least: &Lanes) -> [bool; LANES] {
    let furthest = bounds.len() - 1;
    let reach = REACH.min(furthest);
    let mut undone = [false; LANES];
    for (place, bound) in bounds.iter_mut().enumerate() {
        let mut best = *bound;
        let mut done = 0;
        while done < reach && is_above(&best, least, squares[done + 1]) > 0 {
            let before = &heights[MARGIN + place - done - STRIDE..][..STRIDE];
            let behind = &heights[MARGIN + place + done + 1..][..STRIDE];
            let squares = &squares[done + 1..][..STRIDE];
            for step in 0..STRIDE {
                let (before, behind) = (&before[STRIDE - 1 - step], &behind[step]);
                for lane in 0..LANES {
                    let (a, b) = (before[lane], behind[lane]);
                    let value = if a < b { a } else { b } + squares[step];
                    best[lane] = if value < best[lane] { value } else { best[lane] };
                }
            }
            done += STRIDE;
        }
        *bound = best;
        if done < furthest && is_above(&best, least, squares[done + 1]) > 0 {
            for (undone, (&best, &least)) in undone.iter_mut().zip(best.iter().zip(least)) {
                *undone |= best > least + squares[done + 1];
            }
            if undone.iter().filter(|&&undone| undone).count() > LANES / 2 {
                return [true; LANES];
            }
        }
    }
    undone
}

/// How many lanes are more than `square` above the least.
#[inline(always)]
fn is_above(lanes: &Lanes, least: &Lanes, square: f32) -> u32 {
    let both = lanes.iter().zip(least);
    both.map(|(&lane, &least)| u32::from(lane > least + square)).sum()
}
