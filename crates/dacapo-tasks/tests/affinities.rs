//! The affinities task: targets and weights beside DaCapo's, its sweep, its texts and its bad input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::File;

use dacapo_tasks::*;
use ndarray::{Array, Array3, Array4, Axis, Dimension, Ix2, Ix3, Ix4, s};
use ndarray_npy::{NpzReader, ReadableElement};

fn read<T: ReadableElement, D: Dimension>(name: &str) -> Array<T, D> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/affinities.npz");
    NpzReader::new(File::open(path).unwrap())
        .unwrap()
        .by_name(name)
        .unwrap()
}

fn neighborhood(text: &str) -> Vec<Vec<i64>> {
    serde_json::from_str(text).unwrap()
}

fn task(neighborhood: Vec<Vec<i64>>, dims: usize) -> Box<dyn Task> {
    let config = AffinitiesTaskConfig {
        neighborhood,
        ..AffinitiesTaskConfig::default()
    };
    TaskConfig::Affinities(config).build(dims).unwrap()
}

fn annotation<'a>(labels: &'a Array3<u64>, known: &'a Array3<bool>) -> Annotation<'a> {
    Annotation {
        labels: labels.view(),
        known: known.view(),
        voxel_size: [1.0; 3],
    }
}

/// The labels with a margin of `outside`, and what is known of them; the margin counts as known, for DaCapo
/// knows no such thing.
fn grown<T: Copy>(inner: &Array3<T>, task: &dyn Task, outside: T) -> Array3<T> {
    let (before, after) = task.label_context([1.0; 3]);
    let shape: Vec<usize> = (0..3).map(|a| before[a] + inner.shape()[a] + after[a]).collect();
    let mut all = Array3::from_elem([shape[0], shape[1], shape[2]], outside);
    let mut window = all.view_mut();
    window.slice_each_axis_inplace(|axis| {
        let a = axis.axis.index();
        (before[a]..before[a] + inner.shape()[a]).into()
    });
    window.assign(inner);
    all
}

#[test]
fn targets_and_weights_are_those_of_dacapo() {
    let labels: Array3<u64> = read::<_, Ix3>("labels");
    let flat = read::<u64, Ix2>("labels2d").insert_axis(Axis(0));
    let everywhere = Array3::from_elem(labels.raw_dim(), true);
    let mask: Array3<bool> = read::<_, Ix3>("mask");
    let near = "[[1,0,0],[0,1,0],[0,0,1]]";
    let far = "[[1,0,0],[0,1,0],[0,0,1],[3,0,0],[0,3,0],[0,0,3],[9,0,0],[0,9,0],[0,0,9]]";
    let back = "[[-1,0,0],[0,-1,0],[0,0,-1],[-2,3,1]]";
    let clip = AffinityWeights::Balanced {
        clip_min: 0.3,
        clip_max: 0.6,
    };
    let usual = AffinityWeights::default();
    let cases = [
        ("affs3", near, &labels, &everywhere, &usual, false),
        ("affs9", far, &labels, &everywhere, &usual, false),
        ("affs_neg", back, &labels, &everywhere, &usual, false),
        (
            "affs3_dense",
            near,
            &read::<_, Ix3>("labels_dense"),
            &everywhere,
            &usual,
            false,
        ),
        ("affs3_masked", near, &labels, &mask, &usual, false),
        ("affs3_bg_as_object", near, &labels, &everywhere, &usual, true),
        ("affs3_clip", near, &labels, &everywhere, &clip, false),
        (
            "affs2d",
            "[[1,0],[0,1],[2,-1]]",
            &flat,
            &Array3::from_elem(flat.raw_dim(), true),
            &usual,
            false,
        ),
        (
            "affs_empty",
            near,
            &Array3::zeros(labels.raw_dim()),
            &everywhere,
            &usual,
            false,
        ),
        (
            "affs_one_label",
            near,
            &Array3::ones(labels.raw_dim()),
            &everywhere,
            &usual,
            false,
        ),
    ];
    for (case, offsets, labels, known, weights, background_as_object) in cases {
        let config = AffinitiesTaskConfig {
            neighborhood: neighborhood(offsets),
            weights: weights.clone(),
            background_as_object,
            ..AffinitiesTaskConfig::default()
        };
        let dims = config.neighborhood[0].len();
        let task = TaskConfig::Affinities(config.clone()).build(dims).unwrap();
        // Outside, nothing belongs to anything: a label of its own.
        let labels = grown(labels, &*task, u64::MAX);
        let known = grown(known, &*task, true);
        let found = task.targets(annotation(&labels, &known)).unwrap();
        assert_eq!(
            found.target.mapv(|value| value as u8),
            read::<u8, Ix4>(&format!("{case}.target")),
            "{case}"
        );
        let mut expected: Array4<f32> = read::<_, Ix4>(&format!("{case}.weight"));
        // DaCapo only asks whether the first voxel of a pair is known.
        let (before, _) = task.label_context([1.0; 3]);
        for ((c, z, y, x), weight) in expected.indexed_iter_mut() {
            let offset = &config.neighborhood[c];
            let offset = [
                if dims == 3 { offset[0] } else { 0 },
                offset[dims - 2],
                offset[dims - 1],
            ];
            let q: Vec<usize> = [z, y, x]
                .iter()
                .zip(before)
                .zip(offset)
                .map(|((p, b), o)| (p + b).wrapping_add_signed(o as isize))
                .collect();
            if !known[[q[0], q[1], q[2]]] {
                *weight = 0.0;
            }
        }
        let worst = found
            .weight
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-5, "{case}: {worst}");
    }
}

#[test]
fn boundaries_count_more_and_background_not_at_all() {
    let config: TaskConfig = serde_json::from_str(
        r#"{"kind": "affinities", "neighborhood": [[0, -1]], "weights": {"boundary": 3}}"#,
    )
    .unwrap();
    let task = config.build(2).unwrap();
    let labels = ndarray::array![[[5, 5, 6, 0, 0, 7, 7]]];
    let known = ndarray::array![[[false, true, true, true, true, true, true]]];
    let Targets { target, weight } = task.targets(annotation(&labels, &known)).unwrap();
    assert_eq!(
        target.iter().copied().collect::<Vec<_>>(),
        [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(
        weight.iter().copied().collect::<Vec<_>>(),
        [0.0, 3.0, 3.0, 0.0, 3.0, 1.0]
    );
}

#[test]
fn a_sweep_is_its_segmentations_and_finds_the_objects() {
    let truth = Array3::from_shape_fn((12, 30, 30), |(z, y, x)| {
        (1 + z / 6 + 2 * (y / 15) + 4 * (x / 15)) as u64
    });
    let task = TaskConfig::Affinities(AffinitiesTaskConfig::default())
        .build(3)
        .unwrap();
    let padded = grown(&truth, &*task, 0);
    let known = Array3::from_elem(padded.raw_dim(), true);
    let prediction = task
        .targets(annotation(&padded, &known))
        .unwrap()
        .target
        .mapv(|value| 0.1 + 0.8 * value);
    let everywhere = Array3::from_elem(truth.raw_dim(), true);
    let mut mask = everywhere.clone();
    mask.slice_mut(s![.., .., ..2]).fill(false);
    let mut seen = Vec::new();
    let mut best = f64::INFINITY;
    task.sweep(
        prediction.view(),
        Some(mask.view()),
        &mut |parameters, segments| {
            seen.push(*parameters);
            assert!(
                segments
                    .slice(s![.., .., ..2])
                    .iter()
                    .all(|&segment| segment == 0)
            );
            let scores = task.evaluate(annotation(&truth, &everywhere), segments.view())?.0;
            best = scores["voi"].unwrap().min(best);
            assert_eq!(
                scores["voi"].unwrap(),
                scores["voi_split"].unwrap() + scores["voi_merge"].unwrap()
            );
            assert_eq!(
                *segments,
                task.segment(prediction.view(), Some(mask.view()), parameters)?
            );
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen, task.parameters());
    assert!(best < 0.6, "{best}");
    let stopped = task.sweep(prediction.view(), None, &mut |_, _| Err(Error::Stopped));
    assert_eq!(stopped, Err(Error::Stopped));
    assert_eq!(
        task.evaluate(annotation(&truth.mapv(|_| 0), &everywhere), truth.view())
            .unwrap()
            .0["voi"],
        None
    );
}

#[test]
fn parameters_are_their_texts() {
    let mut all = task(neighborhood("[[1,0,0]]"), 3).parameters();
    all.push(PostProcessorParameters::Agglomerate { threshold: 0.1 + 0.2 });
    all.push(PostProcessorParameters::Threshold { threshold: -0.25 });
    all.push(PostProcessorParameters::Components { threshold: 0.75 });
    all.push(PostProcessorParameters::Argmax);
    for parameters in all {
        assert_eq!(parameters.to_string().parse(), Ok(parameters));
    }
    let text = "mutex_watershed(short=0.5, long=0.75)";
    assert_eq!(text.parse::<PostProcessorParameters>().unwrap().to_string(), text);
    for wrong in [
        "",
        "agglomerate",
        "agglomerate()",
        "agglomerate(threshold=x)",
        "agglomerate(threshold=NaN)",
        "agglomerate(threshold=2)",
        "agglomerate(bias=0.5)",
        "agglomerate(threshold=0.5, threshold=0.5)",
        "mutex_watershed(short=0.5)",
        "threshold(threshold=1.5)",
        "components()",
        "argmax(threshold=0.5)",
        "magic(threshold=0.5)",
    ] {
        assert!(wrong.parse::<PostProcessorParameters>().is_err(), "{wrong}");
    }
}

#[test]
fn configs_that_mean_nothing_are_refused_by_name() {
    for (config, name) in [
        (r#"{"neighborhood": []}"#, "neighborhood"),
        (r#"{"neighborhood": [[0, 0, 0]]}"#, "neighborhood"),
        (r#"{"neighborhood": [[1, 0]]}"#, "neighborhood"),
        (r#"{"neighborhood": [[1, 0, 0], [1, 0, 0]]}"#, "neighborhood"),
        (
            r#"{"neighborhood": [[1, 0, -9223372036854775808]]}"#,
            "neighborhood",
        ),
        (r#"{"weights": {"boundary": 0}}"#, "weights.boundary"),
        (
            r#"{"weights": {"balanced": {"clip_min": 0}}}"#,
            "weights.balanced: clip_min",
        ),
        (
            r#"{"weights": {"balanced": {"clip_max": 1.5}}}"#,
            "weights.balanced: clip_max",
        ),
        (r#"{"post_processing": []}"#, "post_processing"),
        (r#"{"lsds": {"num_voxels": 0}}"#, "lsds.num_voxels"),
        (r#"{"lsds": {"downsample": 0}}"#, "lsds.downsample"),
        (r#"{"lsds": {"loss_weight": -1}}"#, "lsds.loss_weight"),
        (
            r#"{"post_processing": [{"method": "agglomerate", "thresholds": [1.5]}]}"#,
            "thresholds",
        ),
        (
            r#"{"post_processing": [{"method": "mutex_watershed", "biases": [[0.5, -1]]}]}"#,
            "biases",
        ),
    ] {
        let parsed: AffinitiesTaskConfig = serde_json::from_str(config).unwrap();
        let error = TaskConfig::Affinities(parsed).build(3).err().unwrap().to_string();
        assert!(error.contains(name), "{config}: {error}");
    }
    for (offsets, dims) in [("[[1, 0, 0]]", 2), ("[[1, 0]]", 1)] {
        let config = AffinitiesTaskConfig {
            neighborhood: neighborhood(offsets),
            ..AffinitiesTaskConfig::default()
        };
        assert!(TaskConfig::Affinities(config).build(dims).is_err(), "{offsets}");
    }
    assert!(serde_json::from_str::<TaskConfig>(r#"{"kind": "affinities", "neighbourhood": []}"#).is_err());
    let task = task(neighborhood("[[0,0,-1]]"), 3);
    let (labels, known) = (Array3::zeros((2, 2, 2)), Array3::from_elem((2, 2, 3), true));
    assert!(task.targets(annotation(&labels, &known)).is_err());
    let prediction = Array4::zeros((2, 2, 2, 2));
    assert!(task.sweep(prediction.view(), None, &mut |_, _| Ok(())).is_err());
}
