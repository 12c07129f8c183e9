//! Deformations of space: crops are turned, scaled and jittered, and sections slip. A deformation says where a
//! voxel is taken from; taking it from there is done in [`super::resample`].

use super::resample::{Grid, Lattice};
use super::{Draw, Frame, Slips};
use crate::config::{ElasticConfig, Rotate};
use crate::random::{Purpose, Random};

/// Displacements are cut off at so many standard deviations.
const CUT: f64 = 3.0;

/// Where the voxels of a crop are taken from. Positions are in voxels of raw from the crop's corner, so that the
/// first voxel's middle lies at ½.
#[derive(Debug, Clone, PartialEq)]
pub struct Deformation {
    /// Makes of a place's distance from the middle that of its source.
    matrix: [[f64; 3]; 3],
    middle: [f64; 3],
    jitter: Option<Jitter>,
    pub(super) slips: Slips,
    pub(super) subsample: usize,
}

/// Displacements of control points on an endless grid, and smooth between (Catmull and Rom, "A class of local
/// interpolating splines", 1974): at the control points they are what was drawn.
#[derive(Debug, Clone, PartialEq)]
struct Jitter {
    /// Voxels of raw between control points.
    spacing: [f64; 3],
    /// Standard deviation, in voxels of raw.
    sigma: [f64; 3],
    random: Random,
}

impl Deformation {
    /// One that leaves everything where it is.
    pub fn identity(frame: &Frame) -> Self {
        Self {
            matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            middle: frame.shape.map(|n| n as f64 / 2.0),
            jitter: None,
            slips: Slips::default(),
            subsample: 4,
        }
    }

    /// What is drawn for a sample; none if no voxel is moved.
    pub(super) fn draw(
        config: Option<&ElasticConfig>,
        slips: Slips,
        frame: &Frame,
        draw: Draw,
    ) -> Option<Self> {
        let mut random = draw.random(Purpose::Elastic);
        let config = config.filter(|config| random.chance(config.probability));
        let mut deformation = Self::identity(frame);
        let moves = config.is_some() || slips.is_any();
        deformation.slips = slips;
        if let Some(config) = config {
            let angle = config.rotation[0] + (config.rotation[1] - config.rotation[0]) * random.unit();
            let turn = match config.rotate {
                Rotate::InPlane => about([1.0, 0.0, 0.0], angle.to_radians()),
                Rotate::AnyAxis => about(direction(&mut random), angle.to_radians()),
                Rotate::Uniform => uniform(&mut random),
            };
            let scale = random.between_evenly(config.scale);
            deformation.matrix = in_voxels(turn, frame, scale);
            deformation.jitter = Jitter::new(config, frame, draw);
            deformation.subsample = config.subsample;
        }
        moves.then_some(deformation)
    }

    /// Where the voxels of `grid` are taken from.
    pub fn lattice(&self, grid: &Grid) -> Lattice {
        Lattice::new(self, grid)
    }

    /// The source of the place `p`, without slips and without the jitter.
    fn straight(&self, p: [f64; 3]) -> [f64; 3] {
        let from_middle: [f64; 3] = std::array::from_fn(|a| p[a] - self.middle[a]);
        std::array::from_fn(|a| self.middle[a] + dot(self.matrix[a], from_middle))
    }

    /// The sources of all places with one of the given coordinates along each axis, z first, without slips.
    pub(super) fn sources(&self, places: &[Vec<f64>; 3]) -> Vec<[f64; 3]> {
        let mut sources = Vec::with_capacity(places.iter().map(Vec::len).product());
        for &z in &places[0] {
            for &y in &places[1] {
                sources.extend(places[2].iter().map(|&x| self.straight([z, y, x])));
            }
        }
        if let Some(jitter) = &self.jitter {
            jitter.add(places, &mut sources);
        }
        sources
    }
}

impl Jitter {
    fn new(config: &ElasticConfig, frame: &Frame, draw: Draw) -> Option<Self> {
        let flat = 3 - frame.dims;
        let of = |values: &[f64], none: f64| -> [f64; 3] {
            std::array::from_fn(|a| match a.checked_sub(flat) {
                Some(a) => values.get(a).copied().unwrap_or(none),
                None => none,
            })
        };
        let sigma = of(&config.jitter_sigma, 0.0);
        sigma.iter().any(|&sigma| sigma > 0.0).then(|| Self {
            spacing: of(&config.control_point_spacing, f64::INFINITY),
            sigma,
            random: draw.random(Purpose::Elastic),
        })
    }

    /// The displacement of a control point, by its number along each axis.
    fn control(&self, number: [i64; 3]) -> [f64; 3] {
        // A block of the generator to each of 1024³ control points; the first blocks are the deformation's own.
        let bits = |n: i64| (n + 512) as u32 & 1023;
        let block = bits(number[0]) << 20 | bits(number[1]) << 10 | bits(number[2]);
        let mut random = self.random.clone().jump(block + 256);
        let ([z, y], [x, _]) = (random.normal_pair(), random.normal_pair());
        let normal = [z, y, x].map(|n| f64::from(n).clamp(-CUT, CUT));
        std::array::from_fn(|a| self.sigma[a] * normal[a])
    }

    /// The control points on which a coordinate depends: the number of the first of four, and their weights.
    fn weights(&self, axis: usize, place: f64) -> (i64, [f64; 4]) {
        if self.spacing[axis].is_infinite() {
            return (0, [1.0, 0.0, 0.0, 0.0]);
        }
        let at = place / self.spacing[axis];
        let t = at - at.floor();
        let weights = [
            t * (-0.5 + t * (1.0 - 0.5 * t)),
            1.0 + t * t * (-2.5 + 1.5 * t),
            t * (0.5 + t * (2.0 - 1.5 * t)),
            t * t * (-0.5 + 0.5 * t),
        ];
        (at.floor() as i64 - 1, weights)
    }

    /// Adds the displacements of all places with one of the given coordinates along each axis: axis by axis, so
    /// that each costs 4 control points and not 64.
    fn add(&self, places: &[Vec<f64>; 3], sources: &mut [[f64; 3]]) {
        let weights: [Vec<(i64, [f64; 4])>; 3] =
            std::array::from_fn(|a| places[a].iter().map(|&place| self.weights(a, place)).collect());
        let bounds = |axis: &[(i64, [f64; 4])]| {
            let firsts = axis.iter().map(|(first, _)| *first);
            let low = firsts.clone().min().unwrap_or(0);
            (low, (firsts.max().unwrap_or(0) - low + 4) as usize)
        };
        let [(z0, depth), (y0, height), (x0, width)] =
            [&weights[0], &weights[1], &weights[2]].map(|w| bounds(w));
        let mut controls = Vec::with_capacity(depth * height * width);
        for z in 0..depth as i64 {
            for y in 0..height as i64 {
                controls.extend((0..width as i64).map(|x| self.control([z0 + z, y0 + y, x0 + x])));
            }
        }
        let row = places[2].len();
        let mut sources = sources.chunks_exact_mut(row.max(1));
        for (z, wz) in &weights[0] {
            let plane = mix((z - z0) as usize, wz, &controls, height * width);
            for (y, wy) in &weights[1] {
                let line = mix((y - y0) as usize, wy, &plane, width);
                let Some(sources) = sources.next() else { return };
                for ((x, wx), source) in weights[2].iter().zip(sources) {
                    let [displacement] = mix((x - x0) as usize, wx, &line, 1)[..] else {
                        continue;
                    };
                    (0..3).for_each(|a| source[a] += displacement[a]);
                }
            }
        }
    }
}

/// The weighted sum of four neighbouring blocks of `length` entries, from the `first` one.
fn mix(first: usize, weights: &[f64; 4], blocks: &[[f64; 3]], length: usize) -> Vec<[f64; 3]> {
    (0..length)
        .map(|i| {
            std::array::from_fn(|a| {
                let terms = weights.iter().enumerate();
                terms
                    .map(|(k, weight)| weight * blocks[(first + k) * length + i][a])
                    .sum()
            })
        })
        .collect()
}

/// Voxels of raw along each axis that the crop of `frame` can be taken from: those of the largest turn, the
/// smallest scale, and displacements of three standard deviations. Between control points, displacements are at
/// times a little larger.
pub fn needed(config: &ElasticConfig, frame: &Frame) -> [usize; 3] {
    let half: [f64; 3] = std::array::from_fn(|a| (frame.shape[a] as f64 - 1.0) / 2.0 * frame.voxel_size[a]);
    let diagonal = dot(half, half).sqrt();
    let [low, high] = config.rotation;
    let turned: [f64; 3] = match config.rotate {
        Rotate::InPlane => {
            const STEPS: usize = 1440;
            let mut most = half;
            for step in 0..=STEPS {
                let angle = low + (high - low) * step as f64 / STEPS as f64;
                let (sine, cosine) = angle.to_radians().sin_cos();
                most[1] = most[1].max(cosine.abs() * half[1] + sine.abs() * half[2]);
                most[2] = most[2].max(cosine.abs() * half[2] + sine.abs() * half[1]);
            }
            most
        }
        Rotate::AnyAxis => {
            // A turn moves nothing farther than its chord is long.
            let angle = low.abs().max(high.abs()).min(180.0).to_radians();
            let chord = 2.0 * (angle / 2.0).sin() * diagonal;
            half.map(|h| (h + chord).min(diagonal))
        }
        Rotate::Uniform => [diagonal; 3],
    };
    let flat = 3 - frame.dims;
    std::array::from_fn(|a| match a.checked_sub(flat) {
        None => 1,
        Some(axis) => {
            let sigma = config.jitter_sigma.get(axis).copied().unwrap_or(0.0);
            let reach = turned[a] / frame.voxel_size[a] / config.scale[0] + CUT * sigma;
            (2.0 * reach + 1.0 - 1e-6).ceil() as usize
        }
    })
}

/// The turn by `angle` about an axis of length 1, in world units (Rodrigues): where sources lie.
fn about(axis: [f64; 3], angle: f64) -> [[f64; 3]; 3] {
    let (sine, cosine) = angle.sin_cos();
    let [z, y, x] = axis;
    let cross = [[0.0, -x, y], [x, 0.0, -z], [-y, z, 0.0]];
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let same = f64::from(u8::from(i == j));
            cosine * same + sine * cross[i][j] + (1.0 - cosine) * axis[i] * axis[j]
        })
    })
}

/// A direction, all alike: three normal numbers, made one long.
fn direction(random: &mut Random) -> [f64; 3] {
    loop {
        let ([a, b], [c, _]) = (random.normal_pair(), random.normal_pair());
        let v = [a, b, c].map(f64::from);
        let length = dot(v, v).sqrt();
        if length > 1e-6 {
            return v.map(|n| n / length);
        }
    }
}

/// A turn, all orientations alike (Shoemake, "Uniform random rotations", Graphics Gems III, 1992).
fn uniform(random: &mut Random) -> [[f64; 3]; 3] {
    use std::f64::consts::TAU;
    let u = random.unit();
    let (sine1, cosine1) = (TAU * random.unit()).sin_cos();
    let (sine2, cosine2) = (TAU * random.unit()).sin_cos();
    let (a, b) = ((1.0 - u).sqrt(), u.sqrt());
    let [x, y, z, w] = [a * sine1, a * cosine1, b * sine2, b * cosine2];
    [
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - w * z),
            2.0 * (x * z + w * y),
        ],
        [
            2.0 * (x * y + w * z),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - w * x),
        ],
        [
            2.0 * (x * z - w * y),
            2.0 * (y * z + w * x),
            1.0 - 2.0 * (x * x + y * y),
        ],
    ]
}

/// A turn of world units as one of voxels, with sources so much nearer to the middle as objects get larger.
fn in_voxels(turn: [[f64; 3]; 3], frame: &Frame, scale: f64) -> [[f64; 3]; 3] {
    let size = &frame.voxel_size;
    std::array::from_fn(|i| std::array::from_fn(|j| turn[i][j] * size[j] / size[i] / scale))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::tests::frame;

    fn config(dims: usize) -> ElasticConfig {
        ElasticConfig {
            control_point_spacing: vec![7.0; dims],
            jitter_sigma: vec![0.0; dims],
            rotation: [0.0; 2],
            rotate: Rotate::InPlane,
            scale: [1.0; 2],
            subsample: 2,
            probability: 1.0,
            outside: crate::config::Outside::Refuse,
        }
    }

    fn drawn(config: &ElasticConfig, frame: &Frame, iteration: u64) -> Deformation {
        let draw = Draw {
            seed: 5,
            iteration,
            sample: 1,
        };
        Deformation::draw(Some(config), Slips::default(), frame, draw).unwrap()
    }

    /// The displacement of a place from all 64 control points around it, simple and slow.
    fn naive(jitter: &Jitter, place: [f64; 3]) -> [f64; 3] {
        let w: Vec<_> = (0..3).map(|a| jitter.weights(a, place[a])).collect();
        let mut sum = [0.0; 3];
        for i in 0..4 {
            for j in 0..4 {
                for k in 0..4 {
                    let weight = w[0].1[i] * w[1].1[j] * w[2].1[k];
                    let control = jitter.control([w[0].0 + i as i64, w[1].0 + j as i64, w[2].0 + k as i64]);
                    (0..3).for_each(|a| sum[a] += weight * control[a]);
                }
            }
        }
        sum
    }

    #[test]
    fn jitter_is_the_spline_through_its_control_points() {
        for (dims, shape) in [(3, [9, 20, 15]), (2, [1, 20, 15])] {
            let frame = frame(dims, shape, [40.0, 4.0, 4.0]);
            let mut config = config(dims);
            config.jitter_sigma = vec![2.0; dims];
            let deformation = drawn(&config, &frame, 3);
            let jitter = deformation.jitter.as_ref().unwrap();
            let places = [vec![0.5, 7.0], vec![-3.0, 0.5, 7.25, 14.0], vec![7.0, 8.5, 30.0]];
            let mut sources = deformation.sources(&places).into_iter();
            for &z in &places[0] {
                for &y in &places[1] {
                    for &x in &places[2] {
                        let source = sources.next().unwrap();
                        let expected = naive(jitter, [z, y, x]);
                        for a in 0..3 {
                            assert!((source[a] - [z, y, x][a] - expected[a]).abs() < 1e-12);
                        }
                        assert!(dims == 3 || source[0] == z, "a plane stays a plane");
                    }
                }
            }
            if dims == 3 {
                let control = jitter.control([1, 2, 1]);
                let at = naive(jitter, [7.0, 14.0, 7.0]);
                assert!((0..3).all(|a| (at[a] - control[a]).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn control_points_have_the_deviation_that_was_asked_for() {
        let frame = frame(3, [9; 3], [1.0; 3]);
        let mut config = config(3);
        config.jitter_sigma = vec![0.0, 1.0, 3.0];
        let jitter = drawn(&config, &frame, 0).jitter.unwrap();
        let controls: Vec<[f64; 3]> = (0..8000)
            .map(|i| jitter.control([i / 400, i / 20 % 20, i % 20]))
            .collect();
        for (a, sigma) in [0.0, 1.0, 3.0].into_iter().enumerate() {
            let mean = controls.iter().map(|c| c[a]).sum::<f64>() / 8000.0;
            let variance = controls.iter().map(|c| (c[a] - mean).powi(2)).sum::<f64>() / 8000.0;
            assert!(mean.abs() < 0.06 * sigma + 1e-12, "{mean}");
            assert!(
                (variance.sqrt() - sigma).abs() < 0.05 * sigma + 1e-12,
                "{variance}"
            );
            assert!(controls.iter().all(|c| c[a].abs() <= 3.0 * sigma));
        }
    }

    #[test]
    fn turns_keep_lengths_in_world_units_and_scales_change_them() {
        let size = [40.0, 4.0, 8.0];
        let frame = frame(3, [5, 50, 30], size);
        for rotate in [Rotate::InPlane, Rotate::AnyAxis, Rotate::Uniform] {
            let mut config = config(3);
            (config.rotate, config.rotation) = (rotate, [10.0, 80.0]);
            config.scale = [2.0, 2.0];
            let deformation = drawn(&config, &frame, 9);
            let world = |p: [f64; 3], q: [f64; 3]| {
                let d: [f64; 3] = std::array::from_fn(|a| (p[a] - q[a]) * size[a]);
                dot(d, d).sqrt()
            };
            let places = [[0.0, 0.0, 0.0], [5.0, 10.0, 3.0], [1.0, 47.0, 29.0]];
            for p in places {
                for q in places {
                    let (a, b) = (deformation.straight(p), deformation.straight(q));
                    assert!((world(a, b) - world(p, q) / 2.0).abs() < 1e-9, "{rotate:?}");
                }
            }
            let middle = frame.shape.map(|n| n as f64 / 2.0);
            assert_eq!(deformation.straight(middle), middle);
            let stays = places.iter().all(|&p| {
                let expected = 2.5 + (p[0] - 2.5) / 2.0;
                (deformation.straight(p)[0] - expected).abs() < 1e-9
            });
            assert_eq!(stays, rotate == Rotate::InPlane);
        }
    }

    #[test]
    fn orientations_are_all_alike() {
        let mut random = Random::new(0, 0, 0, Purpose::Elastic);
        let n = 4000;
        let turns: Vec<[[f64; 3]; 3]> = (0..n).map(|_| uniform(&mut random)).collect();
        for i in 0..3 {
            for j in 0..3 {
                // Each entry of a uniform turn is uniform in -1…1.
                let mean = turns.iter().map(|t| t[i][j]).sum::<f64>() / f64::from(n);
                let square = turns.iter().map(|t| t[i][j].powi(2)).sum::<f64>() / f64::from(n);
                assert!(
                    mean.abs() < 0.05 && (square - 1.0 / 3.0).abs() < 0.03,
                    "{mean} {square}"
                );
            }
        }
    }

    #[test]
    fn what_is_needed_is_enough_and_not_far_too_much() {
        for (dims, shape, size) in [
            (3, [12, 40, 40], [40.0, 4.0, 4.0]),
            (3, [20, 30, 40], [8.0, 8.0, 8.0]),
            (2, [1, 30, 40], [1.0, 4.0, 8.0]),
        ] {
            let frame = frame(dims, shape, size);
            for rotate in [Rotate::InPlane, Rotate::AnyAxis, Rotate::Uniform] {
                if dims == 2 && rotate != Rotate::InPlane {
                    continue;
                }
                let mut config = config(dims);
                (config.rotate, config.rotation, config.scale) = (rotate, [-30.0, 60.0], [0.8, 1.1]);
                let most = needed(&config, &frame);
                let mut seen = [0; 3];
                for iteration in 0..300 {
                    let lattice = drawn(&config, &frame, iteration).lattice(&Grid::of_raw(&frame));
                    for a in 0..3 {
                        assert!(
                            lattice.window[a] <= most[a] + 1,
                            "{:?} {most:?} {rotate:?}",
                            lattice.window
                        );
                        seen[a] = seen[a].max(lattice.window[a]);
                    }
                }
                if rotate == Rotate::InPlane {
                    assert!((0..3).all(|a| seen[a] + 3 >= most[a]), "{seen:?} {most:?}");
                }
            }
        }
        let frame = frame(3, [148; 3], [8.0; 3]);
        assert_eq!(needed(&config(3), &frame), [148; 3]);
        let mut jittered = config(3);
        jittered.jitter_sigma = vec![0.0, 2.0, 2.0];
        assert_eq!(needed(&jittered, &frame), [148, 160, 160]);
    }

    #[test]
    fn it_happens_as_often_as_said() {
        let frame = frame(3, [4; 3], [1.0; 3]);
        let mut config = config(3);
        config.probability = 0.25;
        let draw = |iteration| Draw {
            seed: 1,
            iteration,
            sample: 0,
        };
        let count = (0..2000)
            .filter(|&i| Deformation::draw(Some(&config), Slips::default(), &frame, draw(i)).is_some())
            .count();
        assert!((400..600).contains(&count), "{count}");
        assert_eq!(Deformation::draw(None, Slips::default(), &frame, draw(0)), None);
        let slips = Slips(vec![[0, 1]; 4]);
        assert!(Deformation::draw(None, slips, &frame, draw(0)).is_some());
    }
}
