//! What a config can name as an array: files of every format, and what is made of others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{config, engine, run, write_array};
use dacapo::config::{ArraySource, DataConfig, Format};
use dacapo::datasplit::{ArraySummary, describe};
use dacapo::{
    Error, IterationChoice, LocalStore, PIECE_MEMORY, PredictRequest, RunConfig, check, parse_config, predict,
};
use dacapo_array::storage::Access;
use dacapo_array::{ArrayRead, ArrayReadExt, Coordinate, NdData, PyramidOptions, ZarrFormat, make_pyramid};
use ndarray::{Array3, ArrayD, Axis};
use serde_json::{Value, json};

/// A dataset `t` of these arrays.
fn data(raw: Value, labels: Value) -> DataConfig {
    serde_json::from_value(json!({ "train": [{ "name": "t", "raw": raw, "labels": labels }] })).unwrap()
}

fn raw_of(raw: Value, labels: Value) -> ArraySummary {
    describe(&data(raw, labels), &Access::default())
        .unwrap()
        .remove(0)
        .raw
}

#[test]
fn files_of_other_programs_are_sources() {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dacapo-array/tests/data/formats");
    let dir = tempfile::tempdir().unwrap();
    let everywhere = NdData::U8(ArrayD::ones(vec![20, 40, 40]));
    let labels = write_array(dir.path(), "labels.zarr/l", "[40, 4, 4]", &[0, 0, 0], everywhere);
    for (file, dtype) in [
        ("pages_uint8.tif", "uint8"),
        ("slices_png", "uint8"),
        ("c_uint16.npy", "uint16"),
        ("data.n5/gzip", "uint16"),
        #[cfg(feature = "hdf5")]
        ("data.h5/volumes/raw", "uint8"),
    ] {
        let path = formats.join(file).to_string_lossy().into_owned();
        // What the file does not know, the config says.
        let found = raw_of(
            json!({ "source": path, "voxel_size": [40, 4, 4], "offset": [0, 0, 0] }),
            json!(labels),
        );
        assert_eq!(
            (found.dtype.as_str(), found.voxel_size),
            (dtype, Coordinate::new([40, 4, 4])),
            "{file}"
        );
        assert_eq!(found.shape.len(), 3);
    }
    // A part of what is named can be missing: it is told with the keys that lead there.
    let missing = json!({ "any": [labels, { "source": "nothing.tif" }] });
    let error = describe(&data(json!(labels), missing), &Access::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("its labels (any[1].source)") && text.contains("nothing.tif"),
        "{text}"
    );
    // Everything that cannot be opened at once.
    let error = describe(&data(json!("a.zarr/x"), json!("b.zarr/y")), &Access::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Several { errors } if errors.len() == 2),
        "{error}"
    );
}

#[test]
fn the_level_of_a_pyramid_is_chosen_by_voxel_size() {
    let dir = tempfile::tempdir().unwrap();
    let values = ArrayD::from_shape_fn(vec![16, 16, 16], |i| (i[0] * 3 + i[1] * 5 + i[2] * 7) as u8);
    let raw = write_array(
        dir.path(),
        "a.zarr/raw",
        "[4, 4, 4]",
        &[3, 0, 0],
        NdData::U8(values),
    );
    let options = PyramidOptions {
        levels: Some(1),
        ..PyramidOptions::default()
    };
    let address = raw.parse().unwrap();
    make_pyramid(&address, &Access::default(), &options, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    // Changed, so that it can be told from means of the finest.
    let level =
        dacapo_array::ZarrArray::open(&format!("{raw}.s1").parse().unwrap(), &Access::default()).unwrap();
    let roi = level.spec().roi.clone();
    let marked = NdData::U8(ArrayD::from_elem(vec![8, 8, 8], 77));
    dacapo_array::ArrayWrite::write(&level, &roi, &marked).unwrap();
    let mut config = config(dir.path());
    config.data.synthetic = None;
    config.data.validate.clear();
    let labels = write_array(
        dir.path(),
        "a.zarr/labels",
        "[8, 8, 8]",
        &[1, 0, 0],
        NdData::U8(ArrayD::ones(vec![8, 8, 8])),
    );
    let at = |config: &mut RunConfig, size: i64| {
        let made = json!({ "source": raw, "resample": { "voxel_size": [size, size, size] } });
        config.data.train = data(made, json!(labels)).train;
        check(config, &Access::default()).unwrap().train[0].raw.clone()
    };
    let chosen = at(&mut config, 8);
    assert_eq!(chosen.spec().roi.to_string(), "[12:76, 0:64, 0:64]");
    assert_eq!(chosen.read_all().unwrap(), marked);
    // 16 is made of the level of 8, 4 is the array itself.
    let made = at(&mut config, 16).read_all().unwrap().cast::<u8>().unwrap();
    assert!(made.shape() == [4, 4, 4] && made.iter().all(|&v| v == 77));
    assert!(
        at(&mut config, 4)
            .read_all()
            .unwrap()
            .cast::<u8>()
            .unwrap()
            .iter()
            .any(|&v| v != 77)
    );
}

#[test]
fn arrays_are_made_as_the_config_says() {
    let dir = tempfile::tempdir().unwrap();
    let ids = |i: &[usize]| ((i[0] / 2 + i[1] / 3 + i[2]) % 5) as u64;
    let a = Array3::from_shape_fn((8, 9, 10), |(z, y, x)| ids(&[z, y, x]));
    let b = Array3::from_shape_fn((8, 9, 10), |(z, y, x)| {
        u64::from(z == 3) * (1 + (y + x) as u64 % 2)
    });
    let size = "[8, 8, 8]";
    let write = |name: &str, values: &Array3<u64>| {
        write_array(
            dir.path(),
            &format!("a.zarr/{name}"),
            size,
            &[0, 0, 0],
            NdData::U64(values.clone().into_dyn()),
        )
    };
    let (a_path, b_path) = (write("a", &a), write("b", &b));
    let raw = a.mapv(|id| id as u8 * 50);
    let raw_path = write_array(
        dir.path(),
        "a.zarr/raw",
        size,
        &[0, 0, 0],
        NdData::U8(raw.clone().into_dyn()),
    );
    let mut config = config(dir.path());
    config.data.synthetic = None;
    config.data.validate.clear();
    let mut open = |raw: Value, labels: Value, mask: Value| {
        let dataset = json!({ "train": [{ "name": "t", "raw": raw, "labels": labels, "mask": mask }] });
        config.data.train = serde_json::from_value::<DataConfig>(dataset).unwrap().train;
        let mut plan = check(&config, &Access::default()).unwrap();
        plan.train.remove(0)
    };
    let first = |array: &dyn ArrayRead| array.read_all().unwrap().cast::<u64>().unwrap();

    let dataset = open(
        json!({ "source": raw_path, "intensities": { "min": 50, "max": 150 } }),
        json!({ "merge": [{ "source": a_path, "classes": [[2, 3]] }, b_path] }),
        json!({ "source": a_path, "annotated": { "groups": [[1]] } }),
    );
    let scaled = dataset.raw.read_all().unwrap().cast::<f32>().unwrap();
    let expected = raw.mapv(|v| ((f32::from(v) - 50.0) / 100.0).clamp(0.0, 1.0));
    assert!(scaled.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
    let merged = ndarray::Zip::from(&a).and(&b).map_collect(|&a, &b| match (a, b) {
        (2 | 3, _) => 1,
        (_, 0) => 0,
        (_, b) => 2 * b,
    });
    assert_eq!(first(&*dataset.labels), merged.into_dyn());
    assert_eq!(
        first(&**dataset.mask.as_ref().unwrap()),
        a.mapv(|id| u64::from(id != 0)).into_dyn()
    );

    // Steps in another order, by nesting: cropped, made finer, one class.
    let crop = json!({ "offset": [8, 10, 0], "shape": [40, 30, 80] });
    let inner = json!({ "source": a_path, "crop": crop });
    let dataset = open(
        json!(raw_path),
        json!({ "source": inner, "binarize": [[4]], "resample": { "voxel_size": [4, 8, 8] }, "cast": "uint32" }),
        json!({ "ones": b_path }),
    );
    // Only whole voxels of the crop: y from 16 to 40.
    assert_eq!(dataset.labels.spec().roi.to_string(), "[8:48, 16:40, 0:80]");
    let expected = Array3::from_shape_fn((10, 3, 10), |(z, y, x)| u64::from(a[[1 + z / 2, 2 + y, x]] == 4));
    assert_eq!(first(&*dataset.labels), expected.into_dyn());
    assert_eq!(dataset.labels.spec().dtype, dacapo_array::DType::U32);

    // Layers, sums, and a channel that is missing.
    let dataset = open(
        json!({ "sum": [raw_path, { "constant": 3 }] }),
        json!({ "layers": [b_path, { "source": a_path, "binarize": [[]] }] }),
        json!({ "any": [a_path, b_path] }),
    );
    assert_eq!(first(&*dataset.raw), raw.mapv(|v| u64::from(v) + 3).into_dyn());
    let layers = ndarray::Zip::from(&a)
        .and(&b)
        .map_collect(|&a, &b| if b != 0 { 1 } else { 2 * u64::from(a != 0) });
    assert_eq!(first(&*dataset.labels), layers.into_dyn());
    let any = ndarray::Zip::from(&a)
        .and(&b)
        .map_collect(|&a, &b| u64::from(a != 0 || b != 0));
    assert_eq!(first(&**dataset.mask.as_ref().unwrap()), any.into_dyn());
}

#[test]
fn what_does_not_fit_is_told_with_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, size: &str, shape: [usize; 3]| {
        write_array(
            dir.path(),
            &format!("a.zarr/{name}"),
            size,
            &[0, 0, 0],
            NdData::U8(ArrayD::ones(shape.to_vec())),
        )
    };
    let (fine, coarse) = (
        write("fine", "[4, 4, 4]", [8; 3]),
        write("coarse", "[8, 8, 8]", [4; 3]),
    );
    let two = write_array(
        dir.path(),
        "a.zarr/two",
        "[4, 4, 4]",
        &[0; 3],
        NdData::U8(ArrayD::ones(vec![2, 8, 8, 8])),
    );
    for (raw, labels, words) in [
        (
            json!({ "concat": [fine, coarse] }),
            json!(fine),
            "raw (concat): no such array can be: channels of arrays with voxels of (4, 4, 4)",
        ),
        (
            json!(fine),
            json!({ "source": fine, "resample": { "voxel_size": [64, 64, 64] } }),
            "labels (resample)",
        ),
        (
            json!(fine),
            json!({ "merge": [fine, { "source": fine, "crop": { "offset": [90, 0, 0], "shape": [8, 8, 8] } }] }),
            "labels (merge[1].crop)",
        ),
        (
            json!(fine),
            json!({ "source": two, "channels": [2] }),
            "labels (channels)",
        ),
        (json!(fine), json!(two), "labels has 2 channels, expected one"),
    ] {
        let error = describe(&data(raw, labels), &Access::default()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn constants_are_like_what_they_stand_beside() {
    let dir = tempfile::tempdir().unwrap();
    let two = write_array(
        dir.path(),
        "a.zarr/two",
        "[4, 4, 4]",
        &[0; 3],
        NdData::U8(ArrayD::ones(vec![2, 8, 8, 8])),
    );
    let one = write_array(
        dir.path(),
        "a.zarr/one",
        "[4, 4, 4]",
        &[0; 3],
        NdData::U8(ArrayD::ones(vec![8, 8, 8])),
    );
    let constant = json!({ "constant": 3 });
    // A channel that is missing is one; what is added has the channels of what it is added to.
    let concat = raw_of(json!({ "concat": [two, constant] }), json!(one));
    assert_eq!(concat.shape, [3, 8, 8, 8]);
    let sum = raw_of(json!({ "sum": [two, constant] }), json!(one));
    assert_eq!(sum.shape, [2, 8, 8, 8]);
    let like = raw_of(
        json!({ "constant": 3, "like": one, "cast": "uint16" }),
        json!(one),
    );
    assert_eq!((like.shape, like.dtype), (vec![8, 8, 8], "uint16".to_owned()));
}

#[test]
fn prediction_sees_raw_as_training_did() {
    let dir = tempfile::tempdir().unwrap();
    let plain = config(dir.path());
    dacapo::synthetic::write_if_missing(plain.data.synthetic.as_ref().unwrap(), &Access::default()).unwrap();
    let predicted = |name: &str, intensities: Option<Value>| {
        let mut config = plain.clone();
        config.num_iterations = 1;
        config.data.validate.clear();
        let raw = config.data.train[0].raw.to_string();
        if let Some(intensities) = intensities {
            let made = json!({ "source": raw, "intensities": intensities });
            config.data.train[0].raw = serde_json::from_value(made).unwrap();
        }
        let store = LocalStore::new(dir.path().join(name));
        run(&store, &config, &()).unwrap();
        let request = PredictRequest {
            input: raw.as_str().into(),
            output: format!("{}/{name}.zarr/affinities", dir.path().display())
                .parse()
                .unwrap(),
            iteration: IterationChoice::Latest,
            roi: None,
            overwrite: false,
            memory: PIECE_MEMORY,
            format: ZarrFormat::V3,
        };
        predict(&store, "small", &request, &engine(), &()).unwrap();
        let array = dacapo_array::open_array(&request.output, &Access::default()).unwrap();
        array.read_all().unwrap().cast::<u8>().unwrap()
    };
    let (bytes, scaled) = (
        predicted("bytes", None),
        predicted("scaled", Some(json!({ "min": 0, "max": 255 }))),
    );
    assert!(
        bytes.iter().zip(&scaled).all(|(a, b)| a.abs_diff(*b) <= 1),
        "the same network on the same values"
    );
    let dark = predicted("dark", Some(json!({ "min": 0, "max": 2550 })));
    let differ = bytes
        .iter()
        .zip(&dark)
        .filter(|(a, b)| a.abs_diff(**b) > 1)
        .count();
    assert!(differ > bytes.len() / 10, "another scale shows: {differ}");
    assert_eq!(bytes.len_of(Axis(0)), 6);
}

#[test]
fn files_of_any_format_are_predicted_where_they_are_said_to_lie() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    dacapo::synthetic::write_if_missing(config.data.synthetic.as_ref().unwrap(), &Access::default()).unwrap();
    config.num_iterations = 1;
    config.data.validate.clear();
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let predicted = |input: ArraySource, name: &str| {
        let request = PredictRequest {
            input,
            output: format!("{}/out.zarr/{name}", dir.path().display())
                .parse()
                .unwrap(),
            iteration: IterationChoice::Latest,
            roi: None,
            overwrite: false,
            memory: PIECE_MEMORY,
            format: ZarrFormat::V2,
        };
        predict(&store, "small", &request, &engine(), &()).unwrap();
        dacapo_array::open_array(&request.output, &Access::default()).unwrap()
    };
    let raw = config.data.train[0].raw.clone();
    let expected = predicted(raw.clone(), "zarr");
    let address: dacapo_array::ArrayAddress = raw.to_string().parse().unwrap();
    let array = dacapo_array::open_array(&address, &Access::default()).unwrap();
    let spec = array.spec();
    let begin = Coordinate::new([80, 0, -16]);
    for (name, file) in [("tif", "raw.tif"), ("npy", "raw.npy"), ("n5", "raw.n5/raw")] {
        let path = dir.path().join(file);
        let access = Access::default();
        dacapo_array::export(&*array, &path, &access, &Default::default(), &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap();
        let made = json!({
            "source": path, "voxel_size": spec.voxel_size, "offset": begin, "units": spec.units,
        });
        let found = predicted(serde_json::from_value(made).unwrap(), name);
        let moved = expected.spec().roi.shift(&(&begin - spec.roi.begin()));
        assert_eq!(found.spec().roi, moved, "{name}");
        assert_eq!(found.spec().units, expected.spec().units, "{name}");
        assert_eq!(found.read_all().unwrap(), expected.read_all().unwrap(), "{name}");
    }
}

#[test]
fn steps_survive_being_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let made =
        json!({ "source": "a.zarr/x", "percentiles": {}, "resample": { "voxel_size": [4.6, 4.6, 4.6] } });
    config.data.train[0].raw = serde_json::from_value(made).unwrap();
    config.data.train[0].mask = Some("b.zarr/m".into());
    let text = config.to_yaml().unwrap();
    assert!(text.contains("4.6") && !text.contains("concat"), "{text}");
    assert_eq!(
        parse_config(&text, Format::Yaml, Path::new("a.yaml")).unwrap(),
        config
    );
}
