//! Every task trains from its example, on less data: its best score passes a bar that the untrained network misses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::path::Path;

use dacapo::array::{ArrayRead, ArrayReadExt, DType};
use dacapo::config::{ArchitectureConfig, Format};
use dacapo::{LocalStore, RunConfig, TrainOptions, parse_config, train};
use dacapo_nn::CpuEngine;
use dacapo_store::{ArrayStore, StatsStore};
use dacapo_tasks::{PredictionType, Task, TaskConfig};

/// An example with a network and a volume that are small.
fn example(name: &str, dir: &Path, iterations: u64) -> RunConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    let container = dir.join("synthetic.zarr").display().to_string();
    let mut config = parse_config(&text.replace("synthetic.zarr", &container), Format::Yaml, &path).unwrap();
    assert_eq!(config.name, name);
    let mut made = config.data.synthetic.clone().unwrap();
    made.shape = [32, 48, 72];
    config.data.synthetic = Some(made);
    let roi = |text: &str| Some(serde_json::from_str(text).unwrap());
    config.data.train[0].roi = roi(r#"{"offset": [0, 0, 0], "shape": [256, 384, 384]}"#);
    config.data.validate[0].roi = roi(r#"{"offset": [0, 0, 384], "shape": [256, 384, 192]}"#);
    let architecture = r#"{"kind": "unet", "input_shape": [24, 24, 24], "num_fmaps": 6, "fmap_inc_factor": 2,
        "downsample_factors": [[2, 2, 2]], "padding": "same", "norm": "group"}"#;
    config.architecture = serde_json::from_str(architecture).unwrap();
    config.num_iterations = iterations;
    config.trainer.optimizer.learning_rate = 1e-2;
    config.trainer.schedule.warmup = 5;
    config.trainer.snapshot_interval = 0;
    config.validation.interval = iterations;
    config.validation.untrained = true;
    config
}

/// The best scores of the untrained and the trained network by the deciding criterion.
fn scores(config: &RunConfig, store: &LocalStore, task: &dyn Task) -> [f64; 2] {
    train(
        store,
        config,
        &CpuEngine::new(Some(2)).unwrap(),
        &(),
        &TrainOptions::default(),
    )
    .unwrap();
    let criterion = task.default_criterion();
    let found = store.stats.scores(&config.name).unwrap();
    [0, config.num_iterations].map(|iteration| {
        let of_iteration = found.iter().filter(|score| score.iteration == iteration);
        let scores = of_iteration.filter_map(|score| score.scores[&*criterion.name]);
        let best = scores.reduce(|a, b| {
            if criterion.higher_is_better {
                a.max(b)
            } else {
                a.min(b)
            }
        });
        best.unwrap_or(if criterion.higher_is_better {
            0.0
        } else {
            f64::INFINITY
        })
    })
}

fn learns(name: &str, iterations: u64, bar: f64) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("runs"));
    let config = example(name, dir.path(), iterations);
    let task = config.task.build(3).unwrap();
    let [untrained, trained] = scores(&config, &store, &*task);
    let is_past = |score: f64| {
        if task.default_criterion().higher_is_better {
            score > bar
        } else {
            score < bar
        }
    };
    assert!(
        is_past(trained) && !is_past(untrained),
        "{name}: {untrained} untrained, {trained} trained, the bar is {bar}"
    );
    // What is stored is in the task's own range, which stands beside it.
    let arrays = &store.arrays;
    let validation = &config.data.validate[0].name;
    let prediction = arrays
        .validation_prediction_array(name, iterations, validation)
        .unwrap();
    let prediction = arrays.open(&prediction).unwrap();
    assert_eq!(prediction.spec().channels, [task.head().channels()]);
    let range = task.prediction_range();
    let written = prediction.attributes().get("value_range").cloned();
    match task.prediction_dtype() {
        PredictionType::U8 => {
            assert_eq!(prediction.spec().dtype, DType::U8);
            assert_eq!(written, Some(serde_json::json!([range.min(), range.max()])));
        }
        PredictionType::F32 => assert_eq!((prediction.spec().dtype, written), (DType::F32, None)),
    }
}

#[test]
fn affinities_are_learned() {
    learns("synthetic", 40, 2.0);
}

/// Two steps of the example's own network, on the crop of the data that is here.
#[test]
fn the_example_of_real_neurons_trains() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("examples/fib25.yaml");
    let fixture = root.join("tests/fixtures/fib25_96.zarr");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("fib25.zarr/sample2", &fixture.display().to_string());
    let mut config = parse_config(&text, Format::Yaml, &path).unwrap();
    let roi = |text: &str| Some(serde_json::from_str(text).unwrap());
    config.data.train[0].roi = roi(r#"{"offset": [720, 800, 800], "shape": [480, 960, 960]}"#);
    config.data.validate[0].roi = roi(r#"{"offset": [1200, 800, 800], "shape": [320, 320, 320]}"#);
    let ArchitectureConfig::Unet(unet) = &mut config.architecture;
    unet.input_shape = vec![32; 3];
    config.num_iterations = 2;
    config.validation.interval = 2;
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path());
    let task = config.task.build(3).unwrap();
    scores(&config, &store, &*task);
    let found = store.stats.scores("fib25").unwrap();
    assert!(found.iter().any(|score| score.iteration == 2));
}

/// Every example is trained by a test of this file.
#[test]
fn every_example_is_trained() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let tests = include_str!("tasks.rs");
    for example in std::fs::read_dir(examples).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".yaml") {
            let is_trained = tests.contains(&format!("learns(\"{name}\"")) || name == "fib25";
            assert!(is_trained, "{name}");
        }
    }
}

#[test]
fn signed_distances_are_learned() {
    learns("distance", 90, 0.5);
}

#[test]
fn inner_distances_are_learned() {
    learns("inner_distance", 90, 3.0);
}

#[test]
fn classes_and_distances_are_learned_side_by_side() {
    learns("hot_distance", 90, 0.5);
}

#[test]
fn classes_that_exclude_each_other_are_learned() {
    learns("one_hot", 40, 0.6);
}

#[test]
fn foreground_is_learned_class_by_class() {
    learns("foreground", 40, 0.6);
}

#[test]
fn shapes_are_learned_beside_affinities() {
    learns("lsds", 40, 2.0);
}

#[test]
fn distances_are_stored_as_floats_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("runs"));
    let mut config = example("distance", dir.path(), 2);
    let TaskConfig::Distance(task) = &mut config.task else {
        panic!("{:?}", config.task);
    };
    task.store_prediction_as = PredictionType::F32;
    let task = config.task.build(3).unwrap();
    scores(&config, &store, &*task);
    let prediction = store
        .arrays
        .validation_prediction_array("distance", 2, "back")
        .unwrap();
    let prediction = store.arrays.open(&prediction).unwrap();
    assert_eq!(prediction.spec().dtype, DType::F32);
    assert!(prediction.attributes().get("value_range").is_none());
    let values = prediction.read_as::<f32>(&prediction.spec().roi.clone()).unwrap();
    assert!(values.iter().any(|&value| value < 0.0));
}
