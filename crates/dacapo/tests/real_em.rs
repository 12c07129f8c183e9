//! A crop of real EM, trained and validated on: the scores are those of the arrays that were stored.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{losses, run};
use dacapo::config::Format;
use dacapo::{LocalStore, best, parse_config};
use dacapo_array::{ArrayRead, ArrayReadExt};
use dacapo_store::{ArrayStore, StatsStore};

#[test]
fn a_network_learns_from_neurons_and_its_scores_are_those_of_what_is_stored() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fib25_96.zarr");
    let container = fixture.canonicalize().unwrap();
    let container = container.display();
    // Below z = 1200 nm it is trained on, as the whole of FIB-25 in the examples.
    let text = format!(
        "
name: crop
seed: 2
num_iterations: 60
data:
  train:
    - {{name: below, raw: {container}/raw, labels: {container}/labels, roi: {{offset: [720, 800, 800], shape: [480, 960, 960]}}}}
  validate:
    - {{name: above, raw: {container}/raw, labels: {container}/labels, roi: {{offset: [1200, 800, 800], shape: [480, 960, 960]}}}}
task:
  kind: affinities
  neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-3, 0, 0], [0, -3, 0], [0, 0, -3], [-9, 0, 0], [0, -9, 0], [0, 0, -9]]
  weights: {{boundary: 3.0}}
architecture:
  kind: unet
  input_shape: [32, 32, 32]
  eval_shape_increase: [16, 16, 16]
  num_fmaps: 8
  fmap_inc_factor: 2
  downsample_factors: [[2, 2, 2]]
  padding: same
  norm: group
  stem_factors: [2, 2, 2]
trainer: {{optimizer: {{kind: adam_w, learning_rate: 1e-2}}, schedule: {{warmup: 5}}}}
validation: {{interval: 30, keep_outputs: all}}
"
    );
    let config = parse_config(&text, Format::Yaml, Path::new("crop.yaml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path());
    run(&store, &config, &()).unwrap();

    let losses = losses(&store, "crop");
    let mean = |part: &[(u64, u64)]| part.iter().map(|&(_, bits)| f64::from_bits(bits)).sum::<f64>() / 10.0;
    let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
    assert!(last < 0.8 * first, "{first} to {last}");

    let arrays = &store.arrays;
    let (_, truth) = arrays.validation_input_arrays("crop", Some("above")).unwrap();
    let truth = arrays.open(&truth).unwrap();
    let truth = truth.read_as::<u64>(&truth.spec().roi.clone()).unwrap();
    let scores = store.stats.scores("crop").unwrap();
    let voi = best(&store, "crop")
        .unwrap()
        .into_iter()
        .find(|best| best.criterion == "voi")
        .unwrap();
    for record in scores.iter().filter(|score| score.iteration == voi.iteration) {
        let output = arrays
            .validation_output_array("crop", record.iteration, &record.parameters, "above")
            .unwrap();
        let output = arrays.open(&output).unwrap();
        let output = output.read_as::<u64>(&output.spec().roi.clone()).unwrap();
        let (split, merge) = conditional_entropies(truth.iter().zip(&output));
        let stored = |criterion: &str| record.scores[criterion].unwrap();
        assert!(
            (stored("voi_split") - split).abs() < 1e-9,
            "{split}: {:?}",
            record.scores
        );
        assert!(
            (stored("voi_merge") - merge).abs() < 1e-9,
            "{merge}: {:?}",
            record.scores
        );
        assert!((stored("voi") - split - merge).abs() < 1e-9);
    }
}

/// H(segmentation | truth) and H(truth | segmentation) in bits over the voxels whose truth is not 0, by the definition.
fn conditional_entropies<'a>(pairs: impl Iterator<Item = (&'a u64, &'a u64)>) -> (f64, f64) {
    let (mut joint, mut of_truth, mut of_segment, mut total) =
        (HashMap::new(), HashMap::new(), HashMap::new(), 0.0);
    for (&truth, &segment) in pairs.filter(|&(&truth, _)| truth != 0) {
        *joint.entry((truth, segment)).or_insert(0.0) += 1.0;
        *of_truth.entry(truth).or_insert(0.0) += 1.0;
        *of_segment.entry(segment).or_insert(0.0) += 1.0;
        total += 1.0;
    }
    let entropy = |marginal: &dyn Fn((u64, u64)) -> f64| -> f64 {
        let bits = joint
            .iter()
            .map(|(&pair, &n): (_, &f64)| -n * (n / marginal(pair)).log2());
        bits.sum::<f64>() / total
    };
    (
        entropy(&|(truth, _)| of_truth[&truth]),
        entropy(&|(_, segment)| of_segment[&segment]),
    )
}
