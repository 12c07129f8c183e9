//! Scores by blocks are those of the whole, wherever the arrays lie.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use dacapo::{Error, EvaluateBinaryRequest, EvaluateRequest, NamedArray, evaluate, evaluate_binary};
use dacapo_array::{ArraySpec, Coordinate, DType, MemoryArray, NdData, Roi};
use dacapo_tasks::{BinaryEvaluation, InstanceRules, InstanceScores, ZeroIs, binary_scores, class_scores};
use ndarray::{Array3, Axis, s, stack};

const SIZE: [&str; 3] = ["40", "4.6", "4.6"];

/// Labels that lie at a voxel.
fn array(labels: &Array3<u64>, at: [i64; 3], size: [&str; 3]) -> MemoryArray {
    let voxel_size = Coordinate::new(size.map(|n| n.parse::<dacapo_array::Decimal>().unwrap()));
    let roi = Roi::from_voxels(&at, labels.shape(), &voxel_size);
    let spec = ArraySpec::new(roi, voxel_size, DType::U64);
    MemoryArray::new(spec, NdData::U64(labels.clone().into_dyn())).unwrap()
}

fn blobs(shape: [usize; 3], side: usize) -> Array3<u64> {
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let cell = [z / side, (y + z / 3) / side, (x + y / 4) / side];
        let id = (cell[0] * 31 + cell[1] * 7 + cell[2]) as u64;
        if (z * y + x).is_multiple_of(11) { 0 } else { id + 1 }
    })
}

fn named<'a>(name: &'a str, array: &'a MemoryArray) -> NamedArray<'a> {
    NamedArray { name, array }
}

#[test]
fn blocks_change_no_score_and_places_are_world_positions() {
    let (truth, test) = (blobs([21, 30, 34], 8), blobs([21, 30, 34], 6));
    // The test lies 2, 3 and -1 voxels further: only a part is shared.
    let (a, b) = (array(&truth, [5, 0, -3], SIZE), array(&test, [7, 3, -4], SIZE));
    let rules = [
        InstanceRules::default(),
        InstanceRules {
            truth_zero: ZeroIs::Region,
            segmentation_zero: ZeroIs::Ignored,
            boundary_band: [1, 2, 0],
        },
    ];
    for rules in rules {
        let (inner_truth, inner_test) = (truth.slice(s![2.., 3.., ..33]), test.slice(s![..19, ..27, 1..]));
        let table = rules.count(inner_truth, inner_test).unwrap();
        let whole = InstanceScores::new(&table, rules, 10);
        for block in [1000, 16, 7] {
            let request = EvaluateRequest {
                rules,
                block,
                ..EvaluateRequest::default()
            };
            let found = evaluate(named("a", &a), named("b", &b), &request, &()).unwrap();
            assert_eq!(found.scores, whole, "{block}");
            assert_eq!(found.roi.begin().to_string(), "(280, 13.8, -13.8)");
            let part = found.scores.splits[0].parts[0];
            let at = found.world(part.place);
            let voxel = (at - truth_begin(&a)).exact_div(&found.voxel_size).unwrap();
            let object = truth[[voxel[0] as usize, voxel[1] as usize, voxel[2] as usize]];
            assert_eq!(object, found.scores.splits[0].id);
        }
    }
}

fn truth_begin(array: &MemoryArray) -> &Coordinate {
    dacapo_array::ArrayRead::spec(array).roi.begin()
}

#[test]
fn what_cannot_be_compared_is_told() {
    let labels = blobs([4, 6, 6], 3);
    let truth = array(&labels, [0, 0, 0], ["1", "1", "1"]);
    let refused = |other: &MemoryArray, roi: Option<Roi>| {
        let request = EvaluateRequest {
            roi,
            ..EvaluateRequest::default()
        };
        evaluate(named("truth", &truth), named("test", other), &request, &())
            .unwrap_err()
            .to_string()
    };
    let other = |at, size| array(&labels, at, size);
    assert!(refused(&other([0; 3], ["1", "1", "2"]), None).contains("voxels are of (1, 1, 1) and (1, 1, 2)"));
    assert!(refused(&other([9, 0, 0], ["1", "1", "1"]), None).contains("share nothing"));
    let half = array(&labels, [1, 1, 1], ["1", "1", "1"]);
    let far = Roi::new(Coordinate::new([50, 0, 0]), Coordinate::new([1, 1, 1]));
    assert!(refused(&half, Some(far)).contains("share nothing within [50:51, 0:1, 0:1]"));
    let roi = Roi::from_voxels(&[0; 3], &[4, 6, 6], &Coordinate::splat(3, 1));
    let spec = ArraySpec::new(roi, Coordinate::splat(3, 1), DType::F32);
    let floats = NdData::F32(Array3::zeros((4, 6, 6)).into_dyn());
    let floats = MemoryArray::new(spec, floats).unwrap();
    let error = evaluate(
        named("truth", &truth),
        named("test", &floats),
        &EvaluateRequest::default(),
        &(),
    );
    assert!(matches!(error, Err(Error::LabelType { .. })), "{error:?}");
}

/// Channels of classes that lie at the origin.
fn classes(channels: &[Array3<u64>], size: [&str; 3], dtype: DType) -> MemoryArray {
    let views: Vec<_> = channels.iter().map(|channel| channel.view()).collect();
    let values = stack(Axis(0), &views).unwrap();
    let voxel_size = Coordinate::new(size.map(|n| n.parse::<dacapo_array::Decimal>().unwrap()));
    let roi = Roi::from_voxels(&[0; 3], channels[0].shape(), &voxel_size);
    let spec = ArraySpec::new(roi, voxel_size, dtype).with_channels(vec![channels.len()]);
    let data = match dtype {
        DType::Bool => NdData::Bool(values.mapv(|value| value != 0).into_dyn()),
        DType::I32 => NdData::I32(values.mapv(|value| -(value as i32)).into_dyn()),
        _ => NdData::U64(values.into_dyn()),
    };
    MemoryArray::new(spec, data).unwrap()
}

#[test]
fn classes_by_blocks_have_the_scores_of_the_whole() {
    let shape = [33, 40, 47];
    let ball = |at: [i64; 3], radius: i64| {
        Array3::from_shape_fn(shape, |(z, y, x)| {
            let square = |n: usize, axis: usize| (n as i64 - at[axis]).pow(2);
            u64::from(square(z, 0) + square(y, 1) + square(x, 2) < radius * radius)
        })
    };
    let grains = |labels: Array3<u64>, every: usize| {
        let mut n = 0;
        labels.mapv_into(|label| {
            n += 1;
            if n * n % every == 1 { 1 - label } else { label }
        })
    };
    let nothing = Array3::zeros(shape);
    // Near misses; a speck that is as far away as can be; nothing found; all of it; nothing there.
    let mut speck = nothing.clone();
    speck[[0, 0, 0]] = 1;
    let truth = [
        ball([16, 20, 20], 9),
        ball([30, 38, 44], 3),
        ball([9, 9, 9], 5),
        ball([9, 9, 9], 5),
        nothing.clone(),
    ];
    let test = [
        grains(ball([16, 21, 22], 9), 97),
        speck,
        nothing.clone(),
        nothing.mapv(|_| 1),
        ball([5, 5, 5], 4),
    ];
    let names: Vec<String> = (0..truth.len()).map(|n| format!("class {n}")).collect();
    let evaluation = BinaryEvaluation {
        tolerance: 9.2,
        clip: 50.0,
    };
    for (size, sizes) in [(SIZE, [40.0, 4.6, 4.6]), (["8", "8", "8"], [8.0; 3])] {
        let set = |labels: &Array3<u64>| labels.mapv(|label| label != 0);
        let whole: Vec<_> = (truth.iter().zip(&test))
            .map(|(a, b)| binary_scores(set(a).view(), set(b).view(), None, sizes, &evaluation).unwrap())
            .collect();
        let (a, b) = (
            classes(&truth, size, DType::Bool),
            classes(&test, size, DType::I32),
        );
        for block in [1000, 20, 7] {
            let request = EvaluateBinaryRequest {
                evaluation,
                names: names.clone(),
                block,
                ..EvaluateBinaryRequest::default()
            };
            let found = evaluate_binary(named("a", &a), named("b", &b), &request, &()).unwrap();
            assert_eq!(found.scores, class_scores(&names, &whole), "{size:?}, {block}");
            assert!(found.scores.0["class 1.hausdorff"].is_some_and(|far| far > 300.0));
            assert_eq!(found.scores.0["class 2.hausdorff"], None);
        }
    }
}

#[test]
fn images_are_scored_as_classes_too() {
    let size = Coordinate::new(["0.3", "0.3"].map(|n| n.parse::<dacapo_array::Decimal>().unwrap()));
    let image = |at: usize| {
        let values = Array3::from_shape_fn([1, 12, 12], |(_, y, x)| u64::from(y >= at && x >= 3));
        let spec = ArraySpec::new(
            Roi::from_voxels(&[0; 2], &[12; 2], &size),
            size.clone(),
            DType::U64,
        );
        MemoryArray::new(spec, NdData::U64(values.index_axis_move(Axis(0), 0).into_dyn())).unwrap()
    };
    let (truth, test) = (image(3), image(6));
    // Three rows are missing: the furthest is 3 voxels away, which is within 0.9 but for rounding.
    let request = EvaluateBinaryRequest {
        evaluation: BinaryEvaluation {
            tolerance: 0.9,
            clip: 0.3,
        },
        block: 5,
        ..EvaluateBinaryRequest::default()
    };
    let found = evaluate_binary(named("a", &truth), named("b", &test), &request, &()).unwrap();
    let score = |name: &str| found.scores.0[name].unwrap();
    assert!((score("hausdorff") - 0.9).abs() < 1e-12);
    assert_eq!(score("false_negative_rate_with_tolerance"), 0.0);
    assert!((score("mean_false_negative_distance_clipped") - 0.3 / 3.0).abs() < 1e-12);
    assert_eq!((score("precision"), score("recall")), (1.0, 54.0 / 81.0));
    // Other channels, floats and tolerances below nothing are refused.
    let other = classes(
        &[Array3::zeros([1, 12, 12]), Array3::zeros([1, 12, 12])],
        ["1"; 3],
        DType::U64,
    );
    let refused = |test: &MemoryArray, request: &EvaluateBinaryRequest| {
        evaluate_binary(named("a", &truth), named("b", test), request, &())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&other, &request).contains("one has 1 channels, the other 2"));
    let wrong = EvaluateBinaryRequest {
        evaluation: BinaryEvaluation {
            tolerance: -1.0,
            clip: 1.0,
        },
        ..EvaluateBinaryRequest::default()
    };
    assert!(refused(&test, &wrong).contains("evaluation.tolerance"));
}
