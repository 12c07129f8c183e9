//! A small run that trains in seconds, and an observer that remembers and interrupts.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::sync::Mutex;

use dacapo::config::Format;
use dacapo::{Event, LocalStore, Observer, RunConfig, TrainOptions, TrainOutcome, parse_config, train};
use dacapo_nn::CpuEngine;
use dacapo_store::{StatsStore, TrainingStat};

/// A config of a run on a synthetic volume in `dir`: 12 steps, validated after 6 and 12.
pub fn config(dir: &Path) -> RunConfig {
    let container = dir.join("made.zarr");
    let container = container.display();
    let text = format!(
        "
name: small
seed: 3
num_iterations: 12
data:
  synthetic: {{container: {container}, shape: [24, 40, 40], cell_diameter: 90, membrane: 20, seed: 5}}
  train:
    - {{name: front, raw: {container}/raw, labels: {container}/labels, roi: {{offset: [0, 0, 0], shape: [192, 320, 200]}}}}
  validate:
    - {{name: back, raw: {container}/raw, labels: {container}/labels, roi: {{offset: [0, 0, 200], shape: [192, 320, 120]}}}}
task:
  kind: affinities
  neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-3, 0, 0], [0, -3, 0], [0, 0, -3]]
architecture:
  kind: unet
  input_shape: [16, 16, 16]
  num_fmaps: 4
  fmap_inc_factor: 2
  downsample_factors: [[2, 2, 2]]
  padding: same
  norm: group
trainer: {{snapshot_interval: 6, checkpoint_interval: 3, schedule: {{warmup: 2}}}}
validation: {{interval: 6}}
"
    );
    parse_config(&text, Format::Yaml, Path::new("small.yaml")).unwrap()
}

pub fn engine() -> CpuEngine {
    CpuEngine::new(Some(1)).unwrap()
}

/// Remembers what happened; asks to stop after a step, or once a dataset is validated.
#[derive(Default)]
pub struct Watch {
    pub events: Mutex<Vec<Event>>,
    pub stop_after_step: Option<u64>,
    pub stop_in_validation: bool,
}

impl Observer for Watch {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn cancelled(&self) -> bool {
        self.events.lock().unwrap().iter().any(|event| match event {
            Event::Step { iteration, .. } => Some(*iteration) == self.stop_after_step,
            Event::ValidationStarted { .. } => self.stop_in_validation,
            _ => false,
        })
    }
}

impl Watch {
    pub fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            Event::Warning { message } => Some(message.clone()),
            _ => None,
        });
        warnings.collect()
    }
}

pub fn run(store: &LocalStore, config: &RunConfig, watch: &dyn Observer) -> dacapo::Result<TrainOutcome> {
    train(store, config, &engine(), watch, &TrainOptions::default())
}

/// Iterations and the losses' bits.
pub fn losses(store: &LocalStore, run: &str) -> Vec<(u64, u64)> {
    let stats: Vec<TrainingStat> = store.stats.training(run).unwrap();
    stats
        .iter()
        .map(|stat| (stat.iteration, stat.loss.to_bits()))
        .collect()
}

/// Writes an array whose first voxel is `begin` voxels from the world's origin; returns its path.
pub fn write_array(dir: &Path, path: &str, size: &str, begin: &[i64], data: dacapo_array::NdData) -> String {
    use dacapo_array::{ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, Roi, ZarrArray};
    let size: Coordinate = serde_json::from_str(size).unwrap();
    let leading = data.shape().len() - size.dims();
    let (channels, voxels) = data.shape().split_at(leading);
    let roi = Roi::from_voxels(begin, voxels, &size);
    let address: ArrayAddress = format!("{}/{path}", dir.display()).parse().unwrap();
    let spec = ArraySpec::new(roi.clone(), size, data.dtype()).with_channels(channels.to_vec());
    ZarrArray::create(
        &address,
        &dacapo_array::storage::Access::default(),
        &spec,
        &CreateOptions::default(),
    )
    .unwrap()
    .write(&roi, &data)
    .unwrap();
    address.to_string()
}
