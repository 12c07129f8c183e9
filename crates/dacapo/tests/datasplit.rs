//! Datasplits found in folders, made from tables, and described.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{config, run, write_array};
use dacapo::config::{DataConfig, SimpleConfig, load_data};
use dacapo::datasplit::{Table, TableOptions, Targets, describe, found, pictures, to_yaml};
use dacapo::{Error, LocalStore, load_run};
use dacapo_array::storage::{Access, MemoryStorage};
use dacapo_array::{
    ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, PyramidOptions, Roi, ZarrArray, make_pyramid,
};
use ndarray::ArrayD;

fn bytes(shape: &[usize]) -> NdData {
    NdData::U8(ArrayD::from_shape_fn(shape.to_vec(), |i| {
        (i[0] * 7 + i[1] * 3 + i[2]) as u8
    }))
}

fn objects(shape: &[usize]) -> NdData {
    NdData::U64(ArrayD::from_shape_fn(shape.to_vec(), |i| {
        (1 + i[0] / 6 * 100 + i[1] / 6 * 10 + i[2] / 6) as u64
    }))
}

fn problems(error: &Error) -> Vec<String> {
    match error {
        Error::Datasplit { problems, .. } => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn crops_are_found_in_a_container_and_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let shape = [24, 24, 24];
    for (path, data) in [
        ("data.zarr/train/crop1/raw", bytes(&shape)),
        ("data.zarr/train/crop1/labels", objects(&shape)),
        (
            "data.zarr/train/crop1/mask",
            NdData::U8(ArrayD::ones(shape.to_vec())),
        ),
        ("data.zarr/train/crop2/raw", bytes(&shape)),
        ("data.zarr/train/crop2/labels", objects(&shape)),
        ("data.zarr/train/notes/other", bytes(&shape)),
        ("data.zarr/test/raw", bytes(&shape)),
        ("data.zarr/test/labels", objects(&shape)),
    ] {
        write_array(dir.path(), path, "[8, 8, 8]", &[0, 0, 0], data);
    }
    let container = dir.path().join("data.zarr");
    let mut config = config(dir.path());
    config.data = DataConfig {
        simple: Some(SimpleConfig::new(container.to_string_lossy())),
        train: vec![],
        validate: vec![],
        ..config.data
    };
    config.data.synthetic = None;
    (config.num_iterations, config.validation.interval) = (2, 2);
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    // The run names what it was trained on: crops that come later do not change it unseen.
    let data = load_run(&store, "small").unwrap().data;
    let names =
        |list: &[dacapo::config::DatasetConfig]| list.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names(&data.train), names(&data.validate)),
        (vec!["crop1".into(), "crop2".into()], vec!["test".into()])
    );
    let path = |rest: &str| container.join(rest).to_string_lossy().into_owned();
    assert_eq!(
        data.train[0].mask.as_ref().unwrap().to_string(),
        path("train/crop1/mask")
    );
    assert_eq!(data.train[1].mask, None);
    assert_eq!(data.validate[0].raw.to_string(), path("test/raw"));
    assert!(data.simple.is_none());
    write_array(
        dir.path(),
        "data.zarr/train/crop3/raw",
        "[8, 8, 8]",
        &[0, 0, 0],
        bytes(&shape),
    );
    write_array(
        dir.path(),
        "data.zarr/train/crop3/labels",
        "[8, 8, 8]",
        &[0, 0, 0],
        objects(&shape),
    );
    config.num_iterations = 3;
    let error = run(&store, &config, &()).unwrap_err();
    assert!(matches!(error, Error::ConfigChanged { .. }), "{error}");
}

#[test]
fn crops_can_be_files_of_other_formats() {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dacapo-array/tests/data/formats");
    let dir = tempfile::tempdir().unwrap();
    let crop = dir.path().join("train/a");
    fs::create_dir_all(&crop).unwrap();
    fs::copy(formats.join("pages_uint8.tif"), crop.join("raw.tif")).unwrap();
    fs::copy(formats.join("pages_uint16.tif"), crop.join("labels.tif")).unwrap();
    write_array(
        dir.path(),
        "test/b.zarr/raw",
        "[8, 8, 8]",
        &[0; 3],
        bytes(&[8, 8, 8]),
    );
    write_array(
        dir.path(),
        "test/b.zarr/labels",
        "[8, 8, 8]",
        &[0; 3],
        objects(&[8, 8, 8]),
    );
    let data = |path: &Path| DataConfig {
        simple: Some(SimpleConfig::new(path.to_string_lossy())),
        synthetic: None,
        train: vec![],
        validate: vec![],
        intensity: None,
    };
    let there = found(&data(dir.path()), &Access::default()).unwrap();
    assert_eq!(
        there.train[0].raw.to_string(),
        crop.join("raw.tif").to_string_lossy()
    );
    assert_eq!(there.validate[0].name, "b");
    let summaries = describe(&there, &Access::default()).unwrap();
    assert_eq!(summaries[0].labels.shape, [3, 20, 17]);

    // Everything that is wrong at once.
    fs::remove_file(crop.join("labels.tif")).unwrap();
    fs::rename(dir.path().join("test"), dir.path().join("tset")).unwrap();
    let error = found(&data(dir.path()), &Access::default()).unwrap_err();
    assert_eq!(
        problems(&error),
        [
            "train/a: there is `raw`, but no `labels`",
            "test: no `raw` is in it, nor in a folder in it; in the folder are train, tset",
        ]
    );
    let error = found(&data(&dir.path().join("nothing")), &Access::default()).unwrap_err();
    assert!(error.to_string().contains("there is no such folder"), "{error}");
}

#[test]
fn crops_are_found_wherever_arrays_can_be_kept() {
    let access = Access::default().with_memory("m", Arc::new(MemoryStorage::default()));
    for (name, data) in [
        ("train/raw", bytes(&[8, 8, 8])),
        ("train/labels", objects(&[8, 8, 8])),
        ("test/a/raw", bytes(&[8, 8, 8])),
        ("test/a/labels", objects(&[8, 8, 8])),
    ] {
        let size = Coordinate::splat(3, 8);
        let roi = Roi::from_voxels(&[0; 3], data.shape(), &size);
        let spec = ArraySpec::new(roi.clone(), size, data.dtype());
        let address = format!("memory://m/data.zarr/{name}").parse().unwrap();
        let array = ZarrArray::create(&address, &access, &spec, &CreateOptions::default()).unwrap();
        array.write(&roi, &data).unwrap();
    }
    let data: DataConfig =
        serde_json::from_value(serde_json::json!({ "simple": { "path": "memory://m/data.zarr" } })).unwrap();
    let there = found(&data, &access).unwrap();
    assert_eq!(there.train[0].raw.path(), Some("memory://m/data.zarr/train/raw"));
    assert_eq!(
        there.validate[0].labels.path(),
        Some("memory://m/data.zarr/test/a/labels")
    );
    assert_eq!(describe(&there, &access).unwrap()[1].labelled, 512);
}

fn options(size: [i64; 3]) -> TableOptions {
    TableOptions {
        voxel_size: Coordinate::new(size),
        labels_voxel_size: None,
        targets: Targets::Objects,
        most_validation_voxels: None,
    }
}

#[test]
fn a_table_becomes_a_datasplit() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, size: &str, data: NdData| write_array(dir.path(), path, size, &[0, 0, 0], data);
    let em = write("cells.zarr/em/fine", "[4, 4, 4]", bytes(&[32, 32, 32]));
    let pyramid = PyramidOptions {
        levels: Some(1),
        ..PyramidOptions::default()
    };
    make_pyramid(&em.parse().unwrap(), &Access::default(), &pyramid, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let part = |z: std::ops::Range<usize>| {
        NdData::U8(ArrayD::from_shape_fn(vec![16, 16, 16], move |i| {
            u8::from(z.contains(&i[0]))
        }))
    };
    let mito = write("cells.zarr/labels/crop1/mito", "[8, 8, 8]", part(0..4));
    let nucleus = write("cells.zarr/labels/crop1/nucleus", "[8, 8, 8]", part(3..9));
    write("cells.zarr/labels/crop2/all", "[16, 16, 16]", objects(&[8, 8, 8]));
    let table = dir.path().join("crops.csv");
    let rows = "\
type,raw container,raw dataset,labels container,labels dataset
# the first crop
train, cells.zarr, em/fine, cells.zarr, labels/crop1[mito&nucleus]
\"train\",cells.zarr,em/fine,cells.zarr,labels/crop1/nucleus

val,cells.zarr/,/em/fine,cells.zarr,labels/crop2/all
";
    fs::write(&table, rows).unwrap();
    let read = Table::read(&table, dir.path()).unwrap();
    let made = read.datasplit(&options([8, 8, 8]), &Access::default()).unwrap();
    let names: Vec<&str> = made
        .train
        .iter()
        .chain(&made.validate)
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "cells_labels_crop1",
            "cells_labels_crop1_nucleus",
            "cells_labels_crop2_all"
        ]
    );
    // What has the size is named as it is, what has another is resampled.
    assert_eq!(
        made.train[0].raw.to_string(),
        format!("{{\"source\":\"{em}\",\"resample\":{{\"voxel_size\":[8,8,8]}}}}")
    );
    assert_eq!(
        made.train[0].labels.to_string(),
        format!("{{\"merge\":[\"{mito}\",\"{nucleus}\"]}}")
    );
    assert_eq!(made.train[1].labels.to_string(), nucleus);
    assert!(made.validate[0].labels.to_string().contains("resample"));
    let summaries = describe(&made, &Access::default()).unwrap();
    for summary in &summaries {
        let eight = Coordinate::splat(3, 8);
        assert_eq!(
            (&summary.raw.voxel_size, &summary.labels.voxel_size),
            (&eight, &eight)
        );
        assert_eq!(
            (&summary.raw.shape[..], summary.voxels),
            (&[16, 16, 16][..], 4096)
        );
    }
    // Two objects: where they overlap, the first.
    assert_eq!(summaries[0].largest, [(0, 7 * 256), (2, 5 * 256), (1, 4 * 256)]);
    assert_eq!((summaries[0].labelled, summaries[0].ids), (9 * 256, 2));

    let classes = TableOptions {
        targets: Targets::Classes,
        labels_voxel_size: Some(Coordinate::splat(3, 4)),
        most_validation_voxels: Some(1000),
        ..options([8, 8, 8])
    };
    let made = read.datasplit(&classes, &Access::default()).unwrap();
    let summaries = describe(&made, &Access::default()).unwrap();
    assert_eq!(summaries[0].largest[1..], [(2, 5 * 256 * 8), (1, 4 * 256 * 8)]);
    assert_eq!(summaries[1].largest[1], (1, 6 * 256 * 8));
    // The middle of the validation crop: 10³ voxels of 4, and not in the others.
    assert_eq!(
        made.validate[0].roi,
        Some(Roi::from_voxels(&[11; 3], &[10; 3], &Coordinate::splat(3, 4)))
    );
    assert_eq!(made.train[0].roi, None);
    assert_eq!(summaries[2].voxels, 1000);

    // It can be written, and read as the data of a config.
    let file = dir.path().join("split.yaml");
    fs::write(&file, to_yaml(&serde_json::json!({ "data": made })).unwrap()).unwrap();
    assert_eq!(load_data(&file, dir.path()).unwrap(), made);
}

#[test]
fn everything_that_is_wrong_with_a_table_is_told_with_its_row_and_column() {
    let dir = tempfile::tempdir().unwrap();
    write_array(dir.path(), "a.zarr/raw", "[8, 8, 8]", &[0; 3], bytes(&[8, 8, 8]));
    write_array(
        dir.path(),
        "a.zarr/labels",
        "[8, 8, 8]",
        &[0; 3],
        objects(&[8, 8, 8]),
    );
    write_array(
        dir.path(),
        "a.zarr/apart",
        "[8, 8, 8]",
        &[90; 3],
        objects(&[8, 8, 8]),
    );
    write_array(
        dir.path(),
        "a.zarr/floats",
        "[8, 8, 8]",
        &[0; 3],
        NdData::F32(ArrayD::ones(vec![8, 8, 8])),
    );
    let table = dir.path().join("crops.csv");
    let read = |rows: &str| {
        fs::write(&table, rows).unwrap();
        let table = Table::read(&table, dir.path())?;
        table.datasplit(&options([8, 8, 8]), &Access::default())
    };
    let rows = "\
train,a.zarr,raw,a.zarr,labels
trian,a.zarr,raw,a.zarr,labels
train,a.zarr,raw,a.zarr
val,,raw,a.zarr,labels[a&]
val,a.zarr,raw,a.zarr,labels[a
";
    assert_eq!(
        problems(&read(rows).unwrap_err()),
        [
            "row 2, train|val: `trian` is neither train nor val; did you mean `train`?",
            "row 3: 4 values, expected 5: train|val, raw container, raw dataset, labels container, labels dataset",
            "row 4, raw container: it is empty",
            "row 4, labels dataset: `labels[a&]` does not name datasets as group[a&b]",
            "row 5, labels dataset: `labels[a` does not end in `]`",
        ]
    );
    let rows = "\
train,a.zarr,ra,b.zarr,labels
val,a.zarr,raw,a.zarr,apart
val,a.zarr,raw,a.zarr,floats
val,a.zarr,raw,a.zarr,labels[x&y]
";
    let found = problems(&read(rows).unwrap_err());
    assert_eq!(found.len(), 6, "{found:#?}");
    for (problem, words) in found.iter().zip([
        [
            "row 1, raw dataset: there is no array `ra`",
            "there are: apart, floats, labels, raw",
        ],
        ["row 1, labels container: there is no container", "a.zarr"],
        ["row 2: ", "do not overlap"],
        ["row 3: ", "labels are float32"],
        ["row 4, labels dataset: there is no array `labels/x`", ""],
        ["row 4, labels dataset: there is no array `labels/y`", ""],
    ]) {
        assert!(
            problem.starts_with(words[0]) && problem.contains(words[1]),
            "{problem}"
        );
    }
    assert_eq!(
        problems(&read("val,a.zarr,raw,a.zarr,labels\n").unwrap_err()),
        ["no row is for training"]
    );
    let too_large = TableOptions {
        voxel_size: Coordinate::splat(3, 100),
        ..options([8, 8, 8])
    };
    fs::write(&table, "train,a.zarr,raw,a.zarr,labels\n").unwrap();
    let error = Table::read(&table, dir.path())
        .unwrap()
        .datasplit(&too_large, &Access::default())
        .unwrap_err();
    assert!(
        problems(&error)
            .iter()
            .all(|problem| problem.contains("no whole voxel")),
        "{error}"
    );
    assert!(matches!(
        Table::read(&dir.path().join("no.csv"), dir.path()),
        Err(Error::Io { .. })
    ));
}

#[test]
fn pictures_show_the_middle_of_a_dataset_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write_array(
        dir.path(),
        "a.zarr/raw",
        "[40, 8, 8]",
        &[1, 0, 0],
        bytes(&[5, 20, 30]),
    );
    let labels = write_array(
        dir.path(),
        "a.zarr/labels",
        "[40, 4, 4]",
        &[1, 2, 0],
        objects(&[5, 20, 60]),
    );
    let half = NdData::U8(ArrayD::from_shape_fn(vec![5, 20, 30], |i| u8::from(i[2] < 15)));
    let mask = write_array(dir.path(), "a.zarr/mask", "[40, 8, 8]", &[1, 0, 0], half);
    let data: DataConfig = serde_json::from_value(serde_json::json!({
        "train": [{ "name": "t", "raw": raw, "labels": labels, "mask": mask }]
    }))
    .unwrap();
    let access = Access::default();
    let summary = describe(&data, &access).unwrap().remove(0);
    assert_eq!(
        (summary.voxels, summary.annotated, summary.labelled),
        (5 * 20 * 60, 5 * 20 * 30, 5 * 20 * 30)
    );
    let picture = pictures(&data, &access).unwrap().remove(0);
    // Section 3 of raw, its rows 1 to 10, which are all that is labelled.
    assert_eq!(picture.roi.to_string(), "[120:160, 8:88, 0:240]");
    assert_eq!(picture.raw.dim(), (1, 10, 30));
    for ((y, x), &label) in picture.labels.indexed_iter() {
        assert_eq!(picture.raw[[0, y, x]], f32::from((2 * 7 + (y + 1) * 3 + x) as u8));
        assert_eq!(picture.known[[y, x]], x < 15);
        let (fine_y, fine_x) = (2 * y + 1, 2 * x + 1);
        assert_eq!(label, (1 + fine_y / 6 * 10 + fine_x / 6) as u64);
    }
}
