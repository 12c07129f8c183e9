//! The tasks of classes and distances: targets and weights beside DaCapo's, segments, scores, and bad input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::File;

use dacapo_tasks::*;
use ndarray::{Array, Array3, Array4, Axis, Dimension, Ix2, Ix3, Ix4, s};
use ndarray_npy::{NpzReader, ReadableElement};

fn read<T: ReadableElement, D: Dimension>(file: &str, name: &str) -> Array<T, D> {
    let path = format!("{}/tests/data/{file}.npz", env!("CARGO_MANIFEST_DIR"));
    NpzReader::new(File::open(path).unwrap())
        .unwrap()
        .by_name(name)
        .unwrap()
}

fn task(config: &str, dims: usize) -> Box<dyn Task> {
    serde_json::from_str::<TaskConfig>(config)
        .unwrap()
        .build(dims)
        .unwrap()
}

/// Targets of a volume around which nothing is: what is outside is unknown, or counts as known with the label of the
/// nearest voxel, as DaCapo has it, for which a volume simply ends.
fn targets(
    task: &dyn Task,
    labels: &Array3<u64>,
    known: &Array3<bool>,
    voxel_size: [f64; 3],
    outside: bool,
) -> Targets {
    let (before, after) = task.label_context(voxel_size);
    let grown = [0, 1, 2].map(|a: usize| before[a] + labels.shape()[a] + after[a]);
    let nearest = |at: [usize; 3]| -> Option<[usize; 3]> {
        let inside =
            [0, 1, 2].map(|a: usize| at[a].checked_sub(before[a]).filter(|&n| n < labels.shape()[a]));
        Some([inside[0]?, inside[1]?, inside[2]?])
    };
    let mut all = Array3::zeros(grown);
    let mut all_known = Array3::from_elem(grown, outside);
    for ((z, y, x), label) in all.indexed_iter_mut() {
        if let Some(at) = nearest([z, y, x]) {
            *label = labels[at];
            all_known[[z, y, x]] = known[at];
        }
    }
    task.targets(Annotation {
        labels: all.view(),
        known: all_known.view(),
        voxel_size,
    })
    .unwrap()
}

/// Targets of exactly this volume: the context is cut away from it.
fn worst(
    found: &Array4<f32>,
    expected: &Array4<f32>,
    counts: impl Fn(usize, usize, usize, usize) -> bool,
) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let pairs = found.indexed_iter().zip(expected);
    let counting = pairs.filter(|(((c, z, y, x), _), _)| counts(*c, *z, *y, *x));
    counting.map(|((_, a), b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn distances_are_those_of_dacapo_wherever_it_can_know_them() {
    let everywhere = Array3::from_elem((24, 24, 24), true);
    for (case, labels, kind, scale, voxel_size) in [
        (
            "distance_maskTrue_vs4",
            "semantic",
            "distance",
            80.0,
            [4.0, 4.0, 4.0],
        ),
        (
            "distance_maskTrue_vs40",
            "semantic",
            "distance",
            200.0,
            [40.0, 4.0, 4.0],
        ),
        ("distance_scale5", "semantic", "distance", 5.0, [4.0, 4.0, 4.0]),
        ("hot_maskTrue", "semantic", "hot_distance", 80.0, [4.0, 4.0, 4.0]),
        ("inner", "semantic", "inner_distance", 80.0, [4.0, 4.0, 4.0]),
    ] {
        let labels: Array3<u64> = read::<_, Ix3>("maps", labels);
        let expected: Array4<f32> = read::<_, Ix4>("maps", &format!("{case}.target"));
        let weight: Array4<f32> = read::<_, Ix4>("maps", &format!("{case}.weight"));
        let task = task(&format!(r#"{{"kind": "{kind}", "scale": {scale}}}"#), 3);
        let found = targets(&*task, &labels, &everywhere, voxel_size, false);
        let channels = expected.shape()[0];
        let is_distance = |c: usize| c + 1 == channels;
        let weighs = |c: usize, z, y, x| !is_distance(c) || found.weight[[c, z, y, x]] > 0.0;
        // Where ours count, they are the same. Far ones, which count too, may be cut short by a border outside.
        let far = |c: usize, z, y, x| expected[[c, z, y, x]].abs() > 0.8;
        let error = worst(&found.target, &expected, |c, z, y, x| {
            weighs(c, z, y, x) && !far(c, z, y, x)
        });
        assert!(error < 1e-5, "{case}: {error}");
        if kind == "inner_distance" {
            // Outside it is 0, whatever is behind the end.
            let counts = |((z, y, x), &label): ((usize, usize, usize), &u64)| {
                label > 0 || found.weight[[0, z, y, x]] > 0.0
            };
            assert!(labels.indexed_iter().all(counts));
            continue;
        }
        // DaCapo halves the distance to the end of the volume, so fewer count there: those that do, do here.
        let (mut theirs, mut ours) = (0, 0);
        for (place, &weight) in weight.indexed_iter().filter(|((c, ..), _)| is_distance(*c)) {
            theirs += usize::from(weight > 0.0);
            ours += usize::from(found.weight[place] > 0.0);
            assert!(weight == 0.0 || found.weight[place] > 0.0, "{case}: {place:?}");
        }
        assert!(theirs <= ours && ours < labels.len(), "{case}: {theirs} {ours}");
    }
}

#[test]
fn weights_are_those_of_dacapo() {
    let semantic: Array3<u64> = read::<_, Ix3>("maps", "semantic");
    let everywhere = Array3::from_elem(semantic.raw_dim(), true);
    let mask: Array3<bool> = read::<_, Ix3>("maps", "mask");
    let nowhere = |_: usize, _: usize, _: usize, _: usize| true;
    let of = |config: &str, labels: &Array3<u64>, known: &Array3<bool>| {
        targets(&*task(config, 3), labels, known, [4.0; 3], false).weight
    };
    let unmasked = r#"{"kind": "inner_distance", "mask_distances": false}"#;
    for (case, labels, config) in [
        ("inner", &semantic, unmasked),
        ("inner_all0", &semantic.mapv(|_| 0), unmasked),
        (
            "distance_maskFalse_vs4",
            &semantic,
            r#"{"kind": "distance", "mask_distances": false, "weights": "uniform"}"#,
        ),
    ] {
        let expected = read::<f32, Ix4>("maps", &format!("{case}.weight"));
        let error = worst(&of(config, labels, &everywhere), &expected, nowhere);
        assert!(error < 1e-5, "{case}: {error}");
    }
    // Of the class's own channel, the distance's mask is of no concern.
    let expected = read::<f32, Ix4>("maps", "hot_maskTrue.weight");
    let found = of(r#"{"kind": "hot_distance"}"#, &semantic, &everywhere);
    let error = worst(&found, &expected, |c, _, _, _| c == 0);
    assert!(error < 1e-5, "hot: {error}");
    // By themselves: with a mask, without a clip, and of three classes.
    let foreground = r#"{"kind": "foreground"}"#;
    let expected = read::<f32, Ix3>("maps", "balance_masked").insert_axis(Axis(0));
    let error = worst(&of(foreground, &semantic, &mask), &expected, nowhere);
    assert!(error < 1e-5, "masked: {error}");
    let open = r#"{"kind": "foreground", "weights": {"balanced": {"clip_min": 1e-9, "clip_max": 1}}}"#;
    let expected = read::<f32, Ix3>("maps", "balance_noclip").insert_axis(Axis(0));
    let error = worst(&of(open, &semantic, &everywhere), &expected, nowhere);
    assert!(error < 1e-5, "without a clip: {error}");
    let classes = r#"{"kind": "one_hot", "classes": [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}]}"#;
    let slab = read::<u64, Ix3>("maps", "classes3")
        .slice(s![..12, .., ..])
        .to_owned();
    let known = Array3::from_elem(slab.raw_dim(), true);
    let expected = read::<f32, Ix3>("maps", "balance_3cls");
    for channel in of(classes, &slab, &known).outer_iter() {
        let error = (&channel - &expected)
            .mapv(f32::abs)
            .fold(0.0, |a: f32, b| a.max(*b));
        assert!(error < 1e-5, "three classes: {error}");
    }
}

/// Those of each group of channels.
fn losses(task: &dyn Task) -> Vec<Vec<(LossKind, f32)>> {
    task.head().groups.into_iter().map(|group| group.losses).collect()
}

#[test]
fn losses_are_combined_by_weight() {
    let of = |text: &str| losses(&*task(text, 3));
    let both = vec![(LossKind::BceWithLogits, 1.0), (LossKind::Dice, 0.5)];
    for kind in ["foreground", "affinities"] {
        let one = of(&format!(r#"{{"kind": "{kind}", "loss": "dice"}}"#));
        assert_eq!(one, [[(LossKind::Dice, 1.0)]]);
        let sum = of(&format!(
            r#"{{"kind": "{kind}", "loss": {{"bce": 1, "dice": 0.5}}}}"#
        ));
        assert_eq!(sum, vec![both.clone()]);
    }
    let hot = of(r#"{"kind": "hot_distance", "loss": {"bce": 1, "dice": 0.5}}"#);
    assert_eq!(hot, [both, vec![(LossKind::Mse, 1.0)]]);
    assert_eq!(
        of(r#"{"kind": "foreground", "loss": "mse"}"#),
        [[(LossKind::MseOfSigmoid, 1.0)]]
    );
    assert_eq!(
        of(r#"{"kind": "one_hot", "loss": "mse"}"#),
        [[(LossKind::Mse, 1.0)]]
    );
    let one_hot = of(r#"{"kind": "one_hot", "loss": {"cross_entropy": 2, "dice": 1}}"#);
    assert_eq!(one_hot, [[(LossKind::CrossEntropy, 2.0), (LossKind::Dice, 1.0)]]);
    for (kind, loss, expected) in [
        ("foreground", "{}", "loss holds 0"),
        ("affinities", r#"{"bce": -1}"#, "loss.bce holds -1"),
        ("one_hot", r#"{"cross_entropy": 0}"#, "loss holds 0"),
    ] {
        let config: TaskConfig =
            serde_json::from_str(&format!(r#"{{"kind": "{kind}", "loss": {loss}}}"#)).unwrap();
        let error = config.build(3).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn classes_and_their_distances_have_channels_of_their_own() {
    let classes: Array3<u64> = read::<_, Ix3>("maps", "classes3");
    let known = Array3::from_elem(classes.raw_dim(), true);
    let names = r#""classes": [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}]"#;
    let one_hot = task(&format!(r#"{{"kind": "one_hot", {names}}}"#), 3);
    let found = targets(&*one_hot, &classes, &known, [4.0; 3], false);
    let expected = read::<u8, Ix4>("maps", "onehot.target").mapv(f32::from);
    assert_eq!(found.target, expected);
    assert_eq!(one_hot.head().channel_names(), ["background", "a", "b"]);
    let hot = task(&format!(r#"{{"kind": "hot_distance", {names}, "scale": 20}}"#), 3);
    assert_eq!(hot.head().channel_names(), ["a", "b", "a distance", "b distance"]);
    assert_eq!(
        losses(&*hot),
        [[(LossKind::BceWithLogits, 1.0)], [(LossKind::Mse, 1.0)]]
    );
    let both = targets(&*hot, &classes, &known, [4.0; 3], false);
    for (class, id) in [(0, 1), (1, 2)] {
        let single = task(r#"{"kind": "distance", "scale": 20}"#, 3);
        let alone = classes.mapv(|label| u64::from(label == id));
        let single = targets(&*single, &alone, &known, [4.0; 3], false);
        let distance =
            |targets: &Array4<f32>, channel: usize| targets.index_axis(Axis(0), channel).to_owned();
        assert_eq!(distance(&both.target, 2 + class), distance(&single.target, 0));
        assert_eq!(distance(&both.weight, 2 + class), distance(&single.weight, 0));
        assert_eq!(distance(&both.target, class), alone.mapv(|label| label as f32));
    }
}

#[test]
fn images_have_distances_within_their_plane() {
    let labels = read::<u64, Ix2>("maps", "labels2d").insert_axis(Axis(0));
    let task = task(r#"{"kind": "distance", "scale": 20, "mask_distances": false}"#, 2);
    // An axis that is not there has no context, whatever its voxel size.
    assert_eq!(task.label_context([1.0, 4.0, 4.0]).0, [0, 7, 7]);
    let found = targets(
        &*task,
        &labels,
        &Array3::from_elem(labels.raw_dim(), true),
        [1.0, 4.0, 4.0],
        false,
    );
    let expected = read::<f32, Ix4>("maps", "distance_2d.target");
    // In the middle, which is nearer to its own borders than to those outside.
    let error = worst(&found.target, &expected, |_, _, y, x| {
        let to_end = (y.min(23 - y)).min(x.min(23 - x)) as f32 * 4.0;
        f64::from(expected[[0, 0, y, x]]).abs() < f64::from(to_end / 20.0).tanh()
    });
    assert!(error < 1e-5, "{error}");
}

#[test]
fn what_is_not_annotated_hides_borders_and_a_context_shows_them() {
    let task = task(r#"{"kind": "distance", "scale": 10, "weights": "uniform"}"#, 2);
    let size = [1.0; 3];
    let (before, _) = task.label_context(size);
    assert_eq!(before, [0, 12, 12]);
    let mut labels = Array3::zeros((1, 25, 64));
    labels.slice_mut(s![.., .., ..30]).fill(5);
    let mut known = Array3::from_elem(labels.raw_dim(), true);
    known.slice_mut(s![.., .., 40..]).fill(false);
    let found = task
        .targets(Annotation {
            labels: labels.view(),
            known: known.view(),
            voxel_size: size,
        })
        .unwrap();
    assert_eq!(found.target.shape(), [1, 1, 1, 40]);
    for x in 0..40 {
        // In the row, the label ends between voxels 29 and 30, and what is known between 39 and 40: crop voxel 27.5.
        let distance = 17.5 - x as f32;
        assert!((found.target[[0, 0, 0, x]] - (distance / 10.0).tanh()).abs() < 1e-6 || x > 27);
        // Up to the middle between border and unknown, distances are certain; far from both, they do not matter.
        let to_unknown = 27.5 - x as f32;
        let is_certain = x < 28 && (distance.abs() < to_unknown || distance > 11.0);
        // The rows end 12.5 above and below.
        let expected = f32::from(u8::from(
            is_certain && (distance.abs() < 12.5) || x < 28 && distance.abs() > 11.0,
        ));
        assert_eq!(found.weight[[0, 0, 0, x]], expected, "{x}");
    }
    // Within objects that touch, the border counts only where instances are asked for.
    let row = [1, 1, 1, 2, 2, 2, 0, 0];
    let touching = Array3::from_shape_fn((1, 15, 8), |(_, _, x)| row[x]);
    let of = |config: &str| {
        let task = self::task(config, 2);
        targets(&*task, &touching, &touching.mapv(|_| true), [1.0, 1.0, 2.0], true).target
    };
    let borders = of(r#"{"kind": "inner_distance", "scale": 1000, "instances": true}"#);
    let merged = of(r#"{"kind": "inner_distance", "scale": 1000}"#);
    assert!(borders[[0, 0, 7, 2]] < merged[[0, 0, 7, 2]]);
    assert_eq!(borders[[0, 0, 7, 5]], merged[[0, 0, 7, 5]]);
    assert!(borders.iter().chain(&merged).all(|&value| value >= 0.0));
}

#[test]
fn without_any_border_distances_are_far_and_not_half_the_volume() {
    // DaCapo has half the shortest edge there, which no border is at, and lets none of it count.
    for (case, label) in [("distance_all0", 0), ("distance_all1", 1)] {
        assert!(
            read::<f32, Ix4>("maps", &format!("{case}.weight"))
                .iter()
                .all(|&weight| weight == 0.0)
        );
        let labels = Array3::from_elem((24, 24, 24), label);
        let known = labels.mapv(|_| true);
        let task = task(r#"{"kind": "distance", "scale": 5}"#, 3);
        let (before, _) = task.label_context([4.0; 3]);
        let all = Array3::from_elem([0, 1, 2].map(|a: usize| 24 + 2 * before[a]), label);
        let known_all = all.mapv(|_| true);
        let found = task
            .targets(Annotation {
                labels: all.view(),
                known: known_all.view(),
                voxel_size: [4.0; 3],
            })
            .unwrap();
        let sign = if label == 0 { -1.0 } else { 1.0 };
        assert!(found.target.iter().all(|&value| value == sign));
        assert!(found.weight.iter().all(|&weight| weight > 0.0), "{case}");
        let nothing = targets(&*task, &labels, &known.mapv(|_| false), [4.0; 3], false);
        assert!(nothing.weight.iter().all(|&weight| weight == 0.0));
    }
}

#[test]
fn segments_and_scores_are_of_the_classes() {
    let classes: Array3<u64> = read::<_, Ix3>("maps", "classes3");
    let known = classes.mapv(|_| true);
    let truth = Annotation {
        labels: classes.view(),
        known: known.view(),
        voxel_size: [4.0; 3],
    };
    let names = r#""classes": [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}]"#;
    for (kind, parameters) in [
        ("one_hot", "argmax()"),
        ("foreground", "threshold(threshold=0.5)"),
        ("distance", "threshold(threshold=0)"),
        ("inner_distance", "threshold(threshold=0.02)"),
        ("hot_distance", "threshold(threshold=0)"),
    ] {
        let task = task(&format!(r#"{{"kind": "{kind}", {names}}}"#), 3);
        let ideal = targets(&*task, &classes, &known, [4.0; 3], true).target;
        let mut seen = Vec::new();
        task.sweep(ideal.view(), None, &mut |set, segments| {
            assert_eq!(*segments, task.segment(ideal.view(), None, set)?);
            seen.push(*set);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, task.parameters(), "{kind}");
        let segments = task
            .segment(ideal.view(), None, &parameters.parse().unwrap())
            .unwrap();
        assert_eq!(segments, classes, "{kind}");
        let scores = task.evaluate(truth, segments.view()).unwrap().0;
        let named: Vec<String> = task
            .criteria()
            .iter()
            .map(|criterion| criterion.name.to_string())
            .collect();
        assert_eq!(named.len(), 3 * BINARY_CRITERIA.len());
        let mut sorted = named.clone();
        sorted.sort();
        assert!(scores.keys().eq(&sorted), "{kind}");
        assert_eq!(
            (scores["dice"], scores["a.dice"], scores["b.hausdorff"]),
            (Some(1.0), Some(1.0), Some(0.0))
        );
        assert_eq!(task.default_criterion().name, "dice");
        // One class wrong, the other missing: a mean of what is defined.
        let wrong = classes.mapv(|class| u64::from(class == 1));
        let scores = task.evaluate(truth, wrong.view()).unwrap().0;
        assert_eq!(
            (scores["a.dice"], scores["b.dice"], scores["dice"]),
            (Some(1.0), Some(0.0), Some(0.5))
        );
        assert_eq!((scores["b.precision"], scores["precision"]), (None, Some(1.0)));
        // What is not known does not count.
        let partly = classes.mapv(|class| class != 2);
        let partial = Annotation {
            known: partly.view(),
            ..truth
        };
        let scores = task.evaluate(partial, wrong.view()).unwrap().0;
        assert_eq!(
            (scores["a.dice"], scores["b.dice"], scores["dice"]),
            (Some(1.0), None, Some(1.0))
        );
        // Outside of a mask is nothing.
        let mask = classes.mapv(|class| class == 2);
        let segments = task
            .segment(ideal.view(), Some(mask.view()), &parameters.parse().unwrap())
            .unwrap();
        assert_eq!(segments, classes.mapv(|class| if class == 2 { 2 } else { 0 }));
        let other = "agglomerate(threshold=0.5)".parse().unwrap();
        assert!(
            matches!(
                task.segment(ideal.view(), None, &other),
                Err(Error::Method { .. })
            ),
            "{kind}"
        );
    }
}

#[test]
fn instances_are_told_apart_by_their_distances() {
    let labels = Array3::from_shape_fn((8, 12, 24), |(_, y, x)| if y < 2 { 0 } else { 1 + x as u64 / 8 });
    let known = labels.mapv(|_| true);
    for kind in ["distance", "inner_distance", "hot_distance"] {
        let task = task(
            &format!(r#"{{"kind": "{kind}", "instances": true, "scale": 4, "thresholds": [0.3]}}"#),
            3,
        );
        let mut ideal = targets(&*task, &labels, &known, [1.0; 3], true).target;
        ideal.mapv_inplace(|value| value * 0.99);
        let truth = Annotation {
            labels: labels.view(),
            known: known.view(),
            voxel_size: [1.0; 3],
        };
        task.sweep(ideal.view(), None, &mut |_, segments| {
            let mut numbers: Vec<u64> = segments.iter().copied().collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers, [0, 1, 2, 3], "{kind}");
            let scores = task.evaluate(truth, segments.view())?.0;
            assert!(
                scores["voi_merge"].unwrap() < scores["voi_split"].unwrap(),
                "{kind}"
            );
            Ok(())
        })
        .unwrap();
        assert_eq!(task.default_criterion().name, "voi");
    }
}

#[test]
fn configs_that_mean_nothing_are_refused_by_name() {
    for (config, name) in [
        (r#"{"kind": "distance", "scale": 0}"#, "scale"),
        (r#"{"kind": "distance", "scale": -3}"#, "scale"),
        (
            r#"{"kind": "distance", "thresholds": [1.5]}"#,
            "thresholds holds 1.5",
        ),
        (
            r#"{"kind": "inner_distance", "thresholds": [-0.1]}"#,
            "thresholds holds -0.1",
        ),
        (
            r#"{"kind": "foreground", "thresholds": [127]}"#,
            "between 0 and 1",
        ),
        (r#"{"kind": "foreground", "thresholds": []}"#, "parameters"),
        (r#"{"kind": "foreground", "classes": []}"#, "classes"),
        (r#"{"kind": "foreground", "classes": [{"name": ""}]}"#, "name"),
        (r#"{"kind": "foreground", "classes": [{"name": "a/b"}]}"#, "a/b"),
        (
            r#"{"kind": "one_hot", "classes": [{"name": "a"}, {"name": "b", "ids": [1]}]}"#,
            "ids",
        ),
        (
            r#"{"kind": "one_hot", "classes": [{"name": "a", "ids": [1, 2]}, {"name": "b", "ids": [2]}]}"#,
            "id 2",
        ),
        (
            r#"{"kind": "one_hot", "classes": [{"name": "a", "ids": [1]}, {"name": "a", "ids": [2]}]}"#,
            "twice",
        ),
        (
            r#"{"kind": "one_hot", "classes": [{"name": "a", "ids": [0]}]}"#,
            "background",
        ),
        (
            r#"{"kind": "distance", "instances": true, "classes": [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}]}"#,
            "one class",
        ),
        (
            r#"{"kind": "one_hot", "evaluation": {"tolerance": -1}}"#,
            "evaluation.tolerance",
        ),
        (
            r#"{"kind": "one_hot", "weights": {"balanced": {"clip_min": 0}}}"#,
            "clip_min",
        ),
    ] {
        let config: TaskConfig = serde_json::from_str(config).unwrap();
        let error = config.build(3).err().unwrap().to_string();
        assert!(error.contains(name), "{config:?}: {error}");
        assert!(matches!(config.build(1), Err(Error::Dims { dims: 1 })));
    }
    for kind in [
        "distance",
        "inner_distance",
        "hot_distance",
        "one_hot",
        "foreground",
    ] {
        let config: TaskConfig = serde_json::from_str(&format!(r#"{{"kind": "{kind}"}}"#)).unwrap();
        let task = config.build(3).unwrap();
        let channels = task.head().channels();
        let prediction = Array4::zeros((channels + 1, 2, 3, 4));
        assert!(
            task.sweep(prediction.view(), None, &mut |_, _| Ok(())).is_err(),
            "{kind}"
        );
        let prediction = Array4::zeros((channels, 2, 3, 4));
        let mask = Array3::from_elem((2, 3, 3), true);
        assert!(
            task.sweep(prediction.view(), Some(mask.view()), &mut |_, _| Ok(()))
                .is_err(),
            "{kind}"
        );
        let empty = Array4::zeros((channels, 0, 3, 4));
        task.sweep(empty.view(), None, &mut |_, segments| {
            assert!(segments.is_empty());
            Ok(())
        })
        .unwrap();
        let labels = Array3::zeros((2, 2, 2));
        let known = Array3::from_elem((2, 2, 3), true);
        let annotation = Annotation {
            labels: labels.view(),
            known: known.view(),
            voxel_size: [1.0; 3],
        };
        assert!(task.targets(annotation).is_err() && task.evaluate(annotation, labels.view()).is_err());
        assert!(
            serde_json::from_str::<TaskConfig>(&format!(r#"{{"kind": "{kind}", "class": []}}"#)).is_err()
        );
    }
}
