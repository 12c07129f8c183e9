//! Instance scores: beside DaCapo and scikit-image (`data/make_scores.py`), beside their definitions, by hand, and by
//! blocks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use dacapo_kernels::ContingencyTable;
use dacapo_tasks::*;
use ndarray::{Array3, ArrayView3, array, s};
use ndarray_npy::NpzReader;

fn read(name: &str) -> Array3<u64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scores.npz");
    NpzReader::new(File::open(path).unwrap())
        .unwrap()
        .by_name(name)
        .unwrap()
}

fn scores(truth: ArrayView3<u64>, segments: ArrayView3<u64>, rules: InstanceRules) -> InstanceScores {
    InstanceScores::new(&rules.count(truth, segments).unwrap(), rules, 5)
}

const ALL: InstanceRules = InstanceRules {
    truth_zero: ZeroIs::Region,
    segmentation_zero: ZeroIs::Region,
    boundary_band: [0; 3],
};

/// Labels in blocks and runs.
fn labels(shape: (usize, usize, usize), kinds: u64, seed: u64) -> Array3<u64> {
    let mut state = seed;
    let mut random = || {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        state >> 33
    };
    let mut labels = Array3::zeros(shape);
    for _ in 0..40 {
        let begin = [shape.0, shape.1, shape.2].map(|n| random() as usize % n);
        let end = [shape.0, shape.1, shape.2].map(|n| 1 + random() as usize % n);
        let range = |axis: usize| begin[axis].min(end[axis])..end[axis].max(begin[axis]);
        labels
            .slice_mut(s![range(0), range(1), range(2)])
            .fill(random() % kinds);
    }
    labels
}

#[test]
fn scores_are_those_of_dacapo_and_scikit_image() {
    let (blobs, other, dense) = (read("labels"), read("labels_other"), read("labels_dense"));
    let one = Array3::<u64>::ones(blobs.raw_dim());
    let each = Array3::from_shape_vec(blobs.raw_dim(), (0..blobs.len() as u64).collect()).unwrap();
    let cases = [
        ("blobs", &blobs, &other),
        ("identical", &blobs, &blobs),
        ("dense_vs_blobs", &dense, &blobs),
        ("one_segment", &blobs, &one),
        ("all_background", &blobs, &(&one - 1)),
        ("each_voxel", &blobs, &each),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scores.json");
    let peers: serde_json::Value = serde_json::from_reader(File::open(path).unwrap()).unwrap();
    for (name, truth, segments) in cases {
        let close = |found: Option<f64>, expected: &serde_json::Value, what: &str| {
            let same = match (found, expected.as_f64()) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(same, "{name}, {what}: {found:?} instead of {expected}");
        };
        // DaCapo counts truth 0 as an object.
        let found = scores(truth.view(), segments.view(), ALL);
        close(found.voi_split, &peers[name]["dacapo"][0], "split of DaCapo");
        close(found.voi_merge, &peers[name]["dacapo"][1], "merge of DaCapo");
        let found = scores(truth.view(), segments.view(), InstanceRules::default());
        close(found.voi_split, &peers[name]["voi"][0], "split");
        close(found.voi_merge, &peers[name]["voi"][1], "merge");
        close(found.rand_error, &peers[name]["rand"][0], "rand error");
        close(found.rand_precision, &peers[name]["rand"][1], "rand precision");
        close(found.rand_recall, &peers[name]["rand"][2], "rand recall");
        assert_eq!(
            found.voi,
            Some(found.voi_split.unwrap() + found.voi_merge.unwrap())
        );
    }
}

/// Voxels as sets: simple, slow, correct.
fn detections_naive(
    truth: &Array3<u64>,
    segments: &Array3<u64>,
    counted: &Array3<bool>,
) -> (Vec<Vec<f64>>, f64) {
    let regions = |labels: &Array3<u64>| {
        let mut regions: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        for (voxel, (&label, &counted)) in labels.iter().zip(counted).enumerate() {
            if counted && label != 0 {
                regions.entry(label).or_default().insert(voxel);
            }
        }
        regions
    };
    let (objects, segments) = (regions(truth), regions(segments));
    let mut ious = Vec::new();
    for object in objects.values() {
        for segment in segments.values() {
            let (both, either) = (
                object.intersection(segment).count(),
                object.union(segment).count(),
            );
            ious.push(both as f64 / either as f64);
        }
    }
    let (n, m) = (objects.len() as f64, segments.len() as f64);
    let each = (0..10).map(|i| {
        let found = ious
            .iter()
            .filter(|&&iou| iou > f64::from(50 + 5 * i) / 100.0)
            .count() as f64;
        vec![
            found,
            found / m,
            found / n,
            2.0 * found / (n + m),
            found / (n + m - found),
        ]
    });
    let quality = ious.iter().filter(|&&iou| iou > 0.5).sum::<f64>() / ((n + m) / 2.0);
    (each.collect(), quality)
}

#[test]
fn detections_are_their_definition_under_every_rule() {
    let zeros = [ZeroIs::Ignored, ZeroIs::Region];
    let mut found_any = false;
    for seed in 0..6 {
        let truth = labels((4, 9, 12), 5, seed);
        let mut segments = labels((4, 9, 12), 5, seed + 100);
        // Objects that are found well and badly.
        for (segment, &truth) in segments.iter_mut().zip(&truth) {
            *segment = if truth > 2 { truth + 10 } else { *segment };
        }
        segments.slice_mut(s![.., 5.., ..4]).fill(1);
        for (truth_zero, segmentation_zero) in zeros.iter().flat_map(|&a| zeros.map(|b| (a, b))) {
            for boundary_band in [[0; 3], [0, 1, 1]] {
                let rules = InstanceRules {
                    truth_zero,
                    segmentation_zero,
                    boundary_band,
                };
                let band = dacapo_kernels::boundary_band(truth.view(), boundary_band);
                let counted = Array3::from_shape_fn(truth.raw_dim(), |at| {
                    !band[at]
                        && (truth[at] != 0 || truth_zero == ZeroIs::Region)
                        && (segments[at] != 0 || segmentation_zero == ZeroIs::Region)
                });
                let found = scores(truth.view(), segments.view(), rules);
                assert_eq!(found.rules, rules);
                assert_eq!(
                    found.voxels,
                    counted.iter().filter(|&&counted| counted).count() as u64
                );
                let (expected, quality) = detections_naive(&truth, &segments, &counted);
                for (found, expected) in found.detections.iter().zip(&expected) {
                    let values = [found.precision, found.recall, found.f1, found.average_precision];
                    assert_eq!(found.found as f64, expected[0]);
                    found_any |= found.found > 0 && expected[1] < 1.0;
                    for (value, expected) in values.iter().zip(&expected[1..]) {
                        assert!(
                            (value.unwrap() - expected).abs() < 1e-12,
                            "{found:?}, {expected:?}"
                        );
                    }
                }
                assert!((found.panoptic_quality.unwrap() - quality).abs() < 1e-12);
                let mean = expected.iter().map(|expected| expected[4]).sum::<f64>() / 10.0;
                assert!((found.average_precision.unwrap() - mean).abs() < 1e-12);
            }
        }
    }
    assert!(found_any);
}

#[test]
fn a_half_is_not_found_and_a_bit_more_is() {
    let truth = array![[[1, 1, 1, 1, 0, 0, 9, 9]]];
    let half = array![[[5, 5, 0, 0, 0, 0, 6, 6]]];
    let found = scores(truth.view(), half.view(), InstanceRules::default());
    let at_half = found.detections[0];
    assert_eq!(
        (at_half.found, at_half.precision, at_half.recall),
        (1, Some(0.5), Some(0.5))
    );
    let more = array![[[5, 5, 5, 0, 0, 0, 6, 6]]];
    let found = scores(truth.view(), more.view(), InstanceRules::default());
    assert_eq!(
        found.detections.iter().map(|d| d.found).collect::<Vec<_>>(),
        [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    );
    assert_eq!(found.detections[5].threshold, 0.75);
    assert_eq!(found.panoptic_quality, Some(1.75 / 2.0));
    assert_eq!(found.segmentation_quality, Some(1.75 / 2.0));
}

#[test]
fn mistakes_come_with_their_places() {
    // Object 4 is split into 7 and 8; segment 7 also holds object 5, and background, which is unknown.
    let truth = array![[[4, 4, 4, 4, 4, 4, 0, 5]], [[4, 4, 0, 0, 0, 0, 0, 5]]];
    let segments = array![[[8, 8, 7, 7, 7, 7, 7, 7]], [[8, 8, 8, 0, 0, 3, 3, 7]]];
    let found = scores(truth.view(), segments.view(), InstanceRules::default());
    let part = |id, voxels, place| Part { id, voxels, place };
    assert_eq!(found.splits.len(), 1);
    let split = &found.splits[0];
    assert_eq!((split.id, split.voxels, split.count, split.bits), (4, 8, 2, 0.8));
    assert_eq!(split.parts, [part(7, 4, [0, 0, 2]), part(8, 4, [0, 0, 0])]);
    assert_eq!(found.voi_split, Some(0.8));
    let merge = &found.merges[0];
    assert_eq!((found.merges.len(), merge.id, merge.voxels), (1, 7, 6));
    assert_eq!(merge.parts, [part(4, 4, [0, 0, 2]), part(5, 2, [0, 0, 7])]);
    assert_eq!(Some(merge.bits), found.voi_merge);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["rules"]["truth_zero"], "ignored");
    assert_eq!(json["merges"][0]["parts"][1]["place"][2], 7);
    assert_eq!(
        InstanceScores::new(&ContingencyTable::default(), ALL, 5).splits,
        []
    );
}

#[test]
fn what_is_not_defined_is_null() {
    let (nothing, one) = (Array3::<u64>::zeros((2, 3, 4)), Array3::<u64>::ones((2, 3, 4)));
    let rules = InstanceRules::default();
    // No truth, and no voxel at all.
    for truth in [nothing.clone(), Array3::zeros((0, 3, 4))] {
        let found = scores(truth.view(), truth.view(), rules);
        assert_eq!((found.voxels, found.objects, found.segments), (0, 0, 0));
        assert!(
            found.scores().0.values().all(|score| score.is_none()),
            "{found:?}"
        );
        assert_eq!(found.segmentation_quality, None);
    }
    // Objects, and nothing found.
    let found = scores(one.view(), nothing.view(), rules);
    assert_eq!(
        (found.voi, found.rand_error),
        (Some(0.0), Some(0.0)),
        "one region is one object"
    );
    let half = found.detections[0];
    assert_eq!(
        (half.precision, half.recall, half.f1, half.average_precision),
        (None, Some(0.0), Some(0.0), Some(0.0))
    );
    assert_eq!(
        (found.panoptic_quality, found.segmentation_quality),
        (Some(0.0), None)
    );
    assert!(found.panoptic_quality.unwrap().is_sign_positive());
    // Ids of any size, and voxels that are each their own segment.
    let mut id = (1 << 63) - 12;
    let each = one.mapv(|_| {
        id += 1;
        id
    });
    let found = scores(one.view(), each.view(), rules);
    assert_eq!(
        (found.rand_precision, found.rand_recall, found.rand_error),
        (None, Some(0.0), Some(1.0))
    );
    assert_eq!(found.splits[0].count, 24);
    // A number is never infinite or NaN.
    assert!(serde_json::to_value(&found).unwrap()["rand_precision"].is_null());
    let names: Vec<&str> = INSTANCE_CRITERIA
        .iter()
        .map(|criterion| &*criterion.name)
        .collect();
    assert_eq!(found.scores().0.len(), names.len());
    assert!(rules.count(one.view(), one.slice(s![.., .., ..2])).is_err());
    assert!(
        rules
            .count_block(one.view(), one.view(), [0..3, 0..1, 0..1], [0; 3])
            .is_err()
    );
}

#[test]
fn blocks_add_up_to_the_whole_with_their_bands() {
    let (truth, segments) = (labels((9, 20, 23), 6, 3), labels((9, 20, 23), 6, 4));
    for boundary_band in [[0; 3], [1, 2, 3]] {
        let rules = InstanceRules {
            boundary_band,
            ..InstanceRules::default()
        };
        let whole = rules.count(truth.view(), segments.view()).unwrap();
        for block in [[4, 7, 10], [9, 3, 23], [2, 20, 5]] {
            let mut sum = ContingencyTable::default();
            // From the last block to the first.
            for begin in ndarray::indices([
                9usize.div_ceil(block[0]),
                20usize.div_ceil(block[1]),
                23usize.div_ceil(block[2]),
            ])
            .into_iter()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            {
                let begin = [begin.0 * block[0], begin.1 * block[1], begin.2 * block[2]];
                let end: [usize; 3] = std::array::from_fn(|a| (begin[a] + block[a]).min(truth.shape()[a]));
                let low: [usize; 3] = std::array::from_fn(|a| begin[a].saturating_sub(boundary_band[a]));
                let high: [usize; 3] =
                    std::array::from_fn(|a| (end[a] + boundary_band[a]).min(truth.shape()[a]));
                let window = s![low[0]..high[0], low[1]..high[1], low[2]..high[2]];
                let inner = std::array::from_fn(|a| begin[a] - low[a]..end[a] - low[a]);
                let part = rules
                    .count_block(
                        truth.slice(window),
                        segments.slice(window),
                        inner,
                        begin.map(|n| n as u64),
                    )
                    .unwrap();
                sum += &part;
            }
            assert_eq!(sum, whole, "{block:?}");
            assert_eq!(
                InstanceScores::new(&sum, rules, 3),
                InstanceScores::new(&whole, rules, 3)
            );
        }
    }
}
