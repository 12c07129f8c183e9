//! What arrays and records are kept in: bytes under keys, in a directory, in an object store or in memory. What
//! the bytes mean is for others to say.
//!
//! A key is a path below the storage's root, its parts joined by `/`. The empty key is the root itself, where a
//! prefix is asked for.

mod access;
mod below;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "object-store")]
mod http;
mod key;
mod local;
mod location;
mod memory;
#[cfg(feature = "object-store")]
mod object;
mod trees;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Result;

pub use access::{Access, Credentials, ObjectStoreOptions};
pub use below::Below;
pub use local::LocalStorage;
pub use location::Location;
pub use memory::MemoryStorage;
#[cfg(feature = "object-store")]
pub use object::ObjectStorage;

/// How the names of what is not finished yet begin. Nobody lists them; who dies leaves them; [`Storage::sweep`]
/// clears them away.
pub const UNFINISHED: &str = ".unfinished-";

/// How the names of copies begin that can be gone on with. They are [`UNFINISHED`] too, but [`Storage::sweep`]
/// leaves them for [`COPY_AGE`].
pub const COPYING: &str = ".unfinished-copy-";

/// So old is a copy that nobody goes on with any more.
pub const COPY_AGE: Duration = Duration::from_secs(7 * 86_400);

/// The name of something [`UNFINISHED`] that no other call of any process on this machine gives.
pub fn unfinished() -> String {
    unique(UNFINISHED)
}

/// A name with this beginning that no other call of any process on this machine gives.
pub fn unique(beginning: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos());
    format!("{beginning}{}-{nanos:x}-{count}", std::process::id())
}

/// The objects that make a tree of objects a node of a Zarr hierarchy. Where a tree cannot be moved or removed
/// in one step, these come last and go first, so that nobody finds half of one.
pub const MARKERS: [&str; 3] = [".zarray", ".zgroup", "zarr.json"];

/// What a crash of the machine leaves of what is written. A kill of the process leaves half an object only of what is to
/// be synced [`Durability::Later`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives as soon as the call returns.
    Synced,
    /// The object is as before or as written; as written once [`Storage::sync`] has returned for its prefix.
    Whole,
    /// Anything, until [`Storage::sync_tree`] has returned for a prefix of it: for what nobody finds before. A new
    /// object can be found half written as long as [`Storage::write`] has not returned.
    Later,
}

/// What a prefix has one level below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name: one part of a key.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of an object; 0 for anything else.
    pub bytes: u64,
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes that can be read.
    Object,
    /// Something with keys below it.
    Prefix,
    /// A symbolic link. Reading follows it, what lists, moves and removes does not.
    Link,
}

/// Tells one state of an object from every other that it had or will have: two that are equal are the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(pub(crate) String);

/// Makes the new bytes of an object of the present ones; nothing if there is no such object.
pub type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<Vec<u8>>;

/// Bytes under keys.
///
/// Every write is whole or not at all, unless it is [`Durability::Later`]: a reader, at any time and after a kill, finds
/// the bytes from before or those from after. Keys that are no keys (empty parts, `.`, `..`, a NUL) are refused with [`crate::Error::Key`]
/// by every method, so that nothing outside of the root is touched.
///
/// # Errors
/// Beside that, of all methods: [`crate::Error::Io`] with what the system or the service said.
#[allow(clippy::missing_errors_doc, reason = "the same for all methods: on the trait")]
pub trait Storage: Send + Sync + fmt::Debug {
    /// A text for people that says which object a key is: a path or a URL.
    fn describe(&self, key: &str) -> String;

    /// Replaces what is in `buffer` by the bytes of an object. Whether there is one.
    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool>;

    /// As [`Storage::read_into`], with the state that was read; nothing if there is no object.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for an object of more than `most` bytes, which is not read.
    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>>;

    /// Opens an object of which parts are to be read; nothing if there is none.
    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>>;

    /// Writes an object in place of any that is there.
    fn write(&self, key: &str, bytes: &[u8], durability: Durability) -> Result<()>;

    /// Writes an object, durably, where none is. Whether it did: of several who try at once, one does.
    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// Replaces an object by what `change` makes of the present one. No other update or [`Storage::write`] of it
    /// comes between: `change` is called again, with the newer bytes, if one would have.
    ///
    /// # Errors
    /// Those of `change` as well; then nothing is changed.
    fn update_with(&self, key: &str, durability: Durability, change: Change) -> Result<()>;

    /// As [`Storage::update_with`], durably.
    fn update(&self, key: &str, change: Change) -> Result<()> {
        self.update_with(key, Durability::Synced, change)
    }

    /// Appends lines, durably: bytes that end in a line end. What stands after the last line end of the object
    /// was torn by a kill and is dropped. After a kill the first few of the lines may be there, the last of
    /// them torn; readers leave that out.
    fn append_lines(&self, key: &str, lines: &[u8]) -> Result<()> {
        self.update(key, &mut |present| {
            let present = present.unwrap_or_default();
            Ok([&present[..whole_lines(present)], lines].concat())
        })
    }

    /// Deletes an object. Whether there was one.
    fn delete(&self, key: &str) -> Result<bool>;

    /// What is one level below a prefix, sorted by name; nothing where there is none. What is
    /// [`UNFINISHED`] is left out.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// The names of what is [`UNFINISHED`] one level below a prefix, sorted: left by killed processes, or being
    /// made now. A storage that hides them from everyone has none.
    fn unfinished(&self, prefix: &str) -> Result<Vec<String>> {
        key::check_prefix(prefix).map(|()| Vec::new())
    }

    /// Makes an object that has the bytes of another, of which there is one: without copying them where the storage
    /// can. Whatever is written to either later leaves the other as it is. What survives a crash is as with
    /// [`Durability::Later`].
    fn duplicate(&self, from: &str, to: &str) -> Result<()> {
        let mut bytes = Vec::new();
        if self.read_into(from, &mut bytes)? {
            return self.write(to, &bytes, Durability::Later);
        }
        Err(crate::Error::Io {
            action: "read",
            path: self.describe(from).into(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// What stands at a key, links not followed: a key behind a link is one. Prefixes that end in nothing are
    /// there in a directory only.
    fn kind(&self, key: &str) -> Result<Option<Kind>>;

    /// The state of an object, nothing if there is none. It costs no reading.
    fn stamp(&self, key: &str) -> Result<Option<Stamp>>;

    /// Moves all that is below `from` to `to`, durably. [`Moved::Occupied`], with nothing changed, if something
    /// is at `to`, unless that is to be replaced: then it is deleted.
    ///
    /// In a directory and in memory this is one step. In an object store it is not: the tree is not found at
    /// `from` or not yet at `to` ([`MARKERS`]) in between, and what was replaced is gone before.
    ///
    /// Nothing is moved through a symbolic link, at either end: [`crate::Error::Key`].
    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved>;

    /// Removes all that is below a prefix: for readers in one step (by its [`MARKERS`], in an object store),
    /// then its bytes. Whether there was anything. Nothing is removed through a symbolic link:
    /// [`crate::Error::Key`].
    fn remove_tree(&self, prefix: &str) -> Result<bool>;

    /// Makes the objects one level below a prefix survive a crash of the machine, if they were written
    /// [`Durability::Whole`].
    fn sync(&self, prefix: &str) -> Result<()>;

    /// Makes all that is below a prefix survive a crash of the machine.
    fn sync_tree(&self, prefix: &str) -> Result<()>;

    /// Whether [`Storage::move_tree`] is one step, and cheap.
    fn moves_at_once(&self) -> bool {
        true
    }

    /// Keeps an unfinished prefix, making it if there is none, from being swept as long as the value lives.
    fn hold(&self, prefix: &str) -> Result<Hold>;

    /// Clears away what is [`UNFINISHED`] one level below a prefix, was last changed `age` ago or longer, and
    /// is held by nobody: what killed processes left. Where nobody knows who holds what, any age above zero
    /// stands for a day.
    fn sweep(&self, prefix: &str, age: Duration) -> Result<()>;
}

/// One state of an object: it stays what it is, or errs, when the object is written.
#[allow(
    clippy::len_without_is_empty,
    reason = "the length of an object, which is no collection"
)]
pub trait OpenObject: Send + Sync {
    /// Bytes.
    fn len(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if there are fewer, or if the object has been written since in an object store.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// See [`Storage::hold`].
#[derive(Debug, Default)]
pub struct Hold {
    /// A locked file, where the system knows who is alive.
    lock: Option<(std::fs::File, std::path::PathBuf)>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.lock {
            // Best effort: unlocked, it is swept.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How many of these bytes stand in lines that have their end.
pub fn whole_lines(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1)
}

/// What became of a tree that was to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Moved {
    /// It is where it was to go.
    Moved,
    /// Nothing was at the origin.
    Missing,
    /// Something is in its place already.
    Occupied,
}

/// Conveniences for everything that keeps bytes.
pub trait StorageExt: Storage {
    /// The bytes of an object; nothing if there is none.
    ///
    /// # Errors
    /// As [`Storage::read_into`].
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut buffer = Vec::new();
        Ok(self.read_into(key, &mut buffer)?.then_some(buffer))
    }

    /// Whether there is an object.
    ///
    /// # Errors
    /// As [`Storage::stamp`].
    fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.stamp(key)?.is_some())
    }

    /// Calls `visit(key, bytes)` for every object below a prefix, in the order of their keys.
    ///
    /// # Errors
    /// As [`Storage::list`], and what `visit` returns.
    fn walk(&self, prefix: &str, visit: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        for entry in self.list(prefix)? {
            let key = join(prefix, &entry.name);
            match entry.kind {
                Kind::Object => visit(&key, entry.bytes)?,
                Kind::Prefix => self.walk(&key, visit)?,
                Kind::Link => {}
            }
        }
        Ok(())
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}

/// The key of `name` below a prefix.
pub fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}/{name}")
    }
}
