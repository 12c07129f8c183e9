//! One writer a run: a lock that the kernel takes back when its holder dies, or one that runs out, and a note of
//! who holds it. What the holder may do with the run stands in the stores.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
    process, thread,
    time::Duration,
};

use dacapo_array::storage::join;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    system::uname,
};
use serde::{Deserialize, Serialize};

use crate::{Error, LocalStore, PROGRAM, Result, lock::LockObject, time};

/// The locked file of a run.
const LOCK: &str = ".lock";

/// Who writes a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the machine.
    pub host: String,
    /// Process on that machine.
    pub pid: u32,
    /// Since when, in UTC.
    pub since: String,
    /// Program and version.
    pub program: String,
}

impl Holder {
    fn this_process() -> Self {
        let host = uname().nodename().to_string_lossy().into_owned();
        Self {
            host,
            pid: process::id(),
            since: time::now(),
            program: PROGRAM.to_owned(),
        }
    }

    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        let note = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        // The lock is what counts: its holder may be between taking it and writing the note.
        let unknown = || "unknown".to_owned();
        note.unwrap_or_else(|| Self {
            host: unknown(),
            pid: 0,
            since: unknown(),
            program: unknown(),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            pid,
            since,
            program,
        } = self;
        write!(f, "process {pid} on {host} since {since} ({program})")
    }
}

/// The right to write one run, held until it is dropped or its process ends, however it ends.
///
/// Readers need none. In a directory the lock is `flock(2)` on `<base>/<run>/.lock`, which binds all processes of
/// a machine, and on NFS those of all machines whose server keeps locks. Elsewhere it is an object of that name
/// that says until when it holds; a thread renews it, and a minute after its process died it is free.
#[derive(Debug)]
pub struct RunLease {
    run: String,
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    File(File),
    Object(LockObject),
}

impl RunLease {
    /// Takes the run, making its directory if there is none, and clears what a killed writer left unfinished.
    ///
    /// # Errors
    /// [`Error::Held`] if another process, or another lease of this one, holds the run; [`Error::Name`],
    /// [`Error::Twin`] and [`Error::Io`].
    pub fn acquire(store: &LocalStore, run: &str) -> Result<Self> {
        let key = join(&store.create_run(run)?, LOCK);
        let taken = match store.base().path() {
            Some(base) => {
                // Made durably, as the directories above it.
                store.storage().create(&key, b"")?;
                lock_file(&base.join(&key))?.map(Lock::File)
            }
            None => LockObject::acquire(store.storage(), &key, &Holder::this_process())?.map(Lock::Object),
        };
        match taken {
            Ok(lock) => {
                store.sweep(run);
                let run = run.to_owned();
                Ok(Self { run, lock })
            }
            Err(holder) => Err(Error::Held {
                run: run.to_owned(),
                holder,
            }),
        }
    }

    /// Who holds the run now; nobody if it is free or not there.
    ///
    /// # Errors
    /// [`Error::Name`] and [`Error::Io`].
    pub fn holder(store: &LocalStore, run: &str) -> Result<Option<Holder>> {
        let place = store.run_dir(run)?.join(LOCK);
        let Some(path) = place.path() else {
            let key = store.base().key_of(&place).unwrap_or_default();
            return LockObject::holder(&**store.storage(), &key);
        };
        if !path.try_exists().map_err(Error::io("open", path))? {
            return Ok(None);
        }
        // A shared lock asks without standing in the way of another who asks.
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(Errno::WOULDBLOCK) => Ok(Some(Holder::read(&mut file))),
            Err(error) => Err(Error::io("lock", path)(error.into())),
        }
    }

    /// Whether this is still the one writer: a lock that runs out is lost where it could not be renewed in time.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub fn check(&self) -> Result<()> {
        match &self.lock {
            Lock::Object(lock) if lock.is_lost() => Err(Error::LeaseLost {
                run: self.run.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for RunLease {
    fn drop(&mut self) {
        // The lock goes with the file; an empty note only keeps a later reader from naming this process.
        if let Lock::File(file) = &self.lock
            && let Err(error) = file.set_len(0)
        {
            tracing::debug!(%error, "cannot clear the note of a lease");
        }
    }
}

/// The locked file with a note of this process, or who holds it.
fn lock_file(path: &Path) -> Result<Result<File, Holder>> {
    let mut file = open(path).map_err(Error::io("open", path))?;
    if !lock(&file).map_err(Error::io("lock", path))? {
        return Ok(Err(Holder::read(&mut file)));
    }
    let note = serde_json::to_vec(&Holder::this_process()).unwrap_or_default();
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(&note))
        .map_err(Error::io("write", path))?;
    Ok(Ok(file))
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Whether the lock was free. Someone who asks for the holder locks for an instant: that is waited out.
fn lock(file: &File) -> std::io::Result<bool> {
    for _ in 0..5 {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entries(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().flatten();
        names
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStore::new(base.path());
        assert_eq!(RunLease::holder(&store, "run").unwrap(), None);
        let lease = RunLease::acquire(&store, "run").unwrap();

        let Err(Error::Held { run, holder }) = RunLease::acquire(&store, "run") else {
            panic!("two writers");
        };
        assert_eq!((run.as_str(), holder.pid), ("run", process::id()));
        assert_eq!(RunLease::holder(&store, "run").unwrap(), Some(holder));
        RunLease::acquire(&store, "other").unwrap();

        drop(lease);
        assert_eq!(RunLease::holder(&store, "run").unwrap(), None);
        RunLease::acquire(&store, "run").unwrap();
    }

    #[test]
    fn taking_a_run_sweeps_what_a_kill_left_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStore::new(base.path());
        let run = base.path().join("run");
        let make = |path: &str| {
            fs::create_dir_all(run.join(path).parent().unwrap()).unwrap();
            fs::write(run.join(path), b"bytes").unwrap();
        };
        let kept = [
            "checkpoints/1.safetensors",
            "validation.zarr/1/a/prediction/.zarray",
            "validation.zarr/.zgroup",
        ];
        kept.into_iter().for_each(make);
        [
            ".trash/.unfinished-1-2-3/0",
            ".unfinished-1-2-3",
            "checkpoints/.unfinished-1-2-3",
            "validation.zarr/1/a/.unfinished-1-2-3/.zarray",
            "snapshot.zarr/.unfinished-1-2-3",
        ]
        .into_iter()
        .for_each(make);
        RunLease::acquire(&store, "run").unwrap();
        assert!(kept.iter().all(|path| run.join(path).exists()));
        for dir in [".trash", "snapshot.zarr"] {
            assert!(entries(&run.join(dir)).is_empty(), "{dir}");
        }
        for dir in ["checkpoints", "validation.zarr/1/a"] {
            assert_eq!(entries(&run.join(dir)).len(), 1, "{dir}");
        }
        let mut there = entries(&run);
        there.sort();
        assert_eq!(
            there,
            [
                ".lock",
                ".trash",
                "checkpoints",
                "snapshot.zarr",
                "validation.zarr"
            ]
        );
    }

    #[test]
    fn a_name_that_is_none_makes_nothing() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("base");
        assert!(RunLease::acquire(&LocalStore::new(&base), "../outside").is_err());
        assert!(!base.exists());
    }
}
