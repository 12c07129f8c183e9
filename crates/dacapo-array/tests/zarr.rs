//! Zarr arrays as a whole: what was written is read, at any window; what is wrong is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its case has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Codec, Coordinate, CreateOptions, DType,
    Element, Error, MemoryArray, NdData, Roi, ZarrArray, ZarrFormat, list_arrays, open_array,
};
use ndarray::ArrayD;
use serde_json::json;

fn address(dir: &Path, text: &str) -> ArrayAddress {
    dir.join(text).to_str().unwrap().parse().unwrap()
}

fn here() -> Access {
    Access::default()
}

fn path(address: &ArrayAddress) -> PathBuf {
    address.location().path().unwrap().to_owned()
}

/// Some number for a voxel.
fn hash(i: usize) -> i64 {
    (i as i64 * 7919 + 13) % 101
}

fn data(dtype: DType, shape: &[usize]) -> NdData {
    fn make<T: Element>(shape: &[usize], convert: impl Fn(i64) -> T) -> ArrayD<T> {
        ArrayD::from_shape_vec(
            shape,
            (0..shape.iter().product()).map(|i| convert(hash(i))).collect(),
        )
        .unwrap()
    }
    match dtype {
        DType::Bool => NdData::Bool(make(shape, |v| v % 2 == 0)),
        DType::U8 => NdData::U8(make(shape, |v| v as u8)),
        DType::U16 => NdData::U16(make(shape, |v| v as u16 * 500)),
        DType::U32 => NdData::U32(make(shape, |v| v as u32 * 40_000_000)),
        DType::U64 => NdData::U64(make(shape, |v| u64::MAX - v as u64)),
        DType::I8 => NdData::I8(make(shape, |v| v as i8 - 50)),
        DType::I16 => NdData::I16(make(shape, |v| v as i16 * -300)),
        DType::I32 => NdData::I32(make(shape, |v| v as i32 * -20_000_000)),
        DType::I64 => NdData::I64(make(shape, |v| i64::MIN + v)),
        DType::F32 => NdData::F32(make(shape, |v| v as f32 / 7.0)),
        DType::F64 => NdData::F64(make(shape, |v| v as f64 / -7.0)),
    }
}

fn spec(offset: [i64; 3], shape: [usize; 3], dtype: DType) -> ArraySpec {
    let voxel_size = Coordinate::new([40, 4, 4]);
    ArraySpec::new(Roi::from_voxels(&offset, &shape, &voxel_size), voxel_size, dtype)
}

/// A region that begins so many voxels after the array does.
fn region(spec: &ArraySpec, begin: [i64; 3], shape: [usize; 3]) -> Roi {
    Roi::from_voxels(&begin, &shape, &spec.voxel_size).shift(spec.roi.begin())
}

#[test]
fn every_type_and_codec_goes_round() {
    let dir = tempfile::tempdir().unwrap();
    let codecs = [
        Codec::None,
        Codec::Zstd { level: 3 },
        Codec::Blosc { level: 5 },
        Codec::Gzip { level: 1 },
    ];
    for (i, dtype) in DType::ALL.into_iter().enumerate() {
        for format in [ZarrFormat::V2, ZarrFormat::V3] {
            for channels in [vec![], vec![3]] {
                let codec = Some(codecs[i % 4]);
                let name = format!("a.zarr/{dtype}/{format:?}/{}", channels.len());
                let spec = spec([-2, 3, 100], [5, 7, 9], dtype).with_channels(channels);
                let values = data(dtype, &spec.shape());
                let chunk_shape = Some(spec.shape().iter().map(|n| n.div_ceil(2)).collect());
                let options = CreateOptions {
                    chunk_shape,
                    format,
                    codec,
                    ..CreateOptions::default()
                };
                let created =
                    ZarrArray::create(&address(dir.path(), &name), &here(), &spec, &options).unwrap();
                created.write(&spec.roi, &values).unwrap();
                for array in [
                    created,
                    ZarrArray::open(&address(dir.path(), &name), &here()).unwrap(),
                ] {
                    assert_eq!(array.spec(), &spec, "{name}");
                    assert_eq!(array.read_all().unwrap(), values, "{name}");
                }
            }
        }
    }
    assert_eq!(
        list_arrays(&dir.path().join("a.zarr").into(), &here())
            .unwrap()
            .len(),
        44
    );
}

#[test]
fn windows_are_those_of_an_array_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([5, -7, 0], [11, 13, 17], DType::I32).with_channels(vec![2]);
    let whole = data(DType::I32, &spec.shape());
    let memory = MemoryArray::zeros(spec.clone()).unwrap();
    let options = CreateOptions {
        chunk_shape: Some(vec![1, 4, 5, 6]),
        ..CreateOptions::default()
    };
    // A cache that holds a few chunks only, so that they come and go.
    let zarr = ZarrArray::create(&address(dir.path(), "w.zarr/x"), &here(), &spec, &options)
        .unwrap()
        .with_cache(4096);
    memory.write(&spec.roi, &whole).unwrap();
    zarr.write(&spec.roi, &whole).unwrap();
    for step in 0..40 {
        let pick = |salt: usize, most: usize| hash(step * 31 + salt) as usize % most;
        let begin: [usize; 3] = [pick(1, 11), pick(2, 13), pick(3, 17)];
        let shape = [
            1 + pick(4, 11 - begin[0]),
            1 + pick(5, 13 - begin[1]),
            1 + pick(6, 17 - begin[2]),
        ];
        let inside = region(&spec, begin.map(|n| n as i64), shape);
        if step % 2 == 0 {
            let values = data(DType::I32, &[2, shape[0], shape[1], shape[2]]);
            memory.write(&inside, &values).unwrap();
            zarr.write(&inside, &values).unwrap();
        }
        let reaching_out = region(&spec, begin.map(|n| n as i64 - 6), [9, 9, 9]);
        for roi in [&inside, &reaching_out, &spec.roi] {
            let expected = memory.read(roi).unwrap();
            assert_eq!(zarr.read(roi).unwrap(), expected);
            assert_eq!(
                ZarrArray::open(zarr.address(), &here())
                    .unwrap()
                    .read(roi)
                    .unwrap(),
                expected
            );
        }
    }
}

#[test]
fn what_was_never_written_has_the_fill_value() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([0; 3], [4, 4, 4], DType::F32);
    let options = CreateOptions {
        fill: f64::NAN,
        chunk_shape: Some(vec![3; 3]),
        ..CreateOptions::default()
    };
    let array = ZarrArray::create(&address(dir.path(), "f.zarr/x"), &here(), &spec, &options).unwrap();
    let one = NdData::F32(ArrayD::from_elem(vec![1, 1, 1], 2.5));
    array.write(&region(&spec, [1, 1, 1], [1, 1, 1]), &one).unwrap();
    let values = array
        .read_as::<f32>(&region(&spec, [-1, -1, -1], [6, 6, 6]))
        .unwrap();
    assert_eq!(values.iter().filter(|v| !v.is_nan()).count(), 1);
    assert_eq!(values[[2, 2, 2]], 2.5);
}

#[test]
fn threads_that_write_parts_of_one_chunk_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([0; 3], [8, 8, 64], DType::U16);
    let options = CreateOptions {
        chunk_shape: Some(vec![8, 8, 32]),
        ..CreateOptions::default()
    };
    let array = ZarrArray::create(&address(dir.path(), "t.zarr/x"), &here(), &spec, &options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (array, spec) = (&array, &spec);
            scope.spawn(move || {
                for x in (thread..64).step_by(8) {
                    let column = NdData::U16(ArrayD::from_elem(vec![8, 8, 1], x as u16 + 1));
                    array
                        .write(&region(spec, [0, 0, x as i64], [8, 8, 1]), &column)
                        .unwrap();
                }
            });
        }
    });
    let values = ZarrArray::open(array.address(), &here())
        .unwrap()
        .read_as::<u16>(&spec.roi)
        .unwrap();
    assert!(
        values
            .indexed_iter()
            .all(|(at, &value)| value as usize == at[2] + 1)
    );
}

#[test]
fn creating_over_an_array_must_be_asked_for_and_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = address(dir.path(), "c.zarr/g/x");
    let small = spec([0; 3], [2, 2, 2], DType::U8);
    let array = ZarrArray::create(&at, &here(), &small, &CreateOptions::default()).unwrap();
    array.write(&small.roi, &data(DType::U8, &[2, 2, 2])).unwrap();
    let error = ZarrArray::create(&at, &here(), &small, &CreateOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(array.read_all().unwrap(), data(DType::U8, &[2, 2, 2]));

    let large = spec([1; 3], [3, 3, 3], DType::U64);
    let options = CreateOptions {
        overwrite: true,
        ..CreateOptions::default()
    };
    ZarrArray::create(&at, &here(), &large, &options).unwrap();
    let again = ZarrArray::open(&at, &here()).unwrap();
    assert_eq!(again.spec(), &large);
    assert!(again.read_as::<u64>(&large.roi).unwrap().iter().all(|&v| v == 0));
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&dir.path().join("c.zarr/g")), [".zattrs", ".zgroup", "x"]);
    assert_eq!(names(&dir.path().join("c.zarr")), [".zgroup", "g"]);
    // Nothing fits inside an array.
    let inside = address(dir.path(), "c.zarr/g/x/y");
    assert!(matches!(
        ZarrArray::create(&inside, &here(), &large, &options),
        Err(Error::Address { .. })
    ));
}

#[test]
fn the_group_places_the_array_for_other_programs() {
    let dir = tempfile::tempdir().unwrap();
    let decimal: Coordinate = serde_json::from_str("[4.6, 4.6, 4.6]").unwrap();
    let spec = ArraySpec::new(
        Roi::from_voxels(&[10, 0, 1], &[2, 3, 4], &decimal),
        decimal,
        DType::U8,
    )
    .with_channels(vec![2]);
    for format in [ZarrFormat::V2, ZarrFormat::V3] {
        let options = CreateOptions {
            format,
            ..CreateOptions::default()
        };
        let at = address(dir.path(), &format!("{format:?}.zarr/g/x"));
        ZarrArray::create(&at, &here(), &spec, &options).unwrap();
        // Without its own attributes, the array is placed by its group's.
        let file = path(&at).join(if format == ZarrFormat::V2 {
            ".zattrs"
        } else {
            "zarr.json"
        });
        let mut metadata: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        match format {
            ZarrFormat::V2 => metadata = json!({}),
            ZarrFormat::V3 => metadata["attributes"] = json!({}),
        }
        fs::write(&file, metadata.to_string()).unwrap();
        assert_eq!(ZarrArray::open(&at, &here()).unwrap().spec(), &spec, "{format:?}");
    }
}

#[test]
fn windows_beyond_memory_and_number_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([0; 3], [4, 4, 4], DType::U64);
    let array = ZarrArray::create(
        &address(dir.path(), "o.zarr/x"),
        &here(),
        &spec,
        &CreateOptions::default(),
    )
    .unwrap();
    let memory = MemoryArray::zeros(spec.clone()).unwrap();
    for edge in [1usize << 20, 1 << 30, 1 << 50] {
        let read = array.read(&region(&spec, [0, 0, 0], [edge; 3]));
        assert!(read.is_err(), "{edge}");
        assert!(
            memory.read(&region(&spec, [0, 0, 0], [edge; 3])).is_err(),
            "{edge}"
        );
    }
    let tiny: Coordinate = serde_json::from_str("[1e-9]").unwrap();
    let line = ArraySpec::new(Roi::from_voxels(&[0], &[4], &tiny), tiny, DType::U8);
    let far = Roi::new(Coordinate::new([i64::MAX / 16]), line.roi.shape.clone());
    let error = MemoryArray::zeros(line).unwrap().read(&far).unwrap_err();
    assert!(matches!(error, Error::Region { .. }), "{error}");
}

#[test]
fn what_is_missing_is_told_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([0; 3], [1, 1, 1], DType::U8);
    for name in ["here.zarr/raw", "here.zarr/volumes/labels"] {
        ZarrArray::create(
            &address(dir.path(), name),
            &here(),
            &spec,
            &CreateOptions::default(),
        )
        .unwrap();
    }
    let text = |name: &str| {
        open_array(&address(dir.path(), name), &here())
            .err()
            .map(|error| error.to_string())
    };
    assert!(text("her.zarr/raw").unwrap().contains("there are: here.zarr"));
    assert!(
        text("here.zarr/row")
            .unwrap()
            .contains("there are: raw, volumes/labels")
    );
    // The group of a single image stands for it.
    assert_eq!(text("here.zarr/volumes"), None);
}

#[test]
fn hostile_and_broken_metadata_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = json!({
        "zarr_format": 2, "shape": [4, 4], "chunks": [2, 2], "dtype": "|u1", "compressor": null,
        "fill_value": 0, "order": "C", "filters": null,
    });
    let array = dir.path().join("h.zarr/x");
    fs::create_dir_all(&array).unwrap();
    let open = |metadata: &str, attributes: &str| {
        fs::write(array.join(".zarray"), metadata).unwrap();
        fs::write(array.join(".zattrs"), attributes).unwrap();
        ZarrArray::open(&address(dir.path(), "h.zarr/x"), &here())
    };
    assert!(open(&good.to_string(), "{}").is_ok());
    let changes = [
        ("shape", json!([u64::MAX, u64::MAX])),
        ("shape", json!([-4, 4])),
        ("shape", json!([4])),
        ("shape", json!([])),
        ("chunks", json!([0, 2])),
        ("chunks", json!([1u64 << 40, 1u64 << 40])),
        ("dtype", json!("|S5")),
        ("dtype", json!([["a", "<i4"]])),
        ("compressor", json!({"id": "unheard-of"})),
        ("fill_value", json!("fill")),
        ("zarr_format", json!(9)),
    ];
    for (key, value) in changes {
        let mut metadata = good.clone();
        metadata[key] = value.clone();
        let opened = open(&metadata.to_string(), "{}");
        assert!(
            matches!(opened, Err(Error::Metadata { .. })),
            "{key} {value}: {opened:?}"
        );
    }
    let attributes = [
        "[]",
        "{",
        r#"{"voxel_size": [0, 1]}"#,
        r#"{"voxel_size": [1, -1]}"#,
        r#"{"offset": ["a", 1]}"#,
        r#"{"voxel_size": [1, 1, 1]}"#,
        r#"{"voxel_size": [1e300, 1]}"#,
    ];
    for attributes in attributes {
        let opened = open(&good.to_string(), attributes);
        assert!(
            matches!(opened, Err(Error::Metadata { .. })),
            "{attributes}: {opened:?}"
        );
    }
    assert!(open("{\"zarr_format\"", "{}").is_err());
    assert!(open(&"[".repeat(100_000), "{}").is_err());
}

#[test]
fn a_damaged_chunk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec([0; 3], [4, 4, 4], DType::U32);
    for (format, key) in [(ZarrFormat::V2, "1/0/1"), (ZarrFormat::V3, "c/1/0/1")] {
        let at = address(dir.path(), &format!("{format:?}.zarr/x"));
        let options = CreateOptions {
            chunk_shape: Some(vec![2; 3]),
            format,
            ..CreateOptions::default()
        };
        let array = ZarrArray::create(&at, &here(), &spec, &options).unwrap();
        array.write(&spec.roi, &data(DType::U32, &[4, 4, 4])).unwrap();
        let chunk = path(&at).join(key);
        let bytes = fs::read(&chunk).unwrap();
        fs::write(&chunk, &bytes[..bytes.len() / 2]).unwrap();
        let error = ZarrArray::open(&at, &here()).unwrap().read_all().unwrap_err();
        assert!(
            matches!(&error, Error::Chunk { chunk, .. } if chunk[..] == [1, 0, 1]),
            "{error}"
        );
        if format == ZarrFormat::V3 {
            // Every changed byte is found by the checksum.
            for byte in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[byte] ^= 1 << (byte % 8);
                fs::write(&chunk, changed).unwrap();
                assert!(
                    ZarrArray::open(&at, &here()).unwrap().read_all().is_err(),
                    "byte {byte}"
                );
            }
        }
    }
}
