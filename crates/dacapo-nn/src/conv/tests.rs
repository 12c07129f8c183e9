//! Every convolution beside its naive reference: simple, slow, correct, in f64.

use super::{ConvGeometry, Convolution, TransposedConvolution};
use crate::simd::InstructionSet;
use proptest::prelude::*;

/// Uniform in -1..1 from a counter.
fn random(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32 ^ i)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(0x1234_5678_9ABC_DEF1);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Calls back with the indices of the input, weight and output of every product of a convolution.
fn products(g: &ConvGeometry, output: [usize; 3], batch: usize, mut each: impl FnMut(usize, usize, usize)) {
    let at = |i: usize, d: [usize; 3], z: usize, y: usize, x: usize| ((i * d[0] + z) * d[1] + y) * d[2] + x;
    let inside = |o: usize, k: usize, a: usize| {
        (o * g.stride[a] + k)
            .checked_sub(g.padding[a])
            .filter(|&i| i < g.input[a])
    };
    for n in 0..batch {
        for co in 0..g.out_channels {
            for ci in 0..g.in_channels {
                for oz in 0..output[0] {
                    for kz in 0..g.kernel[0] {
                        let Some(iz) = inside(oz, kz, 0) else { continue };
                        for oy in 0..output[1] {
                            for ky in 0..g.kernel[1] {
                                let Some(iy) = inside(oy, ky, 1) else { continue };
                                for ox in 0..output[2] {
                                    for kx in 0..g.kernel[2] {
                                        let Some(ix) = inside(ox, kx, 2) else { continue };
                                        each(
                                            at(n * g.in_channels + ci, g.input, iz, iy, ix),
                                            at(co * g.in_channels + ci, g.kernel, kz, ky, kx),
                                            at(n * g.out_channels + co, output, oz, oy, ox),
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// All tensors of a convolution's forward and backward.
struct Tensors {
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    gy: Vec<f32>,
}

#[derive(Debug, PartialEq)]
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Case {
    geometry: ConvGeometry,
    batch: usize,
    relu: bool,
    transposed: bool,
}

impl Case {
    fn output(&self) -> [usize; 3] {
        let g = &self.geometry;
        if self.transposed {
            g.transposed_output().unwrap()
        } else {
            g.output().unwrap()
        }
    }

    fn tensors(&self) -> Tensors {
        let g = &self.geometry;
        let volume = |s: [usize; 3]| s.iter().product::<usize>();
        Tensors {
            x: random(1, self.batch * g.in_channels * volume(g.input)),
            w: random(2, g.out_channels * g.in_channels * volume(g.kernel)),
            bias: random(3, g.out_channels),
            gy: random(4, self.batch * g.out_channels * volume(self.output())),
        }
    }

    fn run(&self, set: InstructionSet, t: &Tensors) -> Results {
        let mut r = Results {
            y: vec![f32::NAN; t.gy.len()],
            dx: vec![f32::NAN; t.x.len()],
            dw: vec![f32::NAN; t.w.len()],
            db: vec![f32::NAN; t.bias.len()],
        };
        let Results { y, dx, dw, db } = &mut r;
        macro_rules! both {
            ($plan:ty) => {{
                let plan = <$plan>::with(self.geometry.clone(), self.batch, set).unwrap();
                plan.forward(&t.x, &t.w, Some(&t.bias), self.relu, y);
                let gate = self.relu.then_some(&y[..]);
                plan.backward(&t.x, &t.w, gate, &t.gy, Some(dx), dw, Some(db));
            }};
        }
        if self.transposed {
            both!(TransposedConvolution)
        } else {
            both!(Convolution)
        }
        r
    }

    /// The results, and for the output the sum of the products' magnitudes, which bounds its rounding error.
    fn reference(&self, t: &Tensors, found: &Results) -> [Vec<f64>; 4] {
        let g = &self.geometry;
        let output = self.output();
        let volume = output.iter().product::<usize>();
        let mut y: Vec<f64> = (0..t.gy.len())
            .map(|i| f64::from(t.bias[i / volume % g.out_channels]))
            .collect();
        let (mut dx, mut dw) = (vec![0.0; t.x.len()], vec![0.0; t.w.len()]);
        let gy: Vec<f64> = (0..t.gy.len())
            .map(|i| {
                if self.relu && found.y[i] <= 0.0 {
                    0.0
                } else {
                    f64::from(t.gy[i])
                }
            })
            .collect();
        let mut product = |i: usize, k: usize, o: usize| {
            y[o] += f64::from(t.x[i]) * f64::from(t.w[k]);
            dx[i] += gy[o] * f64::from(t.w[k]);
            dw[k] += gy[o] * f64::from(t.x[i]);
        };
        if self.transposed {
            let adjoint = ConvGeometry {
                in_channels: g.out_channels,
                out_channels: g.in_channels,
                input: output,
                ..g.clone()
            };
            products(&adjoint, g.input, self.batch, |i, k, o| product(o, k, i));
        } else {
            products(g, output, self.batch, product);
        }
        if self.relu {
            y.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        let channels = g.out_channels;
        let mut db = vec![0.0; channels];
        gy.iter()
            .enumerate()
            .for_each(|(i, g)| db[i / volume % channels] += g);
        [y, dx, dw, db]
    }

    /// Largest error of the output beside its largest value, and relative errors (L2) of the three gradients; of the
    /// bias' not beside less than the square root of the sum of squares, because a sum may be 0 by chance.
    fn errors(&self, t: &Tensors, found: &Results) -> [f64; 4] {
        let expected = self.reference(t, found);
        let largest = expected[0].iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        let pairs = found.y.iter().zip(&expected[0]);
        let output = pairs.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max) / largest;
        let relative = |found: &[f32], expected: &[f64], least: f64| {
            let pairs = found.iter().zip(expected);
            let difference: f64 = pairs.map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
            let size: f64 = expected.iter().map(|v| v * v).sum();
            (difference / size.max(least)).sqrt()
        };
        let squares: f64 = t.gy.iter().map(|g| f64::from(*g).powi(2)).sum();
        [
            output,
            relative(&found.dx, &expected[1], 1e-6),
            relative(&found.dw, &expected[2], 1e-6),
            relative(&found.db, &expected[3], squares),
        ]
    }

    fn check(&self, set: InstructionSet) {
        let t = self.tensors();
        let found = self.run(set, &t);
        let name = format!(
            "{:?} batch {} transposed {}",
            self.geometry, self.batch, self.transposed
        );
        let errors = self.errors(&t, &found);
        for (what, error) in ["output", "dx", "dw", "db"].iter().zip(errors) {
            assert!(error <= 5e-6, "{what} of {name}, {set:?}: {error:e}");
        }
    }

    fn check_all(&self) {
        InstructionSet::available()
            .into_iter()
            .for_each(|set| self.check(set));
    }
}

fn case(channels: [usize; 2], input: [usize; 3], kernel: [usize; 3], stride: usize, padding: usize) -> Case {
    let on = |axis: usize, n: usize, off: usize| {
        if kernel[axis] == 1 && input[axis] == 1 {
            off
        } else {
            n
        }
    };
    Case {
        geometry: ConvGeometry {
            in_channels: channels[0],
            out_channels: channels[1],
            input,
            kernel,
            stride: [0, 1, 2].map(|a| on(a, stride, 1)),
            padding: [0, 1, 2].map(|a| on(a, padding, 0)),
        },
        batch: 1,
        relu: false,
        transposed: false,
    }
}

/// A length that a kernel fits into, with the padding.
fn fitting(kernel: usize, padding: usize) -> std::ops::Range<usize> {
    kernel.saturating_sub(2 * padding).max(1)..14
}

/// Any convolution: sizes odd and even, also below a vector's, channels that fill no group, batches; in planes as well.
fn any_case() -> impl Strategy<Value = Case> {
    let kernel = prop::sample::select(vec![1usize, 2, 3, 5]);
    let axis = (kernel, 1usize..=2, 0usize..=2).prop_flat_map(|(kernel, stride, padding)| {
        let padding = padding.min(kernel / 2);
        (
            fitting(kernel, padding),
            Just(kernel),
            Just(stride),
            Just(padding),
        )
    });
    let axes = [axis.clone(), axis.clone(), axis];
    // Half of them of the kind that has tiles.
    let tiled = prop::bool::weighted(0.5);
    let sizes = (1usize..=9, 1usize..=9, 1usize..=4);
    (axes, tiled, sizes, any::<[bool; 3]>()).prop_map(
        |(axes, tiled, (ci, co, batch), [flat, relu, transposed])| {
            let mut geometry = ConvGeometry {
                in_channels: ci,
                out_channels: co,
                input: [0, 1, 2].map(|a| axes[a].0),
                kernel: [0, 1, 2].map(|a| axes[a].1),
                stride: [0, 1, 2].map(|a| axes[a].2),
                padding: [0, 1, 2].map(|a| axes[a].3),
            };
            if tiled {
                geometry.input = geometry.input.map(|n| n.max(3));
                geometry.kernel = [3; 3];
                geometry.stride = [1; 3];
                geometry.padding = geometry.padding.map(|p| p.min(1));
            }
            if flat {
                (geometry.input[0], geometry.kernel[0]) = (1, 1);
                (geometry.stride[0], geometry.padding[0]) = (1, 0);
            }
            let transposed = transposed && geometry.transposed_output().is_ok();
            Case {
                geometry,
                batch,
                relu,
                transposed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_shape_is_as_exact(case in any_case()) {
        case.check_all();
    }

    #[test]
    fn any_shape_has_the_same_bits_on_any_threads(case in any_case()) {
        let t = case.tensors();
        for set in InstructionSet::available() {
            let results = [1, 2, 3, 8].map(|threads| pool(threads).install(|| case.run(set, &t)));
            prop_assert!(results[1..].iter().all(|r| *r == results[0]), "{set:?}");
        }
    }
}

/// A pool of so many threads, made once.
fn pool(threads: usize) -> &'static rayon::ThreadPool {
    use std::sync::OnceLock;
    static POOLS: [OnceLock<rayon::ThreadPool>; 9] = [const { OnceLock::new() }; 9];
    POOLS[threads].get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    })
}

/// Errors of PyTorch's float32 beside its float64, for layers as the examples have them.
#[derive(serde::Deserialize)]
struct Peer {
    channels: [usize; 2],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: usize,
    padding: usize,
    transposed: bool,
    /// Relative (L2): of the input's, the weights' and the bias' gradient.
    gradients: [f64; 3],
}

/// See `tests/data/conv/make.py`. What trains the weights is nearly as exact as with PyTorch. What goes on to the layers
/// before passes two transforms of tiles, and is what those cost: with one 2½ to 3½ times PyTorch's error, with two 5 to 8
/// times, which is about a millionth.
#[test]
fn gradients_are_nearly_as_exact_as_pytorchs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conv/errors.json");
    let peers: Vec<Peer> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for peer in peers {
        let case = Case {
            transposed: peer.transposed,
            ..case(peer.channels, peer.input, peer.kernel, peer.stride, peer.padding)
        };
        let tiled_axes = if peer.stride == 1 && peer.channels[0] > 1 {
            peer.kernel[..2].iter().filter(|&&k| k == 3).count()
        } else {
            0
        };
        let most = [[3.0, 4.5, 9.0][tiled_axes], 3.0, 4.0];
        let t = case.tensors();
        // Plain code rounds once more, where an instruction multiplies and adds.
        let sets = InstructionSet::available();
        for set in sets.into_iter().filter(|set| set.name() != "plain") {
            let found = case.run(set, &t);
            let [output, gradients @ ..] = case.errors(&t, &found);
            let name = format!("{:?} {set:?}", case.geometry);
            assert!(output <= 5e-6, "output of {name}: {output:e}");
            for (i, what) in ["dx", "dw", "db"].iter().enumerate() {
                let times = gradients[i] / peer.gradients[i];
                assert!(
                    times <= most[i],
                    "{what} of {name}: {times:.1} times PyTorch's error"
                );
            }
        }
    }
}

#[test]
fn kernels_strides_and_paddings() {
    let kernels = [
        [1, 1, 1],
        [2, 2, 2],
        [3, 3, 3],
        [4, 4, 4],
        [5, 5, 5],
        [1, 3, 3],
        [3, 1, 2],
        [2, 5, 1],
    ];
    for kernel in kernels {
        for stride in [1, 2, 3] {
            for padding in [0, 1, 2] {
                for transposed in [false, true] {
                    let mut case = case([3, 5], [6, 7, 9], kernel, stride, padding);
                    case.transposed = transposed;
                    case.relu = padding == 1;
                    if transposed && case.geometry.transposed_output().is_err() {
                        continue;
                    }
                    case.check_all();
                }
            }
        }
    }
}

#[test]
fn channels_and_sizes() {
    for (i, channels) in [
        [1, 1],
        [1, 12],
        [2, 3],
        [4, 4],
        [5, 2],
        [12, 36],
        [36, 12],
        [7, 9],
    ]
    .into_iter()
    .enumerate()
    {
        for (j, input) in [[3, 3, 3], [5, 4, 3], [7, 9, 11], [10, 10, 10], [4, 6, 29]]
            .into_iter()
            .enumerate()
        {
            for padding in [0, 1] {
                let mut case = case(channels, input, [3, 3, 3], 1, padding);
                case.relu = (i + j) % 2 == 0;
                case.check_all();
            }
            case(channels, input, [1, 1, 1], 1, 0).check_all();
        }
    }
}

#[test]
fn batches_and_two_dimensions() {
    for batch in [1, 2, 3] {
        for (input, kernel) in [
            ([1, 13, 17], [1, 3, 3]),
            ([1, 20, 6], [1, 3, 3]),
            ([5, 8, 9], [1, 3, 3]),
            ([9, 6, 7], [3, 3, 3]),
        ] {
            for padding in [0, 1] {
                for relu in [false, true] {
                    let mut case = case([4, 6], input, kernel, 1, padding);
                    (case.batch, case.relu) = (batch, relu);
                    case.check_all();
                }
            }
        }
        let mut case = case([2, 3], [1, 13, 17], [1, 4, 4], 2, 1);
        case.batch = batch;
        case.check_all();
        case.transposed = true;
        case.check_all();
    }
}

/// Large enough that the work is split.
fn large() -> Vec<Case> {
    let mut cases = vec![
        case([12, 12], [22, 22, 22], [3, 3, 3], 1, 0),
        case([24, 20], [13, 14, 15], [3, 3, 3], 1, 1),
        case([36, 48], [10, 10, 10], [3, 3, 3], 1, 1),
        case([1, 12], [20, 20, 30], [3, 3, 3], 1, 0),
        case([1, 8], [24, 24, 24], [4, 4, 4], 2, 1),
        case([5, 9], [1, 90, 70], [1, 3, 3], 1, 1),
        case([9, 5], [12, 30, 41], [1, 1, 1], 1, 0),
    ];
    cases.push(Case {
        transposed: true,
        ..case([8, 9], [12, 13, 14], [4, 4, 4], 2, 1)
    });
    for (i, case) in cases.iter_mut().enumerate() {
        case.batch = 1 + i % 2;
        case.relu = i % 3 == 0;
    }
    cases
}

fn on_every_set(cases: Vec<Case>) -> impl Iterator<Item = (Case, InstructionSet)> {
    let sets = InstructionSet::available();
    cases
        .into_iter()
        .flat_map(move |case| sets.clone().into_iter().map(move |set| (case.clone(), set)))
}

#[test]
fn large_shapes() {
    large().iter().for_each(Case::check_all);
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    for (case, set) in on_every_set(large()) {
        let t = case.tensors();
        let results = [1, 2, 3, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| case.run(set, &t))
        });
        results[1..]
            .iter()
            .for_each(|r| assert!(*r == results[0], "{:?}", case.geometry));
    }
}

#[test]
fn what_is_not_finite_shows_and_does_not_stay() {
    let cases = vec![
        case([12, 12], [9, 9, 9], [3, 3, 3], 1, 1),
        case([2, 3], [9, 9, 9], [2, 2, 2], 1, 0),
    ];
    for (case, set) in on_every_set(cases) {
        let case = Case { relu: true, ..case };
        let clean = case.tensors();
        let before = case.run(set, &clean);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut t = case.tensors();
            t.x.fill(bad);
            let r = case.run(set, &t);
            assert!(r.y.iter().all(|v| !v.is_finite() || *v == 0.0) && r.y.iter().any(|v| !v.is_finite()));
            assert!(r.dw.iter().any(|v| !v.is_finite()));
            // Nothing of it lingers in the kept memory.
            assert!(case.run(set, &clean) == before);
        }
    }
}

#[test]
fn impossible_geometries_are_refused() {
    let good = case([2, 3], [5, 5, 5], [3, 3, 3], 1, 0).geometry;
    assert!(Convolution::new(good.clone(), 0).is_err());
    for bad in [
        ConvGeometry {
            in_channels: 0,
            ..good.clone()
        },
        ConvGeometry {
            kernel: [3, 0, 3],
            ..good.clone()
        },
        ConvGeometry {
            stride: [1, 1, 0],
            ..good.clone()
        },
        ConvGeometry {
            input: [5, 0, 5],
            ..good.clone()
        },
        ConvGeometry {
            input: [5, 5, 2],
            ..good.clone()
        },
    ] {
        assert!(Convolution::new(bad, 1).is_err());
    }
    assert!(
        TransposedConvolution::new(
            ConvGeometry {
                input: [1, 1, 1],
                padding: [2, 2, 2],
                ..good
            },
            1
        )
        .is_err()
    );
}

#[test]
#[should_panic(expected = "elements of the output")]
fn a_short_output_is_refused() {
    let case = case([2, 3], [5, 5, 5], [3, 3, 3], 1, 0);
    let t = case.tensors();
    let plan = Convolution::new(case.geometry.clone(), 1).unwrap();
    plan.forward(&t.x, &t.w, None, false, &mut [0.0; 80]);
}
