//! Arrays of other programs: files that those made (`data/formats/make.py`) are read, what is written is read
//! again, and what is damaged or hostile is refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot set up its case has failed"
)]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayRead, ArrayReadExt, ArraySpec, Coordinate, DType, Decimal, Element, Error, ExportOptions,
    MemoryArray, NdData, Placement, Result, Roi, export, open_source,
};
use ndarray::ArrayD;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/formats")
        .join(name)
}

fn open(path: &Path) -> Result<Arc<dyn ArrayRead>> {
    open_source(path, &Placement::default(), &Access::default())
}

fn coordinate(numbers: &[&str]) -> Coordinate {
    Coordinate::new(numbers.iter().map(|n| n.parse::<Decimal>().unwrap()))
}

/// What make.py has at each place.
fn values(dtype: DType, shape: &[usize]) -> NdData {
    fn make<T: Element>(shape: &[usize], convert: impl Fn(i64) -> T) -> NdData {
        let hash = |i: usize| (i as i64 * 7919 + 13) % 101;
        let values = (0..shape.iter().product()).map(|i| convert(hash(i))).collect();
        T::wrap(ArrayD::from_shape_vec(shape, values).unwrap())
    }
    match dtype {
        DType::Bool => make(shape, |v| v % 2 == 1),
        DType::U8 => make(shape, |v| v as u8),
        DType::U16 => make(shape, |v| v as u16),
        DType::U32 => make(shape, |v| v as u32),
        DType::U64 => make(shape, |v| v as u64),
        DType::I8 => make(shape, |v| v as i8 - 50),
        DType::I16 => make(shape, |v| v as i16 - 50),
        DType::I32 => make(shape, |v| v as i32 - 50),
        DType::I64 => make(shape, |v| v - 50),
        DType::F32 => make(shape, |v| v as f32 / 4.0 - 10.0),
        DType::F64 => make(shape, |v| v as f64 / 4.0 - 10.0),
    }
}

/// The array has these values, as a whole and in windows that reach over its borders.
fn assert_is(array: &dyn ArrayRead, expected: &NdData, what: &str) {
    let spec = array.spec();
    assert_eq!(spec.dtype, expected.dtype(), "{what}");
    assert_eq!(array.read_all().unwrap(), *expected, "{what}");
    let memory = MemoryArray::new(spec.clone(), expected.clone()).unwrap();
    let dims = spec.spatial_dims();
    for step in 0..12i64 {
        let begin: Vec<i64> = (0..dims as i64)
            .map(|axis| (step * 7 + axis * 5) % 11 - 3)
            .collect();
        let shape: Vec<usize> = (0..dims as i64)
            .map(|axis| ((step * 3 + axis) % 9) as usize)
            .collect();
        let roi = Roi::from_voxels(&begin, &shape, &spec.voxel_size).shift(spec.roi.begin());
        assert_eq!(
            array.read(&roi).unwrap(),
            memory.read(&roi).unwrap(),
            "{what} {roi}"
        );
    }
    let off = spec.roi.shift(&Coordinate::new(
        spec.voxel_size.iter().map(|&n| n / Decimal::from(2)),
    ));
    assert!(matches!(array.read(&off), Err(Error::Region { .. })), "{what}");
}

/// The same with axes in another order: axis `i` of the result is `axes[i]` of the data.
fn permuted(data: NdData, axes: &[usize]) -> NdData {
    fn turn<T: Element>(data: NdData, axes: &[usize]) -> NdData {
        let turned = data.into_typed::<T>().unwrap().permuted_axes(axes);
        T::wrap(turned.as_standard_layout().into_owned())
    }
    match data.dtype() {
        DType::U8 => turn::<u8>(data, axes),
        DType::U16 => turn::<u16>(data, axes),
        other => panic!("{other}"),
    }
}

#[test]
fn npy_of_numpy() {
    for dtype in DType::ALL {
        let array = open(&fixture(&format!("c_{dtype}.npy"))).unwrap();
        assert_is(array.as_ref(), &values(dtype, &[3, 4, 5]), dtype.name());
    }
    let read = |name: &str| open(&fixture(name)).unwrap();
    assert_is(
        read("fortran_int16.npy").as_ref(),
        &values(DType::I16, &[3, 4, 5]),
        "fortran",
    );
    assert_is(
        read("big_endian_float32.npy").as_ref(),
        &values(DType::F32, &[3, 4, 5]),
        "big endian",
    );
    let both = read("fortran_big_endian_uint32.npy");
    assert_is(both.as_ref(), &values(DType::U32, &[2, 3, 4, 5]), "both");
    assert_eq!(both.spec().channels, [2]);
    assert_is(
        read("one_axis.npy").as_ref(),
        &values(DType::F64, &[7]),
        "one axis",
    );
}

#[test]
fn tiff_of_tifffile() {
    for name in [
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32", "float64",
    ] {
        let dtype = DType::from_name(name).unwrap();
        let array = open(&fixture(&format!("pages_{name}.tif"))).unwrap();
        assert_is(array.as_ref(), &values(dtype, &[3, 20, 17]), name);
        assert_eq!(array.spec().voxel_size, coordinate(&["1", "1", "1"]), "{name}");
    }
    let u16s = |depth| values(DType::U16, &[depth, 20, 17]);
    for (name, expected) in [
        ("one_page", values(DType::U8, &[20, 17])),
        ("big_endian", u16s(3)),
        ("bigtiff", u16s(3)),
        ("strips_lzw", u16s(2)),
        ("strips_zlib", u16s(2)),
        ("strips_zstd", u16s(2)),
        ("strips_packbits", u16s(2)),
        ("tiles", values(DType::U8, &[2, 40, 37])),
        ("rgb", permuted(values(DType::U8, &[2, 20, 17, 3]), &[3, 0, 1, 2])),
        (
            "planar",
            permuted(values(DType::U8, &[2, 3, 20, 17]), &[1, 0, 2, 3]),
        ),
        ("shaped", values(DType::U8, &[2, 3, 20, 17])),
    ] {
        let array = open(&fixture(&format!("{name}.tif"))).unwrap();
        assert_is(array.as_ref(), &expected, name);
    }
    let rgb = open(&fixture("rgb.tif")).unwrap();
    assert_eq!(rgb.spec().axis_names, ["c^", "z", "y", "x"]);
}

#[test]
fn tiff_places_itself_as_imagej_and_ome_do() {
    let array = open(&fixture("imagej.tif")).unwrap();
    assert_is(array.as_ref(), &values(DType::U16, &[3, 20, 17]), "imagej");
    assert_eq!(array.spec().voxel_size, coordinate(&["40", "4.6", "4"]));
    assert_eq!(array.spec().units, ["nm", "nm", "nm"]);

    let hyper = open(&fixture("imagej_hyper.tif")).unwrap();
    // In the file z comes before the channels; tifffile was given t, z, c, y, x.
    let expected = permuted(values(DType::U8, &[2, 3, 4, 20, 17]), &[0, 2, 1, 3, 4]);
    assert_is(hyper.as_ref(), &expected, "imagej_hyper");
    assert_eq!(hyper.spec().axis_names, ["t^", "c^", "z", "y", "x"]);
    assert_eq!(hyper.spec().voxel_size, coordinate(&["0.5", "0.2", "0.2"]));
    assert_eq!(hyper.spec().units, ["um", "um", "um"]);

    let raw = open(&fixture("imagej_raw.tif")).unwrap();
    assert_is(raw.as_ref(), &values(DType::U16, &[3, 20, 17]), "imagej_raw");
    assert_eq!(raw.spec().voxel_size, coordinate(&["30", "1", "1"]));

    let ome = open(&fixture("ome.tif")).unwrap();
    assert_is(ome.as_ref(), &values(DType::U16, &[2, 3, 20, 17]), "ome");
    assert_eq!(ome.spec().axis_names, ["c^", "z", "y", "x"]);
    assert_eq!(ome.spec().voxel_size, coordinate(&["1.5", "0.2", "0.1"]));
    assert_eq!(ome.spec().units, ["um", "um", "um"]);
}

#[test]
fn the_caller_places_what_does_not_place_itself() {
    let placement = Placement {
        voxel_size: Some(coordinate(&["40", "4.6", "4.6"])),
        offset: Some(coordinate(&["80", "-4.6", "0"])),
        units: Some(vec!["nm".into()]),
        axis_names: Some(["z", "row", "col"].map(str::to_owned).to_vec()),
    };
    for name in [
        "pages_uint8.tif",
        "imagej.tif",
        "c_uint8.npy",
        "slices_png",
        "data.n5/gzip",
    ] {
        let array = open_source(&fixture(name), &placement, &Access::default()).unwrap();
        let spec = array.spec();
        assert_eq!(spec.roi.begin(), &coordinate(&["80", "-4.6", "0"]), "{name}");
        assert_eq!(spec.voxel_size, coordinate(&["40", "4.6", "4.6"]), "{name}");
        assert_eq!(spec.axis_names, ["z", "row", "col"], "{name}");
        assert_eq!(spec.units, ["nm", "nm", "nm"], "{name}");
    }
    let wrong = Placement {
        voxel_size: Some(coordinate(&["4", "4", "4"])),
        ..Placement::default()
    };
    assert!(matches!(
        open_source(&fixture("one_axis.npy"), &wrong, &Access::default()),
        Err(Error::Spec { .. })
    ));
}

#[test]
fn slices_of_pillow() {
    let png = open(&fixture("slices_png")).unwrap();
    assert_is(png.as_ref(), &values(DType::U8, &[11, 8, 9]), "png");
    let tif = open(&fixture("slices_tif")).unwrap();
    assert_is(tif.as_ref(), &values(DType::U16, &[11, 8, 9]), "tif");
    for (name, expected) in [
        ("grey16.png", values(DType::U16, &[8, 9])),
        ("bits.png", values(DType::Bool, &[8, 11])),
        ("rgb.png", permuted(values(DType::U8, &[8, 9, 3]), &[2, 0, 1])),
        (
            "grey_alpha.png",
            permuted(values(DType::U8, &[8, 9, 2]), &[2, 0, 1]),
        ),
    ] {
        assert_is(open(&fixture(name)).unwrap().as_ref(), &expected, name);
    }
    let error = open(&fixture("palette.png")).err().unwrap().to_string();
    assert!(error.contains("palette"), "{error}");
}

#[test]
fn n5_of_zarr_python() {
    for name in ["raw", "gzip", "zstd", "blosc"] {
        let array = open(&fixture("data.n5").join(name)).unwrap();
        assert_is(array.as_ref(), &values(DType::U16, &[5, 6, 7]), name);
        assert_eq!(array.spec().voxel_size, coordinate(&["40", "4.6", "4"]), "{name}");
        assert_eq!(
            array.spec().roi.begin(),
            &coordinate(&["-40", "0", "8"]),
            "{name}"
        );
        assert_eq!(array.spec().units, ["nm", "nm", "nm"], "{name}");
    }
    let floats = open(&fixture("data.n5/types/float32")).unwrap();
    assert_is(floats.as_ref(), &values(DType::F32, &[2, 5, 6, 7]), "float32");
    assert_is(
        open(&fixture("data.n5/types/int64")).unwrap().as_ref(),
        &values(DType::I64, &[5, 6]),
        "int64",
    );
    let sparse = open(&fixture("data.n5/sparse"))
        .unwrap()
        .read_all()
        .unwrap()
        .into_typed::<u8>()
        .unwrap();
    assert_eq!(sparse.iter().filter(|&&v| v == 7).count(), 9);
    assert_eq!(sparse.iter().filter(|&&v| v == 0).count(), 27);
    let error = open(&fixture("data.n5/nothing")).err().unwrap().to_string();
    assert!(
        error.contains("blosc") && error.contains("types/int64"),
        "{error}"
    );
}

#[cfg(feature = "hdf5")]
#[test]
fn hdf5_of_h5py() {
    let read = |name: &str| open(&fixture(name)).unwrap();
    let raw = read("data.h5/volumes/raw");
    assert_is(raw.as_ref(), &values(DType::U8, &[5, 6, 7]), "raw");
    assert_eq!(raw.spec().voxel_size, coordinate(&["40", "4", "4.6"]));
    assert_eq!(raw.spec().roi.begin(), &coordinate(&["80", "0", "-4"]));
    assert_is(
        read("data.h5/volumes/labels").as_ref(),
        &values(DType::U64, &[5, 6, 7]),
        "contiguous",
    );
    assert_is(
        read("data.h5/big_endian").as_ref(),
        &values(DType::F32, &[5, 6, 7]),
        "big endian",
    );
    assert_is(
        read("data.h5/bool").as_ref(),
        &values(DType::Bool, &[5, 6]),
        "bool",
    );
    assert_is(
        read("data.h5/lzf").as_ref(),
        &values(DType::I16, &[40, 30, 20]),
        "lzf",
    );
    assert_is(
        read("latest.h5").as_ref(),
        &values(DType::I32, &[5, 6, 7]),
        "latest",
    );
    let empty = read("data.h5/empty").read_all().unwrap();
    assert_eq!(empty, NdData::U8(ArrayD::zeros(vec![4, 5])));
    for (name, says) in [
        ("data.h5", "volumes/labels"),
        ("data.h5/volumes/nothing", "volumes/labels"),
        ("data.h5/volumes", "volumes"),
        ("data.h5/number", "one number"),
    ] {
        let error = open(&fixture(name)).err().unwrap().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn write(array: &dyn ArrayRead, target: &Path) -> Result<()> {
    export(
        array,
        target,
        &Access::default(),
        &ExportOptions::default(),
        &mut go_on,
    )
    .map(drop)
}

/// Arrays of every type, of 2 and 3 axes, with channels and without, long, flat and of one voxel.
fn arrays(dtype: DType) -> Vec<MemoryArray> {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[], &[5, 6, 7]),
        (&[3], &[4, 5, 6]),
        (&[1], &[2, 3, 4]),
        (&[], &[1, 1, 1]),
        (&[], &[1, 9, 2]),
        (&[], &[70, 3, 66]),
        (&[], &[6, 7]),
        (&[2], &[1, 5]),
    ];
    let make = |(channels, voxels): (&[usize], &[usize])| {
        let voxel_size = coordinate(&["40", "4.6", "0.5"][3 - voxels.len()..]);
        let begin = [2, -3, 5];
        let roi = Roi::from_voxels(&begin[3 - voxels.len()..], voxels, &voxel_size);
        let spec = ArraySpec::new(roi, voxel_size, dtype).with_channels(channels.to_vec());
        let data = values(dtype, &spec.shape());
        MemoryArray::new(spec, data).unwrap()
    };
    shapes.into_iter().map(make).collect()
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for dtype in DType::ALL {
        for (i, array) in arrays(dtype).iter().enumerate() {
            let own = array.spec();
            let what = format!("{dtype} {:?}", own.shape());
            let expected = array.read_all().unwrap();

            let n5 = dir.path().join(format!("a.n5/{dtype}/{i}"));
            write(array, &n5).unwrap();
            let stored = if dtype == DType::Bool {
                NdData::U8(expected.clone().cast().unwrap())
            } else {
                expected.clone()
            };
            let read = open(&n5).unwrap();
            assert_is(read.as_ref(), &stored, &format!("n5 {what}"));
            assert_eq!(
                *read.spec(),
                ArraySpec {
                    dtype: stored.dtype(),
                    ..own.clone()
                }
            );

            let zarr = dir.path().join(format!("a.zarr/{dtype}/{i}"));
            write(array, &zarr).unwrap();
            assert_is(open(&zarr).unwrap().as_ref(), &expected, &format!("zarr {what}"));
            assert_eq!(open(&zarr).unwrap().spec(), own);

            let npy = dir.path().join(format!("{dtype}{i}.npy"));
            write(array, &npy).unwrap();
            let placement = Placement {
                voxel_size: Some(own.voxel_size.clone()),
                offset: Some(own.roi.offset.clone()),
                units: Some(own.units.clone()),
                axis_names: None,
            };
            let read = open_source(&npy, &placement, &Access::default()).unwrap();
            assert_is(read.as_ref(), &expected, &format!("npy {what}"));
            assert_eq!(read.spec(), own);

            let tif = dir.path().join(format!("{dtype}{i}.tif"));
            let written = write(array, &tif);
            let narrow = match dtype {
                DType::Bool => NdData::U8(expected.clone().cast().unwrap()),
                DType::U64 => NdData::U32(expected.clone().cast().unwrap()),
                DType::U8 | DType::U16 | DType::U32 | DType::I16 | DType::F32 => expected.clone(),
                _ => {
                    let error = written.unwrap_err();
                    assert!(matches!(error, Error::Unsupported { .. }), "{what}: {error}");
                    assert!(error.to_string().contains(".npy"), "{what}: {error}");
                    continue;
                }
            };
            written.unwrap();
            let read = open(&tif).unwrap();
            let mut own = ArraySpec {
                dtype: narrow.dtype(),
                ..own.clone()
            };
            let mut narrow = narrow;
            if own.channels == [1] {
                // A single channel is none in a TIFF.
                own = ArraySpec {
                    axis_names: own.axis_names[1..].to_vec(),
                    channels: vec![],
                    ..own
                };
                let shape = own.shape();
                narrow = reshaped(narrow, &shape);
            }
            assert_is(read.as_ref(), &narrow, &format!("tif {what}"));
            assert_eq!(*read.spec(), own, "{what}");
        }
    }
    let leftovers = fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok());
    assert_eq!(leftovers.filter(|name| name.starts_with('.')).count(), 0);
}

fn reshaped(data: NdData, shape: &[usize]) -> NdData {
    fn turn<T: Element>(data: NdData, shape: &[usize]) -> NdData {
        let values = data.into_typed::<T>().unwrap().into_raw_vec_and_offset().0;
        T::wrap(ArrayD::from_shape_vec(shape, values).unwrap())
    }
    match data.dtype() {
        DType::U8 => turn::<u8>(data, shape),
        DType::U16 => turn::<u16>(data, shape),
        DType::U32 => turn::<u32>(data, shape),
        DType::I16 => turn::<i16>(data, shape),
        DType::F32 => turn::<f32>(data, shape),
        other => panic!("{other}"),
    }
}

#[test]
fn empty_arrays_are_files_where_the_format_has_such() {
    let dir = tempfile::tempdir().unwrap();
    let voxel_size = coordinate(&["1", "1", "1"]);
    let spec = ArraySpec::new(
        Roi::from_voxels(&[0; 3], &[0, 4, 5], &voxel_size),
        voxel_size,
        DType::U8,
    );
    let array = MemoryArray::zeros(spec).unwrap();
    for name in ["a.npy", "a.n5/x"] {
        write(&array, &dir.path().join(name)).unwrap();
        let read = open(&dir.path().join(name)).unwrap();
        assert_eq!(read.spec().shape(), [0, 4, 5], "{name}");
        assert_eq!(read.read_all().unwrap().shape(), [0, 4, 5], "{name}");
    }
    assert!(matches!(
        write(&array, &dir.path().join("a.tif")),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn a_url_is_no_folder() {
    let array = &arrays(DType::U8)[0];
    for name in [
        "s3://lab/a.npy",
        "s3://lab/a.tif",
        "s3://lab/a.n5/x",
        "file:///a.npy",
    ] {
        let error = write(array, Path::new(name)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{name}: {error}");
        assert!(!Path::new("s3:").exists() && !Path::new("file:").exists());
    }
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = [DType::U8, DType::U16].map(|dtype| arrays(dtype).remove(0));
    let overwrite = ExportOptions {
        overwrite: true,
        ..ExportOptions::default()
    };
    for name in ["a.npy", "a.tif", "a.zarr/x", "a.n5/x"] {
        let target = dir.path().join(name);
        write(&old, &target).unwrap();
        let error = write(&new, &target).unwrap_err();
        assert!(
            matches!(error, Error::Taken { .. } | Error::Exists { .. }),
            "{name}: {error}"
        );
        // Stopped half-way: the old one stays, and nothing else.
        let stopped = export(
            &new,
            &target,
            &Access::default(),
            &overwrite,
            &mut |done, _| match done {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
        );
        assert!(matches!(stopped, Err(Error::Interrupted)), "{name}");
        assert_is(open(&target).unwrap().as_ref(), &old.read_all().unwrap(), name);
        export(&new, &target, &Access::default(), &overwrite, &mut go_on).unwrap();
        assert_is(open(&target).unwrap().as_ref(), &new.read_all().unwrap(), name);
    }
    // A group and a folder are no arrays to replace.
    for name in [
        "a.n5",
        "a.zarr",
        "b.zarr/",
        "dir.npy",
        "c.txt",
        "a.n5/x/y",
        "a.n5/../b",
    ] {
        fs::create_dir_all(dir.path().join("dir.npy")).unwrap();
        assert!(
            export(
                &new,
                &dir.path().join(name),
                &Access::default(),
                &overwrite,
                &mut go_on
            )
            .is_err(),
            "{name}"
        );
    }
}

#[test]
fn labels_beyond_32_bits_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let voxel_size = coordinate(&["1", "1", "1"]);
    let spec = ArraySpec::new(
        Roi::from_voxels(&[0; 3], &[1, 1, 2], &voxel_size),
        voxel_size,
        DType::U64,
    );
    let data = ArrayD::from_shape_vec(vec![1, 1, 2], vec![7u64, 1 << 32]).unwrap();
    let array = MemoryArray::new(spec, NdData::U64(data)).unwrap();
    let error = write(&array, &dir.path().join("a.tif")).unwrap_err().to_string();
    assert!(error.contains("4294967296") && error.contains(".npy"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn other_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    };
    let text = put("notes.txt", b"hello");
    for path in [
        &text,
        &put("empty.tif", b""),
        &put("a.npy", b"\x93NUMP"),
        &put("folder/notes.txt", b"").parent().unwrap().to_owned(),
    ] {
        let error = open(path).err().unwrap();
        assert!(
            matches!(error, Error::Unsupported { .. }),
            "{}: {error}",
            path.display()
        );
        assert!(error.to_string().contains(".npy"), "{error}");
    }
    assert!(matches!(
        open(&dir.path().join("nothing.tif")),
        Err(Error::Io { .. })
    ));
    assert!(matches!(open(&text.join("raw")), Err(Error::File { .. })));
    put("mixed/a.png", b"");
    put("mixed/b.tif", b"");
    let error = open(&dir.path().join("mixed")).err().unwrap().to_string();
    assert!(error.contains("both"), "{error}");
}

#[test]
fn slices_that_are_not_alike_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture("slices_png/slice1.png"), dir.path().join("a.png")).unwrap();
    fs::copy(fixture("grey16.png"), dir.path().join("b.png")).unwrap();
    let error = open(dir.path()).unwrap().read_all().unwrap_err().to_string();
    assert!(error.contains("b.png") && error.contains("uint16"), "{error}");
}

/// Opening and reading a small file ends soon, whatever is in it; that it does not panic is the test.
fn survives(path: &Path) {
    let Ok(array) = open(path) else { return };
    let spec = array.spec();
    // Where an array is huge, a corner of it.
    let shape: Vec<usize> = spec.shape()[spec.channels.len()..]
        .iter()
        .map(|&n| n.min(64))
        .collect();
    if spec.channels.iter().product::<usize>() < 1000 {
        let corner =
            Roi::from_voxels(&vec![0; shape.len()], &shape, &spec.voxel_size).shift(spec.roi.begin());
        let _ = array.read(&corner);
    }
}

#[test]
fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "c_uint16.npy",
        "fortran_int16.npy",
        "pages_uint8.tif",
        "bigtiff.tif",
        "strips_lzw.tif",
        "strips_zlib.tif",
        "strips_zstd.tif",
        "tiles.tif",
        "planar.tif",
        "imagej.tif",
        "imagej_raw.tif",
        "ome.tif",
        "grey16.png",
        "bits.png",
    ];
    for name in names {
        let whole = fs::read(fixture(name)).unwrap();
        let path = dir.path().join(name);
        for end in (0..whole.len()).step_by(whole.len() / 60 + 1) {
            fs::write(&path, &whole[..end]).unwrap();
            survives(&path);
        }
        // A file that ends early never reads as a whole one.
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(open(&path).and_then(|array| array.read_all()).is_err(), "{name}");
        for i in 0..150usize {
            let mut bytes = whole.clone();
            let at = i * 7919 % bytes.len().min(700);
            bytes[at] = [0, 0xff, 0x7f, 0x80, bytes[at] ^ 1][i % 5];
            fs::write(&path, &bytes).unwrap();
            survives(&path);
        }
    }
}

#[test]
fn small_files_claim_no_huge_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let npy = |shape: &str| {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
        [
            b"\x93NUMPY\x01\x00",
            &(header.len() as u16).to_le_bytes()[..],
            header.as_bytes(),
        ]
        .concat()
    };
    // A directory of 16-bit entries: width, height, bits, compression, strips at 0.
    let tiff = |entries: &[(u16, u16, u32)], next: u32| {
        let mut bytes = b"II\x2a\x00\x08\x00\x00\x00".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(next.to_le_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    let page = |width, height, compression, next| {
        let entries = [
            (256, 4, width),
            (257, 4, height),
            (258, 3, 8),
            (259, 3, compression),
            (262, 3, 1),
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, height),
            (279, 4, 64),
        ];
        tiff(&entries, next)
    };
    let mut png = fs::read(fixture("grey16.png")).unwrap();
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    for (name, bytes) in [
        ("huge.npy", npy("(1099511627776, 4)")),
        ("overflow.npy", npy("(9223372036854775807, 9223372036854775807)")),
        ("negative.npy", npy("(-5, 4)")),
        ("huge.tif", page(u32::MAX, u32::MAX, 1, 0)),
        ("huge_lzw.tif", page(u32::MAX, u32::MAX, 5, 0)),
        ("huge_deflate.tif", page(1 << 20, 1 << 20, 8, 0)),
        ("empty.tif", page(0, 5, 1, 0)),
        ("loop.tif", page(4, 4, 1, 8)),
        ("elsewhere.tif", page(4, 4, 1, u32::MAX)),
        ("huge.png", png),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = open(&path).err().unwrap_or_else(|| panic!("{name} was opened"));
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    // The same page without the loop is a file.
    let path = dir.path().join("fine.tif");
    fs::write(&path, page(4, 4, 1, 0)).unwrap();
    assert_eq!(open(&path).unwrap().read_all().unwrap().shape(), [4, 4]);

    // Attributes of N5 that claim anything.
    let n5 = dir.path().join("a.n5/x");
    fs::create_dir_all(&n5).unwrap();
    let attributes = |dimensions: &str, block: &str| {
        format!(
            r#"{{"dimensions": {dimensions}, "blockSize": {block}, "dataType": "uint8", "compression": {{"type": "raw"}}}}"#
        )
    };
    for (dimensions, block) in [
        ("[9223372036854775807, 9223372036854775807]", "[1, 1]"),
        ("[-1, 5]", "[1, 1]"),
        ("[5, 5]", "[4294967295, 4294967295]"),
        ("[5]", "[1, 1]"),
        ("[5, 5]", "[0, 1]"),
        ("\"5\"", "[1]"),
    ] {
        fs::write(n5.join("attributes.json"), attributes(dimensions, block)).unwrap();
        assert!(open(&n5).is_err(), "{dimensions} {block}");
    }
    // Huge, but empty: that is allowed, as nothing is read.
    fs::write(
        n5.join("attributes.json"),
        attributes("[1000000000, 1000000000]", "[64, 64]"),
    )
    .unwrap();
    survives(&n5);
    fs::create_dir_all(n5.join("0")).unwrap();
    for block in [
        &b""[..],
        b"\0\0\0\x02",
        b"\0\0\0\x02\xff\xff\xff\xff\0\0\0\x40",
        b"\0\x02\0\x02\0\0\0\x40\0\0\0\x40",
    ] {
        fs::write(n5.join("0/0"), block).unwrap();
        let corner = Roi::from_voxels(&[0, 0], &[4, 4], &coordinate(&["1", "1"]));
        let error = open(&n5).unwrap().read(&corner).unwrap_err().to_string();
        assert!(error.contains("0/0"), "{error}");
    }
}

#[cfg(feature = "hdf5")]
#[test]
fn damaged_hdf5_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["latest.h5", "data.h5"] {
        let whole = fs::read(fixture(name)).unwrap();
        let path = dir.path().join(name);
        let dataset = if name == "data.h5" {
            path.join("volumes/raw")
        } else {
            path.clone()
        };
        for end in (0..whole.len()).step_by(whole.len() / 30 + 1) {
            fs::write(&path, &whole[..end]).unwrap();
            survives(&dataset);
        }
        for i in 0..150usize {
            let mut bytes = whole.clone();
            let at = i * 7919 % bytes.len();
            bytes[at] = [0, 0xff, 0x7f, 0x80, bytes[at] ^ 1][i % 5];
            fs::write(&path, &bytes).unwrap();
            survives(&dataset);
        }
    }
}
