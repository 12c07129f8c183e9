//! Writing windows: whole chunks or shards in place of what was there, parts of them by changing what is there.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use ndarray::ArrayD;
use rayon::prelude::*;

use super::shard::{self, InMemory, Shard};
use super::windows::Window;
use super::{Bytes, TURNS, ZarrArray};
use crate::storage::Durability;
use crate::{Element, Result};

thread_local! {
    /// Values on their way to the codec, one chunk after the other.
    static VALUES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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

    /// Encodes an object: a chunk, or a shard of which the chunks that the window does not meet stay as they are.
    fn object(&self, object: &[u64], present: Option<&[u8]>) -> Result<Vec<u8>> {
        let format = &self.array.format;
        let Some(layout) = &format.shards else {
            return Ok(self.chunk(object, present)?.unwrap_or_default());
        };
        let shard = present
            .map(|bytes| Shard::open(Box::new(InMemory(bytes)), layout))
            .transpose()
            .map_err(self.array.broken(object))?;
        let make = |(number, chunk): (usize, &Vec<u64>)| -> Result<Option<Cow<'_, [u8]>>> {
            let shared = self.window.shared(chunk, &format.shape, format.inner_shape());
            let mut before = Vec::new();
            let is_there = match &shard {
                Some(shard) if !shared.is_whole(chunk, &format.shape, format.inner_shape()) => shard
                    .read(number, &mut before)
                    .map_err(self.array.broken(chunk))?,
                _ => false,
            };
            let before = is_there.then_some(before);
            if shared.is_empty() {
                return Ok(before.map(Cow::Owned));
            }
            Ok(self.chunk(chunk, before.as_deref())?.map(Cow::Owned))
        };
        let chunks: Vec<Vec<u64>> = layout.chunks(object).collect();
        let made: Vec<_> = if present.is_none() {
            chunks.par_iter().enumerate().map(make).collect::<Result<_>>()?
        } else {
            // On this thread alone: another job that it took up meanwhile could wait for the same turn.
            chunks.iter().enumerate().map(make).collect::<Result<_>>()?
        };
        Ok(shard::assemble(layout, made))
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
        objects.par_iter().try_for_each(|object| {
            let key = self.chunk_key(object);
            // Whatever happens to the object: nobody reads the old values from the cache.
            self.forget(object);
            let shared = window.shared(object, shape, object_shape);
            let written = if shared.is_whole(object, shape, object_shape) {
                storage.write(&key, &source.object(object, None)?, self.durability)
            } else {
                let mut hasher = DefaultHasher::new();
                object.hash(&mut hasher);
                let turn = &self.turns[hasher.finish() as usize % TURNS];
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                storage.update_with(&key, self.durability, &mut |present| {
                    // A shard of which nothing is there is made like one of which something is.
                    let nothing = || self.format.shards.as_ref().map(shard::nothing);
                    match present {
                        Some(present) => source.object(object, Some(present)),
                        None => source.object(object, nothing().as_deref()),
                    }
                })
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

    /// Forgets the decoded chunks of an object.
    fn forget(&self, object: &[u64]) {
        match &self.format.shards {
            None => self.cache.forget(object),
            Some(layout) => layout.chunks(object).for_each(|chunk| self.cache.forget(&chunk)),
        }
    }
}
