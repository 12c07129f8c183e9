//! Takes the voxels of a crop from where a deformation says: raw between voxels, labels from the nearest one.
//! Sources are known on a coarse lattice and are linear between, so that along a row each costs an addition.

use ndarray::{Array3, Array4, ArrayView3};
use rayon::prelude::*;

use super::{Deformation, Frame};
use crate::elementary::nearest;

/// A grid of voxels over a crop, finer than raw or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// The middle of the first voxel, in voxels of raw from the crop's corner.
    pub first: [f64; 3],
    /// Voxels along each axis.
    pub shape: [usize; 3],
    /// Voxels of the grid in one of raw, along each axis.
    pub finer: [usize; 3],
}

impl Grid {
    /// The voxels of raw themselves.
    pub fn of_raw(frame: &Frame) -> Self {
        Self {
            first: [0.5; 3],
            shape: frame.shape,
            finer: [1; 3],
        }
    }
}

/// Where the voxels of a grid are taken from, and how large a window of it has all of that. Grids of any fineness
/// over one crop share the places at which sources are computed, so that they are deformed alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    /// Where the window begins, in voxels of the grid from its first one.
    pub begin: [i64; 3],
    /// Voxels of the window along each axis.
    pub window: [usize; 3],
    shape: [usize; 3],
    axes: [Knots; 3],
    /// Sources of the knots (z, y, x), in voxels of the window.
    sources: Vec<[f32; 3]>,
    /// How far each plane has moved along (y, x), in voxels of the grid.
    slips: Vec<[i64; 2]>,
}

/// The knots along an axis: places whose sources are known. All are the middles of every so many voxels of raw, the
/// same for every grid, but the first and the last, which are the outermost voxels.
#[derive(Debug, Clone, PartialEq)]
struct Knots {
    count: usize,
    /// The first voxel that is asked for: less than 0 where sections slip.
    first: i64,
    /// For each voxel from that: the knot before it, and its way from there to the next.
    cells: Vec<(usize, f32)>,
}

/// Differences of this many voxels are taken for rounding.
const ROUNDING: f64 = 1e-6;

impl Lattice {
    pub(super) fn new(deformation: &Deformation, grid: &Grid) -> Self {
        let place = |a: usize, voxel: i64| grid.first[a] + voxel as f64 / grid.finer[a] as f64;
        let slips = (0..grid.shape[0] as i64).map(|plane| {
            let [y, x] = deformation.slips.of(place(0, plane).floor() as i64);
            [y * grid.finer[1] as i64, x * grid.finer[2] as i64]
        });
        let farthest = deformation.slips.farthest();
        let spacing = deformation.subsample.max(1) as f64;
        // Voxels that are asked for, and the places, evenly spaced, that have them between each other.
        let voxels: [Vec<i64>; 3] = std::array::from_fn(|a| {
            let margin = if a == 0 {
                0
            } else {
                farthest[a - 1] * grid.finer[a] as i64
            };
            (-margin..grid.shape[a] as i64 + margin).collect()
        });
        let places: [Vec<f64>; 3] = std::array::from_fn(|a| {
            let number = |voxel: i64| (place(a, voxel) - 0.5) / spacing;
            let first = number(voxels[a][0]).floor() as i64;
            let last = number(voxels[a][voxels[a].len() - 1]).ceil() as i64;
            (first..=last.max(first + 1))
                .map(|k| k as f64 * spacing + 0.5)
                .collect()
        });
        let mut sources = deformation.sources(&places);
        let mut shape = places.each_ref().map(Vec::len);
        let axes = std::array::from_fn(|a| {
            let wanted: Vec<f64> = voxels[a].iter().map(|&voxel| place(a, voxel)).collect();
            let knots = between_ends(&places[a], wanted[0], wanted[wanted.len() - 1]);
            sources = at_places(&sources, shape, a, &places[a], &knots);
            shape[a] = knots.len();
            Knots {
                count: knots.len(),
                first: voxels[a][0],
                cells: wanted.iter().map(|&place| cell(&knots, place)).collect(),
            }
        });
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for source in &mut sources {
            for a in 0..3 {
                source[a] = (source[a] - grid.first[a]) * grid.finer[a] as f64;
                (low[a], high[a]) = (low[a].min(source[a]), high[a].max(source[a]));
            }
        }
        let begin: [i64; 3] = low.map(|n| (n + ROUNDING).floor() as i64);
        Self {
            begin,
            window: std::array::from_fn(|a| {
                ((high[a] - ROUNDING).ceil() as i64 - begin[a] + 1).max(1) as usize
            }),
            shape: grid.shape,
            axes,
            sources: sources
                .into_iter()
                .map(|source| std::array::from_fn(|a| (source[a] - begin[a] as f64) as f32))
                .collect(),
            slips: slips.collect(),
        }
    }

    /// The grid's voxels (channels, z, y, x), each interpolated between the eight voxels around its source. The
    /// window has [`Lattice::window`] voxels.
    pub fn linear(&self, window: &Array4<f32>) -> Array4<f32> {
        let channels = window.shape()[0];
        let window = window.as_standard_layout();
        let values = window.as_slice().unwrap_or_default();
        let volume = self.window.iter().product::<usize>();
        let mut out = Array4::zeros((channels, self.shape[0], self.shape[1], self.shape[2]));
        let plane = self.shape[1] * self.shape[2];
        if let Some(out) = out.as_slice_mut() {
            out.par_chunks_mut(plane.max(1)).enumerate().for_each(|(i, out)| {
                let (channel, z) = (i / self.shape[0], i % self.shape[0]);
                let values = &values[channel * volume..(channel + 1) * volume];
                let mut row = Row::new(self);
                for (y, out) in out.chunks_exact_mut(self.shape[2].max(1)).enumerate() {
                    row.find(self, z, y);
                    row.interpolate(self, values, out);
                }
            });
        }
        out
    }

    /// The grid's voxels (z, y, x), each that of the window which is nearest to its source.
    pub fn nearest<T: Copy + Send + Sync>(&self, window: ArrayView3<T>) -> Array3<T> {
        let window = window.as_standard_layout();
        let values = window.as_slice().unwrap_or_default();
        let plane = self.shape[1] * self.shape[2];
        let mut out = vec![values[0]; self.shape[0] * plane];
        out.par_chunks_mut(plane.max(1)).enumerate().for_each(|(z, out)| {
            let mut row = Row::new(self);
            for (y, out) in out.chunks_exact_mut(self.shape[2].max(1)).enumerate() {
                row.find(self, z, y);
                row.take(self, values, out);
            }
        });
        #[allow(clippy::expect_used, reason = "as many voxels as the shape has")]
        Array3::from_shape_vec(self.shape, out).expect("the grid's shape")
    }
}

impl Knots {
    /// The knots around a voxel, and its way from the first to the second of them.
    fn around(&self, voxel: i64) -> (usize, usize, f32) {
        let (cell, way) = self.cells[(voxel - self.first) as usize];
        (cell, (cell + 1).min(self.count - 1), way)
    }
}

/// The knots for what lies from `low` to `high`: both, and the places between them.
fn between_ends(places: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut knots = vec![low];
    knots.extend(
        places
            .iter()
            .filter(|&&place| low + ROUNDING < place && place < high - ROUNDING),
    );
    if high > low {
        knots.push(high);
    }
    knots
}

/// The last knot that is not behind a place and has another one behind it, and how far the place is on the way there.
fn cell(knots: &[f64], place: f64) -> (usize, f32) {
    let before = knots.partition_point(|&knot| knot <= place + ROUNDING);
    let cell = before.saturating_sub(1).min(knots.len().saturating_sub(2));
    let way = match knots.get(cell + 1) {
        Some(next) => (place - knots[cell]) / (next - knots[cell]),
        None => 0.0,
    };
    (cell, way as f32)
}

/// Sources at other places along one axis, linear between the places where they are known.
fn at_places(
    sources: &[[f64; 3]],
    shape: [usize; 3],
    axis: usize,
    known: &[f64],
    wanted: &[f64],
) -> Vec<[f64; 3]> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut found = Vec::with_capacity(outer * wanted.len() * inner);
    for o in 0..outer {
        let row = |k: usize| &sources[(o * known.len() + k) * inner..][..inner];
        for &place in wanted {
            let (cell, _) = cell(known, place);
            let way = (place - known[cell]) / (known[cell + 1] - known[cell]);
            found.extend(
                row(cell)
                    .iter()
                    .zip(row(cell + 1))
                    .map(|(p, q)| -> [f64; 3] { std::array::from_fn(|a| p[a] + (q[a] - p[a]) * way) }),
            );
        }
    }
    found
}

/// Room to work on one row of voxels.
struct Row {
    /// Sources of the knots along the row.
    knots: Vec<[f32; 3]>,
    /// Sources of its voxels, along each axis.
    sources: [Vec<f32>; 3],
    /// Where the first of the eight voxels around each source lies in the window.
    offsets: Vec<u32>,
}

impl Row {
    fn new(lattice: &Lattice) -> Self {
        let length = lattice.shape[2];
        Self {
            knots: vec![[0.0; 3]; lattice.axes[2].count],
            sources: std::array::from_fn(|_| vec![0.0; length]),
            offsets: vec![0; length],
        }
    }

    /// Finds the sources of the row (z, y).
    fn find(&mut self, lattice: &Lattice, z: usize, y: usize) {
        let [slip_y, slip_x] = lattice.slips[z];
        let (z0, z1, tz) = lattice.axes[0].around(z as i64);
        let (y0, y1, ty) = lattice.axes[1].around(y as i64 + slip_y);
        let (height, width) = (lattice.axes[1].count, lattice.axes[2].count);
        let row = |z: usize, y: usize| &lattice.sources[(z * height + y) * width..][..width];
        let corners = [row(z0, y0), row(z0, y1), row(z1, y0), row(z1, y1)];
        for (i, knot) in self.knots.iter_mut().enumerate() {
            for a in 0..3 {
                let between = |p: f32, q: f32, t: f32| p + (q - p) * t;
                let front = between(corners[0][i][a], corners[1][i][a], ty);
                let back = between(corners[2][i][a], corners[3][i][a], ty);
                knot[a] = between(front, back, tz);
            }
        }
        let along = &lattice.axes[2];
        let begin = (slip_x - along.first) as usize;
        let mut cells = &along.cells[begin..begin + self.offsets.len()];
        let mut done = 0;
        while let Some(&(cell, _)) = cells.first() {
            // The voxels between two knots lie on a line.
            let length = cells.iter().take_while(|(other, _)| *other == cell).count();
            let (here, behind) = cells.split_at(length);
            let (first, next) = (self.knots[cell], self.knots[(cell + 1).min(width - 1)]);
            for a in 0..3 {
                let step = next[a] - first[a];
                let sources = &mut self.sources[a][done..done + length];
                for (source, (_, way)) in sources.iter_mut().zip(here) {
                    *source = first[a] + step * way;
                }
            }
            (cells, done) = (behind, done + length);
        }
    }

    /// Splits the sources into the voxel before each and the rest of the way, where `lift` is added before.
    fn split(&mut self, lattice: &Lattice, lift: f32, beyond: usize) {
        let [_, height, width] = lattice.window;
        self.offsets.fill(0);
        for (a, step) in [height * width, width, 1].into_iter().enumerate() {
            // The last voxel that has another one behind it.
            let last = lattice.window[a].saturating_sub(1 + beyond) as f32;
            for (source, offset) in self.sources[a].iter_mut().zip(&mut self.offsets) {
                let lifted = (*source + lift).max(0.0);
                let (near, _) = nearest(lifted);
                let below = if near > lifted { near - 1.0 } else { near };
                let (whole, index) = nearest(below.min(last));
                *source = (lifted - whole).min(1.0);
                *offset += index as u32 * step as u32;
            }
        }
    }

    fn interpolate(&mut self, lattice: &Lattice, values: &[f32], out: &mut [f32]) {
        self.split(lattice, 0.0, 1);
        let [depth, height, width] = lattice.window;
        // Where there is one voxel, it is its own neighbour.
        let dz = if depth > 1 { height * width } else { 0 };
        let dy = if height > 1 { width } else { 0 };
        let dx = usize::from(width > 1);
        let [tz, ty, tx] = &self.sources;
        let is_flat = tz.iter().all(|&t| t == 0.0);
        let pair = |at: usize, t: f32| {
            let (p, q) = (values[at], values[at + dx]);
            p + (q - p) * t
        };
        let square = |at: usize, ty: f32, tx: f32| {
            let (p, q) = (pair(at, tx), pair(at + dy, tx));
            p + (q - p) * ty
        };
        if is_flat {
            for (i, (out, &at)) in out.iter_mut().zip(&self.offsets).enumerate() {
                *out = square(at as usize, ty[i], tx[i]);
            }
            return;
        }
        for (i, (out, &at)) in out.iter_mut().zip(&self.offsets).enumerate() {
            let at = at as usize;
            let (p, q) = (square(at, ty[i], tx[i]), square(at + dz, ty[i], tx[i]));
            *out = p + (q - p) * tz[i];
        }
    }

    fn take<T: Copy>(&mut self, lattice: &Lattice, values: &[T], out: &mut [T]) {
        self.split(lattice, 0.5, 0);
        for (out, &at) in out.iter_mut().zip(&self.offsets) {
            *out = values[at as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::tests::frame;
    use crate::augment::{Draw, Slips};
    use crate::config::{ElasticConfig, Outside, Rotate};
    use ndarray::Axis;
    use std::collections::HashSet;

    /// 3D, anisotropic, 2D, and an axis of one voxel.
    fn frames() -> [Frame; 4] {
        [
            frame(3, [9, 10, 11], [8.0; 3]),
            frame(3, [5, 16, 13], [40.0, 4.0, 8.0]),
            frame(2, [1, 12, 17], [1.0, 4.6, 4.6]),
            frame(3, [1, 7, 1], [8.0; 3]),
        ]
    }

    fn config(dims: usize) -> ElasticConfig {
        ElasticConfig {
            control_point_spacing: vec![5.0; dims],
            jitter_sigma: vec![0.0; dims],
            rotation: [0.0; 2],
            rotate: Rotate::InPlane,
            scale: [1.0; 2],
            subsample: 1,
            probability: 1.0,
            outside: Outside::Mirror,
        }
    }

    fn drawn(config: &ElasticConfig, frame: &Frame, iteration: u64) -> Deformation {
        let draw = Draw {
            seed: 2,
            iteration,
            sample: 0,
        };
        Deformation::draw(Some(config), Slips::default(), frame, draw).unwrap()
    }

    /// A window of a volume that is everywhere.
    fn window<T>(lattice: &Lattice, of: impl Fn([i64; 3]) -> T) -> Array3<T> {
        Array3::from_shape_fn(lattice.window, |(z, y, x)| {
            of(std::array::from_fn(|a| [z, y, x][a] as i64 + lattice.begin[a]))
        })
    }

    fn number(at: [i64; 3]) -> u64 {
        (1_000_000 + at[0] * 10_000 + at[1] * 100 + at[2]) as u64
    }

    fn linear(lattice: &Lattice, window: Array3<f32>) -> Array3<f32> {
        lattice
            .linear(&window.insert_axis(Axis(0)))
            .index_axis_move(Axis(0), 0)
    }

    #[test]
    fn the_identity_takes_every_voxel_from_its_place() {
        for frame in frames() {
            for subsample in [1, 3, 4, 100] {
                for finer in [[1, 1, 1], [1, 2, 2], [3, 1, 2]] {
                    let mut deformation = drawn(&config(frame.dims), &frame, 0);
                    deformation.subsample = subsample;
                    let grid = Grid {
                        first: std::array::from_fn(|a| 1.0 + 0.5 / finer[a] as f64),
                        shape: frame.shape,
                        finer,
                    };
                    let lattice = deformation.lattice(&grid);
                    assert_eq!((lattice.begin, lattice.window), ([0; 3], frame.shape));
                    let labels = window(&lattice, number);
                    assert_eq!(lattice.nearest(labels.view()), labels);
                    let raw = labels.mapv(|n| (n % 9973) as f32);
                    for (a, b) in linear(&lattice, raw.clone()).iter().zip(&raw) {
                        assert!((a - b).abs() < 0.02, "{a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_quarter_turn_is_a_transpose_and_a_flip() {
        for (dims, shape) in [(3, [4, 9, 9]), (3, [3, 8, 8]), (2, [1, 9, 9])] {
            let frame = frame(dims, shape, [40.0, 4.0, 4.0]);
            let mut config = config(dims);
            config.rotation = [90.0; 2];
            let lattice = drawn(&config, &frame, 0).lattice(&Grid::of_raw(&frame));
            assert_eq!((lattice.begin, lattice.window), ([0; 3], shape));
            let labels = window(&lattice, number);
            let mut expected = labels.clone().permuted_axes([0, 2, 1]);
            expected.invert_axis(Axis(2));
            let turned = lattice.nearest(labels.view());
            assert_eq!(turned, expected);
            let raw = labels.mapv(|n| (n % 997) as f32);
            for (value, &label) in linear(&lattice, raw).iter().zip(&turned) {
                assert!((value - (label % 997) as f32).abs() < 0.01);
            }
        }
    }

    #[test]
    fn on_a_ramp_every_voxel_shows_its_source() {
        for frame in frames() {
            for (subsample, rotate) in [(1, Rotate::InPlane), (3, Rotate::AnyAxis), (4, Rotate::Uniform)] {
                let mut config = config(frame.dims);
                config.jitter_sigma = vec![0.7; frame.dims];
                config.control_point_spacing = vec![12.0; frame.dims];
                config.rotation = [10.0, 70.0];
                config.scale = [0.8, 1.3];
                config.subsample = subsample;
                config.rotate = if frame.dims == 2 { Rotate::InPlane } else { rotate };
                let deformation = drawn(&config, &frame, 4);
                let grid = Grid::of_raw(&frame);
                let lattice = deformation.lattice(&grid);
                let places = std::array::from_fn(|a| (0..frame.shape[a]).map(|i| i as f64 + 0.5).collect());
                let sources = deformation.sources(&places);
                for a in 0..3 {
                    let ramp = window(&lattice, |at| at[a] as f32);
                    for (shown, source) in linear(&lattice, ramp).iter().zip(&sources) {
                        // Between the knots of a coarse lattice, the spline is not quite a line.
                        let bound = if subsample == 1 { 1e-3 } else { 0.25 };
                        assert!(
                            (f64::from(*shown) + 0.5 - source[a]).abs() < bound,
                            "{shown} {source:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn raw_is_interpolated_between_the_eight_voxels_around_its_source() {
        for frame in frames() {
            let mut config = config(frame.dims);
            config.jitter_sigma = vec![1.0; frame.dims];
            config.rotation = [20.0; 2];
            let deformation = drawn(&config, &frame, 1);
            let lattice = deformation.lattice(&Grid::of_raw(&frame));
            let noisy =
                |at: [i64; 3]| ((at[0] * 7919 + at[1] * 104_729 + at[2] * 1_299_709).rem_euclid(101)) as f32;
            let raw = window(&lattice, noisy);
            let places = std::array::from_fn(|a| (0..frame.shape[a]).map(|i| i as f64 + 0.5).collect());
            let sources = deformation.sources(&places);
            let labels = lattice.nearest(window(&lattice, number).view());
            for ((found, source), label) in linear(&lattice, raw).iter().zip(&sources).zip(labels) {
                let at = source.map(|s| s - 0.5);
                let mut expected = 0.0;
                for corner in 0..8 {
                    let (mut weight, mut voxel) = (1.0, [0; 3]);
                    for a in 0..3 {
                        let (whole, t) = (at[a].floor(), at[a] - at[a].floor());
                        let far = corner >> a & 1 == 1;
                        weight *= if far { t } else { 1.0 - t };
                        voxel[a] = whole as i64 + i64::from(far);
                    }
                    expected += weight * f64::from(noisy(voxel));
                }
                assert!((f64::from(*found) - expected).abs() < 0.05, "{found} {expected}");
                // Nearly between two voxels, rounding decides.
                let near = (0..3).all(|a| (at[a] - at[a].floor() - 0.5).abs() > 1e-3);
                assert!(!near || label == number(at.map(|n| n.round() as i64)));
            }
        }
    }

    #[test]
    fn labels_only_have_numbers_that_were_there_and_follow_raw() {
        for frame in frames() {
            let mut config = config(frame.dims);
            config.jitter_sigma = vec![2.0; frame.dims];
            config.rotation = [0.0, 360.0];
            config.scale = [0.7, 1.4];
            for iteration in 0..10 {
                let deformation = drawn(&config, &frame, iteration);
                let coarse = deformation.lattice(&Grid::of_raw(&frame));
                let finer = [1, 2, 2];
                let fine = deformation.lattice(&Grid {
                    first: std::array::from_fn(|a| 0.5 / finer[a] as f64),
                    shape: std::array::from_fn(|a| frame.shape[a] * finer[a]),
                    finer,
                });
                let half = |at: [i64; 3]| if at[2] < 5 { 7_u64 } else { 9 };
                let labels = window(&fine, |at| {
                    half([at[0], at[1].div_euclid(2), at[2].div_euclid(2)])
                });
                let there: HashSet<u64> = labels.iter().copied().collect();
                let labels = fine.nearest(labels.view());
                assert!(labels.iter().all(|label| there.contains(label)));
                let raw = linear(&coarse, window(&coarse, |at| half(at) as f32));
                for ((z, y, x), &value) in raw.indexed_iter() {
                    // Where raw is of one object all around, so are the labels there.
                    if value == 7.0 || value == 9.0 {
                        let of_voxel =
                            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| labels[[z, 2 * y + i, 2 * x + j]]);
                        let same = of_voxel.iter().filter(|&&l| l as f32 == value).count();
                        assert!(same >= 1, "{value} {of_voxel:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn sections_slip_whole() {
        let frame = frame(3, [4, 6, 9], [40.0, 4.0, 4.0]);
        let mut deformation = Deformation::identity(&frame);
        deformation.slips = Slips(vec![[0, 0], [2, -1], [0, 0], [-3, 3]]);
        for finer in [1, 2] {
            let grid = Grid {
                first: [0.5, 0.5 / finer as f64, 0.5 / finer as f64],
                shape: [4, 6 * finer, 9 * finer],
                finer: [1, finer, finer],
            };
            let lattice = deformation.lattice(&grid);
            let labels = lattice.nearest(window(&lattice, number).view());
            let raw = linear(&lattice, window(&lattice, |at| at[1] as f32));
            for ((z, y, x), &label) in labels.indexed_iter() {
                let by = deformation.slips.0[z].map(|n| n * finer as i64);
                let source = [z as i64, y as i64 + by[0], x as i64 + by[1]];
                assert_eq!(label, number(source));
                assert_eq!(raw[[z, y, x]], source[1] as f32);
            }
        }
    }

    #[test]
    fn the_result_is_the_same_at_any_number_of_threads() {
        let frame = frame(3, [9, 10, 11], [8.0; 3]);
        let mut config = config(3);
        (config.jitter_sigma, config.rotation, config.rotate) = (vec![1.0; 3], [5.0, 90.0], Rotate::AnyAxis);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let lattice = drawn(&config, &frame, 3).lattice(&Grid::of_raw(&frame));
                let raw = window(&lattice, |at| (number(at) % 251) as f32);
                (
                    linear(&lattice, raw),
                    lattice.nearest(window(&lattice, number).view()),
                )
            })
        };
        assert_eq!(with(1), with(3));
    }
}
