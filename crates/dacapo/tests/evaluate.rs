//! Scores by blocks are those of the whole, wherever the arrays lie.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use dacapo::{Error, EvaluateRequest, NamedArray, evaluate};
use dacapo_array::{ArraySpec, Coordinate, DType, MemoryArray, NdData, Roi};
use dacapo_tasks::{InstanceRules, InstanceScores, ZeroIs};
use ndarray::{Array3, s};

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
