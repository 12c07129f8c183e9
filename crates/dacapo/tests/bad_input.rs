//! What can be wrong with a run is told in one sentence, before anything is written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::path::Path;

use common::{config, engine, run};
use dacapo::config::{ArchitectureConfig, DatasetConfig};
use dacapo::{
    Error, IterationChoice, LocalStore, PIECE_MEMORY, PredictRequest, RunConfig, TrainOptions, load_run,
    predict, synthetic, train,
};
use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi, ZarrArray,
};
use dacapo_store::WeightsStore;
use ndarray::ArrayD;

/// A config whose volume is there, as datasets of their own.
fn ready(dir: &Path) -> RunConfig {
    let mut config = config(dir);
    synthetic::write_if_missing(config.data.synthetic.as_ref().unwrap(), &Access::default()).unwrap();
    config.data.synthetic = None;
    config
}

/// Writes an array of `dtype` filled with `value`, and returns its address.
fn array(dir: &Path, name: &str, offset: i64, voxel_size: &str, data: NdData) -> String {
    let shape: Vec<usize> = data.shape().to_vec();
    let size: dacapo_array::Decimal = voxel_size.parse().unwrap();
    let voxel_size = Coordinate::splat(3, size);
    let offset = Coordinate::splat(3, offset);
    let voxels: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    let roi = Roi::new(offset, Coordinate::from_voxels(&voxels, &voxel_size));
    let spec = ArraySpec::new(roi.clone(), voxel_size, data.dtype());
    let address: ArrayAddress = format!("{}/other.zarr/{name}", dir.display()).parse().unwrap();
    ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default())
        .unwrap()
        .write(&roi, &data)
        .unwrap();
    address.to_string()
}

/// The error of training, which must have left nothing behind.
fn refused(dir: &Path, config: &RunConfig) -> Error {
    let base = dir.join("refused");
    let error = run(&LocalStore::new(&base), config, &()).unwrap_err();
    assert!(!base.exists(), "something was written");
    assert!(!error.to_string().contains('\n') || matches!(error, Error::Several { .. }));
    error
}

fn dataset(config: &mut RunConfig) -> &mut DatasetConfig {
    &mut config.data.train[0]
}

#[test]
fn a_missing_container_or_dataset_is_named_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let labels = dataset(&mut config).labels.to_string();
    dataset(&mut config).labels = labels.replace("/labels", "/label").into();
    let error = refused(dir.path(), &config);
    let text = error.to_string();
    assert!(matches!(error, Error::Dataset { role: "labels", .. }), "{text}");
    assert!(
        text.contains("front") && text.contains("labels") && text.contains("raw"),
        "{text}"
    );
    dataset(&mut config).labels = labels.replace("made.zarr", "mad.zarr").into();
    assert!(refused(dir.path(), &config).to_string().contains("mad.zarr"));
    assert!(refused(dir.path(), &config).hint().is_some());
}

#[test]
fn raw_and_labels_apart_are_told_with_both_rois() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let data = NdData::U64(ArrayD::ones(vec![8, 8, 8]));
    dataset(&mut config).labels = array(dir.path(), "apart", 8000, "8", data).into();
    let error = refused(dir.path(), &config);
    assert!(matches!(error, Error::NoOverlap { .. }), "{error}");
    assert!(error.to_string().contains("[0:192, 0:320, 0:320]"), "{error}");
    assert!(
        error.to_string().contains("[8000:8064, 8000:8064, 8000:8064]"),
        "{error}"
    );
}

#[test]
fn voxel_sizes_have_to_divide_and_labels_to_be_integers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let data = NdData::U64(ArrayD::ones(vec![30, 30, 30]));
    dataset(&mut config).labels = array(dir.path(), "odd", 0, "5", data).into();
    let error = refused(dir.path(), &config);
    assert!(matches!(error, Error::VoxelSizes { .. }), "{error}");
    let data = NdData::F32(ArrayD::ones(vec![24, 24, 24]));
    dataset(&mut config).labels = array(dir.path(), "floats", 0, "8", data).into();
    let error = refused(dir.path(), &config);
    assert!(
        matches!(
            error,
            Error::LabelType {
                dtype: DType::F32,
                ..
            }
        ),
        "{error}"
    );
    // Twice as fine is fine.
    let data = NdData::U64(ArrayD::ones(vec![48, 64, 64]));
    dataset(&mut config).labels = array(dir.path(), "fine", 0, "4", data).into();
    dacapo::check(&config, &Access::default()).unwrap();
}

#[test]
fn a_shape_that_the_network_cannot_take_is_told_with_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let ArchitectureConfig::Unet(unet) = &mut config.architecture;
    unet.input_shape = vec![17, 16, 16];
    let error = refused(dir.path(), &config);
    assert!(
        matches!(error, Error::Network(dacapo_nn::Error::InputShape { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("[16, 16, 16]"), "{error}");
}

#[test]
fn nothing_labelled_or_too_little_is_told_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let data = NdData::U64(ArrayD::zeros(vec![24, 40, 40]));
    dataset(&mut config).labels = array(dir.path(), "nothing", 0, "8", data).into();
    let error = refused(dir.path(), &config);
    assert!(matches!(error, Error::NothingLabelled { .. }), "{error}");
    assert!(error.to_string().contains("[0:192, 0:320, 0:200]"), "{error}");

    let mut one = ArrayD::zeros(vec![24, 40, 40]);
    one[[12, 20, 12]] = 1;
    dataset(&mut config).labels = array(dir.path(), "one", 0, "8", NdData::U64(one)).into();
    config.trainer.min_labelled = 0.5;
    let error = run(&LocalStore::new(dir.path().join("runs")), &config, &()).unwrap_err();
    assert!(
        matches!(error, Error::TooFewLabelled { fraction: 0.5, .. }),
        "{error}"
    );
}

#[test]
fn several_things_are_told_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    dataset(&mut config).raw.paths_mut()[0].push('x');
    config.data.validate[0].labels.paths_mut()[0].push('x');
    let Error::Several { errors } = refused(dir.path(), &config) else {
        panic!("one error")
    };
    assert_eq!(errors.len(), 2);
}

#[test]
fn what_is_wrong_with_data_is_told_beside_what_is_wrong_with_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    dataset(&mut config).raw.paths_mut()[0].push('x');
    let ArchitectureConfig::Unet(unet) = &mut config.architecture;
    unet.input_shape = vec![17, 16, 16];
    config.task = serde_json::from_str(r#"{"kind": "affinities", "neighborhood": [[0, 1]]}"#).unwrap();
    let Error::Several { errors } = refused(dir.path(), &config) else {
        panic!("one error")
    };
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn ids_that_are_nowhere_are_told_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let classes = dataset(&mut config)
        .labels
        .to_string()
        .replace("/labels", "/classes");
    let made = |groups: &str| {
        serde_json::from_str(&format!(r#"{{"source": "{classes}", "classes": {groups}}}"#)).unwrap()
    };
    let mut second = dataset(&mut config).clone();
    second.name = "second".to_owned();
    dataset(&mut config).labels = made("[[1], [9, 10]]");
    second.labels = made("[[1], [9, 10]]");
    config.data.train.push(second);
    config.data.validate.clear();
    config.task = serde_json::from_str(
        r#"{"kind": "foreground", "classes": [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}]}"#,
    )
    .unwrap();
    let error = refused(dir.path(), &config);
    let Error::Several { errors } = &error else {
        panic!("{error}")
    };
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let trained = "in the labels that are trained on; there are";
    assert_eq!(
        texts,
        [
            format!("task.classes[1].ids (b): 2 is not {trained} 1"),
            format!("labels.classes[1] of data.train: none of [9, 10] is {trained} 1, 2"),
        ]
    );
    assert!(error.hint().unwrap().contains("datasplit show"));
    // One id of a group is enough, in any of the datasets.
    config.data.train[0].labels = made("[[1], [2, 10]]");
    config.data.train[1].labels = made("[[1], [2, 10]]");
    dacapo::check(&config, &Access::default()).unwrap();
}

#[test]
fn names_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    for name in ["", "..", "a/b", ".hidden"] {
        config.name = name.to_owned();
        let error = refused(dir.path(), &config);
        assert!(
            matches!(error, Error::Store(dacapo_store::Error::Name { .. })),
            "{name}: {error}"
        );
    }
    config.name = "small".to_owned();
    config.validation.criterion = Some("vio".to_owned());
    let error = refused(dir.path(), &config);
    assert!(error.to_string().contains("did you mean `voi`?"), "{error}");
}

#[test]
fn a_changed_config_is_refused_key_by_key_unless_as_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    config.num_iterations = 1;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    config.trainer.batch_size = 2;
    config.num_iterations = 2;
    let error = run(&store, &config, &()).unwrap_err();
    let Error::ConfigChanged { differences, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(differences.len(), 1);
    assert!(
        error.to_string().ends_with("trainer.batch_size: 1 became 2"),
        "{error}"
    );
    assert_eq!(load_run(&store, "small").unwrap().num_iterations, 1);
    let as_new = TrainOptions {
        as_new: Some("second".to_owned()),
    };
    train(&store, &config, &engine(), &(), &as_new).unwrap();
    assert_eq!(load_run(&store, "second").unwrap().trainer.batch_size, 2);
}

#[test]
fn a_copy_of_a_run_goes_by_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    config.num_iterations = 1;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let at = |run: &str| store.run_dir(run).unwrap().path().unwrap().to_owned();
    dacapo_store::copy_dir(
        &at("small").as_path().into(),
        &at("copy").as_path().into(),
        &Access::default(),
        dacapo_store::CopyOptions::default(),
        &|_| true,
    )
    .unwrap();
    let mut copied = load_run(&store, "copy").unwrap();
    assert_eq!(copied.name, "copy");
    copied.num_iterations = 2;
    run(&store, &copied, &()).unwrap();
    assert_eq!(store.weights.iterations("copy").unwrap().last(), Some(&2));
    assert_eq!(store.weights.iterations("small").unwrap().last(), Some(&1));
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let data = NdData::F32(ArrayD::from_elem(vec![24, 40, 40], f32::NAN));
    dataset(&mut config).raw = array(dir.path(), "nan", 0, "8", data).into();
    config.data.validate.clear();
    let store = LocalStore::new(dir.path().join("runs"));
    let error = run(&store, &config, &()).unwrap_err();
    let text = error.to_string();
    let Error::NotFinite {
        iteration: 1,
        snapshot: Some(snapshot),
        ..
    } = &error
    else {
        panic!("{text}")
    };
    assert!(
        text.contains("iteration 1") && text.contains("dataset front at ["),
        "{text}"
    );
    assert!(snapshot.join("raw").path().unwrap().exists());
    assert!(error.hint().unwrap().contains("snapshot.zarr"));
}

#[test]
fn a_run_or_checkpoint_that_is_not_there_is_told_with_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    config.num_iterations = 1;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let error = load_run(&store, "smal").unwrap_err();
    assert!(error.to_string().contains("did you mean `small`?"), "{error}");
    let request = PredictRequest {
        input: config.data.train[0].raw.clone(),
        output: format!("{}/out.zarr/out", dir.path().display()).parse().unwrap(),
        iteration: IterationChoice::Number(7),
        roi: None,
        overwrite: false,
        memory: PIECE_MEMORY,
        format: dacapo_array::ZarrFormat::V3,
    };
    let error = predict(&store, "small", &request, &engine(), &()).unwrap_err();
    assert!(error.to_string().contains("it has those of [1]"), "{error}");
    assert!(!dir.path().join("out.zarr").exists());
}

#[test]
fn masks_without_a_voxel_and_points_outside_are_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let empty = array(
        dir.path(),
        "empty",
        0,
        "8",
        NdData::U8(ArrayD::zeros(vec![24, 40, 40])),
    );
    // Annotated beside the dataset's roi, of which nothing counts.
    let mut beside = ArrayD::zeros(vec![24, 40, 40]);
    beside[[3, 3, 30]] = 1_u8;
    let beside = array(dir.path(), "beside", 0, "8", NdData::U8(beside));
    for mask in [empty.clone(), beside] {
        for sampling in ["labelled", "mask"] {
            dataset(&mut config).mask = Some(mask.clone().into());
            dataset(&mut config).sampling = Some(serde_json::from_value(sampling.into()).unwrap());
            let error = refused(dir.path(), &config);
            assert!(matches!(error, Error::EmptyMask { .. }), "{error}");
            assert!(error.to_string().contains("[0:192, 0:320, 0:200]"), "{error}");
        }
    }
    // Validation needs labels too; both are told.
    dataset(&mut config).sampling = None;
    config.data.validate[0].mask = Some(empty.into());
    assert!(matches!(refused(dir.path(), &config), Error::Several { errors } if errors.len() == 2));

    config.data.validate[0].mask = None;
    dataset(&mut config).mask = None;
    let point = |z: i64| Coordinate::new([z, 8, 8]);
    dataset(&mut config).sample_points = Some(vec![point(8), point(192)]);
    let error = refused(dir.path(), &config);
    assert!(matches!(error, Error::PointOutside { .. }), "{error}");
    assert!(error.to_string().contains("(192, 8, 8)"), "{error}");
}

#[test]
fn labels_and_masks_have_one_channel() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let two = NdData::U64(ArrayD::ones(vec![2, 24, 40, 40]));
    let two = common::write_array(dir.path(), "two.zarr/labels", "[8, 8, 8]", &[0; 3], two);
    dataset(&mut config).labels = two.clone().into();
    let error = refused(dir.path(), &config);
    assert!(
        matches!(
            error,
            Error::LabelChannels {
                what: "labels",
                found: 2,
                ..
            }
        ),
        "{error}"
    );
    // As raw they are one channel too many, and of a type without a range: both are told.
    config = ready(dir.path());
    dataset(&mut config).raw = two.into();
    let error = refused(dir.path(), &config);
    let Error::Several { errors } = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(
            errors[..],
            [
                Error::Channels {
                    found: 2,
                    expected: 1,
                    ..
                },
                Error::IntensityRange { .. }
            ]
        ),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_deformation_that_needs_more_raw_than_there_is_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ready(dir.path());
    let mut with = |elastic: serde_json::Value| {
        config.trainer.augment.elastic = Some(serde_json::from_value(elastic).unwrap());
        config.clone()
    };
    // Raw has 24 planes, a crop 16: turned by half a right angle about any axis it does not fit.
    let elastic = serde_json::json!({
        "control_point_spacing": [8, 8, 8], "jitter_sigma": [1, 1, 1], "rotation": [0, 45], "rotate": "any_axis",
    });
    let config = with(elastic);
    let error = refused(dir.path(), &config);
    let text = error.to_string();
    assert!(
        text.contains("trainer.augment.elastic") && text.contains("dataset front"),
        "{text}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("outside: mirror")));
    let mut fine = config.clone();
    if let Some(elastic) = &mut fine.trainer.augment.elastic {
        elastic.outside = dacapo::config::Outside::Mirror;
    }
    assert!(dacapo::check(&fine, &Access::default()).is_ok());
    let mut fine = config;
    if let Some(elastic) = &mut fine.trainer.augment.elastic {
        elastic.rotate = dacapo::config::Rotate::InPlane;
        elastic.rotation = [0.0, 10.0];
    }
    assert!(dacapo::check(&fine, &Access::default()).is_ok());
}
