//! Times the convolutions of the networks that we train, one line a layer: forward and backward, in milliseconds
//! (the best of several), and the rate in direct multiplications a second (what a convolution without Winograd's
//! tiles would have to do).
//!
//! `cargo run --release -p dacapo-nn --example convolutions -- [THREADS] [PART OF A NAME]
//! [INSTRUCTIONS]`;
//! `convolutions.py` beside it runs the same layers in PyTorch, in turns.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for the terminal"
)]

use dacapo_nn::{ConvGeometry, Convolution, InstructionSet, TransposedConvolution};
use std::time::{Duration, Instant};

/// Name, channels in and out, input, kernel, stride, padding, transposed.
type Layer = (
    &'static str,
    [usize; 2],
    [usize; 3],
    [usize; 3],
    usize,
    usize,
    bool,
);

const K3: [usize; 3] = [3; 3];

/// Kept in step with `convolutions.py`.
const LAYERS: &[Layer] = &[
    ("valid 1-12 92", [1, 12], [92; 3], K3, 1, 0, false),
    ("valid 12-12 90", [12, 12], [90; 3], K3, 1, 0, false),
    ("valid 12-36 44", [12, 36], [44; 3], K3, 1, 0, false),
    ("valid 36-36 42", [36, 36], [42; 3], K3, 1, 0, false),
    ("valid 36-108 20", [36, 108], [20; 3], K3, 1, 0, false),
    ("valid 108-108 18", [108, 108], [18; 3], K3, 1, 0, false),
    ("valid 144-36 32", [144, 36], [32; 3], K3, 1, 0, false),
    ("valid 36-36 30", [36, 36], [30; 3], K3, 1, 0, false),
    ("valid 48-12 56", [48, 12], [56; 3], K3, 1, 0, false),
    ("valid 12-12 54", [12, 12], [54; 3], K3, 1, 0, false),
    ("same 24-24 40", [24, 24], [40; 3], K3, 1, 1, false),
    ("same 48-24 40", [48, 24], [40; 3], K3, 1, 1, false),
    ("same 24-48 20", [24, 48], [20; 3], K3, 1, 1, false),
    ("same 48-48 20", [48, 48], [20; 3], K3, 1, 1, false),
    ("same 96-48 20", [96, 48], [20; 3], K3, 1, 1, false),
    ("same 48-96 10", [48, 96], [10; 3], K3, 1, 1, false),
    ("same 96-96 10", [96, 96], [10; 3], K3, 1, 1, false),
    ("stem 1-24 80", [1, 24], [80; 3], [4; 3], 2, 1, false),
    ("head 24-9 40 transposed", [24, 9], [40; 3], [4; 3], 2, 1, true),
    ("head 12-1 40 transposed", [12, 1], [40; 3], [4; 3], 2, 1, true),
    ("up 48-24 20 transposed", [48, 24], [20; 3], [2; 3], 2, 0, true),
    ("one 12-2 52", [12, 2], [52; 3], [1; 3], 1, 0, false),
    ("one 48-24 40", [48, 24], [40; 3], [1; 3], 1, 0, false),
    ("one 96-48 20", [96, 48], [20; 3], [1; 3], 1, 0, false),
    (
        "anisotropic 16-16 32x64x64",
        [16, 16],
        [32, 64, 64],
        [1, 3, 3],
        1,
        0,
        false,
    ),
    ("plane 32-32 256", [32, 32], [1, 256, 256], [1, 3, 3], 1, 1, false),
    (
        "plane 128-128 64",
        [128, 128],
        [1, 64, 64],
        [1, 3, 3],
        1,
        1,
        false,
    ),
    ("five 8-8 32", [8, 8], [32; 3], [5; 3], 1, 2, false),
];

fn best(mut f: impl FnMut()) -> f64 {
    let (mut best, begin) = (f64::INFINITY, Instant::now());
    for i in 0..60 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
        if i >= 4 && begin.elapsed() > Duration::from_millis(400) {
            break;
        }
    }
    best
}

fn values(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_769) >> 8) as f32 / 16_777_216.0 - 0.5)
        .collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|t| t.parse().ok()).unwrap_or(1);
    let part = arguments.next().unwrap_or_default();
    let instructions = arguments.next();
    let set = InstructionSet::available()
        .into_iter()
        .rfind(|set| instructions.as_deref().is_none_or(|name| name == set.name()))
        .expect("instructions that this CPU has");
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads can be started");
    for &(name, channels, input, kernel, stride, padding, transposed) in LAYERS {
        if !name.contains(&part) {
            continue;
        }
        let geometry = ConvGeometry {
            in_channels: channels[0],
            out_channels: channels[1],
            input,
            kernel,
            stride: [stride; 3],
            padding: [0, 1, 2].map(|a| if kernel[a] == 1 { 0 } else { padding }),
        };
        let output = if transposed {
            geometry.transposed_output()
        } else {
            geometry.output()
        }
        .expect("a valid layer");
        let volume = |s: [usize; 3]| s.iter().product::<usize>();
        let x = values(channels[0] * volume(input));
        let w = values(channels[0] * channels[1] * volume(kernel));
        let bias = values(channels[1]);
        let gy = values(channels[1] * volume(output));
        let (mut y, mut dx, mut dw) = (gy.clone(), x.clone(), w.clone());
        let mut db = bias.clone();
        // The first layer of a network needs no gradient of its input.
        let with_dx = channels[0] > 1;
        macro_rules! times {
            ($plan:ty) => {{
                let plan = <$plan>::with(geometry.clone(), 1, set).expect("a valid layer");
                pool.install(|| {
                    let forward = best(|| plan.forward(&x, &w, Some(&bias), true, &mut y));
                    let backward = best(|| {
                        let dx = with_dx.then_some(&mut dx[..]);
                        plan.backward(&x, &w, Some(&y), &gy, dx, false, &mut dw, Some(&mut db));
                    });
                    (forward, backward)
                })
            }};
        }
        let (forward, backward) = if transposed {
            times!(TransposedConvolution)
        } else {
            times!(Convolution)
        };
        let products =
            channels[0] * channels[1] * volume(kernel) * volume(if transposed { input } else { output });
        let rate = |times: usize, seconds: f64| (products * times) as f64 / seconds * 1e-9;
        println!(
            "{name:28} {:8.3} {:8.3} ms   {:6.1} {:6.1} G/s",
            forward * 1e3,
            backward * 1e3,
            rate(1, forward),
            rate(1 + usize::from(with_dx), backward)
        );
    }
}
