//! Pyramids as a whole: levels are those of a naive computation, lie where they should, and are named by the
//! metadata of their group.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, Decimal,
    Error, Level, NdData, PyramidOptions, Reduce, Result, Roi, ZarrArray, ZarrFormat, make_pyramid,
    open_array,
};
use ndarray::{Array3, ArrayD};
use serde_json::{Value, json};

fn address(dir: &Path, text: &str) -> ArrayAddress {
    dir.join(text).to_str().unwrap().parse().unwrap()
}

fn create(address: &ArrayAddress, shape: [usize; 3], size: [&str; 3], format: ZarrFormat) -> Array3<u8> {
    let voxel_size = Coordinate::new(size.map(|n| n.parse::<Decimal>().unwrap()));
    let spec = ArraySpec::new(
        Roi::from_voxels(&[2, -1, 3], &shape, &voxel_size),
        voxel_size,
        DType::U8,
    );
    let options = CreateOptions {
        chunk_shape: Some(vec![5, 16, 16]),
        format,
        ..CreateOptions::default()
    };
    let values = Array3::from_shape_fn(shape, |(z, y, x)| ((z * 7919 + y * 31 + x * 17) % 6) as u8);
    ZarrArray::create(address, &Access::default(), &spec, &options)
        .unwrap()
        .write(&spec.roi, &NdData::U8(values.clone().into_dyn()))
        .unwrap();
    values
}

fn make(address: &ArrayAddress, options: &PyramidOptions) -> Result<Vec<Level>> {
    make_pyramid(address, &Access::default(), options, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

/// The mode of windows of a shape: simple, slow.
fn modes(values: &Array3<u8>, factors: [usize; 3]) -> ArrayD<u8> {
    let (z, y, x) = values.dim();
    let shape = [
        z.div_ceil(factors[0]),
        y.div_ceil(factors[1]),
        x.div_ceil(factors[2]),
    ];
    ArrayD::from_shape_fn(shape.to_vec(), |i| {
        let mut counts = [0; 256];
        for ((z, y, x), &value) in values.indexed_iter() {
            if [z / factors[0], y / factors[1], x / factors[2]] == [i[0], i[1], i[2]] {
                counts[usize::from(value)] += 1;
            }
        }
        let most = counts.iter().max().unwrap();
        counts.iter().position(|n| n == most).unwrap() as u8
    })
}

fn group(dir: &Path, format: ZarrFormat) -> Value {
    let (file, at) = match format {
        ZarrFormat::V2 => (".zattrs", "/multiscales"),
        ZarrFormat::V3 => ("zarr.json", "/attributes/ome/multiscales"),
    };
    let metadata: Value = serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap();
    metadata.pointer(at).unwrap().clone()
}

#[test]
fn levels_stand_beside_the_array_and_are_named_by_its_group() {
    for format in [ZarrFormat::V2, ZarrFormat::V3] {
        let dir = tempfile::tempdir().unwrap();
        let raw = address(dir.path(), "a.zarr/em/raw");
        let values = create(&raw, [7, 30, 33], ["40", "4.5", "4.5"], format);
        // Another image of the group keeps its entry, and its place.
        create(
            &address(dir.path(), "a.zarr/em/other"),
            [2, 2, 2],
            ["1", "1", "1"],
            format,
        );
        let options = PyramidOptions {
            reduce: Some(Reduce::Mode),
            levels: Some(4),
            ..PyramidOptions::default()
        };
        let levels = make(&raw, &options).unwrap();
        let sizes: Vec<String> = levels
            .iter()
            .map(|level| level.spec.voxel_size.to_string())
            .collect();
        assert_eq!(
            sizes,
            [
                "(40, 4.5, 4.5)",
                "(40, 9, 9)",
                "(40, 18, 18)",
                "(40, 36, 36)",
                "(80, 72, 72)"
            ]
        );
        assert_eq!(levels[1].address.dataset, "em/raw.s1");
        let first = ZarrArray::open(&levels[1].address, &Access::default()).unwrap();
        assert_eq!(first.format(), format);
        assert_eq!(*first.spec(), levels[1].spec);
        assert_eq!(first.read_all().unwrap(), NdData::U8(modes(&values, [1, 2, 2])));
        // Each of the one before.
        let above = open_array(&levels[3].address, &Access::default())
            .unwrap()
            .read_all()
            .unwrap();
        let above = above.into_typed::<u8>().unwrap().into_dimensionality().unwrap();
        let last = open_array(&levels[4].address, &Access::default()).unwrap();
        assert_eq!(last.read_all().unwrap(), NdData::U8(modes(&above, [2, 2, 2])));
        assert_eq!(last.spec().roi.begin(), levels[0].spec.roi.begin());

        let entries = group(&dir.path().join("a.zarr/em"), format);
        let names: Vec<&Value> = entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["name"])
            .collect();
        assert_eq!(names, ["raw", "other"]);
        let datasets = entries[0]["datasets"].as_array().unwrap();
        let paths: Vec<&Value> = datasets.iter().map(|dataset| &dataset["path"]).collect();
        assert_eq!(paths, ["raw", "raw.s1", "raw.s2", "raw.s3", "raw.s4"]);
        assert_eq!(entries[0]["type"], json!("mode"));
        // The middle of the first voxel moves by half of what the voxel grew.
        let at = |level: usize| datasets[level]["coordinateTransformations"].clone();
        assert_eq!(at(0)[1]["translation"], json!([80.0, -4.5, 13.5]));
        assert_eq!(at(1)[0]["scale"], json!([40.0, 9.0, 9.0]));
        assert_eq!(at(1)[1]["translation"], json!([80.0, -2.25, 15.75]));
        assert_eq!(at(4)[1]["translation"], json!([100.0, 29.25, 47.25]));

        // Not again, unless it is asked for.
        assert!(matches!(make(&raw, &options), Err(Error::Exists { .. })));
        let again = PyramidOptions {
            overwrite: true,
            levels: Some(1),
            ..options
        };
        make(&raw, &again).unwrap();
        let entries = group(&dir.path().join("a.zarr/em"), format);
        assert_eq!(entries[0]["datasets"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_group_of_its_own_opens_as_the_array() {
    for format in [ZarrFormat::V2, ZarrFormat::V3] {
        let dir = tempfile::tempdir().unwrap();
        let raw = address(dir.path(), "a.zarr/raw");
        let values = create(&raw, [9, 130, 70], ["8", "8", "8"], format);
        let options = PyramidOptions {
            group: Some("views/raw".into()),
            ..PyramidOptions::default()
        };
        let levels = make(&raw, &options).unwrap();
        let shapes: Vec<Vec<usize>> = levels.iter().map(|level| level.spec.shape()).collect();
        assert_eq!(shapes, [[9, 130, 70], [5, 65, 35], [3, 33, 18]]);
        assert_eq!(levels[0].address.dataset, "views/raw/s0");
        let opened = open_array(&address(dir.path(), "a.zarr/views/raw"), &Access::default()).unwrap();
        assert_eq!(opened.read_all().unwrap(), NdData::U8(values.clone().into_dyn()));
        assert_eq!(opened.spec().roi, levels[0].spec.roi);
        // The mean of u8, at a corner that is whole and at one that is cut.
        let level = open_array(&levels[1].address, &Access::default())
            .unwrap()
            .read_all()
            .unwrap()
            .into_typed::<u8>()
            .unwrap();
        let mean = |z: usize, y: usize, x: usize| {
            let part = values.slice(ndarray::s![z..(z + 2).min(9), y..y + 2, x..x + 2]);
            let sum: f64 = part.iter().map(|&v| f64::from(v)).sum();
            (sum / part.len() as f64).round_ties_even() as u8
        };
        assert_eq!(level[[0, 0, 0]], mean(0, 0, 0));
        assert_eq!(level[[4, 64, 34]], mean(8, 128, 68));
        let entries = group(&dir.path().join("a.zarr/views/raw"), format);
        assert_eq!(entries.as_array().unwrap().len(), 1);
        assert_eq!(entries[0]["datasets"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let raw = address(dir.path(), "a.zarr/raw");
    create(&raw, [4, 4, 4], ["1", "1", "1"], ZarrFormat::V2);
    let missing = address(dir.path(), "a.zarr/other");
    assert!(matches!(
        make(&missing, &PyramidOptions::default()),
        Err(Error::NoArray { .. })
    ));
    let out = PyramidOptions {
        group: Some("../b".into()),
        ..PyramidOptions::default()
    };
    assert!(matches!(make(&raw, &out), Err(Error::Address { .. })));
    let stopped = make_pyramid(
        &raw,
        &Access::default(),
        &PyramidOptions {
            levels: Some(1),
            ..PyramidOptions::default()
        },
        &mut |_, _| ControlFlow::Break(()),
    );
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(!dir.path().join("a.zarr/raw.s1").exists());
    // Nor of levels that were finished before.
    let named = std::fs::read(dir.path().join("a.zarr/.zattrs")).ok();
    let options = PyramidOptions {
        levels: Some(2),
        ..PyramidOptions::default()
    };
    let mut last = |done: usize, _| {
        if done > 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let stopped = make_pyramid(&raw, &Access::default(), &options, &mut last);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(!dir.path().join("a.zarr/raw.s1").exists());
    let images = |text: Option<Vec<u8>>| -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&text.unwrap()).unwrap()["multiscales"].clone()
    };
    assert_eq!(
        images(std::fs::read(dir.path().join("a.zarr/.zattrs")).ok()),
        images(named)
    );
    make(&raw, &options).unwrap();
}
