//! An object store that fails for now: what is asked of it is repeated and done once; for good: the error names the key,
//! and nothing that looks finished is left.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

#[path = "common/s3.rs"]
mod s3;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use dacapo_array::storage::{
    Access, Credentials, Durability, Moved, ObjectStoreOptions, Storage, StorageExt, conformance,
};
use dacapo_array::{
    ArrayAddress, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, DraftArray, NdData,
    Roi, ZarrArray, ZarrFormat, list_arrays,
};
use ndarray::ArrayD;
use s3::{Fault, S3};

fn access(server: &S3, retries: Option<usize>) -> Access {
    Access::default().with_object_store(ObjectStoreOptions {
        endpoint: Some(server.endpoint.clone()),
        allow_http: true,
        retries,
        credentials: Credentials::Unsigned,
        ..ObjectStoreOptions::default()
    })
}

fn storage(server: &S3, retries: Option<usize>) -> Arc<dyn Storage> {
    let bucket = "s3://lab".parse().unwrap();
    access(server, retries).storage(&bucket).unwrap()
}

#[test]
fn it_conforms() {
    conformance::storage(&*storage(&S3::start(), None));
}

/// Does what changes something and what reads, and holds each answer to what it has to be.
fn use_all(storage: &dyn Storage) {
    storage.write("a/x", b"written", Durability::Synced).unwrap();
    assert!(storage.create("a/new", b"made").unwrap(), "it was we who made it");
    assert!(!storage.create("a/new", b"made").unwrap(), "and not now");
    storage.append_lines("a/lines", b"one\n").unwrap();
    storage.append_lines("a/lines", b"two\n").unwrap();
    // The same as another has just written, and no echo of it.
    storage.append_lines("a/lines", b"two\n").unwrap();
    assert_eq!(storage.read("a/lines").unwrap().unwrap(), b"one\ntwo\ntwo\n");
    let part = &mut [0; 3];
    storage.open("a/x").unwrap().unwrap().read_at(2, part).unwrap();
    assert_eq!(part, b"itt");
    storage.duplicate("a/x", "a/y").unwrap();
    let names = |prefix: &str| -> Vec<String> {
        let entries = storage.list(prefix).unwrap().into_iter();
        entries.map(|entry| entry.name).collect()
    };
    assert_eq!(names("a"), ["lines", "new", "x", "y"]);
    assert!(storage.delete("a/y").unwrap());
    assert_eq!(storage.move_tree("a", "b", false).unwrap(), Moved::Moved);
    assert_eq!(
        (names("a"), names("b")),
        (vec![], vec!["lines".to_owned(), "new".to_owned(), "x".to_owned()])
    );
    storage.write("c/x", b"1", Durability::Synced).unwrap();
    assert!(storage.remove_tree("c").unwrap());
}

#[test]
fn what_fails_for_now_is_repeated_and_done_once() {
    let server = S3::start();
    server.fail(0, 0, Fault::Busy);
    use_all(&*storage(&server, None));
    let (requests, expected) = (server.requests(), server.objects());
    assert!(requests > 20, "{requests}");
    assert_eq!(expected["b/lines"], b"one\ntwo\ntwo\n");
    assert_eq!(expected.len(), 3);
    // Each of the requests fails in turn, in each of the ways.
    thread::scope(|scope| {
        for fault in [Fault::Busy, Fault::Dropped, Fault::Lost, Fault::Cut, Fault::Slow] {
            for worker in 0..4 {
                let expected = &expected;
                scope.spawn(move || {
                    for first in (worker..requests).step_by(4) {
                        let server = S3::start();
                        server.fail(first, 1, fault);
                        use_all(&*storage(&server, None));
                        assert_eq!(server.objects(), *expected, "{fault:?} at {first}");
                    }
                });
            }
        }
    });
}

/// That it is ours does not follow from what is there.
#[test]
fn what_another_wrote_is_not_taken_for_our_own() {
    for fault in [Fault::Busy, Fault::Dropped, Fault::Lost] {
        let server = S3::start();
        assert!(storage(&server, None).create("a", b"the same").unwrap());
        server.fail(0, 2, fault);
        assert!(
            !storage(&server, None).create("a", b"the same").unwrap(),
            "{fault:?}"
        );
    }
}

#[test]
fn after_the_last_try_the_error_names_the_key() {
    type Call = fn(&dyn Storage) -> dacapo_array::Result<()>;
    let calls: [(&str, Call); 8] = [
        ("write", |s| s.write("a/key", b"1", Durability::Synced)),
        ("create", |s| s.create("a/key", b"1").map(drop)),
        ("update", |s| s.append_lines("a/key", b"1\n")),
        ("read", |s| s.read("a/key").map(drop)),
        ("list", |s| s.list("a/key").map(drop)),
        ("delete", |s| s.delete("a/key").map(drop)),
        ("move", |s| s.move_tree("a/key", "b", true).map(drop)),
        ("remove", |s| s.remove_tree("a/key").map(drop)),
    ];
    thread::scope(|scope| {
        for (name, call) in calls {
            for fault in [Fault::Busy, Fault::Dropped] {
                scope.spawn(move || {
                    let server = S3::start();
                    let storage = storage(&server, Some(2));
                    server.fail(0, usize::MAX, fault);
                    let error = call(&*storage).unwrap_err().to_string();
                    assert!(error.contains("s3://lab/a/key"), "{name}, {fault:?}: {error}");
                    assert!(
                        server.requests() >= 3,
                        "{name}, {fault:?}: {} tries",
                        server.requests()
                    );
                });
            }
        }
    });
}

fn spec() -> ArraySpec {
    let voxel_size = Coordinate::splat(3, 4);
    ArraySpec::new(
        Roi::from_voxels(&[0; 3], &[8; 3], &voxel_size),
        voxel_size,
        DType::U8,
    )
}

fn values(plus: u8) -> NdData {
    NdData::U8(ArrayD::from_shape_fn(vec![8; 3], |at| {
        (at[0] + at[1] * at[2]) as u8 + plus
    }))
}

/// An array in two blocks, in place of any that is there.
fn put(access: &Access, plus: u8) -> dacapo_array::Result<()> {
    let address: ArrayAddress = "s3://lab/a.zarr/group/x".parse()?;
    let options = CreateOptions {
        chunk_shape: Some(vec![4; 3]),
        format: ZarrFormat::V3,
        overwrite: true,
        ..CreateOptions::default()
    };
    let draft = DraftArray::new(&address, access, &spec(), &options)?;
    draft.write(&spec().roi, &values(plus))?;
    draft.publish().map(drop)
}

#[test]
fn an_array_that_fails_in_the_middle_is_not_there_or_is_the_old_one() {
    let server = S3::start();
    server.fail(0, 0, Fault::Busy);
    put(&access(&server, None), 0).unwrap();
    let requests = server.requests();
    let mut kept = BTreeMap::new();
    for replaces in [false, true] {
        for first in 0..requests {
            let server = S3::start();
            let healthy = access(&server, None);
            if replaces {
                put(&healthy, 0).unwrap();
            }
            server.fail(first, usize::MAX, Fault::Busy);
            let failed = put(&access(&server, Some(0)), 100);
            server.heal();
            let container = "s3://lab/a.zarr".parse().unwrap();
            let listed = list_arrays(&container, &healthy).unwrap_or_default();
            let address = "s3://lab/a.zarr/group/x".parse().unwrap();
            let state = match ZarrArray::open(&address, &healthy) {
                Err(_) => {
                    assert!(listed.is_empty(), "{first}: {listed:?}");
                    assert!(failed.is_err(), "{first}");
                    "nothing"
                }
                Ok(array) => {
                    assert_eq!(listed, ["group/x"], "{first}");
                    let read = array.read_all().unwrap();
                    assert!(
                        read == values(100) || replaces && read == values(0),
                        "{first}: a mixture"
                    );
                    if read == values(0) { "the old" } else { "the new" }
                }
            };
            if let Err(error) = failed {
                assert!(error.to_string().contains("s3://lab/a.zarr"), "{first}: {error}");
            }
            *kept.entry((replaces, state)).or_insert(0) += 1;
            // It can be done now.
            put(&healthy, 7).unwrap();
            assert_eq!(
                ZarrArray::open(&address, &healthy).unwrap().read_all().unwrap(),
                values(7)
            );
        }
    }
    assert!(
        kept[&(false, "nothing")] > 5 && kept[&(true, "the old")] > 5,
        "{kept:?}"
    );
}
