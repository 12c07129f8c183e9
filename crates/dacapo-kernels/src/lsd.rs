//! Local shape descriptors: what an object looks like around each of its voxels.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array4, ArrayView3, s};
use rayon::prelude::*;

use crate::distance::check_spacing;
use crate::offsets::volume;
use crate::{Error, Result};

/// Voxels along x that are worked on side by side.
const LANES: usize = 8;
type Lanes = [f32; LANES];

/// How shapes are described.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LsdOptions {
    /// Axes: 3, or 2 for an image, which has one plane and 6 descriptors.
    pub dims: usize,
    /// The size of a voxel along z, y and x, in any unit.
    pub spacing: [f64; 3],
    /// Standard deviation of the Gaussian that says what is around, in the same unit. It is cut off at three times
    /// that.
    pub sigma: f64,
    /// Every so many voxels along each axis are looked at, from the volume's first on; the others are described as
    /// the last one looked at before them.
    pub downsample: usize,
}

impl LsdOptions {
    /// How many descriptors there are.
    pub fn channels(&self) -> usize {
        if self.dims == 2 { 6 } else { 10 }
    }

    /// Voxels (z, y, x) of labels around a window that its descriptors depend on, on either side, if it begins with a
    /// voxel that is looked at.
    pub fn context(&self) -> [usize; 3] {
        let factor = self.downsample;
        let axis = |a: usize| radius(self.sigma / (self.spacing[a] * factor as f64)) * factor;
        std::array::from_fn(|a| if a + self.dims < 3 { 0 } else { axis(a) })
    }

    fn check(&self) -> Result<()> {
        check_spacing(self.spacing)?;
        let bad = |name, value, expected| {
            Err(Error::Parameter {
                name,
                value,
                expected,
            })
        };
        let voxels = self.spacing.map(|s| self.sigma / s);
        if !(2..=3).contains(&self.dims) {
            return bad("the number of axes", self.dims as f64, "2 or 3");
        }
        if !(1..=64).contains(&self.downsample) {
            return bad("the downsampling", self.downsample as f64, "between 1 and 64");
        }
        // What is not within a plane does not matter to an image.
        if !voxels[3 - self.dims..]
            .iter()
            .all(|voxels| (1e-3..=1e3).contains(voxels))
        {
            return bad(
                "sigma",
                self.sigma,
                "between a thousandth of a voxel and 1000 voxels",
            );
        }
        Ok(())
    }
}

/// The shape descriptors (channels, z, y, x) of the voxels in `window`, each from 0 to 1, 0 in the background:
///
/// | channel | 3D | 2D |
/// |---|---|---|
/// | where the object's mean is from here, by sigma: 0.5 is here | 0–2: z, y, x | 0–1: y, x |
/// | its variance by sigma² | 3–5: z, y, x | 2–3: y, x |
/// | correlation of two coordinates: 0.5 is none | 6–8: zy, zx, yx | 4: yx |
/// | how much of the Gaussian the object fills | 9 | 5 |
///
/// Mean, variance and correlation are of the voxels of the same label, weighted by the Gaussian around the voxel. A
/// variance below 10⁻³ counts as that where it divides. Labels outside of the volume are background.
///
/// This is `LsdExtractor` of lsds 0.1.3 in its mode `gaussian` (Sheridan et al. 2022), with two differences. Moments
/// are taken around each voxel, so that small variances far from the origin are not lost in 32 bits. An object that
/// downsampling loses has descriptors 0, not a size of 1. Sums are of 32 bits: correlations are exact to 10⁻⁴, and to
/// 10⁻² where a variance is below 10⁻³ sigma². Objects are filtered in their own boxes: along x by their
/// runs, in constant time a voxel and run.
///
/// # Errors
/// [`Error::Parameter`] for options that mean nothing, [`Error::Shape`] if the window is not in the volume or an image
/// has several planes.
pub fn local_shape_descriptors(
    labels: ArrayView3<u64>,
    window: [Range<usize>; 3],
    options: &LsdOptions,
) -> Result<Array4<f32>> {
    options.check()?;
    let shape = volume(labels.shape());
    let inside = (0..3).all(|a| window[a].start <= window[a].end && window[a].end <= shape[a]);
    if !inside || options.dims == 2 && shape[0] > 1 {
        let expected: Vec<usize> = window.iter().map(|range| range.end).collect();
        return Err(Error::Shape {
            what: "volume of labels",
            found: shape.to_vec(),
            expected,
        });
    }
    let lengths: Vec<usize> = window.iter().map(|range| range.end - range.start).collect();
    let channels = options.channels();
    let mut descriptors = Array4::zeros((channels, lengths[0], lengths[1], lengths[2]));
    let kernels = Kernels::new(options, shape[2]);
    let objects: Vec<(u64, Box3)> = boxes(labels, &window).into_iter().collect();
    let described: Vec<Vec<f32>> = objects
        .par_iter()
        .map(|(label, bounds)| describe(labels, *label, bounds, options, &kernels))
        .collect();
    for ((label, bounds), values) in objects.iter().zip(described) {
        let mut values = values.chunks_exact(channels);
        for_each_voxel(labels, *label, bounds, |[z, y, x]| {
            let at = [z - window[0].start, y - window[1].start, x - window[2].start];
            if let Some(values) = values.next() {
                for (channel, &value) in values.iter().enumerate() {
                    descriptors[[channel, at[0], at[1], at[2]]] = value;
                }
            }
        });
    }
    Ok(descriptors)
}

/// Voxels beyond which the Gaussian is cut off.
fn radius(sigma: f64) -> usize {
    (3.0 * sigma + 0.5) as usize
}

type Box3 = [Range<usize>; 3];

/// The box around each object, within the window.
fn boxes(labels: ArrayView3<u64>, window: &Box3) -> BTreeMap<u64, Box3> {
    let mut boxes: BTreeMap<u64, Box3> = BTreeMap::new();
    for z in window[0].clone() {
        for y in window[1].clone() {
            let row = labels.slice(s![z, y, ..]);
            let mut x = window[2].start;
            while x < window[2].end {
                let (label, begin) = (row[x], x);
                while x < window[2].end && row[x] == label {
                    x += 1;
                }
                if label != 0 {
                    let run = [z..z + 1, y..y + 1, begin..x];
                    let known = boxes.entry(label).or_insert_with(|| run.clone());
                    for (known, run) in known.iter_mut().zip(run) {
                        *known = known.start.min(run.start)..known.end.max(run.end);
                    }
                }
            }
        }
    }
    boxes
}

fn for_each_voxel(labels: ArrayView3<u64>, label: u64, bounds: &Box3, mut visit: impl FnMut([usize; 3])) {
    for z in bounds[0].clone() {
        for y in bounds[1].clone() {
            let row = labels.slice(s![z, y, ..]);
            for x in bounds[2].clone().filter(|&x| row[x] == label) {
                visit([z, y, x]);
            }
        }
    }
}

/// The Gaussian along each axis, times the first powers of the way: 0, 1, 2.
struct Kernels {
    radius: [usize; 3],
    /// From `-radius` on.
    taps: [Vec<[f32; 3]>; 3],
    /// By power, the sum of all taps before each place from `-width` to `width`, behind the middle.
    sums: [Vec<f32>; 3],
    width: usize,
}

impl Kernels {
    fn new(options: &LsdOptions, length: usize) -> Self {
        let spacing = options.spacing.map(|s| s * options.downsample as f64);
        let axis = |a: usize| -> Vec<[f64; 3]> {
            if a + options.dims < 3 {
                return vec![[1.0, 0.0, 0.0]];
            }
            let sigma = options.sigma / spacing[a];
            let radius = radius(sigma) as i64;
            let bell = |i: i64| (-0.5 * (i as f64 / sigma).powi(2)).exp();
            let total: f64 = (-radius..=radius).map(bell).sum();
            let taps = (-radius..=radius).map(|i| {
                let way = i as f64 * spacing[a];
                [0, 1, 2].map(|power| bell(i) / total * way.powi(power))
            });
            taps.collect()
        };
        let all = [axis(0), axis(1), axis(2)];
        let radius = [0, 1, 2].map(|a: usize| all[a].len() / 2);
        let width = length.div_ceil(options.downsample).next_multiple_of(LANES) + LANES;
        let sums = [0, 1, 2].map(|power| {
            let mut sum = 0.0;
            let places = -(width as i64)..=width as i64;
            let sums = places.map(|place| {
                let before = sum;
                if let Ok(tap) = usize::try_from(place + radius[2] as i64)
                    && let Some(tap) = all[2].get(tap)
                {
                    sum += tap[power];
                }
                before as f32
            });
            sums.collect()
        });
        Self {
            radius,
            taps: all.map(|taps| taps.into_iter().map(|tap| tap.map(|t| t as f32)).collect()),
            sums,
            width,
        }
    }
}

/// Moments along x and y by powers (x, y): in this order.
const PLANAR: [[usize; 2]; 6] = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]];
/// The moments of a voxel by planar moment and power of z: the size; z, y, x; zz, yy, xx; zy, zx, yx.
const MOMENTS: [[usize; 2]; 10] = [
    [0, 0],
    [0, 1],
    [1, 0],
    [3, 0],
    [0, 2],
    [2, 0],
    [5, 0],
    [1, 1],
    [3, 1],
    [4, 0],
];

/// The descriptors of an object's voxels in `bounds`, one voxel after the other.
fn describe(
    labels: ArrayView3<u64>,
    label: u64,
    bounds: &Box3,
    options: &LsdOptions,
    kernels: &Kernels,
) -> Vec<f32> {
    let factor = options.downsample;
    let looked_at = labels.slice(s![..;factor, ..;factor, ..;factor]);
    let shape = volume(looked_at.shape());
    // What is described, and what of the object matters to it.
    let target: Box3 = [0, 1, 2].map(|a: usize| bounds[a].start / factor..(bounds[a].end - 1) / factor + 1);
    let source: Box3 = [0, 1, 2].map(|a: usize| {
        let reach = kernels.radius[a];
        target[a].start.saturating_sub(reach)..(target[a].end + reach).min(shape[a])
    });
    let blocks = target[2].len().div_ceil(LANES);
    let [height, width] = [target[1].len(), blocks * LANES];

    // Which blocks of lanes hold a voxel that is described.
    let mut needed = vec![false; target[0].len() * height * blocks];
    for_each_voxel(labels, label, bounds, |[z, y, x]| {
        let at = [z / factor - target[0].start, y / factor - target[1].start];
        needed[(at[0] * height + at[1]) * blocks + (x / factor - target[2].start) / LANES] = true;
    });

    let mut planar = vec![[[0f32; LANES]; 6]; source[0].len() * height * blocks];
    let mut along_x = [vec![0f32; source[1].len() * width], Vec::new(), Vec::new()];
    along_x[1] = along_x[0].clone();
    along_x[2] = along_x[0].clone();
    for (z, plane) in source[0]
        .clone()
        .zip(planar.chunks_exact_mut((height * blocks).max(1)))
    {
        let mut occupied = source[1].end..source[1].start;
        for (i, y) in source[1].clone().enumerate() {
            let row = i * width..(i + 1) * width;
            along_x
                .iter_mut()
                .for_each(|moments| moments[row.clone()].fill(0.0));
            let line = looked_at.slice(s![z, y, ..]);
            let mut x = source[2].start;
            while x < source[2].end {
                if line[x] != label {
                    x += 1;
                    continue;
                }
                let begin = x;
                while x < source[2].end && line[x] == label {
                    x += 1;
                }
                occupied = occupied.start.min(y)..occupied.end.max(y + 1);
                for (moments, sums) in along_x.iter_mut().zip(&kernels.sums) {
                    add_run(
                        &mut moments[row.clone()],
                        sums,
                        kernels.width,
                        begin..x,
                        target[2].start,
                    );
                }
            }
        }
        for (i, y) in target[1].clone().enumerate() {
            let reach = kernels.radius[1];
            let taps = y.saturating_sub(reach).max(occupied.start)..(y + reach + 1).min(occupied.end);
            for block in 0..blocks {
                let sums = &mut plane[i * blocks + block];
                for other in taps.clone() {
                    let tap = kernels.taps[1][other + reach - y];
                    let begin = (other - source[1].start) * width + block * LANES;
                    for (sum, [power_x, power_y]) in sums.iter_mut().zip(PLANAR) {
                        add(sum, tap[power_y], &along_x[power_x][begin..begin + LANES]);
                    }
                }
            }
        }
    }

    let mut moments = vec![[[0f32; LANES]; 10]; needed.len()];
    for (index, sums) in moments.iter_mut().enumerate().filter(|(index, _)| needed[*index]) {
        let (z, column) = (
            target[0].start + index / (height * blocks),
            index % (height * blocks),
        );
        let reach = kernels.radius[0];
        let taps = z.saturating_sub(reach).max(source[0].start)..(z + reach + 1).min(source[0].end);
        for other in taps {
            let tap = kernels.taps[0][other + reach - z];
            let planar = &planar[(other - source[0].start) * height * blocks + column];
            for (sum, [moment, power]) in sums.iter_mut().zip(MOMENTS) {
                add(sum, tap[power], &planar[moment]);
            }
        }
    }

    let mut values = Vec::new();
    for_each_voxel(labels, label, bounds, |[z, y, x]| {
        let at = [z / factor - target[0].start, y / factor - target[1].start];
        let x = x / factor - target[2].start;
        let lanes = &moments[(at[0] * height + at[1]) * blocks + x / LANES];
        let moments = lanes.map(|lanes| f64::from(lanes[x % LANES]));
        values.extend(descriptor(&moments, options).iter().map(|&value| value as f32));
    });
    values
}

#[inline(always)]
fn add(sum: &mut Lanes, tap: f32, values: &[f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += tap * value;
    }
}

/// Adds what a run of voxels along x is to each place from `first` on.
fn add_run(moments: &mut [f32], sums: &[f32], width: usize, run: Range<usize>, first: usize) {
    // At place p, taps from run.start - p to run.end - p: their sums lie backwards as p goes on. The table is as wide
    // as any two places are apart.
    let sums = |end: usize| {
        let first = end + width - first;
        sums[first + 1 - moments.len()..=first].iter().rev()
    };
    let both = sums(run.end).zip(sums(run.start));
    for (moment, (until, from)) in moments.iter_mut().zip(both) {
        *moment += until - from;
    }
}

/// Descriptors of moments in the order of [`MOMENTS`].
fn descriptor(moments: &[f64; 10], options: &LsdOptions) -> Vec<f64> {
    let size = moments[0];
    let axes = 3 - options.dims..3;
    if size <= 0.0 {
        return vec![0.0; options.channels()];
    }
    let mean: [f64; 3] = std::array::from_fn(|a| moments[1 + a] / size);
    let variance: [f64; 3] = std::array::from_fn(|a| (moments[4 + a] / size - mean[a] * mean[a]).max(1e-3));
    let pairs = [[0, 1], [0, 2], [1, 2]];
    let means = axes.clone().map(|a| mean[a] / options.sigma * 0.5 + 0.5);
    let variances = axes
        .clone()
        .map(|a| variance[a] / (options.sigma * options.sigma));
    let correlations = pairs
        .iter()
        .zip(&moments[7..])
        .filter(|([a, b], _)| axes.contains(a) && axes.contains(b))
        .map(|(&[a, b], product)| {
            let covariance = product / size - mean[a] * mean[b];
            covariance / (variance[a] * variance[b]).sqrt() * 0.5 + 0.5
        });
    let all = means.chain(variances).chain(correlations).chain([size]);
    all.map(|value: f64| value.clamp(0.0, 1.0)).collect()
}
