//! Sweeps beside separate runs: every point to the last bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, s};
use proptest::prelude::*;

/// A prediction of hills, in so many steps.
fn hills(shape: [usize; 3], steps: u64, noise: &mut Noise) -> Array3<u8> {
    let grain = Array3::from_shape_simple_fn(shape, || noise.unit());
    let smooth = gaussian(grain, 0.8).unwrap();
    let (least, most) = smooth.fold((1f32, 0f32), |(least, most), &v| (least.min(v), most.max(v)));
    smooth.mapv(|v| {
        let step = ((v - least) / (most - least).max(1e-6) * steps as f32) as u64;
        (step.min(steps - 1) * 255 / (steps - 1).max(1)) as u8
    })
}

fn objects(shape: [usize; 3], noise: &mut Noise) -> Array3<u64> {
    let names = [0, 5, 1 << 63, u64::MAX, 6];
    let mut last = 0;
    Array3::from_shape_simple_fn(shape, || {
        if noise.unit() < 0.2 {
            last = names[noise.below(5) as usize];
        }
        last
    })
}

const RULES: [SweepRules; 4] = [
    SweepRules {
        truth_zero: false,
        segment_zero: true,
    },
    SweepRules {
        truth_zero: true,
        segment_zero: true,
    },
    SweepRules {
        truth_zero: false,
        segment_zero: false,
    },
    SweepRules {
        truth_zero: true,
        segment_zero: false,
    },
];

/// One threshold by itself.
fn separate(
    prediction: ArrayView3<u8>,
    truth: ArrayView3<u64>,
    threshold: u8,
    connectivity: Connectivity,
    rules: SweepRules,
) -> SweepPoint {
    let above = prediction.mapv(|value| value > threshold);
    let segments: Array3<u64> = connected_components(above.view(), connectivity).unwrap();
    let mut table = ContingencyTable::new(truth, segments.view()).unwrap();
    table.retain(|o| (o.truth != 0 || rules.truth_zero) && (o.segment != 0 || rules.segment_zero));
    let components = segments.iter().max().copied().unwrap_or(0);
    SweepPoint {
        threshold,
        components,
        voi: table.voi(),
    }
}

#[test]
fn components_at_every_threshold_are_those_of_separate_runs() {
    let mut noise = Noise(1);
    let all: Vec<u8> = (0..=255).collect();
    for shape in [
        [5, 8, 9],
        [1, 14, 13],
        [9, 1, 10],
        [1, 1, 30],
        [1, 1, 1],
        [3, 7, 1],
        [2, 3, 130],
        [3, 2, 64],
        [2, 2, 65],
    ] {
        for steps in [2, 7, 256] {
            let (prediction, truth) = (hills(shape, steps, &mut noise), objects(shape, &mut noise));
            for connectivity in [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners] {
                for rules in RULES {
                    let (p, t) = (prediction.view(), truth.view());
                    let points = component_sweep(p, t, &all, connectivity, rules).unwrap();
                    for (&threshold, point) in all.iter().zip(&points) {
                        let expected = separate(p, t, threshold, connectivity, rules);
                        assert_eq!(
                            *point, expected,
                            "{shape:?}, {steps} steps, {connectivity:?}, {rules:?}"
                        );
                    }
                    // Some thresholds, in any order and twice, are those of all.
                    let some = [200, 3, 100, 3, 255];
                    let expected = some.map(|threshold| points[usize::from(threshold)]);
                    assert_eq!(
                        component_sweep(p, t, &some, connectivity, rules).unwrap(),
                        expected
                    );
                }
            }
        }
    }
}

#[test]
fn components_do_not_depend_on_memory_order_type_or_threads() {
    let mut noise = Noise(2);
    let shape = [20, 30, 31];
    let (prediction, truth) = (hills(shape, 256, &mut noise), objects(shape, &mut noise));
    let thresholds: Vec<u8> = (0..50).map(|i| i * 5).collect();
    let sweep = || {
        let rules = SweepRules::default();
        component_sweep(
            prediction.view(),
            truth.view(),
            &thresholds,
            Connectivity::Faces,
            rules,
        )
        .unwrap()
    };
    let one = on_threads(1, sweep);
    assert!([2, 3].iter().all(|&threads| on_threads(threads, sweep) == one));
    let best = best_point(&one).unwrap();
    assert!(
        one.iter()
            .all(|point| point.voi.unwrap().sum() >= best.voi.unwrap().sum())
    );
    assert!(
        one.iter().any(|point| point.components > 20),
        "there is something to merge"
    );
    let turned = (prediction.t().to_owned(), truth.t().to_owned());
    let rules = SweepRules::default();
    assert_eq!(
        component_sweep(
            turned.0.t(),
            turned.1.t(),
            &thresholds,
            Connectivity::Faces,
            rules
        )
        .unwrap(),
        one
    );
    let small = truth.mapv(|id| (id % 251) as u8);
    assert_eq!(
        component_sweep(
            prediction.view(),
            small.view(),
            &thresholds,
            Connectivity::Faces,
            rules
        )
        .unwrap(),
        one
    );
}

#[test]
fn scores_at_every_threshold_are_those_of_separate_runs() {
    let mut noise = Noise(3);
    for shape in [[4, 30, 700], [1, 5, 6], [3, 1, 1]] {
        let prediction = Array3::from_shape_simple_fn(shape, || noise.below(256) as u8);
        let truth = prediction.mapv(|value| u64::from(value) + noise.below(200) > 230);
        let counted = Array3::from_shape_simple_fn(shape, || noise.unit() < 0.8);
        for counted in [None, Some(counted.view())] {
            let counts = ThresholdCounts::new(prediction.view(), truth.view(), counted).unwrap();
            for (threshold, found) in (0u8..=255).zip(counts.curve()) {
                let mut expected = Agreement::default();
                for (at, &value) in prediction.indexed_iter() {
                    if counted.is_none_or(|counted| counted[at]) {
                        *match (value > threshold, truth[at]) {
                            (true, true) => &mut expected.both,
                            (true, false) => &mut expected.only_predicted,
                            (false, true) => &mut expected.only_true,
                            (false, false) => &mut expected.neither,
                        } += 1;
                    }
                }
                assert_eq!(found, expected, "{shape:?}, {threshold}");
            }
            let [dice, jaccard] = [Agreement::dice, Agreement::jaccard].map(|score| counts.best(score));
            assert_eq!(
                dice.map(|best| best.0),
                jaccard.map(|best| best.0),
                "they rank alike"
            );
        }
        let whole = ThresholdCounts::new(prediction.view(), truth.view(), None).unwrap();
        let mut sum = ThresholdCounts::default();
        for part in [s![..1, .., ..], s![1.., .., ..]] {
            sum += &ThresholdCounts::new(prediction.slice(part), truth.slice(part), None).unwrap();
        }
        assert_eq!(sum, whole);
        let turned = (prediction.t().to_owned(), truth.t().to_owned());
        assert_eq!(
            ThresholdCounts::new(turned.0.t(), turned.1.t(), None).unwrap(),
            whole
        );
        for threads in [1, 2, 3] {
            let again = on_threads(threads, || {
                ThresholdCounts::new(prediction.view(), truth.view(), None)
            });
            assert_eq!(again.unwrap(), whole);
        }
    }
}

#[test]
fn agreement_is_by_its_definition_and_null_where_nothing_is_set() {
    let some = Agreement {
        both: 6,
        only_predicted: 2,
        only_true: 4,
        neither: 100,
    };
    assert_eq!((some.precision(), some.recall()), (Some(0.75), Some(0.6)));
    assert_eq!((some.dice(), some.jaccard()), (Some(12.0 / 18.0), Some(0.5)));
    let harmonic = 2.0 * 0.75 * 0.6 / 1.35;
    assert!((some.f1().unwrap() - harmonic).abs() < 1e-12);
    let nothing = Agreement {
        neither: 5,
        ..Agreement::default()
    };
    let scores = [
        nothing.dice(),
        nothing.jaccard(),
        nothing.precision(),
        nothing.recall(),
        nothing.f1(),
    ];
    assert_eq!(scores, [None; 5]);
    let missed = Agreement {
        only_true: 3,
        ..Agreement::default()
    };
    assert_eq!(
        (missed.precision(), missed.recall(), missed.dice()),
        (None, Some(0.0), Some(0.0))
    );
    let black = Array3::zeros((2, 2, 2));
    let counts = ThresholdCounts::new(black.view(), black.mapv(|_| false).view(), None).unwrap();
    assert_eq!(counts.best(Agreement::dice), None);
    assert!(ThresholdCounts::new(black.view(), Array3::from_elem((2, 2, 1), true).view(), None).is_err());
}

#[test]
fn nothing_and_what_means_nothing() {
    let rules = SweepRules::default();
    let (empty, none) = (Array3::<u8>::zeros((0, 2, 3)), Array3::<u64>::zeros((0, 2, 3)));
    let points = component_sweep(empty.view(), none.view(), &[5], Connectivity::Faces, rules).unwrap();
    assert_eq!(
        points,
        [SweepPoint {
            threshold: 5,
            components: 0,
            voi: None
        }]
    );
    assert_eq!(best_point(&points), None);
    let (black, truth) = (Array3::<u8>::zeros((2, 2, 3)), Array3::<u64>::ones((2, 2, 3)));
    let points = component_sweep(black.view(), truth.view(), &[0, 255], Connectivity::Faces, rules).unwrap();
    assert!(
        points
            .iter()
            .all(|point| point.components == 0 && point.voi.unwrap().sum() == 0.0)
    );
    let ignored = SweepRules {
        segment_zero: false,
        ..rules
    };
    let points = component_sweep(black.view(), truth.view(), &[0], Connectivity::Faces, ignored).unwrap();
    assert_eq!(points[0].voi, None);
    assert_eq!(
        component_sweep(black.view(), truth.view(), &[], Connectivity::Faces, rules).unwrap(),
        []
    );
    assert!(component_sweep(black.view(), none.view(), &[0], Connectivity::Faces, rules).is_err());
}

#[test]
fn merges_at_every_threshold_score_as_separate_runs() {
    let mut noise = Noise(4);
    let shape = [8, 20, 21];
    let fragments = Array3::from_shape_fn(shape, |(z, y, x)| (1 + z / 3 + 3 * (y / 4) + 15 * (x / 4)) as u64);
    let truth = Array3::from_shape_fn(shape, |(z, _, x)| [0, 7, 1 << 63, u64::MAX][z / 4 * 2 + x / 11]);
    let offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]];
    let affinities = Array4::from_shape_simple_fn((3, 8, 20, 21), || noise.unit());
    let graph = ContactGraph::new(fragments.view(), affinities.view(), &offsets).unwrap();
    let sizes = unique(fragments.view());
    for limits in [
        MergeLimits::default(),
        MergeLimits {
            least_links: 14,
            ..MergeLimits::default()
        },
        MergeLimits {
            most_voxels: 400,
            sizes: &sizes,
            ..MergeLimits::default()
        },
    ] {
        let history = MergeHistory::new(&graph, MeanAffinity::mean, limits).unwrap();
        for ignored in [None, Some(0), Some(1 << 63)] {
            let kept = |table: &mut ContingencyTable| table.retain(|overlap| Some(overlap.truth) != ignored);
            let mut table = ContingencyTable::new(truth.view(), fragments.view()).unwrap();
            kept(&mut table);
            let thresholds = [0.5, 0.9, 0.0, 0.45, f64::NAN, 0.52, 0.55, 0.52, 2.0];
            let found = history.sweep(&table, &thresholds);
            for (threshold, found) in thresholds.into_iter().zip(found) {
                let segments = history.segment(fragments.view(), threshold).unwrap();
                let mut table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
                kept(&mut table);
                assert_eq!(found, table.voi(), "{threshold}");
            }
        }
    }
    let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
    assert_eq!(
        history.segment(fragments.view(), f64::NAN).unwrap(),
        fragments,
        "nothing merges"
    );
    assert_eq!(history.sweep(&ContingencyTable::default(), &[0.5]), [None]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sweep_is_its_separate_runs(
        seed in 0u64..1 << 48,
        shape in [1usize..7, 1..8, 1..9],
        steps in 2u64..20,
        rules in 0usize..4,
        thresholds in proptest::collection::vec(0u8..=255, 1..8),
    ) {
        let mut noise = Noise(seed);
        let (prediction, truth) = (hills(shape, steps, &mut noise), objects(shape, &mut noise));
        let (p, t) = (prediction.view(), truth.view());
        let points = component_sweep(p, t, &thresholds, Connectivity::Corners, RULES[rules]).unwrap();
        for (&threshold, point) in thresholds.iter().zip(&points) {
            prop_assert_eq!(*point, separate(p, t, threshold, Connectivity::Corners, RULES[rules]));
        }
    }
}
