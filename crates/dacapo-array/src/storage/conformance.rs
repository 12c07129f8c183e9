//! What every storage must do, as a suite that panics where one does not; and a storage that fails when it is
//! told to, for tests of what is built on storages. What only one storage promises is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a suite is a test: it ends where the contract is broken"
)]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{
    Change, Durability, Entry, Hold, Kind, Moved, OpenObject, Stamp, Storage, StorageExt, join, unfinished,
};
use crate::{Error, Result};

/// Texts that are no keys, whatever the storage.
const NO_KEYS: [&str; 9] = ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\0b"];

/// Names that are as good as others.
const NAMES: [&str; 6] = ["%2e%2e", "a b", "(id=2, bias=0.5)", "\u{fc}", "u\u{308}", "~#?&+"];

fn names(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let entries = storage.list(prefix).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Holds an empty storage to the contract of [`Storage`]. Things are left in it.
pub fn storage(storage: &dyn Storage) {
    objects(storage);
    updates(storage);
    lists(storage);
    duplicates(storage);
    trees(storage);
    leftovers(storage);
    threads(storage);
    refuses(storage);
}

fn objects(storage: &dyn Storage) {
    assert_eq!(storage.read("a/b").unwrap(), None);
    assert_eq!(storage.stamp("a/b").unwrap(), None);
    assert_eq!(storage.kind("a/b").unwrap(), None);
    assert!(!storage.delete("a/b").unwrap());

    for (i, durability) in [Durability::Synced, Durability::Whole, Durability::Later]
        .into_iter()
        .enumerate()
    {
        let bytes = vec![i as u8; 1000 * i];
        storage.write("a/b", &bytes, durability).unwrap();
        assert_eq!(storage.read("a/b").unwrap(), Some(bytes));
    }
    storage.sync("a").unwrap();
    storage.sync_tree("").unwrap();
    assert_eq!(storage.kind("a/b").unwrap(), Some(Kind::Object));
    assert_eq!(storage.kind("a").unwrap(), Some(Kind::Prefix));
    assert_eq!(storage.kind("").unwrap(), Some(Kind::Prefix));
    assert_eq!(storage.kind("a/b/c").unwrap(), None, "nothing is below an object");
    assert_eq!(storage.read("a").unwrap(), None, "a prefix has no bytes");
    assert_eq!(storage.read("a/b/c").unwrap(), None);
    assert_eq!(storage.stamp("a").unwrap(), None);

    // A buffer that has something loses it, found or not.
    let mut buffer = b"before".to_vec();
    assert!(!storage.read_into("a/none", &mut buffer).unwrap() && buffer.is_empty());
    storage.write("a/b", b"", Durability::Synced).unwrap();
    buffer.push(1);
    assert!(storage.read_into("a/b", &mut buffer).unwrap() && buffer.is_empty());

    // Parts of one state.
    storage.write("a/b", b"0123456789", Durability::Synced).unwrap();
    let open = storage.open("a/b").unwrap().unwrap();
    assert_eq!(open.len(), 10);
    let mut part = [0; 3];
    open.read_at(4, &mut part).unwrap();
    assert_eq!(&part, b"456");
    assert!(matches!(open.read_at(8, &mut part), Err(Error::Io { .. })));
    assert!(matches!(
        open.read_at(u64::MAX - 1, &mut part),
        Err(Error::Io { .. })
    ));
    storage.write("a/b", b"abcdefghij", Durability::Synced).unwrap();
    // The old bytes or none, never the new ones.
    assert!(open.read_at(4, &mut part).is_err() || &part == b"456");
    assert!(storage.open("a").unwrap().is_none() && storage.open("a/none").unwrap().is_none());

    // States are told apart, and reading does not change them.
    storage.write("a/b", b"one", Durability::Synced).unwrap();
    let one = storage.stamp("a/b").unwrap().unwrap();
    assert_eq!(storage.read_state("a/b", 3, &mut buffer).unwrap().unwrap(), one);
    assert_eq!(buffer, b"one");
    assert_eq!(storage.stamp("a/b").unwrap().unwrap(), one);
    assert!(matches!(
        storage.read_state("a/b", 2, &mut buffer),
        Err(Error::Io { .. })
    ));
    assert_eq!(storage.read_state("a/none", 9, &mut buffer).unwrap(), None);
    storage.write("a/b", b"two", Durability::Whole).unwrap();
    assert_ne!(storage.stamp("a/b").unwrap().unwrap(), one);

    assert!(storage.create("a/new", b"first").unwrap());
    assert!(!storage.create("a/new", b"second").unwrap());
    assert_eq!(storage.read("a/new").unwrap().unwrap(), b"first");
    assert!(storage.delete("a/new").unwrap());
    assert!(!storage.delete("a/new").unwrap());
    assert!(storage.create("a/new", b"third").unwrap());

    for name in NAMES {
        let key = format!("names/{name}/{name}");
        storage.write(&key, name.as_bytes(), Durability::Synced).unwrap();
        assert_eq!(storage.read(&key).unwrap().unwrap(), name.as_bytes(), "{name}");
        assert!(storage.describe(&key).contains(name));
    }
    assert_eq!(names(storage, "names").len(), NAMES.len());
}

fn duplicates(storage: &dyn Storage) {
    storage.write("d/a", b"first", Durability::Synced).unwrap();
    storage.duplicate("d/a", "d/deep/b").unwrap();
    assert_eq!(storage.read("d/deep/b").unwrap().as_deref(), Some(&b"first"[..]));
    // Each is its own.
    storage.write("d/a", b"second", Durability::Synced).unwrap();
    assert_eq!(storage.read("d/deep/b").unwrap().as_deref(), Some(&b"first"[..]));
    storage
        .update("d/deep/b", &mut |present| {
            Ok([present.unwrap_or_default(), b"!"].concat())
        })
        .unwrap();
    assert_eq!(storage.read("d/a").unwrap().as_deref(), Some(&b"second"[..]));
    storage.delete("d/a").unwrap();
    assert_eq!(storage.read("d/deep/b").unwrap().as_deref(), Some(&b"first!"[..]));
    assert!(storage.duplicate("d/none", "d/c").is_err());
    assert_eq!(storage.read("d/c").unwrap(), None);
    assert!(storage.remove_tree("d").unwrap());
}

fn updates(storage: &dyn Storage) {
    let mut push = |present: Option<&[u8]>| {
        let mut bytes = present.unwrap_or(b"new").to_vec();
        bytes.push(b'!');
        Ok(bytes)
    };
    storage.update("updates/x", &mut push).unwrap();
    storage.update("updates/x", &mut push).unwrap();
    storage
        .update_with("updates/x", Durability::Later, &mut push)
        .unwrap();
    assert_eq!(storage.read("updates/x").unwrap().unwrap(), b"new!!!");

    // What comes between is not lost, even if it is the same bytes again.
    let mut calls = 0;
    storage
        .update("updates/x", &mut |present| {
            calls += 1;
            if calls == 1 {
                storage.write("updates/x", b"other", Durability::Synced)?;
            }
            Ok([present.unwrap_or_default(), b"+"].concat())
        })
        .unwrap();
    assert_eq!(storage.read("updates/x").unwrap().unwrap(), b"other+");
    let mut calls = 0;
    storage
        .update("updates/y", &mut |present| {
            calls += 1;
            if calls == 1 {
                assert!(storage.create("updates/y", b"created")?);
            }
            Ok([present.unwrap_or_default(), b"+"].concat())
        })
        .unwrap();
    assert_eq!(storage.read("updates/y").unwrap().unwrap(), b"created+");

    let refuse = |_: Option<&[u8]>| {
        Err(Error::Spec {
            reason: "no".to_owned(),
        })
    };
    for key in ["updates/x", "updates/none"] {
        let before = storage.read(key).unwrap();
        assert!(matches!(
            storage.update(key, &mut { refuse }),
            Err(Error::Spec { .. })
        ));
        assert_eq!(storage.read(key).unwrap(), before);
    }

    storage.append_lines("updates/lines", b"one\n").unwrap();
    storage.append_lines("updates/lines", b"").unwrap();
    storage.append_lines("updates/lines", b"two\nthree\n").unwrap();
    assert_eq!(
        storage.read("updates/lines").unwrap().unwrap(),
        b"one\ntwo\nthree\n"
    );
    for torn in ["to", "one\nto", "one\n", ""] {
        storage
            .write("updates/lines", torn.as_bytes(), Durability::Synced)
            .unwrap();
        storage.append_lines("updates/lines", b"three\n").unwrap();
        let whole = if torn.contains('\n') { "one\n" } else { "" };
        assert_eq!(
            storage.read("updates/lines").unwrap().unwrap(),
            format!("{whole}three\n").as_bytes()
        );
    }
}

fn lists(storage: &dyn Storage) {
    assert!(storage.list("lists").unwrap().is_empty());
    for key in ["lists/b/c/d", "lists/a", "lists/b.x", "lists/b/a", "listsX/a"] {
        storage.write(key, key.as_bytes(), Durability::Synced).unwrap();
    }
    let aside = join("lists", &unfinished());
    storage.write(&aside, b"", Durability::Synced).unwrap();
    storage
        .write(&format!("lists/{}/x", unfinished()), b"", Durability::Synced)
        .unwrap();
    let entry = |name: &str, kind, bytes| Entry {
        name: name.to_owned(),
        kind,
        bytes,
    };
    let expected = [
        entry("a", Kind::Object, 7),
        entry("b", Kind::Prefix, 0),
        entry("b.x", Kind::Object, 9),
    ];
    assert_eq!(storage.list("lists").unwrap(), expected);
    assert_eq!(names(storage, "lists/b"), ["a", "c"]);
    assert!(
        storage.list("lists/a").unwrap().is_empty(),
        "an object has nothing below it"
    );
    assert!(names(storage, "").contains(&"lists".to_owned()));
    let mut walked = Vec::new();
    storage
        .walk("lists", &mut |key, bytes| {
            walked.push((key.to_owned(), bytes));
            Ok(())
        })
        .unwrap();
    let sizes =
        ["lists/a", "lists/b/a", "lists/b/c/d", "lists/b.x"].map(|key| (key.to_owned(), key.len() as u64));
    assert_eq!(walked, sizes);
}

fn plant(storage: &dyn Storage, prefix: &str, content: &str) {
    for key in [".zarray", "0/0", "0/1", "deep/er/x"] {
        storage
            .write(
                &join(prefix, key),
                format!("{content} {key}").as_bytes(),
                Durability::Later,
            )
            .unwrap();
    }
    storage.sync_tree(prefix).unwrap();
}

fn is_planted(storage: &dyn Storage, prefix: &str, content: &str) {
    for key in [".zarray", "0/0", "0/1", "deep/er/x"] {
        let found = storage.read(&join(prefix, key)).unwrap();
        assert_eq!(
            found.unwrap(),
            format!("{content} {key}").as_bytes(),
            "{prefix}/{key}"
        );
    }
    assert_eq!(names(storage, prefix), [".zarray", "0", "deep"]);
}

fn is_gone(storage: &dyn Storage, prefix: &str) {
    assert_eq!(storage.kind(prefix).unwrap(), None, "{prefix}");
    assert_eq!(storage.read(&join(prefix, ".zarray")).unwrap(), None);
    assert_eq!(storage.read(&join(prefix, "0/0")).unwrap(), None);
    assert!(storage.list(prefix).unwrap().is_empty());
}

fn trees(storage: &dyn Storage) {
    assert_eq!(
        storage.move_tree("trees/none", "trees/b", false).unwrap(),
        Moved::Missing
    );
    assert_eq!(
        storage.move_tree("trees/none", "trees/b", true).unwrap(),
        Moved::Missing
    );
    assert!(!storage.remove_tree("trees/none").unwrap());

    plant(storage, "trees/a", "one");
    plant(storage, "trees/ab", "beside");
    assert_eq!(
        storage.move_tree("trees/a", "trees/new/b", false).unwrap(),
        Moved::Moved
    );
    is_gone(storage, "trees/a");
    is_planted(storage, "trees/new/b", "one");

    plant(storage, "trees/a", "two");
    let old = storage.stamp("trees/new/b/.zarray").unwrap();
    assert_eq!(
        storage.move_tree("trees/a", "trees/new/b", false).unwrap(),
        Moved::Occupied
    );
    is_planted(storage, "trees/a", "two");
    is_planted(storage, "trees/new/b", "one");
    storage
        .write("trees/new/b/only/old", b"", Durability::Synced)
        .unwrap();
    assert_eq!(
        storage.move_tree("trees/a", "trees/new/b", true).unwrap(),
        Moved::Moved
    );
    is_gone(storage, "trees/a");
    is_planted(storage, "trees/new/b", "two");
    assert_ne!(
        storage.stamp("trees/new/b/.zarray").unwrap(),
        old,
        "another state"
    );
    assert_eq!(names(storage, "trees/new"), ["b"], "nothing is left beside it");

    assert!(storage.remove_tree("trees/new/b").unwrap());
    is_gone(storage, "trees/new/b");
    assert!(!storage.remove_tree("trees/new/b").unwrap());
    is_planted(storage, "trees/ab", "beside");
    // What was removed may come again.
    plant(storage, "trees/new/b", "three");
    is_planted(storage, "trees/new/b", "three");
}

fn leftovers(storage: &dyn Storage) {
    let left = join("left", &unfinished());
    let held = join("left", &unfinished());
    plant(storage, &left, "left");
    let hold = storage.hold(&held).unwrap();
    plant(storage, &held, "held");
    storage.write("left/kept", b"", Durability::Synced).unwrap();
    assert_eq!(names(storage, "left"), ["kept"]);
    storage.sweep("left", Duration::from_secs(3600)).unwrap();
    is_planted(storage, &left, "left");
    storage.sweep("nowhere", Duration::ZERO).unwrap();
    is_planted(storage, &held, "held");
    assert_eq!(
        storage.move_tree(&held, "left/done", false).unwrap(),
        Moved::Moved
    );
    drop(hold);
    storage.sweep("left", Duration::ZERO).unwrap();
    is_planted(storage, "left/done", "held");
    assert_eq!(names(storage, "left"), ["done", "kept"]);
}

/// Threads that change one object lose nothing; of those that create one, one does.
fn threads(storage: &dyn Storage) {
    const THREADS: usize = 6;
    const TIMES: usize = 10;
    let created = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let created = &created;
            scope.spawn(move || {
                for time in 0..TIMES {
                    let line = format!("{thread} {time}\n");
                    storage
                        .update("threads/x", &mut |present| {
                            Ok([present.unwrap_or_default(), line.as_bytes()].concat())
                        })
                        .unwrap();
                    if storage
                        .create(&format!("threads/{time}"), line.as_bytes())
                        .unwrap()
                    {
                        created.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let lines = String::from_utf8(storage.read("threads/x").unwrap().unwrap()).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(
        lines.len(),
        THREADS * TIMES,
        "no update is lost, and none is done twice"
    );
    assert_eq!(created.into_inner(), TIMES as u64);
}

fn refuses(storage: &dyn Storage) {
    for key in NO_KEYS {
        let results = [
            storage.read(key).map(drop),
            storage.read_state(key, 9, &mut Vec::new()).map(drop),
            storage.write(key, b"", Durability::Synced),
            storage.create(key, b"").map(drop),
            storage.update(key, &mut |_| Ok(Vec::new())),
            storage.append_lines(key, b"\n"),
            storage.delete(key).map(drop),
            storage.list(key).map(drop),
            storage.kind(key).map(drop),
            storage.stamp(key).map(drop),
            storage.move_tree(key, "trees/x", true).map(drop),
            storage.move_tree("trees/ab", key, true).map(drop),
            storage.remove_tree(key).map(drop),
            storage.sync(key),
            storage.sync_tree(key),
            storage.hold(key).map(drop),
            storage.sweep(key, Duration::ZERO),
        ];
        for (method, result) in results.into_iter().enumerate() {
            assert!(
                matches!(result, Err(Error::Key { .. })),
                "{key:?} {method}: {result:?}"
            );
        }
    }
    for result in [
        storage.remove_tree("").map(drop),
        storage.write("", b"", Durability::Synced),
        storage.delete("").map(drop),
    ] {
        assert!(matches!(result, Err(Error::Key { .. })), "the root is no object");
    }
    is_planted(storage, "trees/ab", "beside");
}

/// A storage that does what another does, so many times, and fails from then on. Calls that only look count
/// too.
#[derive(Debug)]
pub struct Failing {
    storage: Arc<dyn Storage>,
    left: AtomicU64,
}

impl Failing {
    /// Fails after `calls` calls.
    pub fn new(storage: Arc<dyn Storage>, calls: u64) -> Self {
        Self {
            storage,
            left: AtomicU64::new(calls),
        }
    }

    /// Whether it has begun to fail.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn count(&self, key: &str) -> Result<&dyn Storage> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Ok(&*self.storage),
            Err(_) => {
                let path = self.storage.describe(key);
                Err(Error::io("reach", Path::new(&path))(io::Error::other(
                    "it fails for a test",
                )))
            }
        }
    }
}

impl Storage for Failing {
    fn describe(&self, key: &str) -> String {
        self.storage.describe(key)
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        self.count(key)?.read_into(key, buffer)
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        self.count(key)?.read_state(key, most, buffer)
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        self.count(key)?.open(key)
    }

    fn write(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<()> {
        self.count(key)?.write(key, bytes, durability)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.count(key)?.create(key, bytes)
    }

    fn update_with(&self, key: &str, durability: Durability, change: Change) -> Result<()> {
        self.count(key)?.update_with(key, durability, change)
    }

    fn append_lines(&self, key: &str, lines: &[u8]) -> Result<()> {
        self.count(key)?.append_lines(key, lines)
    }

    fn delete(&self, key: &str) -> Result<bool> {
        self.count(key)?.delete(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.count(prefix)?.list(prefix)
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        self.count(key)?.kind(key)
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        self.count(key)?.stamp(key)
    }

    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved> {
        self.count(from)?.move_tree(from, to, replace)
    }

    fn moves_at_once(&self) -> bool {
        self.storage.moves_at_once()
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        self.count(prefix)?.remove_tree(prefix)
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        self.count(prefix)?.sync(prefix)
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        self.count(prefix)?.sync_tree(prefix)
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        self.count(prefix)?.hold(prefix)
    }

    fn sweep(&self, prefix: &str, age: Duration) -> Result<()> {
        self.count(prefix)?.sweep(prefix, age)
    }
}
