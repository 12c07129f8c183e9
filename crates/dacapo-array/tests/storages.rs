//! Zarr arrays over every storage: what is removed or replaced meanwhile, what fails in the middle, what several
//! processes do to one array. This file starts itself again as the other process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot set up its case has failed; processes report to each other"
)]

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use dacapo_array::storage::conformance::Failing;
use dacapo_array::storage::{Access, LocalStorage, MemoryStorage, Moved, Storage, StorageExt};
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType,
    DraftArray, Error, NdData, Roi, ZarrArray, ZarrFormat, list_arrays,
};
use ndarray::ArrayD;

fn spec(shape: [usize; 3]) -> ArraySpec {
    let voxel_size = Coordinate::new([40, 4, 4]);
    ArraySpec::new(
        Roi::from_voxels(&[0; 3], &shape, &voxel_size),
        voxel_size,
        DType::U16,
    )
}

fn options(format: ZarrFormat, overwrite: bool) -> CreateOptions {
    CreateOptions {
        chunk_shape: Some(vec![4; 3]),
        format,
        overwrite,
        ..CreateOptions::default()
    }
}

fn all(spec: &ArraySpec, value: u16) -> NdData {
    NdData::U16(ArrayD::from_elem(spec.shape(), value))
}

fn address(container: &str) -> ArrayAddress {
    format!("{container}/g/x").parse().unwrap()
}

/// A directory and a storage in memory, each as an access and a container in it.
fn places(dir: &Path) -> [(Access, String, Arc<dyn Storage>); 2] {
    let local = dir.join("a.zarr");
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
    [
        (
            Access::default(),
            local.display().to_string(),
            Arc::new(LocalStorage::new(local)),
        ),
        (
            Access::default().with_memory("m", memory.clone()),
            "memory://m/a.zarr".to_owned(),
            Arc::new(dacapo_array::storage::Below::new(memory, "a.zarr").unwrap()),
        ),
    ]
}

#[test]
fn what_is_removed_or_replaced_while_it_is_open_is_gone_for_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    for (access, container, storage) in places(dir.path()) {
        for format in [ZarrFormat::V2, ZarrFormat::V3] {
            let (at, spec) = (address(&container), spec([8, 8, 8]));
            let create = |value: u16| {
                let draft = DraftArray::new(&at, &access, &spec, &options(format, true)).unwrap();
                draft.write(&spec.roi, &all(&spec, value)).unwrap();
                draft.publish().unwrap()
            };
            create(1);
            let opened = ZarrArray::open(&at, &access).unwrap();
            assert_eq!(opened.read_all().unwrap(), all(&spec, 1));
            let gone = |array: &ZarrArray| {
                let error = array.read_all().unwrap_err();
                assert!(matches!(error, Error::Gone { .. }), "{error}");
                assert_eq!(
                    error.to_string(),
                    format!("{at} was removed or replaced since it was opened; open it again")
                );
                let error = array.write(&spec.roi, &all(&spec, 9)).unwrap_err();
                assert!(matches!(error, Error::Gone { .. }), "{error}");
            };
            let second = create(2);
            gone(&opened);
            assert_eq!(second.read_all().unwrap(), all(&spec, 2));
            assert_eq!(storage.move_tree("g/x", "trash", false).unwrap(), Moved::Moved);
            gone(&second);
            storage.remove_tree("trash").unwrap();
            gone(&second);
            // The same again is another array.
            let third = create(2);
            gone(&second);
            assert_eq!(third.read_all().unwrap(), all(&spec, 2));
            storage.remove_tree("g").unwrap();
        }
    }
}

#[test]
fn a_reader_never_sees_a_mixture() {
    let dir = tempfile::tempdir().unwrap();
    for (access, container, _) in places(dir.path()) {
        let (at, spec) = (address(&container), spec([8, 8, 8]));
        let replace = |value: u16| {
            let draft = DraftArray::new(&at, &access, &spec, &options(ZarrFormat::V2, true)).unwrap();
            draft.write(&spec.roi, &all(&spec, value)).unwrap();
            draft.publish().unwrap()
        };
        replace(1);
        let done = std::sync::atomic::AtomicBool::new(false);
        let (mut whole, mut gone) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (2..40).for_each(|value| drop(replace(value)));
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // Without a cache, so that every reading meets the chunks.
                let array = ZarrArray::open(&at, &access).unwrap().with_cache(0);
                for _ in 0..3 {
                    match array.read_as::<u16>(&spec.roi) {
                        Ok(values) => {
                            whole += 1;
                            let first = values[[0, 0, 0]];
                            assert!(values.iter().all(|&value| value == first), "a mixture");
                        }
                        Err(Error::Gone { .. }) => gone += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
        assert!(whole > 0, "{whole} whole, {gone} gone");
    }
}

#[test]
fn a_failure_at_any_call_leaves_the_old_array_or_the_new_one() {
    for format in [ZarrFormat::V2, ZarrFormat::V3] {
        for replace in [false, true] {
            let (mut failures, mut calls) = (0, 0);
            loop {
                let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new("m"));
                let healthy = Access::default().with_memory("m", memory.clone());
                let (at, spec) = (address("memory://m/a.zarr"), spec([8, 4, 4]));
                if replace {
                    let draft = DraftArray::new(&at, &healthy, &spec, &options(format, false)).unwrap();
                    draft.write(&spec.roi, &all(&spec, 1)).unwrap();
                    draft.publish().unwrap();
                }
                let failing = Arc::new(Failing::new(memory.clone(), calls));
                let broken = Access::default().with_memory("m", failing.clone());
                let made = DraftArray::new(&at, &broken, &spec, &options(format, replace))
                    .and_then(|draft| draft.write(&spec.roi, &all(&spec, 2)).map(|()| draft))
                    .and_then(DraftArray::publish);
                let found = match ZarrArray::open(&at, &healthy) {
                    Ok(array) => Some(array.read_all().unwrap()),
                    Err(Error::NoArray { .. } | Error::NoContainer { .. }) => None,
                    Err(other) => panic!("after {calls} calls: {other}"),
                };
                let old = replace.then(|| all(&spec, 1));
                match &made {
                    Ok(_) => assert_eq!(found, Some(all(&spec, 2))),
                    Err(Error::Io { .. }) => {
                        failures += 1;
                        assert!(
                            found == old || found == Some(all(&spec, 2)),
                            "after {calls} calls"
                        );
                    }
                    Err(other) => panic!("after {calls} calls: {other}"),
                }
                if memory.kind("a.zarr").unwrap().is_some() {
                    let listed = list_arrays(&at.container, &healthy).unwrap();
                    assert_eq!(listed.len(), usize::from(found.is_some()), "after {calls} calls");
                }
                // What is left is cleared by who comes next.
                memory.remove_tree("a.zarr/g/x").unwrap();
                let draft = DraftArray::new(&at, &healthy, &spec, &options(format, false)).unwrap();
                draft.publish().unwrap();
                if made.is_ok() && !failing.has_failed() {
                    break;
                }
                calls += 1;
            }
            assert!(failures > 10, "{failures}");
        }
    }
}

const CONTAINER: &str = "DACAPO_ARRAY_TEST_CONTAINER";
const WRITER: &str = "DACAPO_ARRAY_TEST_WRITER";
const WRITERS: usize = 8;
/// Along x, each process writes every eighth column: all of them share every chunk.
const SHAPE: [usize; 3] = [4, 4, 64];

fn start(test: &str, container: &Path, writer: usize) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CONTAINER, container)
        .env(WRITER, writer.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn column(spec: &ArraySpec, x: usize) -> Roi {
    Roi::from_voxels(&[0, 0, x as i64], &[SHAPE[0], SHAPE[1], 1], &spec.voxel_size)
}

#[test]
#[ignore = "the other process of the test below"]
fn writer() {
    let (Ok(container), Ok(writer)) = (env::var(CONTAINER), env::var(WRITER)) else {
        return;
    };
    let writer: usize = writer.parse().unwrap();
    let array = ZarrArray::open(&address(&container), &Access::default()).unwrap();
    let spec = array.spec().clone();
    // Each column twice, the second time with what stays.
    for round in [1000, 1] {
        for x in (writer..SHAPE[2]).step_by(WRITERS) {
            let values = NdData::U16(ArrayD::from_elem(
                vec![SHAPE[0], SHAPE[1], 1],
                (x * round) as u16 + 1,
            ));
            array.write(&column(&spec, x), &values).unwrap();
        }
    }
}

#[test]
fn processes_that_write_parts_of_one_chunk_lose_nothing() {
    nothing_is_lost(&CreateOptions {
        chunk_shape: Some(vec![4, 4, 32]),
        ..CreateOptions::default()
    });
}

#[test]
fn processes_that_write_parts_of_one_shard_lose_nothing() {
    nothing_is_lost(&CreateOptions {
        chunk_shape: Some(vec![2, 4, 4]),
        shard_shape: Some(vec![4, 4, 64]),
        format: ZarrFormat::V3,
        ..CreateOptions::default()
    });
}

fn nothing_is_lost(options: &CreateOptions) {
    let dir = tempfile::tempdir().unwrap();
    let container = dir.path().join("p.zarr");
    let at = address(container.to_str().unwrap());
    let spec = spec(SHAPE);
    ZarrArray::create(&at, &Access::default(), &spec, options).unwrap();
    let mut writers: Vec<Child> = (0..WRITERS).map(|i| start("writer", &container, i)).collect();
    // Others list and read meanwhile: each column is as one of its writings made it, or not there yet.
    let mut reads = 0;
    while writers
        .iter_mut()
        .any(|child| child.try_wait().unwrap().is_none())
    {
        assert_eq!(list_arrays(&at.container, &Access::default()).unwrap(), ["g/x"]);
        let array = ZarrArray::open(&at, &Access::default()).unwrap();
        let values = array.read_as::<u16>(&spec.roi).unwrap();
        for x in 0..SHAPE[2] {
            let first = values[[0, 0, x]];
            assert!(
                [0, (x * 1000) as u16 + 1, x as u16 + 1].contains(&first),
                "{first} at {x}"
            );
            for z in 0..SHAPE[0] {
                for y in 0..SHAPE[1] {
                    assert_eq!(values[[z, y, x]], first, "half a column");
                }
            }
        }
        reads += 1;
    }
    assert!(writers.iter_mut().all(|child| child.wait().unwrap().success()));
    let values = ZarrArray::open(&at, &Access::default())
        .unwrap()
        .read_as::<u16>(&spec.roi)
        .unwrap();
    for (index, &value) in values.indexed_iter() {
        assert_eq!(usize::from(value), index[2] + 1, "lost, after {reads} reads");
    }
    let storage = LocalStorage::new(&container);
    storage
        .walk("", &mut |key, _| {
            assert!(!key.contains(".unfinished"), "{key}");
            Ok(())
        })
        .unwrap();
}
