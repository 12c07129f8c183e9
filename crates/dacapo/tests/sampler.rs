//! What the sampler promises: batches are functions of their number, raw and labels stay together under every
//! turn, and nothing is known outside of the annotated part.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::path::Path;

use common::config;
use dacapo::{Plan, RunConfig, Sampler, TrainingBatch, check, with_batches};
use dacapo_array::storage::Access;
use dacapo_array::{ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, Roi, ZarrArray};
use ndarray::ArrayD;

fn plan(config: &RunConfig) -> Plan {
    check(config, &Access::default()).unwrap()
}

fn in_order(plan: &Plan, start: u64, end: u64, workers: usize) -> Vec<TrainingBatch> {
    with_batches(&Sampler::new(plan), start, end, workers, |batches| {
        batches.collect()
    })
    .unwrap()
}

#[test]
fn a_batch_is_a_function_of_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.trainer.batch_size = 2;
    let here = plan(&config);
    let batches = in_order(&here, 0, 7, 1);
    assert_eq!(batches, in_order(&here, 0, 7, 3));
    assert_eq!(batches[4..], in_order(&here, 4, 7, 2));
    assert_eq!(batches[5], Sampler::new(&here).batch(5).unwrap());
    for (i, a) in batches.iter().enumerate() {
        assert!(batches[..i].iter().all(|b| a.tensors.input != b.tensors.input));
        assert_ne!(a.crops[0], a.crops[1]);
    }
    config.seed += 1;
    assert_ne!(Sampler::new(&plan(&config)).batch(5).unwrap(), batches[5]);
    // Stopping early ends the threads.
    let first = with_batches(&Sampler::new(&here), 0, 1000, 2, |batches| {
        batches.next().unwrap()
    })
    .unwrap();
    assert_eq!(first, batches[0]);
}

/// Raw and labels whose voxels say where they are; labels with half the voxel size if `finer`.
fn numbered(dir: &Path, finer: bool) -> RunConfig {
    let mut config = config(dir);
    config.data.synthetic = None;
    config.data.validate.clear();
    let write = |name: &str, size: i64, data: NdData| {
        let voxel_size = Coordinate::splat(3, size);
        let shape = data.shape().to_vec();
        let roi = Roi::from_voxels(&[0; 3], &shape, &voxel_size);
        let address: ArrayAddress = format!("{}/numbered.zarr/{name}", dir.display()).parse().unwrap();
        let spec = ArraySpec::new(roi.clone(), voxel_size, data.dtype());
        ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default())
            .unwrap()
            .write(&roi, &data)
            .unwrap();
        address.to_string()
    };
    let factor = if finer { 2 } else { 1 };
    let number =
        |i: &[usize], factor: usize| (1 + i[0] / factor * 900 + i[1] / factor * 30 + i[2] / factor) as u64;
    let raw = ArrayD::from_shape_fn(vec![24, 26, 28], |i| number(i.slice(), 1) as u16);
    let labels = ArrayD::from_shape_fn(vec![24 * factor, 26 * factor, 28 * factor], |i| {
        number(i.slice(), factor)
    });
    let dataset = &mut config.data.train[0];
    dataset.raw = write("raw", 8, NdData::U16(raw)).into();
    dataset.labels = write("labels", 8 / factor as i64, NdData::U64(labels)).into();
    dataset.roi = None;
    let augment = &mut config.trainer.augment;
    (augment.intensity_scale, augment.intensity_shift, augment.noise) = ([1.0; 2], [0.0; 2], 0.0);
    config
}

trait Slice {
    fn slice(&self) -> &[usize];
}

impl Slice for ndarray::IxDyn {
    fn slice(&self) -> &[usize] {
        ndarray::Dimension::slice(self)
    }
}

#[test]
fn raw_and_labels_are_cut_out_and_turned_together() {
    let dir = tempfile::tempdir().unwrap();
    for finer in [false, true] {
        let folder = dir.path().join(format!("{finer}"));
        std::fs::create_dir(&folder).unwrap();
        let plan = plan(&numbered(&folder, finer));
        let sampler = Sampler::new(&plan);
        let mut turned = 0;
        for iteration in 0..20 {
            let batch = sampler.batch(iteration).unwrap();
            let raw = batch
                .tensors
                .input
                .data
                .iter()
                .map(|&v| ((f64::from(v) + 0.5) * 65535.0).round() as u64);
            assert!(raw.eq(batch.labels[0].iter().copied()));
            let labels = &batch.labels[0];
            turned += usize::from(labels[[0, 0, 1]] != labels[[0, 0, 0]] + 1);
            let corner = labels.iter().min().unwrap() - 1;
            let begin = [corner / 900, corner % 900 / 30, corner % 30].map(|n| n as i64 * 8);
            assert_eq!(batch.crops[0].roi.begin(), &Coordinate::new(begin));
        }
        assert!(turned > 10, "of 20, most are turned");
    }
}

#[test]
fn outside_of_the_roi_nothing_has_a_weight() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = numbered(dir.path(), false);
    // Smaller than a crop along x: at most 6 voxels of it can be known.
    config.data.train[0].roi = Some(Roi::new(
        Coordinate::new([0, 0, 80]),
        Coordinate::new([192, 208, 48]),
    ));
    config.trainer.augment.flips = false;
    config.trainer.augment.transposes = false;
    let plan = plan(&config);
    let sampler = Sampler::new(&plan);
    for iteration in 0..10 {
        let batch = sampler.batch(iteration).unwrap();
        let x = batch.crops[0]
            .roi
            .begin()
            .iter()
            .last()
            .unwrap()
            .to_string()
            .parse::<i64>()
            .unwrap()
            / 8;
        let known = |i: usize| (10..16).contains(&(x + i as i64));
        for (at, &weight) in batch.tensors.weight.data.iter().enumerate() {
            assert!(weight == 0.0 || known(at % 16), "{at} {weight}");
        }
        let labels = &batch.labels[0];
        assert!(
            labels
                .indexed_iter()
                .all(|((_, _, x), &label)| (label != 0) == known(x))
        );
        assert!(batch.tensors.weight.data.iter().any(|&weight| weight > 0.0));
    }
}

#[test]
fn where_raw_is_smaller_than_the_input_it_is_mirrored() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = numbered(dir.path(), false);
    config.architecture = serde_json::from_value(serde_json::json!({
        "kind": "unet", "input_shape": [36, 36, 36], "num_fmaps": 2, "downsample_factors": [[2, 2, 2]]
    }))
    .unwrap();
    let plan = plan(&config);
    let batch = Sampler::new(&plan).batch(0).unwrap();
    assert_eq!(batch.tensors.input.shape, [1, 1, 36, 36, 36]);
    assert!(
        batch.tensors.input.data.iter().all(|&v| v > -0.5),
        "every voxel is one of raw, none is made up"
    );
}

#[test]
fn every_kind_of_sampling_is_a_function_of_the_number() {
    use dacapo::config::Sampling;
    let dir = tempfile::tempdir().unwrap();
    let mut config = numbered(dir.path(), false);
    let sparse = ArrayD::from_shape_fn(vec![24, 26, 28], |i| {
        u8::from(i[0] == 20 && i[1] == 3 && i[2] > 20)
    });
    let mask = common::write_array(
        dir.path(),
        "mask.zarr/m",
        "[8, 8, 8]",
        &[0; 3],
        NdData::U8(sparse),
    );
    config.data.train[0].mask = Some(mask.into());
    // Less than this is annotated in any crop: labelled alone finds none.
    config.trainer.min_labelled = 0.5;
    for sampling in [
        Sampling::Labelled,
        Sampling::Uniform,
        Sampling::Mask,
        Sampling::Points,
    ] {
        let dataset = &mut config.data.train[0];
        dataset.sampling = Some(sampling);
        let points = [[100.0, 96.0, 110.0], [4.6, 3.0, 220.0]];
        let points = points.map(|point| serde_json::from_value(serde_json::json!(point)).unwrap());
        dataset.sample_points = (sampling == Sampling::Points).then(|| points.to_vec());
        let here = plan(&config);
        if sampling == Sampling::Labelled {
            assert!(matches!(
                Sampler::new(&here).batch(0),
                Err(dacapo::Error::TooFewLabelled { .. })
            ));
            continue;
        }
        let batches = in_order(&here, 0, 12, 1);
        assert_eq!(batches, in_order(&here, 0, 12, 3));
        for batch in &batches {
            let roi = &batch.crops[0].roi;
            let has = |point: &Coordinate| roi.contains_point(point);
            match sampling {
                Sampling::Mask => {
                    let line = Roi::from_voxels(&[20, 3, 21], &[1, 1, 7], &Coordinate::splat(3, 8));
                    assert!(!roi.intersect(&line).is_empty(), "{roi}");
                }
                Sampling::Points => assert!(points.iter().any(has), "{roi}"),
                _ => {}
            }
        }
        let places: std::collections::HashSet<_> =
            batches.iter().map(|batch| batch.crops[0].roi.clone()).collect();
        assert_eq!(places.len() > 2, sampling != Sampling::Points, "{places:?}");
    }
}

/// Every augmentation at once.
fn all_of_it(config: &mut RunConfig) {
    config.trainer.augment = serde_json::from_value(serde_json::json!({
        "elastic": {
            "control_point_spacing": [4, 6, 6], "jitter_sigma": [0.3, 1, 1], "rotation": [0, 90],
            "rotate": "any_axis", "scale": [0.8, 1.2], "outside": "mirror",
        },
        "blur": { "sigma": [0.2, 1.0] },
        "gamma": [0.7, 1.4],
        "poisson": { "counts": [20, 200] },
        "sections": {
            "missing": 0.1, "low_contrast": 0.1, "stained": 0.2, "slipped": 0.2, "shifted": 0.1, "max_shift": 3,
        },
    }))
    .unwrap();
}

#[test]
fn a_varied_batch_is_a_function_of_its_number_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.trainer.batch_size = 2;
    all_of_it(&mut config);
    let here = plan(&config);
    let with = |threads: usize, workers| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| in_order(&here, 0, 5, workers))
    };
    let batches = with(1, 1);
    assert_eq!(batches, with(3, 2));
    assert_eq!(batches[3], Sampler::new(&here).batch(3).unwrap());
    let source = Sampler::new(&here).batch(0).unwrap();
    assert!(source.tensors.input.data.iter().all(|v| v.is_finite()));
    config.trainer.augment.elastic = None;
    let straight = Sampler::new(&plan(&config)).batch(3).unwrap();
    assert_ne!(straight.tensors.target, batches[3].tensors.target);
}

#[test]
fn raw_and_labels_are_deformed_together() {
    let dir = tempfile::tempdir().unwrap();
    for finer in [false, true] {
        let folder = dir.path().join(format!("{finer}"));
        std::fs::create_dir(&folder).unwrap();
        let mut config = numbered(&folder, finer);
        let elastic = serde_json::json!({
            "control_point_spacing": [5, 5, 5], "jitter_sigma": [0, 0.7, 0.7], "rotation": [-45, 45],
            "outside": "mirror",
        });
        config.trainer.augment.elastic = Some(serde_json::from_value(elastic).unwrap());
        config.trainer.augment.sections = Some(
            serde_json::from_value(serde_json::json!({
                "slipped": 0.2, "shifted": 0.2, "max_shift": 2,
            }))
            .unwrap(),
        );
        let plan = plan(&config);
        let sampler = Sampler::new(&plan);
        let (mut moved, mut seen) = (0, 0);
        for iteration in 0..20 {
            let batch = sampler.batch(iteration).unwrap();
            let raw = batch
                .tensors
                .input
                .data
                .iter()
                .map(|&v| (f64::from(v) + 0.5) * 65535.0);
            for (raw, &label) in raw.zip(&batch.labels[0]).filter(|(_, label)| **label != 0) {
                // Sections keep their place; in one, a number grows by 30 along y and by 1 along x, so that what
                // lies between voxels is as far from the nearest one.
                seen += 1;
                let away = (raw - label as f64).abs();
                moved += usize::from(away > 1.0);
                assert!(away < 15.6, "{raw} {label}");
            }
        }
        assert!(moved > seen / 2, "{moved} of {seen} lie between voxels");
    }
}

#[test]
fn datasets_are_chosen_by_their_weights() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = numbered(dir.path(), false);
    let mut other = config.data.train[0].clone();
    other.name = "other".to_owned();
    other.weight = 3.0;
    config.data.train.push(other);
    let plan = plan(&config);
    let sampler = Sampler::new(&plan);
    let others = (0..200)
        .filter(|&i| sampler.batch(i).unwrap().crops[0].dataset == "other")
        .count();
    assert!((130..=170).contains(&others), "{others} of 200, expected 150");
}

#[test]
fn where_there_is_room_crops_are_placed_so_that_nothing_is_mirrored() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = numbered(dir.path(), false);
    let elastic = serde_json::json!({
        "control_point_spacing": [5, 5, 5], "jitter_sigma": [0.5, 0.5, 0.5], "scale": [0.9, 1.0],
    });
    config.trainer.augment.elastic = Some(serde_json::from_value(elastic).unwrap());
    let plan = plan(&config);
    let sampler = Sampler::new(&plan);
    for iteration in 0..30 {
        // Where raw ends, labels do too: nothing of this crop is unknown.
        let batch = sampler.batch(iteration).unwrap();
        assert!(batch.labels[0].iter().all(|&label| label != 0), "{iteration}");
    }
}

#[test]
fn a_plane_is_deformed_in_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.data.synthetic = None;
    config.data.validate.clear();
    let voxel_size = Coordinate::new(["4.6", "9.2"].map(|n| n.parse::<dacapo_array::Decimal>().unwrap()));
    let write = |name: &str, data: NdData| -> dacapo::config::ArraySource {
        let roi = Roi::from_voxels(&[0; 2], data.shape(), &voxel_size);
        let address: ArrayAddress = format!("{}/flat.zarr/{name}", dir.path().display())
            .parse()
            .unwrap();
        let spec = ArraySpec::new(roi.clone(), voxel_size.clone(), data.dtype());
        ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default())
            .unwrap()
            .write(&roi, &data)
            .unwrap();
        address.to_string().into()
    };
    let number = |i: &ndarray::IxDyn| 1 + i[0] * 40 + i[1];
    let dataset = &mut config.data.train[0];
    dataset.raw = write(
        "raw",
        NdData::U16(ArrayD::from_shape_fn(vec![40, 36], |i| number(&i) as u16)),
    );
    dataset.labels = write(
        "labels",
        NdData::U64(ArrayD::from_shape_fn(vec![40, 36], |i| number(&i) as u64)),
    );
    dataset.roi = None;
    config.task = serde_json::from_value(serde_json::json!({
        "kind": "affinities", "neighborhood": [[-1, 0], [0, -1]],
    }))
    .unwrap();
    config.architecture = serde_json::from_value(serde_json::json!({
        "kind": "unet", "input_shape": [16, 16], "num_fmaps": 2, "downsample_factors": [[2, 2]], "padding": "same",
    }))
    .unwrap();
    config.trainer.augment = serde_json::from_value(serde_json::json!({
        "elastic": {
            "control_point_spacing": [6, 6], "jitter_sigma": [0.5, 0.5], "rotation": [0, 360], "outside": "mirror",
        },
        "intensity_scale": [1, 1], "intensity_shift": [0, 0], "noise": 0,
    }))
    .unwrap();
    let plan = plan(&config);
    let sampler = Sampler::new(&plan);
    for iteration in 0..10 {
        let batch = sampler.batch(iteration).unwrap();
        assert_eq!(batch.tensors.input.shape, [1, 1, 16, 16]);
        for (&raw, &label) in batch.tensors.input.data.iter().zip(&batch.labels[0]) {
            let raw = (f64::from(raw) + 0.5) * 65535.0;
            assert!(label == 0 || (raw - label as f64).abs() < 20.6, "{raw} {label}");
        }
    }
}
