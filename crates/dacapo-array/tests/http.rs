//! Arrays that a web server gives out: as they are on disk, read only, without listing.
#![cfg(feature = "object-store")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

#[path = "common/server.rs"]
mod server;

use std::ops::ControlFlow;
use std::path::Path;

use dacapo_array::storage::{Access, Durability, StorageExt};
use dacapo_array::{
    ArrayAddress, ArrayRead, ArraySpec, Coordinate, CreateOptions, DType, Decimal, ExportOptions,
    MemoryArray, NdData, Placement, PyramidOptions, Roi, ZarrArray, ZarrFormat, export, list_arrays,
    make_pyramid, open_level, open_source,
};
use ndarray::ArrayD;
use server::Server;

fn made() -> MemoryArray {
    let voxel_size = Coordinate::new(["40", "4.6", "4.6"].map(|n| n.parse::<Decimal>().unwrap()));
    let roi = Roi::from_voxels(&[2, -1, 3], &[9, 20, 33], &voxel_size);
    let spec = ArraySpec::new(roi, voxel_size, DType::U16).with_units(vec!["nm".to_owned(); 3]);
    let values = ArrayD::from_shape_fn(vec![9, 20, 33], |at| {
        // Some chunks have nothing but the fill value.
        if at[2] < 16 {
            0
        } else {
            (at[0] * 700 + at[1] * 33 + at[2]) as u16
        }
    });
    MemoryArray::new(spec, NdData::U16(values)).unwrap()
}

fn put(array: &MemoryArray, target: &Path, zarr: CreateOptions) {
    let options = ExportOptions {
        overwrite: false,
        zarr,
    };
    let goes_on: &mut dyn FnMut(usize, usize) -> ControlFlow<()> = &mut |_, _| ControlFlow::Continue(());
    export(array, target, &Access::default(), &options, goes_on).unwrap();
}

/// A folder with an array in several formats, and a server of it.
fn served() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let chunks = CreateOptions {
        chunk_shape: Some(vec![4, 8, 16]),
        ..CreateOptions::default()
    };
    put(&made(), &dir.path().join("a b.zarr/two"), chunks.clone());
    let sharded = CreateOptions {
        format: ZarrFormat::V3,
        shard_shape: Some(vec![8, 16, 32]),
        ..chunks
    };
    put(&made(), &dir.path().join("a b.zarr/group/three"), sharded);
    put(
        &made(),
        &dir.path().join("a.n5/group/x"),
        CreateOptions::default(),
    );
    let server = Server::of(dir.path());
    (dir, server)
}

fn windows(array: &dyn ArrayRead) -> Vec<NdData> {
    let spec = array.spec();
    let window = |begin: [i64; 3], shape: [usize; 3]| {
        Roi::from_voxels(&begin, &shape, &spec.voxel_size).shift(spec.roi.begin())
    };
    let part = window([2, 3, 1], [3, 5, 9]);
    let beyond = window([-1, -4, 2], [20, 9, 40]);
    [spec.roi.clone(), part, beyond]
        .map(|roi| array.read(&roi).unwrap())
        .into()
}

#[test]
fn arrays_are_read_as_they_are_on_disk() {
    let (dir, server) = served();
    let access = Access::default();
    for name in ["a b.zarr/two", "a b.zarr/group/three", "a.n5/group/x"] {
        let here = open_source(&dir.path().join(name), &Placement::default(), &access).unwrap();
        let url = format!("{}/{name}", server.url);
        let there = open_source(url.as_ref(), &Placement::default(), &access).unwrap();
        assert_eq!(there.spec(), here.spec(), "{name}");
        assert_eq!(windows(&*there), windows(&*here), "{name}");
        assert_eq!(windows(&*there), windows(&made()), "{name}");
    }
    // Where it lies can be said.
    let moved = Placement {
        offset: Some(Coordinate::splat(3, 0)),
        ..Placement::default()
    };
    let url = format!("{}/a.n5/group/x", server.url);
    let there = open_source(url.as_ref(), &moved, &access).unwrap();
    assert!(there.spec().roi.begin().iter().all(|at| *at == Decimal::ZERO));
}

#[test]
fn a_request_that_fails_is_tried_again() {
    let (_dir, server) = served();
    let url = format!("{}/a b.zarr/two", server.url);
    server.fail(2);
    let array = open_source(url.as_ref(), &Placement::default(), &Access::default()).unwrap();
    assert_eq!(server.still_failing(), 0);
    server.fail(2);
    assert_eq!(windows(&*array), windows(&made()));
    assert_eq!(server.still_failing(), 0);
}

#[test]
fn levels_are_found_by_their_groups_metadata() {
    let (dir, server) = served();
    let access = Access::default();
    let here: ArrayAddress = format!("{}/a b.zarr/two", dir.path().display()).parse().unwrap();
    let options = PyramidOptions {
        levels: Some(2),
        ..PyramidOptions::default()
    };
    make_pyramid(&here, &access, &options, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let there: ArrayAddress = format!("{}/a b.zarr/two", server.url).parse().unwrap();
    let wanted = Coordinate::splat(3, 1000);
    let (here, there) = [here, there]
        .map(|address| open_level(&address, &wanted, &access).unwrap())
        .into();
    assert_ne!(here.spec(), made().spec());
    assert_eq!((there.spec(), windows(&*there)), (here.spec(), windows(&*here)));
}

#[test]
fn nothing_is_written_or_listed() {
    let (_dir, server) = served();
    let access = Access::default();
    let at = |name: &str| -> ArrayAddress { format!("{}/{name}", server.url).parse().unwrap() };
    let text = |error: dacapo_array::Error| error.to_string();
    let created = ZarrArray::create(&at("b.zarr/x"), &access, made().spec(), &CreateOptions::default());
    let error = text(created.err().unwrap());
    let expected = format!("{}/b.zarr", server.url);
    assert!(
        error.contains("is not supported; web servers only give out"),
        "{error}"
    );
    assert!(error.contains(&expected), "{error}");
    let error = text(list_arrays(&at("a b.zarr/two").container, &access).err().unwrap());
    assert!(error.contains("listing"), "{error}");
    for name in ["a b.zarr/nothing", "b.zarr/nothing", "a.n5/nothing"] {
        let url = format!("{}/{name}", server.url);
        let opened = open_source(url.as_ref(), &Placement::default(), &access);
        let error = text(opened.err().unwrap());
        assert!(
            error.contains(&url) && error.contains("cannot be listed"),
            "{error}"
        );
    }
    // Whatever there is stays as it is.
    let storage = access.storage(&at("a b.zarr/two").container).unwrap();
    let before = storage.read("two/.zarray").unwrap().unwrap();
    assert!(storage.write("two/.zarray", b"", Durability::Synced).is_err());
    assert!(storage.update("two/.zarray", &mut |_| Ok(Vec::new())).is_err());
    assert!(storage.create("new", b"").is_err() && storage.delete("two/.zarray").is_err());
    assert!(storage.remove_tree("two").is_err() && storage.move_tree("two", "three", true).is_err());
    assert_eq!(storage.read("two/.zarray").unwrap().unwrap(), before);
    assert!(storage.read("../two").is_err());
}
