//! Its tasks in our words: what each becomes, and that it trains.

use dacapo::array::storage::Access;
use dacapo::array::{ArrayRead, CreateOptions, ZarrArray};
use serde_json::{Value, json};

use crate::imports::SIMPLE;
use crate::{Original, RUN};

/// The keys of the fixture's task.
const AFFINITIES: &str = "task_config:
  __type__: AffinitiesTaskConfig
  affs_weight_clipmax: 0.95
  affs_weight_clipmin: 0.05
  background_as_object: false
  downsample_lsds: 1
  lsd_weight_clipmax: 0.95
  lsd_weight_clipmin: 0.05
  lsds: false
  lsds_to_affs_weight_ratio: 1
  name: affs
  neighborhood:
  - !!python/tuple
    - 1
    - 0
    - 0
  - !!python/tuple
    - 0
    - 1
    - 0
  - !!python/tuple
    - 0
    - 0
    - 1
  num_lsd_voxels: 10
";

/// A dataset whose labels are the channels of two groups of ids.
const BINARIZED: &str = "  __type__: TrainValidateDataSplitConfig
  name: binarized
  train_configs:
  - __type__: RawGTDatasetConfig
    gt_config:
      __type__: BinarizeArrayConfig
      background: 0
      groupings:
      - !!python/tuple
        - left
        - - 1
      - !!python/tuple
        - right
        - - 2
      name: groups
      source_array_config:
        __type__: ZarrArrayConfig
        _axes: null
        dataset: train/crop1/labels
        file_name: data/instance.zarr
        mode: a
        name: labels
        snap_to_grid: null
    mask_config: null
    name: a
    raw_config:
      __type__: IntensitiesArrayConfig
      max: 255.0
      min: 0.0
      name: scaled
      source_array_config:
        __type__: ZarrArrayConfig
        _axes: null
        dataset: train/crop1/raw
        file_name: data/instance.zarr
        mode: a
        name: raw
        snap_to_grid: null
    sample_points: null
    weight: 1
  validate_configs: []
";

const DISTANCE: &str = "  clip_distance: 50.0
  mask_distances: true
  name: distances
  scale_factor: 20.0
  tol_distance: 4.0
";

/// The fixture's config with another task.
fn with(task: &str, datasplit: &str) -> Original {
    let original = Original::new();
    original.label();
    original.edit_config(SIMPLE, datasplit);
    original.edit_config(AFFINITIES, &format!("task_config:\n{task}"));
    original
}

/// The task in our words, after it trained a step; with what was noted.
fn trained(task: &str, datasplit: &str) -> (Value, Vec<String>) {
    let original = with(task, datasplit);
    let imported = original.import();
    assert_eq!(imported.problems, Vec::<String>::new());
    let mut config = imported.config.unwrap();
    config.num_iterations = 1;
    original.train(&config);
    (serde_json::to_value(&config.task).unwrap(), imported.notes)
}

fn has(notes: &[String], text: &str) -> bool {
    notes.iter().any(|note| note.contains(text))
}

#[test]
fn distances_of_the_groups_of_its_labels() {
    for (theirs, ours) in [
        ("DistanceTaskConfig", "distance"),
        ("InnerDistanceTaskConfig", "inner_distance"),
        ("HotDistanceTaskConfig", "hot_distance"),
    ] {
        let task = format!(
            "  __type__: {theirs}\n  channels:\n  - left side\n  - right\n  kernel_size: 3\n{DISTANCE}"
        );
        let (task, notes) = trained(&task, BINARIZED);
        assert_eq!(task["kind"], ours);
        assert_eq!(
            task["classes"],
            json!([{ "name": "left_side", "ids": [1] }, { "name": "right", "ids": [2] }])
        );
        assert_eq!(
            (&task["scale"], &task["mask_distances"]),
            (&json!(20.0), &json!(true))
        );
        assert_eq!(task["evaluation"], json!({ "tolerance": 4.0, "clip": 50.0 }));
        assert_eq!(
            task["weights"],
            json!({ "balanced": { "clip_min": 0.05, "clip_max": 0.95 } })
        );
        assert!(has(&notes, "\"left side\" is called left_side here"), "{notes:?}");
        assert!(has(&notes, "the last layer sees one voxel here"), "{notes:?}");
    }
}

#[test]
fn distances_of_objects_and_of_channels_with_ids() {
    let task = format!(
        "  __type__: DistanceTaskConfig\n  channels:\n  - cells\n  clipmax: 0.9\n  clipmin: 0.1\n{DISTANCE}"
    );
    let (task, notes) = trained(&task, SIMPLE);
    assert_eq!(task["classes"], json!([{ "name": "cells", "ids": [] }]));
    assert_eq!(
        task["weights"],
        json!({ "balanced": { "clip_min": 0.1, "clip_max": 0.9 } })
    );
    assert!(has(&notes, "borders between labels that touch"), "{notes:?}");

    let channels = "  channels:\n  - !!python/tuple\n    - left\n    - - 1\n  - !!python/tuple\n    - right\n    - - 2\n";
    let (task, _) = trained(
        &format!("  __type__: DistanceTaskConfig\n{channels}{DISTANCE}"),
        SIMPLE,
    );
    assert_eq!(
        task["classes"],
        json!([{ "name": "left", "ids": [1] }, { "name": "right", "ids": [2] }])
    );
}

#[test]
fn classes_that_exclude_each_other() {
    let task = |classes: &[&str]| {
        let classes: String = classes.iter().map(|name| format!("  - {name}\n")).collect();
        format!("  __type__: OneHotTaskConfig\n  classes:\n{classes}  kernel_size: 1\n  name: classes\n")
    };
    let expected = json!([{ "name": "left", "ids": [1] }, { "name": "right", "ids": [2] }]);
    for (classes, datasplit) in [
        (&["nothing", "left", "right"][..], SIMPLE),
        (&["nothing", "left", "right"], BINARIZED),
        (&["left", "right"], BINARIZED),
    ] {
        let (task, notes) = trained(&task(classes), datasplit);
        assert_eq!((&task["kind"], &task["classes"]), (&json!("one_hot"), &expected));
        assert!(has(&notes, "becomes the channel `background`"), "{notes:?}");
    }
    let refused = with(&task(&["one", "two", "three", "four"]), BINARIZED).import();
    assert!(
        has(
            &refused.problems,
            "task_config.classes names 4 classes, but the labels have 2"
        ),
        "{:?}",
        refused.problems
    );
}

#[test]
fn affinities_with_shape_descriptors() {
    let lsds = AFFINITIES
        .replace("task_config:\n", "")
        .replace("lsds: false", "lsds: true")
        .replace("num_lsd_voxels: 10", "num_lsd_voxels: 4");
    let (task, _) = trained(&lsds, SIMPLE);
    assert_eq!(
        task["lsds"],
        json!({ "num_voxels": 4.0, "downsample": 1, "loss_weight": 1.0 })
    );
}

#[test]
fn a_task_that_was_trained_before_begins_with_its_weights() {
    let weights = format!("runs_base_dir/{RUN}/checkpoints/iterations/10");
    let sub = AFFINITIES
        .replace("task_config:", "sub_task_config:")
        .replace('\n', "\n  ");
    let task = |weights: &str| {
        let sub = sub.trim_end();
        format!("  __type__: PretrainedTaskConfig\n  name: pretrained\n  {sub}\n  weights: {weights}\n")
    };
    let original = with(&task(&weights), SIMPLE);
    let imported = original.import();
    assert_eq!(imported.problems, Vec::<String>::new());
    let start = serde_json::to_value(imported.config.unwrap().start).unwrap();
    assert_eq!(start["file"], json!(original.root().join(&weights)));

    let refused = with(&task("elsewhere/10"), SIMPLE).import();
    assert!(
        has(
            &refused.problems,
            "task_config.weights: elsewhere/10 is not there"
        ),
        "{:?}",
        refused.problems
    );
}

#[test]
fn channels_that_the_labels_do_not_have_are_told() {
    let task = format!("  __type__: DistanceTaskConfig\n  channels:\n  - a\n  - b\n{DISTANCE}");
    let refused = with(&task, SIMPLE).import();
    assert!(
        has(
            &refused.problems,
            "task_config.channels names 2 classes, but the labels have 1"
        ),
        "{:?}",
        refused.problems
    );
}

#[test]
fn channels_of_a_file_of_labels_become_classes() {
    let original = Original::new();
    original.label();
    let mut spec = original.labels().spec().clone();
    spec.channels = vec![2];
    spec.axis_names.insert(0, "c^".to_owned());
    let two = format!("{}/data/two.zarr/labels", original.root().display());
    let options = CreateOptions::default();
    ZarrArray::create(&two.parse().unwrap(), &Access::default(), &spec, &options).unwrap();
    let begin = BINARIZED.find("      __type__: BinarizeArrayConfig").unwrap();
    let end = BINARIZED.find("    mask_config:").unwrap();
    let file = "      __type__: ZarrArrayConfig\n      dataset: labels\n      file_name: data/two.zarr\n";
    original.edit_config(SIMPLE, &BINARIZED.replace(&BINARIZED[begin..end], file));
    let imported = original.import();
    assert_eq!(imported.problems, Vec::<String>::new());
    let found = serde_json::to_value(&imported.config.unwrap().data).unwrap();
    let of = |channel: usize| json!({ "source": two, "channels": [channel] });
    assert_eq!(found["train"][0]["labels"], json!({ "layers": [of(0), of(1)] }));
}
