//! Every convolution beside its naive reference: simple, slow, correct, in f64.

mod any;
mod peers;
mod shapes;

use super::{ConvGeometry, Convolution, TransposedConvolution};
use crate::simd::InstructionSet;

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
                plan.backward(&t.x, &t.w, gate, &t.gy, Some(dx), false, dw, Some(db));
                if plan.adds() {
                    let (mut sums, mut dw, mut db) = (vec![1.0; dx.len()], dw.clone(), db.clone());
                    plan.backward(
                        &t.x,
                        &t.w,
                        gate,
                        &t.gy,
                        Some(&mut sums),
                        true,
                        &mut dw,
                        Some(&mut db),
                    );
                    assert!(
                        sums.iter().zip(dx).all(|(sum, dx)| *sum == 1.0 + *dx),
                        "{:?}",
                        self.geometry
                    );
                }
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

    /// Largest error of the output beside its largest value, and relative errors (L2) of the three gradients. A sum may be
    /// 0 by chance: none is set beside less than what the sum over a voxel's channels is like, or of the bias' gradient
    /// the root of the sum of squares.
    fn errors(&self, t: &Tensors, found: &Results) -> [f64; 4] {
        /// Of the product of two values that are uniform in -1..1.
        const VARIANCE: f64 = 1.0 / 9.0;
        let expected = self.reference(t, found);
        let [of_output, of_dx] = [self.geometry.in_channels, self.geometry.out_channels]
            .map(|channels| channels as f64 * VARIANCE);
        let largest = expected[0].iter().fold(of_output.sqrt(), |m, v| m.max(v.abs()));
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
            relative(&found.dx, &expected[1], of_dx),
            relative(&found.dw, &expected[2], VARIANCE),
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

fn transposed(
    channels: [usize; 2],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: usize,
    padding: usize,
) -> Case {
    Case {
        transposed: true,
        ..case(channels, input, kernel, stride, padding)
    }
}

fn on_every_set(cases: Vec<Case>) -> impl Iterator<Item = (Case, InstructionSet)> {
    let sets = InstructionSet::available();
    cases
        .into_iter()
        .flat_map(move |case| sets.clone().into_iter().map(move |set| (case.clone(), set)))
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
