//! Scores of one class: beside DaCapo's where these are right, and by hand where they are not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs::File;

use dacapo_tasks::*;
use ndarray::{Array3, ArrayView3, array, s};
use ndarray_npy::NpzReader;

type Named = BTreeMap<String, Option<f64>>;

fn data(name: &str) -> File {
    File::open(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn scores(
    truth: ArrayView3<bool>,
    test: ArrayView3<bool>,
    voxel_size: [f64; 3],
    evaluation: BinaryEvaluation,
) -> Named {
    let found = binary_scores(truth, test, None, voxel_size, &evaluation).unwrap();
    let named = BINARY_CRITERIA.iter().zip(found);
    named
        .map(|(criterion, score)| (criterion.name.to_string(), score))
        .collect()
}

fn at(tolerance: f64, clip: f64) -> BinaryEvaluation {
    BinaryEvaluation { tolerance, clip }
}

/// DaCapo's false discovery rate is a false positive rate (SimpleITK changed what it calls so), and the three others
/// are computed from it.
const MISREAD: [&str; 4] = [
    "false_discovery_rate",
    "false_positive_rate",
    "precision",
    "f1_score",
];

#[test]
fn they_are_those_of_dacapo_where_these_are_right() {
    let golden: BTreeMap<String, Named> = serde_json::from_reader(data("binary.json")).unwrap();
    let mut volumes = NpzReader::new(data("binary.npz")).unwrap();
    let sizes = [
        ("vs=(4, 4, 4) clip=40.0 tol=8.0", [4.0, 4.0, 4.0], at(8.0, 40.0)),
        ("vs=(1, 1, 1) clip=200 tol=40", [1.0, 1.0, 1.0], at(40.0, 200.0)),
        ("vs=(40, 4, 4) clip=200 tol=40", [40.0, 4.0, 4.0], at(40.0, 200.0)),
    ];
    let mut compared = 0;
    for name in ["blobs", "identical", "shift2", "disjoint", "full"] {
        let mut read = |role: &str| -> Array3<bool> { volumes.by_name(&format!("{name}.{role}")).unwrap() };
        let (truth, test) = (read("truth"), read("test"));
        for (key, voxel_size, evaluation) in sizes {
            let found = scores(truth.view(), test.view(), voxel_size, evaluation);
            // No distance is -0.
            assert!(
                found.values().flatten().all(|score| score.is_sign_positive()),
                "{found:?}"
            );
            for (criterion, expected) in &golden[&format!("{name} {key}")] {
                let is_anisotropic = voxel_size[0] != voxel_size[2];
                let is_wrong = MISREAD.contains(&criterion.as_str())
                    || criterion == "hausdorff" && is_anisotropic
                    // Without any background, and where nothing is right, DaCapo has NaN.
                    || expected.is_none();
                if is_wrong {
                    continue;
                }
                compared += 1;
                let (ours, theirs) = (found[criterion].unwrap(), expected.unwrap());
                let is_close = (ours - theirs).abs() <= 2e-6 * theirs.abs().max(1.0);
                assert!(is_close, "{name} {key}: {criterion} is {ours}, not {theirs}");
            }
        }
    }
    assert!(compared > 15 * 15, "{compared}");
}

#[test]
fn rates_are_by_what_they_are_called() {
    // 3 right, 1 too many, 2 missing, 4 of neither.
    let truth = array![[[true, true, true, true, true, false, false, false, false, false]]];
    let test = array![[[true, true, true, false, false, true, false, false, false, false]]];
    let found = scores(truth.view(), test.view(), [1.0; 3], at(0.0, 9.0));
    let part = |name: &str| found[name].unwrap();
    let is = |name: &str, value: f64| assert!((part(name) - value).abs() < 1e-12, "{name}: {}", part(name));
    is("precision", 3.0 / 4.0);
    is("false_discovery_rate", 1.0 / 4.0);
    is("recall", 3.0 / 5.0);
    is("false_negative_rate", 2.0 / 5.0);
    is("false_positive_rate", 1.0 / 5.0);
    is("f1_score", 2.0 * 0.75 * 0.6 / (0.75 + 0.6));
    is("dice", 6.0 / 9.0);
    is("jaccard", 3.0 / 6.0);
    // The truth ends at voxel 4, the test at 2 and again at 5.
    is("mean_false_positive_distance", 1.0 / 4.0);
    is("mean_false_negative_distance", (1.0 + 1.0) / 5.0);
    is("mean_false_distance", (1.0 / 4.0 + 2.0 / 5.0) / 2.0);
    is("hausdorff", 1.0);
    // In bits: of two halves that have nothing to do with each other, both are unknown.
    let (a, b) = (
        array![[[true, true, false, false]]],
        array![[[true, false, true, false]]],
    );
    assert_eq!(
        scores(a.view(), b.view(), [1.0; 3], at(0.0, 0.0))["voi"],
        Some(2.0)
    );
}

#[test]
fn distances_know_which_axis_is_which() {
    let mut truth = Array3::from_elem((6, 5, 5), false);
    let mut test = truth.clone();
    truth[[1, 2, 2]] = true;
    test[[3, 2, 2]] = true;
    let found = scores(truth.view(), test.view(), [40.0, 4.0, 1.0], at(79.0, 50.0));
    for name in [
        "hausdorff",
        "hausdorff_95",
        "average_surface_distance",
        "mean_false_distance",
    ] {
        assert_eq!(found[name], Some(80.0), "{name}");
    }
    assert_eq!(found["mean_false_distance_clipped"], Some(50.0));
    assert_eq!(found["recall_with_tolerance"], Some(0.0));
    let tolerant = scores(truth.view(), test.view(), [40.0, 4.0, 1.0], at(80.0, 50.0));
    assert_eq!(
        (
            tolerant["recall_with_tolerance"],
            tolerant["precision_with_tolerance"]
        ),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(
        (tolerant["false_positive_rate_with_tolerance"], tolerant["dice"]),
        (Some(0.0), Some(0.0))
    );
}

#[test]
fn tolerated_voxels_are_right_on_both_sides() {
    // 2 right; one too many at 1, one at 2; one missing at 1, one at 2.
    let truth = array![[[true, true, true, true, false, false, false, false]]];
    let test = array![[[false, false, true, true, true, true, false, false]]];
    let found = scores(truth.view(), test.view(), [1.0; 3], at(1.0, 1.5));
    let right = 4.0;
    for name in [
        "precision_with_tolerance",
        "recall_with_tolerance",
        "f1_score_with_tolerance",
    ] {
        assert_eq!(found[name], Some(right / (right + 1.0)), "{name}");
    }
    assert_eq!(found["false_negative_rate_with_tolerance"], Some(1.0 / 4.0));
    assert_eq!(found["false_positive_rate_with_tolerance"], Some(1.0 / 4.0));
    assert_eq!(
        found["mean_false_positive_distance_clipped"],
        Some((1.0 + 1.5) / 4.0)
    );
}

#[test]
fn surfaces_are_compared_all_over() {
    // A block and the same a voxel larger on one side: of the surfaces, most are 0 apart.
    let mut truth = Array3::from_elem((9, 9, 12), false);
    truth.slice_mut(s![2..7, 2..7, 2..7]).fill(true);
    let mut test = truth.clone();
    test.slice_mut(s![2..7, 2..7, 2..8]).fill(true);
    let found = scores(truth.view(), test.view(), [1.0; 3], at(0.0, 9.0));
    // 25 voxels of the test's face are 1 from the truth's surface. Of the truth's face there, the inner 9 are 1 from the
    // test's surface; its rim is part of that.
    let (of_truth, of_test) = (125.0 - 27.0, 150.0 - 36.0);
    let mean = found["average_surface_distance"].unwrap();
    assert!(
        (mean - (25.0 + 9.0) / (of_truth + of_test)).abs() < 1e-9,
        "{mean}"
    );
    assert_eq!(
        (found["hausdorff"], found["hausdorff_95"]),
        (Some(1.0), Some(1.0))
    );
    // One voxel far away is a percentile's least concern.
    test.assign(&truth);
    test[[4, 4, 11]] = true;
    let found = scores(truth.view(), test.view(), [1.0; 3], at(0.0, 9.0));
    assert_eq!(
        (found["hausdorff"], found["hausdorff_95"]),
        (Some(5.0), Some(0.0))
    );
}

#[test]
fn where_nothing_is_scores_are_defined_or_absent() {
    let nothing = Array3::from_elem((3, 4, 5), false);
    let mut something = nothing.clone();
    something[[1, 1, 1]] = true;
    let all = nothing.mapv(|_| true);
    let of =
        |truth: &Array3<bool>, test: &Array3<bool>| scores(truth.view(), test.view(), [1.0; 3], at(1.0, 7.0));
    for (truth, test) in [
        (&nothing, &nothing),
        (&nothing, &something),
        (&something, &nothing),
        (&all, &nothing),
        (&nothing, &all),
        (&all, &all),
        (&all, &something),
        (
            &Array3::from_elem((0, 2, 2), true),
            &Array3::from_elem((0, 2, 2), true),
        ),
    ] {
        let found = of(truth, test);
        assert!(
            found.values().flatten().all(|score| score.is_finite()),
            "{found:?}"
        );
    }
    let neither = of(&nothing, &nothing);
    assert_eq!(
        (neither["dice"], neither["hausdorff"], neither["voi"]),
        (None, Some(0.0), Some(0.0))
    );
    let missed = of(&something, &nothing);
    assert_eq!(
        (missed["recall"], missed["precision"], missed["dice"]),
        (Some(0.0), None, Some(0.0))
    );
    assert_eq!(
        (missed["hausdorff"], missed["mean_false_negative_distance"]),
        (None, None)
    );
    assert_eq!(missed["mean_false_negative_distance_clipped"], Some(7.0));
    let invented = of(&nothing, &something);
    assert_eq!(
        (invented["recall"], invented["precision"], invented["dice"]),
        (None, Some(0.0), Some(0.0))
    );
    assert_eq!(invented["false_discovery_rate"], Some(1.0));
    assert_eq!(invented["false_positive_rate_with_tolerance"], Some(1.0 / 60.0));
    // Without background, nothing is a false positive.
    let full = of(&all, &something);
    assert_eq!(
        (full["false_positive_rate"], full["false_discovery_rate"]),
        (None, Some(0.0))
    );
    assert_eq!(full["precision"], Some(1.0));
    // A wrong voxel size is no score.
    assert!(binary_scores(all.view(), all.view(), None, [0.0, 1.0, 1.0], &at(1.0, 1.0)).is_err());
    assert!(binary_scores(all.view(), all.view(), None, [1.0; 3], &at(-1.0, 1.0)).is_err());
    assert!(
        binary_scores(
            all.view(),
            all.slice(s![..2, .., ..]),
            None,
            [1.0; 3],
            &at(1.0, 1.0)
        )
        .is_err()
    );
}

#[test]
fn what_is_not_known_is_of_neither() {
    let truth = array![[[true, true, false, false, true]]];
    let test = array![[[true, false, true, false, false]]];
    let known = array![[[true, true, true, false, false]]];
    let found = binary_scores(
        truth.view(),
        test.view(),
        Some(known.view()),
        [1.0; 3],
        &at(0.0, 9.0),
    )
    .unwrap();
    let cut = |volume: &Array3<bool>| volume.slice(s![.., .., ..3]).to_owned();
    let expected = scores(cut(&truth).view(), cut(&test).view(), [1.0; 3], at(0.0, 9.0));
    for (criterion, score) in BINARY_CRITERIA.iter().zip(found) {
        // Where knowledge ends is a surface, so the two of surfaces may differ.
        if !criterion.name.contains("surface") && criterion.name != "hausdorff_95" {
            assert_eq!(score, expected[&*criterion.name], "{}", criterion.name);
        }
    }
}

#[test]
fn counts_of_parts_add_up_or_say_how_far_to_look() {
    // Two specks 9 voxels apart along x, of 4 nm.
    let mut truth = Array3::from_elem((3, 5, 30), false);
    let mut test = truth.clone();
    truth[[1, 2, 5]] = true;
    test[[1, 2, 14]] = true;
    let scorer = BinaryScorer::new([3, 5, 30], [40.0, 4.0, 4.0]).unwrap();
    let part = |begin: usize, end: usize, around: usize| {
        let outer = begin.saturating_sub(around)..(end + around).min(30);
        let part = BinaryPart {
            truth: truth.slice(s![.., .., outer.clone()]),
            test: test.slice(s![.., .., outer.clone()]),
            known: None,
            inner: [0..3, 0..5, begin - outer.start..end - outer.start],
            goes_on: [[false; 2], [false; 2], [outer.start > 0, outer.end < 30]],
        };
        scorer.count(&part, [true; 2]).unwrap()
    };
    let done = |counted: Counted| match counted {
        Counted::Done(counts) => counts,
        Counted::LookFurther { reach } => panic!("{reach}"),
    };
    // Nothing in sight, and nothing to be sure of.
    assert_eq!(part(0, 10, 3), Counted::LookFurther { reach: f64::INFINITY });
    assert_eq!(part(20, 30, 0), part(20, 30, 9));
    let mut sum = done(part(0, 10, 10));
    for (begin, end) in [(10, 13), (13, 20), (20, 30)] {
        sum += &done(part(begin, end, 10));
    }
    assert_eq!(sum, done(part(0, 30, 0)));
    let evaluation = at(36.0, 10.0);
    let whole = binary_scores(truth.view(), test.view(), None, [40.0, 4.0, 4.0], &evaluation).unwrap();
    assert_eq!(scorer.scores(&sum, &evaluation), whole);
    // What is in sight may not be the nearest: it says how far to look.
    truth[[1, 2, 28]] = true;
    let near = BinaryPart {
        truth: truth.slice(s![.., .., 8..]),
        test: test.slice(s![.., .., 8..]),
        known: None,
        inner: [0..3, 0..5, 0..12],
        goes_on: [[false; 2], [false; 2], [true, false]],
    };
    match scorer.count(&near, [true; 2]).unwrap() {
        Counted::LookFurther { reach } => assert!((reach - 56.0).abs() < 0.01, "{reach}"),
        Counted::Done(_) => panic!("the nearest is 9 voxels away, and was not in sight"),
    }
    assert!(BinaryScorer::new([2; 3], [1.0, f64::NAN, 1.0]).is_err());
    let beyond = BinaryPart {
        inner: [0..3, 0..5, 0..31],
        ..near
    };
    assert!(scorer.count(&beyond, [true; 2]).is_err());
}
