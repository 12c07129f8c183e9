//! Convolutions of chosen shapes, what is not finite, and what is refused.

use super::{Case, case, on_every_set, pool, transposed};
use crate::conv::{ConvGeometry, Convolution, TransposedConvolution};

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
            let mut vectors = case(channels, [2, 4, 2 * input[2]], [1, 1, 1], 1, 0);
            (vectors.batch, vectors.relu) = (1 + i % 2, j % 2 == 0);
            vectors.check_all();
        }
    }
}

/// Small enough for Miri, which goes through the unsafe code of the plain path: every way of a convolution, forward and
/// backward.
#[test]
fn tiny_shapes() {
    let tiles = case([2, 3], [6, 5, 6], [3, 3, 3], 1, 0);
    let padded = case([1, 2], [3, 4, 5], [3, 3, 3], 1, 1);
    let plane = case([1, 2], [1, 6, 7], [1, 3, 3], 1, 1);
    let wide_plane = case([16, 16], [1, 5, 6], [1, 3, 3], 1, 1);
    let points = case([2, 1], [2, 3, 3], [1, 1, 1], 1, 0);
    // Read where they lie, not packed.
    let whole_vectors = case([2, 3], [2, 4, 6], [1, 1, 1], 1, 0);
    let mut strided = case([1, 2], [4, 4, 4], [2, 2, 2], 2, 0);
    strided.relu = true;
    let mut upsampling = strided.clone();
    upsampling.transposed = true;
    // Two tiles along z, and rows of two vectors and a half.
    let mut doubling = transposed([2, 1], [8, 4, 9], [4; 3], 2, 1);
    doubling.relu = true;
    let tiled = [tiles, padded, plane, wide_plane, doubling];
    let direct = [points, whole_vectors, strided, upsampling];
    tiled.iter().chain(&direct).for_each(Case::check_all);
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
        case([17, 22], [1, 90, 70], [1, 3, 3], 1, 1),
        case([32, 24], [7, 23, 21], [1, 3, 3], 1, 0),
        case([9, 5], [12, 30, 41], [1, 1, 1], 1, 0),
        case([9, 5], [12, 30, 40], [1, 1, 1], 1, 0),
        case([5, 9], [1, 70, 80], [1, 1, 1], 1, 0),
    ];
    cases.extend([
        transposed([8, 9], [12, 13, 14], [4; 3], 2, 1),
        transposed([24, 9], [8, 11, 21], [4; 3], 2, 1),
        // Several blocks along y; by slabs, and rows of whole vectors.
        transposed([24, 9], [8, 27, 33], [4; 3], 2, 1),
        transposed([8, 7], [7, 27, 32], [4; 3], 2, 1),
        // Without tiles.
        transposed([8, 9], [12, 13, 14], [2; 3], 2, 0),
        transposed([1, 8], [12, 13, 14], [4; 3], 2, 1),
    ]);
    for (i, case) in cases.iter_mut().enumerate() {
        case.batch = 1 + i % 2;
        case.relu = i % 3 == 0;
    }
    cases
}

#[test]
fn large_shapes() {
    large().iter().for_each(Case::check_all);
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    for (case, set) in on_every_set(large()) {
        let t = case.tensors();
        let results = [1, 2, 3, 8].map(|threads| pool(threads).install(|| case.run(set, &t)));
        results[1..]
            .iter()
            .for_each(|r| assert!(*r == results[0], "{:?}", case.geometry));
    }
}

#[test]
fn what_is_not_finite_shows_and_does_not_stay() {
    let cases = vec![
        case([12, 12], [9, 9, 9], [3, 3, 3], 1, 1),
        case([16, 16], [1, 19, 37], [1, 3, 3], 1, 1),
        case([2, 3], [9, 9, 9], [2, 2, 2], 1, 0),
        transposed([3, 2], [7, 8, 9], [4; 3], 2, 1),
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

/// 4.5 multiplications an output instead of 8, and what hangs over at the ends of rows.
#[test]
fn what_doubles_a_volume_has_tiles() {
    let plan = |case: Case| TransposedConvolution::new(case.geometry, 1).unwrap();
    let head = plan(transposed([24, 9], [40; 3], [4; 3], 2, 1));
    let direct = 24 * 9 * 8 * 80u64.pow(3);
    let part = head.multiplications(None) as f64 / direct as f64;
    assert!((0.56..0.65).contains(&part), "{part}");
    assert!(!head.adds());
    for other in [
        transposed([1, 9], [40; 3], [4; 3], 2, 1),
        transposed([24, 9], [10; 3], [4; 3], 2, 1),
        transposed([24, 9], [40; 3], [2; 3], 2, 0),
        transposed([24, 9], [40; 3], [4; 3], 2, 0),
    ] {
        assert!(plan(other).adds());
    }
}

#[test]
#[should_panic(expected = "tiles overwrite")]
fn tiles_do_not_add_to_a_gradient() {
    let case = transposed([2, 3], [4; 3], [4; 3], 2, 1);
    let t = case.tensors();
    let plan = TransposedConvolution::new(case.geometry, 1).unwrap();
    let (mut dx, mut dw) = (t.x.clone(), t.w.clone());
    plan.backward(&t.x, &t.w, None, &t.gy, Some(&mut dx), true, &mut dw, None);
}

#[test]
#[should_panic(expected = "elements of the output")]
fn a_short_output_is_refused() {
    let case = case([2, 3], [5, 5, 5], [3, 3, 3], 1, 0);
    let t = case.tensors();
    let plan = Convolution::new(case.geometry.clone(), 1).unwrap();
    plan.forward(&t.x, &t.w, None, false, &mut [0.0; 80]);
}
