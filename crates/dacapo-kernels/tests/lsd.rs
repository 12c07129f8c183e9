//! Local shape descriptors beside their definition, and what must not matter. Beside those of lsds they stand in the
//! tests of `dacapo-tasks`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ShapeBuilder, s};

/// Sums over all voxels for each voxel: simple, slow, correct.
fn naive(labels: &Array3<u64>, options: &LsdOptions) -> Array4<f32> {
    let (depth, height, width) = labels.dim();
    let factor = options.downsample;
    let looked_at = labels.slice(s![..;factor, ..;factor, ..;factor]);
    let spacing = options.spacing.map(|s| s * factor as f64);
    let first = 3 - options.dims;
    // The Gaussian is normalised over the whole voxels within three sigma.
    let reach = spacing.map(|s| (3.0 * options.sigma / s + 0.5) as i64);
    let bell = |a: usize, i: i64| (-0.5 * (i as f64 * spacing[a] / options.sigma).powi(2)).exp();
    let total = [0, 1, 2].map(|a| (-reach[a]..=reach[a]).map(|i| bell(a, i)).sum::<f64>());
    let mut descriptors = Array4::zeros((options.channels(), depth, height, width));
    for ((z, y, x), &label) in labels.indexed_iter().filter(|(_, label)| **label != 0) {
        let (mut size, mut sums, mut products) = (0.0, [0.0; 3], [[0.0; 3]; 3]);
        for ((oz, oy, ox), _) in looked_at.indexed_iter().filter(|(_, other)| **other == label) {
            let steps = [[oz, z], [oy, y], [ox, x]].map(|[o, p]| o as i64 - (p / factor) as i64);
            if (first..3).any(|a| steps[a].abs() > reach[a]) {
                continue;
            }
            let weight = (first..3).map(|a| bell(a, steps[a]) / total[a]).product::<f64>();
            size += weight;
            for a in 0..3 {
                let way = |a: usize| steps[a] as f64 * spacing[a];
                sums[a] += weight * way(a);
                (0..3).for_each(|b| products[a][b] += weight * way(a) * way(b));
            }
        }
        if size == 0.0 {
            continue;
        }
        let covariance = |a: usize, b: usize| products[a][b] / size - sums[a] * sums[b] / size / size;
        let variance = |a: usize| covariance(a, a).max(1e-3);
        let mut values = Vec::new();
        values.extend((first..3).map(|a| sums[a] / size / options.sigma * 0.5 + 0.5));
        values.extend((first..3).map(|a| variance(a) / options.sigma.powi(2)));
        for a in first..3 {
            for b in a + 1..3 {
                values.push(covariance(a, b) / (variance(a) * variance(b)).sqrt() * 0.5 + 0.5);
            }
        }
        values.push(size);
        for (channel, value) in values.into_iter().enumerate() {
            descriptors[[channel, z, y, x]] = value.clamp(0.0, 1.0) as f32;
        }
    }
    descriptors
}

fn whole(labels: &Array3<u64>) -> [std::ops::Range<usize>; 3] {
    let (depth, height, width) = labels.dim();
    [0..depth, 0..height, 0..width]
}

fn blobs(shape: [usize; 3], noise: &mut Noise) -> Array3<u64> {
    let mut labels = Array3::zeros(shape);
    for label in 1..6 {
        for _ in 0..3 {
            let range = |n: usize, noise: &mut Noise| {
                let begin = noise.below(n as u64) as usize;
                begin..(begin + 1 + noise.below(7) as usize).min(n)
            };
            let [z, y, x] = shape.map(|n| range(n, noise));
            labels.slice_mut(s![z, y, x]).fill(label * 1_000_000_007);
        }
    }
    labels
}

#[test]
fn descriptors_are_their_definition() {
    let mut noise = Noise(2);
    let cases = [
        (3, [9, 11, 13], [1.0, 1.0, 1.0], 1.5, 1),
        (3, [7, 10, 21], [8.0, 4.0, 4.0], 10.0, 1),
        (3, [10, 9, 12], [1.0, 1.0, 1.0], 8.0, 1),
        (3, [12, 11, 14], [1.0, 2.0, 1.0], 3.0, 2),
        (3, [9, 9, 20], [1.0, 1.0, 1.0], 4.0, 3),
        (2, [1, 17, 23], [900.0, 1.0, 2.0], 3.0, 1),
        (2, [1, 20, 9], [1.0, 1.0, 1.0], 2.0, 2),
        (3, [1, 8, 1], [1.0, 1.0, 1.0], 2.0, 1),
    ];
    for (dims, shape, spacing, sigma, downsample) in cases {
        let labels = blobs(shape, &mut noise);
        let options = LsdOptions {
            dims,
            spacing,
            sigma,
            downsample,
        };
        let expected = naive(&labels, &options);
        let found = local_shape_descriptors(labels.view(), whole(&labels), &options).unwrap();
        for ((place, &a), &b) in found.indexed_iter().zip(&expected) {
            // Where an object is a plane or a line, what is left of a variance is mostly rounding.
            let variances = expected.slice(s![dims..2 * dims, place.1, place.2, place.3]);
            let is_correlation = (2 * dims..options.channels() - 1).contains(&place.0);
            let is_flat = variances.iter().any(|&variance| variance < 1e-3);
            let tolerance = if is_correlation && is_flat { 1e-2 } else { 2e-4 };
            assert!(
                (a - b).abs() < tolerance,
                "{options:?}: {a} instead of {b} at {place:?}"
            );
        }
        let mut other_order = Array3::zeros(shape.f());
        other_order.assign(&labels);
        let again = on_threads(3, || {
            local_shape_descriptors(other_order.view(), whole(&labels), &options).unwrap()
        });
        assert!(again == found);
    }
}

#[test]
fn a_window_with_its_context_is_all_that_matters() {
    let labels = blobs([30, 34, 40], &mut Noise(4));
    let options = LsdOptions {
        dims: 3,
        spacing: [2.0, 1.0, 1.0],
        sigma: 2.0,
        downsample: 1,
    };
    assert_eq!(options.context(), [3, 6, 6]);
    let all = local_shape_descriptors(labels.view(), whole(&labels), &options).unwrap();
    let part = labels.slice(s![5 - 3..15 + 3, 8 - 6..20 + 6, 7 - 6..30 + 6]);
    let found = local_shape_descriptors(part, [3..13, 6..18, 6..29], &options).unwrap();
    let expected = all.slice(s![.., 5..15, 8..20, 7..30]);
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let labels = Array3::<u64>::ones((2, 3, 4));
    let options = LsdOptions {
        dims: 3,
        spacing: [1.0; 3],
        sigma: 1.0,
        downsample: 1,
    };
    let refused = |options, window| local_shape_descriptors(labels.view(), window, &options).is_err();
    assert!(!refused(options, whole(&labels)));
    assert!(refused(options, [0..3, 0..3, 0..4]));
    assert!(refused(LsdOptions { dims: 2, ..options }, whole(&labels)));
    assert!(refused(LsdOptions { dims: 4, ..options }, whole(&labels)));
    assert!(refused(
        LsdOptions {
            downsample: 0,
            ..options
        },
        whole(&labels)
    ));
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(
            refused(LsdOptions { sigma, ..options }, whole(&labels)),
            "{sigma}"
        );
    }
    for size in [0.0, -1.0, f64::NAN] {
        let spacing = [1.0, size, 1.0];
        assert!(
            refused(LsdOptions { spacing, ..options }, whole(&labels)),
            "{size}"
        );
    }
    let empty = Array3::<u64>::zeros((0, 3, 4));
    let found = local_shape_descriptors(empty.view(), [0..0, 0..3, 0..4], &options).unwrap();
    assert_eq!(found.shape(), [10, 0, 3, 4]);
}
