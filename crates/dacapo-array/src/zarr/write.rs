//! Writing windows: whole chunks or shards in place of what was there, parts of them by changing what is there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{MutexGuard, PoisonError};

use ndarray::ArrayD;
use rayon::prelude::*;

use super::format::Format;
use super::pending::Pending;
use super::shard::{Assembly, InMemory, Layout, Shard};
use super::windows::Window;
use super::{Bytes, TURNS, ZarrArray};
use crate::storage::Durability;
use crate::{Element, Result};

thread_local! {
    /// Values on their way to the codec, one chunk after the other.
    static VALUES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Shards that are put together, one after the other: fresh memory costs more than what is done with it.
    static SHARD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of a thread's memory for shards that it keeps for the next.
const KEPT: usize = 64 << 20;
/// With so many shards a thread, each is encoded by one of them: the threads need not share the work on one.
const SHARDS_A_THREAD: usize = 4;

/// Values of a window on their way into chunks.
struct Source<'a, T> {
    array: &'a ZarrArray,
    window: &'a Window,
    values: &'a [T],
}

impl<T: Element + Bytes> Source<'_, T> {
    /// Encodes a chunk: what the window has of it, and the rest as `present` has it, encoded, or the fill value.
    /// Nothing if it has nothing but the fill value, and need not be there.
    fn chunk(&self, chunk: &[u64], present: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let format = &self.array.format;
        let (chunk_shape, fill) = (format.inner_shape(), &format.fill);
        let shared = self.window.shared(chunk, &format.shape, chunk_shape);
        // Taken out: this thread may turn to another chunk while this one is encoded.
        let mut bytes = VALUES.take();
        bytes.resize(format.chunk_bytes(), 0);
        if !shared.fills(chunk_shape) {
            match present {
                Some(present) if !shared.is_whole(chunk, &format.shape, chunk_shape) => {
                    bytes.copy_from_slice(&format.decode(present).map_err(self.array.broken(chunk))?);
                }
                _ => bytes
                    .chunks_exact_mut(fill.len())
                    .for_each(|value| value.copy_from_slice(fill)),
            }
        }
        shared.rows(&self.window.shape, chunk_shape, |from, to, length| {
            T::copy_to_bytes(
                &self.values[from..from + length],
                &mut bytes[to * size_of::<T>()..(to + length) * size_of::<T>()],
            );
        });
        let is_blank = format.shards.is_some() && bytes.chunks_exact(fill.len()).all(|value| value == fill);
        let encoded = if is_blank {
            Ok(None)
        } else {
            format.encode(&bytes).map(Some).map_err(self.array.broken(chunk))
        };
        VALUES.set(bytes);
        encoded
    }

    /// Encodes an object: a chunk, or a shard of which the chunks that the window does not meet stay as they are. A
    /// shard may take the memory of `bytes`, and is encoded on all threads if that is allowed.
    fn object(
        &self,
        object: &[u64],
        present: Option<&[u8]>,
        on_all_threads: bool,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let format = &self.array.format;
        let Some(layout) = &format.shards else {
            return Ok(self.chunk(object, present)?.unwrap_or_default());
        };
        let stored = open_stored(present, layout).map_err(self.array.broken(object))?;
        let make = |(number, chunk): (usize, Vec<u64>)| -> Result<Option<Vec<u8>>> {
            let shared = self.window.shared(&chunk, &format.shape, format.inner_shape());
            let mut before = None;
            if let Some(stored) = &stored
                && !shared.is_whole(&chunk, &format.shape, format.inner_shape())
            {
                before = stored.chunk(number).map_err(self.array.broken(&chunk))?;
            }
            if shared.is_empty() {
                return Ok(before);
            }
            self.chunk(&chunk, before.as_deref())
        };
        let chunks = layout.chunks(object).enumerate();
        let mut shard = Assembly::new(layout, bytes);
        if on_all_threads {
            let chunks: Vec<_> = chunks.collect();
            let made: Vec<_> = chunks.into_par_iter().map(make).collect::<Result<_>>()?;
            made.iter().for_each(|chunk| shard.push(chunk.as_deref()));
        } else {
            for chunk in chunks {
                shard.push(make(chunk)?.as_deref());
            }
        }
        Ok(shard.finish())
    }

    /// Encodes the chunks that the window has of a shard, and keeps them with what else is kept of it.
    fn keep(&self, object: &[u64], layout: &Layout, pending: &Pending) -> Result<()> {
        let (array, format) = (self.array, &self.array.format);
        let shared = |chunk: &[u64]| self.window.shared(chunk, &format.shape, format.inner_shape());
        let is_whole = |chunk: &[u64]| shared(chunk).is_whole(chunk, &format.shape, format.inner_shape());
        let chunks = layout.chunks(object).enumerate();
        let chunks: Vec<(usize, Vec<u64>)> = chunks.filter(|(_, chunk)| !shared(chunk).is_empty()).collect();
        let count = array.chunks_inside(object, layout);
        let due = if chunks.iter().all(|(_, chunk)| is_whole(chunk)) {
            let make = |(number, chunk): &(usize, Vec<u64>)| Ok((*number, self.chunk(chunk, None)?));
            let made: Vec<_> = chunks.par_iter().map(make).collect::<Result<_>>()?;
            let _turn = array.turn(object);
            pending.put(object, made, count)
        } else {
            let _turn = array.turn(object);
            let stored = array.place.storage.open(&array.chunk_key(object))?;
            let stored = stored.map(|stored| Shard::open(stored, layout)).transpose();
            let stored = stored.map_err(array.broken(object))?;
            // On this thread alone: another job that it took up meanwhile could wait for the same turn.
            let make = |(number, chunk): (usize, Vec<u64>)| {
                let before = match (pending.get(object, number), &stored) {
                    (Some(kept), _) => kept,
                    (None, Some(stored)) => stored.chunk(number).map_err(array.broken(&chunk))?,
                    (None, None) => None,
                };
                Ok((number, self.chunk(&chunk, before.as_deref())?))
            };
            let made: Vec<_> = chunks.into_iter().map(make).collect::<Result<_>>()?;
            pending.put(object, made, count)
        };
        // No turn is held any more: this may be another's.
        due.map_or(Ok(()), |due| array.write_parts(&due))
    }
}

impl ZarrArray {
    /// Writes the values of a window that lies in the array.
    pub(super) fn write_window<T: Element + Bytes>(&self, window: &Window, data: &ArrayD<T>) -> Result<()> {
        let (shape, object_shape) = (&self.format.shape, &self.format.chunk_shape);
        let data = data.as_standard_layout();
        let source = Source {
            array: self,
            window,
            values: data.as_slice().unwrap_or_default(),
        };
        self.check_is_there()?;
        let storage = &*self.place.storage;
        let objects = window.chunks(shape, object_shape);
        let on_all_threads = objects.len() < SHARDS_A_THREAD * rayon::current_num_threads();
        objects.par_iter().try_for_each(|object| {
            // Whatever happens to the object: nobody reads the old values from the cache.
            self.forget(object);
            let shared = window.shared(object, shape, object_shape);
            let is_whole = shared.is_whole(object, shape, object_shape);
            let written = match (&self.pending, &self.format.shards) {
                (Some(pending), Some(layout)) if !is_whole => source.keep(object, layout, pending),
                _ if is_whole => {
                    let encoded = source.object(object, None, on_all_threads, SHARD.take())?;
                    let replaced = self.pending.as_ref().map(|pending| {
                        let turn = self.turn(object);
                        (turn, pending, pending.take(object))
                    });
                    let written = storage.write(&self.chunk_key(object), &encoded, self.durability);
                    if let (Err(_), Some((_, pending, Some(parts)))) = (&written, replaced) {
                        pending.put_back(object, parts);
                    }
                    keep_memory(encoded);
                    written
                }
                _ => {
                    let _turn = self.turn(object);
                    // On this thread alone: another job that it took up meanwhile could wait for the same turn.
                    storage.update_with(&self.chunk_key(object), self.durability, &mut |present| {
                        source.object(object, present, false, Vec::new())
                    })
                }
            };
            self.forget(object);
            written
        })?;
        if self.durability != Durability::Later {
            let prefixes: BTreeSet<String> = objects
                .iter()
                .filter_map(|object| Some(self.chunk_key(object).rsplit_once('/')?.0.to_owned()))
                .collect();
            prefixes.iter().try_for_each(|prefix| storage.sync(prefix))?;
        }
        // What was written into an array that went meanwhile is nowhere.
        self.check_is_there()
    }

    /// Who changes a part of an object takes its turn, so that threads need not do it all over again.
    fn turn(&self, object: &[u64]) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        let turn = &self.turns[hasher.finish() as usize % TURNS];
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is kept of shards that are not whole.
    pub(super) fn write_pending(&self) -> Result<()> {
        let shards = self.pending.as_ref().map_or_else(Vec::new, Pending::shards);
        shards.par_iter().try_for_each(|shard| self.write_parts(shard))
    }

    /// Writes what is kept of a shard, over what is stored of it.
    fn write_parts(&self, object: &[u64]) -> Result<()> {
        let (Some(pending), Some(layout)) = (&self.pending, &self.format.shards) else {
            return Ok(());
        };
        // Held from taking to having written: in between the parts are nowhere.
        let _turn = self.turn(object);
        let Some(parts) = pending.take(object) else {
            return Ok(());
        };
        let (key, storage) = (self.chunk_key(object), &self.place.storage);
        let written = if parts.len() == self.chunks_inside(object, layout) {
            let mut shard = Assembly::new(layout, SHARD.take());
            for number in 0..layout.count() {
                shard.push(parts.get(&number).and_then(Option::as_deref));
            }
            let shard = shard.finish();
            let written = storage.write(&key, &shard, self.durability);
            keep_memory(shard);
            written
        } else {
            storage.update_with(&key, self.durability, &mut |present| {
                let stored = open_stored(present, layout).map_err(self.broken(object))?;
                let mut shard = Assembly::new(layout, Vec::new());
                for number in 0..layout.count() {
                    match (parts.get(&number), &stored) {
                        (Some(part), _) => shard.push(part.as_deref()),
                        (None, Some(stored)) => {
                            let chunk = stored.chunk(number).map_err(self.broken(object))?;
                            shard.push(chunk.as_deref());
                        }
                        (None, None) => shard.push(None),
                    }
                }
                Ok(shard.finish())
            })
        };
        // What was read meanwhile may be from before.
        self.forget(object);
        if written.is_err() {
            pending.put_back(object, parts);
        }
        written
    }

    /// How many chunks of a shard lie in the array.
    fn chunks_inside(&self, object: &[u64], layout: &Layout) -> usize {
        let Format {
            shape, chunk_shape, ..
        } = &self.format;
        let along = |axis: usize| {
            let begin = object[axis] as usize * chunk_shape[axis];
            let inside = chunk_shape[axis].min(shape[axis].saturating_sub(begin));
            inside.div_ceil(layout.chunk_shape[axis])
        };
        (0..shape.len()).map(along).product()
    }

    /// Forgets the decoded chunks of an object.
    fn forget(&self, object: &[u64]) {
        match &self.format.shards {
            None => self.cache.forget(object),
            Some(layout) => layout.chunks(object).for_each(|chunk| self.cache.forget(&chunk)),
        }
    }
}

/// Keeps the memory of a shard for the thread's next.
fn keep_memory(shard: Vec<u8>) {
    if shard.capacity() <= KEPT {
        SHARD.set(shard);
    }
}

/// The shard that stands at an object's place, if one does.
fn open_stored<'a>(
    present: Option<&'a [u8]>,
    layout: &Layout,
) -> std::result::Result<Option<Shard<'a>>, String> {
    present
        .map(|bytes| Shard::open(Box::new(InMemory(bytes)), layout))
        .transpose()
}
