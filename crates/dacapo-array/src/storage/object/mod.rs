//! Objects of an object store: S3, and what speaks like it. What is asynchronous about it stays in here.

mod again;
mod opened;
mod runtime;
mod services;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use super::{
    COPY_AGE, COPYING, Change, Durability, Entry, Hold, Kind, MARKERS, Moved, OpenObject, Stamp, Storage,
    UNFINISHED, join, key,
};
use crate::{Error, Result};
use again::{Mark, Patience};
use opened::OpenRemote;
use runtime::Asynchrony;

pub(super) use services::Services;

/// Requests that one call has under way at a time.
const REQUESTS: usize = 16;
/// The object that is first in a tree that is being moved or removed, and last to go: as long as it is there,
/// the tree is not.
const IN_BETWEEN: &str = ".unfinished-tree";
/// How often an update gives way to others, a tenth of a second each time.
const MOST_TRIES: u32 = 1000;
/// Nobody knows who still writes what is younger than this.
const LEFTOVER: Duration = Duration::from_secs(24 * 3600);

/// What is in one bucket.
///
/// Object stores have no directories, and no step that takes more than one object. A tree is moved by copying
/// its objects and removed one by one, in an order that lets nobody find half of it; a kill in between leaves
/// what is not listed, and is cleared away by the next who puts something there, or removes it.
#[derive(Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    name: String,
    runtime: Arc<Asynchrony>,
    patience: Patience,
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStorage({})", self.name)
    }
}

fn failed(action: &'static str, what: &str, error: object_store::Error) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let kind = match &error {
        NotFound { .. } => io::ErrorKind::NotFound,
        PermissionDenied { .. } | Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    Error::io(action, FilePath::new(what))(io::Error::new(kind, error))
}

fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

/// Another one came before: the condition of a write does not hold.
fn is_conflict(error: &object_store::Error) -> bool {
    use object_store::Error::{AlreadyExists, Precondition};
    matches!(error, AlreadyExists { .. } | Precondition { .. })
}

/// The tag alone would be that of the same bytes written again.
fn stamp(meta: &ObjectMeta) -> Stamp {
    Stamp(format!(
        "{}-{}-{}",
        meta.e_tag.as_deref().unwrap_or_default(),
        meta.version.as_deref().unwrap_or_default(),
        meta.last_modified.timestamp_micros()
    ))
}

/// How late an object comes when its tree appears, and how early it goes: what makes nodes last, the outermost
/// last of all.
fn rank(key: &str) -> (bool, std::cmp::Reverse<usize>) {
    let is_marker = MARKERS.contains(&key::split(key).1);
    (is_marker, std::cmp::Reverse(key.split('/').count()))
}

impl ObjectStorage {
    /// What is in `store`, which describes itself as `name`.
    ///
    /// # Errors
    /// [`Error::Io`] if there can be no more threads.
    pub fn new(store: Arc<dyn ObjectStore>, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let runtime = Asynchrony::start(&name)?;
        Ok(Self {
            store,
            name,
            runtime,
            patience: Patience::new(None),
        })
    }

    fn path(&self, key: &str) -> Result<Path> {
        key::check_prefix(key)?;
        Path::parse(key).map_err(|error| Error::Key {
            key: key.escape_debug().to_string(),
            reason: error.to_string(),
        })
    }

    fn error(&self, action: &'static str, key: &str) -> impl FnOnce(object_store::Error) -> Error {
        let what = self.describe(key);
        move |error| failed(action, &what, error)
    }

    /// Waits for what `f` asks for with `what`: again, where the answer got lost. So it may be done twice.
    fn wait<A: Clone, T: Send + 'static, F>(
        &self,
        what: A,
        f: impl Fn(Arc<dyn ObjectStore>, A) -> F,
    ) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let request = || self.runtime.wait(f(self.store.clone(), what.clone()));
        self.patience.insist(request)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let path = self.path(key)?;
        match self.wait(path, |store, path| async move { store.head(&path).await }) {
            Err(error) if is_missing(&error) => Ok(None),
            found => found.map(Some).map_err(self.error("look at", key)),
        }
    }

    fn get(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<(ObjectMeta, Attributes)>> {
        buffer.clear();
        let path = self.path(key)?;
        let got = self.wait(path, move |store, path| async move {
            let found = store.get_opts(&path, GetOptions::default()).await?;
            let meta = (found.meta.clone(), found.attributes.clone());
            let bytes = if meta.0.size > most {
                None
            } else {
                Some(found.bytes().await?)
            };
            Ok((meta, bytes))
        });
        match got {
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.error("read", key)(error)),
            Ok((meta, Some(bytes))) => {
                buffer.extend_from_slice(&bytes);
                Ok(Some(meta))
            }
            Ok(((meta, _), None)) => {
                let text = format!("it has {} bytes, more than {most}", meta.size);
                let error = io::Error::new(io::ErrorKind::FileTooLarge, text);
                Err(Error::io("read", FilePath::new(&self.describe(key)))(error))
            }
        }
    }

    fn put(&self, key: &str, bytes: &[u8], options: PutOptions) -> Result<object_store::Result<()>> {
        let request = (self.path(key)?, PutPayload::from(bytes.to_vec()), options);
        Ok(self.wait(request, |store, (path, payload, options)| async move {
            store.put_opts(&path, payload, options).await.map(drop)
        }))
    }

    /// Writes on a condition. Whether it held, and this is what was written; no for what others wrote.
    fn put_if(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<object_store::Result<()>> {
        let mark = Mark::new();
        let options = PutOptions {
            mode,
            attributes: mark.attributes(),
            ..PutOptions::default()
        };
        match self.put(key, bytes, options)? {
            // A request is repeated when its answer is lost: the other one may be ourselves.
            Err(error) if is_conflict(&error) && self.has_mark(key, &mark)? => Ok(Ok(())),
            done => Ok(done),
        }
    }

    fn has_mark(&self, key: &str, mark: &Mark) -> Result<bool> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let request = (self.path(key)?, options);
        let found = self.wait(request, |store, (path, options)| async move {
            Ok(store.get_opts(&path, options).await?.attributes)
        });
        match found {
            Err(error) if is_missing(&error) => Ok(false),
            found => Ok(mark.is_in(&found.map_err(self.error("look at", key))?)),
        }
    }

    fn drop_objects(&self, prefix: &str, keys: Vec<String>) -> Result<()> {
        let paths = keys
            .iter()
            .map(|key| self.path(key))
            .collect::<Result<Vec<_>>>()?;
        self.wait(paths, |store, paths| async move {
            let paths = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
            let deleted = store.delete_stream(paths);
            deleted
                .try_for_each(|_| async { Ok(()) })
                .await
                .or_else(|error| if is_missing(&error) { Ok(()) } else { Err(error) })
        })
        .map_err(self.error("remove", prefix))
    }

    /// All objects below a prefix.
    fn below(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let path = self.path(prefix)?;
        self.wait(path, |store, path| async move {
            store.list(Some(&path)).try_collect::<Vec<_>>().await
        })
        .map_err(self.error("list", prefix))
    }

    /// Whether there is any object below a prefix.
    fn is_inhabited(&self, prefix: &str) -> Result<bool> {
        let path = self.path(prefix)?;
        let first = self.wait(path, |store, path| async move {
            store.list(Some(&path)).try_next().await
        });
        Ok(first.map_err(self.error("list", prefix))?.is_some())
    }

    fn is_in_between(&self, prefix: &str) -> Result<bool> {
        Ok(!prefix.is_empty() && self.head(&join(prefix, IN_BETWEEN))?.is_some())
    }

    /// Deletes a tree, so that nobody finds half of it at any time.
    fn clear(&self, prefix: &str, objects: &[ObjectMeta]) -> Result<()> {
        let flag = join(prefix, IN_BETWEEN);
        self.put(&flag, b"", PutMode::Overwrite.into())?
            .map_err(self.error("remove", prefix))?;
        let mut keys: Vec<String> = objects.iter().map(|meta| meta.location.to_string()).collect();
        keys.retain(|key| *key != flag);
        keys.sort_by_cached_key(|key| std::cmp::Reverse(rank(key)));
        // Markers one after the other, then all the rest at once.
        let markers = keys.iter().take_while(|key| rank(key).0).count();
        let rest = keys.split_off(markers);
        for marker in keys {
            self.drop_objects(prefix, vec![marker])?;
        }
        self.drop_objects(prefix, rest)?;
        self.drop_objects(prefix, vec![flag])
    }

    fn copy(&self, from: &str, to: &str, keys: &[&str]) -> Result<()> {
        let pairs = keys
            .iter()
            .map(|key| Ok((self.path(&join(from, key))?, self.path(&join(to, key))?)))
            .collect::<Result<Vec<_>>>()?;
        self.wait(pairs, |store, pairs| async move {
            futures_util::stream::iter(pairs.into_iter().map(Ok))
                .try_for_each_concurrent(REQUESTS, |(from, to)| {
                    let store = store.clone();
                    async move { store.copy(&from, &to).await }
                })
                .await
        })
        .map_err(self.error("move", from))
    }
}

impl Storage for ObjectStorage {
    fn describe(&self, key: &str) -> String {
        if key.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{key}", self.name)
        }
    }

    fn read_into(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        key::check(key)?;
        Ok(self.get(key, u64::MAX, buffer)?.is_some())
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn OpenObject>>> {
        key::check(key)?;
        let (path, name) = (self.path(key)?, self.describe(key));
        Ok(self.head(key)?.map(|meta| {
            Box::new(OpenRemote {
                store: self.store.clone(),
                runtime: self.runtime.clone(),
                path,
                name,
                meta,
            }) as Box<dyn OpenObject>
        }))
    }

    fn read_state(&self, key: &str, most: u64, buffer: &mut Vec<u8>) -> Result<Option<Stamp>> {
        key::check(key)?;
        Ok(self.get(key, most, buffer)?.map(|(meta, _)| stamp(&meta)))
    }

    fn write(&self, key: &str, bytes: &[u8], _durability: Durability) -> Result<()> {
        key::check(key)?;
        self.put(key, bytes, PutMode::Overwrite.into())?
            .map_err(self.error("write", key))
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        key::check(key)?;
        match self.put_if(key, bytes, PutMode::Create)? {
            Ok(()) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(self.error("create", key)(error)),
        }
    }

    fn update_with(&self, key: &str, _durability: Durability, change: Change) -> Result<()> {
        key::check(key)?;
        let mut present = Vec::new();
        let mut pause = Duration::from_millis(2);
        let mut tries = 0;
        loop {
            let seen = self.get(key, u64::MAX, &mut present)?;
            let changed = change(seen.as_ref().map(|_| present.as_slice()))?;
            let was_there = seen.is_some();
            let mode = match seen {
                None => PutMode::Create,
                Some((meta, _)) => PutMode::Update(UpdateVersion {
                    e_tag: meta.e_tag,
                    version: meta.version,
                }),
            };
            match self.put_if(key, &changed, mode)? {
                Ok(()) => return Ok(()),
                // It may be gone meanwhile. Where it was not, it is the bucket that is missing.
                Err(error)
                    if tries < MOST_TRIES && (is_conflict(&error) || was_there && is_missing(&error)) => {}
                Err(error) => return Err(self.error("write", key)(error)),
            }
            // Somebody got further.
            tries += 1;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        key::check(key)?;
        let was_there = self.head(key)?.is_some();
        if was_there {
            self.drop_objects(key, vec![key.to_owned()])?;
        }
        Ok(was_there)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let path = self.path(prefix)?;
        let listed = self
            .wait(path, |store, path| async move {
                store.list_with_delimiter(Some(&path)).await
            })
            .map_err(self.error("list", prefix))?;
        let is_whole = listed
            .objects
            .iter()
            .all(|meta| meta.location.filename() != Some(IN_BETWEEN));
        if !is_whole {
            return Ok(Vec::new());
        }
        let prefixes = listed.common_prefixes.iter().map(|path| (path, Kind::Prefix, 0));
        let objects = listed
            .objects
            .iter()
            .map(|meta| (&meta.location, Kind::Object, meta.size));
        let mut entries: Vec<Entry> = prefixes
            .chain(objects)
            .filter_map(|(path, kind, bytes)| {
                let name = path.filename()?.to_owned();
                (!name.starts_with(UNFINISHED)).then_some(Entry { name, kind, bytes })
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    fn unfinished(&self, prefix: &str) -> Result<Vec<String>> {
        let path = self.path(prefix)?;
        let listed = self
            .wait(path, |store, path| async move {
                store.list_with_delimiter(Some(&path)).await
            })
            .map_err(self.error("list", prefix))?;
        let objects = listed.objects.iter().map(|meta| &meta.location);
        let names = objects
            .chain(&listed.common_prefixes)
            .filter_map(|path| path.filename());
        let names = names.filter(|name| name.starts_with(UNFINISHED) && *name != IN_BETWEEN);
        Ok(names.map(str::to_owned).collect())
    }

    /// By the service: the bytes never come here.
    fn duplicate(&self, from: &str, to: &str) -> Result<()> {
        key::check(from)?;
        key::check(to)?;
        let places = (self.path(from)?, self.path(to)?);
        self.wait(places, |store, (origin, place)| async move {
            store.copy(&origin, &place).await
        })
        .map_err(self.error("copy", from))
    }

    fn kind(&self, key: &str) -> Result<Option<Kind>> {
        key::check_prefix(key)?;
        if self.is_inhabited(key)? {
            return Ok((!self.is_in_between(key)?).then_some(Kind::Prefix));
        }
        let is_object = !key.is_empty() && self.head(key)?.is_some();
        Ok(is_object.then_some(Kind::Object))
    }

    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        key::check(key)?;
        Ok(self.head(key)?.as_ref().map(stamp))
    }

    fn move_tree(&self, from: &str, to: &str, replace: bool) -> Result<Moved> {
        key::check(from)?;
        key::check(to)?;
        let moving = self.below(from)?;
        if moving.is_empty() || self.is_in_between(from)? {
            return Ok(Moved::Missing);
        }
        let there = self.below(to)?;
        if there.is_empty() {
            if self.head(to)?.is_some() {
                return Ok(Moved::Occupied);
            }
        } else {
            if !replace && !self.is_in_between(to)? {
                return Ok(Moved::Occupied);
            }
            self.clear(to, &there)?;
        }
        let flag = join(to, IN_BETWEEN);
        self.put(&flag, b"", PutMode::Overwrite.into())?
            .map_err(self.error("move", from))?;
        let mut keys: Vec<&str> = moving
            .iter()
            .filter_map(|meta| meta.location.as_ref().strip_prefix(from)?.strip_prefix('/'))
            .collect();
        keys.sort_by_cached_key(|key| rank(key));
        let rest = keys.iter().take_while(|key| !rank(key).0).count();
        let (rest, markers) = keys.split_at(rest);
        self.copy(from, to, rest)?;
        for marker in markers {
            self.copy(from, to, &[marker])?;
        }
        self.drop_objects(to, vec![flag])?;
        self.clear(from, &moving)?;
        Ok(Moved::Moved)
    }

    fn moves_at_once(&self) -> bool {
        false
    }

    fn remove_tree(&self, prefix: &str) -> Result<bool> {
        key::check(prefix)?;
        let objects = self.below(prefix)?;
        if objects.is_empty() {
            return Ok(false);
        }
        let was_there = !self.is_in_between(prefix)?;
        self.clear(prefix, &objects)?;
        Ok(was_there)
    }

    fn sync(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn sync_tree(&self, prefix: &str) -> Result<()> {
        key::check_prefix(prefix)
    }

    fn hold(&self, prefix: &str) -> Result<Hold> {
        key::check(prefix).map(|()| Hold::default())
    }

    fn sweep(&self, prefix: &str, age: Duration) -> Result<()> {
        let path = self.path(prefix)?;
        let age = if age.is_zero() { age } else { age.max(LEFTOVER) };
        let listed = self
            .wait(path, |store, path| async move {
                store.list_with_delimiter(Some(&path)).await
            })
            .map_err(self.error("list", prefix))?;
        let is_old = |meta: &ObjectMeta| {
            let changed = SystemTime::from(meta.last_modified);
            let is_copy = |part: &str| part.starts_with(COPYING);
            let age = if meta.location.as_ref().split('/').any(is_copy) {
                age.max(COPY_AGE)
            } else {
                age
            };
            changed.elapsed().unwrap_or_default() >= age
        };
        let is_unfinished = |path: &Path| path.filename().is_some_and(|name| name.starts_with(UNFINISHED));
        for tree in listed.common_prefixes.iter().filter(|path| is_unfinished(path)) {
            let objects = self.below(tree.as_ref())?;
            if objects.iter().all(is_old) {
                tracing::debug!(tree = %tree, "clearing away what was never finished");
                self.clear(tree.as_ref(), &objects)?;
            }
        }
        let left = listed.objects.iter().filter(|meta| {
            is_unfinished(&meta.location) && meta.location.filename() != Some(IN_BETWEEN) && is_old(meta)
        });
        self.drop_objects(prefix, left.map(|meta| meta.location.to_string()).collect())
    }
}

#[cfg(test)]
mod tests;
