//! Reading windows: which chunks, decoded on all threads, copied row by row to where they belong.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::ArrayD;
use rayon::prelude::*;

use super::cache::Lookup;
use super::scatter::Scatter;
use super::shard::Shard;
use super::windows::Window;
use super::{Bytes, ZarrArray};
use crate::memory::blank;
use crate::{Element, Error, Result};

thread_local! {
    /// Encoded bytes, one chunk after the other: fresh memory costs more than what is done with it.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The shards that a window meets; no entry for those that were never written.
type Shards = BTreeMap<Vec<u64>, Shard<'static>>;

impl ZarrArray {
    /// The values of a window, in `values` if it has room for them. Outside of the array, and where nothing was
    /// written, they are the fill value.
    pub(super) fn read_window<T: Element + Bytes>(
        &self,
        window: &Window,
        values: Vec<T>,
    ) -> Result<ArrayD<T>> {
        let (shape, chunk_shape) = (&self.format.shape, self.format.inner_shape());
        let fill = T::from_bytes(&self.format.fill);
        let (mut values, is_filled) = blank(&window.shape, fill, values)?;
        let is_filled = is_filled || {
            // What is outside has no chunk that could say so.
            let is_outside = !window.is_inside(shape);
            if is_outside {
                values.fill(fill);
            }
            is_outside
        };
        // Each chunk is looked up once: what is in the cache now need not be there later, and its shard is not opened.
        let chunks: Vec<(Vec<u64>, Lookup)> = window
            .chunks(shape, chunk_shape)
            .into_iter()
            .map(|chunk| {
                let lookup = self.cache.get(&chunk);
                (chunk, lookup)
            })
            .collect();
        let shards = self.shards(&chunks)?;
        let scatter = Scatter::new(&mut values);
        chunks.into_par_iter().try_for_each(|(chunk, lookup)| {
            let shared = window.shared(&chunk, shape, chunk_shape);
            let copy = |decoded: Option<&[u8]>| {
                shared.rows(&window.shape, chunk_shape, |to, from, length| {
                    // SAFETY: what a window shares with one chunk it shares with no other, and rows of a chunk
                    // do not overlap.
                    let row = unsafe { scatter.part(to..to + length) };
                    match decoded {
                        Some(decoded) => {
                            T::copy_from_bytes(
                                &decoded[from * size_of::<T>()..(from + length) * size_of::<T>()],
                                row,
                            );
                        }
                        None => row.fill(fill),
                    }
                });
            };
            match lookup {
                Lookup::Found(Some(decoded)) => copy(Some(&decoded)),
                Lookup::Found(None) if is_filled => {}
                Lookup::Found(None) => copy(None),
                Lookup::Missing(ticket) => {
                    let is_whole = shared.is_whole(&chunk, shape, chunk_shape);
                    self.decoded(&chunk, &shards, |decoded| {
                        if decoded.is_some() || !is_filled {
                            copy(decoded.as_deref());
                        }
                        if !is_whole {
                            let kept = decoded.map(|decoded| Arc::new(decoded.into_owned()));
                            self.cache.put(&chunk, kept, ticket);
                        }
                    })?;
                }
            }
            Ok(())
        })?;
        // Chunks that were not found may be those of an array that was removed meanwhile.
        self.check_is_there()?;
        ArrayD::from_shape_vec(window.shape.clone(), values).map_err(|error| Error::Shape {
            reason: error.to_string(),
        })
    }

    /// Opens the shards that have chunks which were not in the cache.
    fn shards(&self, chunks: &[(Vec<u64>, Lookup)]) -> Result<Shards> {
        let Some(layout) = &self.format.shards else {
            return Ok(Shards::new());
        };
        let missing = (chunks.iter()).filter(|(_, lookup)| matches!(lookup, Lookup::Missing(_)));
        let places: BTreeSet<Vec<u64>> = missing.map(|(chunk, _)| layout.place(chunk).0).collect();
        let opened = places.into_par_iter().map(|place| {
            let Some(object) = self.place.storage.open(&self.chunk_key(&place))? else {
                return Ok(None);
            };
            let shard = Shard::open(object, layout).map_err(self.broken(&place))?;
            Ok(Some((place, shard)))
        });
        let opened: Vec<_> = opened.collect::<Result<_>>()?;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Reads and decodes a chunk, and passes it to `then`; nothing if it was never written.
    fn decoded(
        &self,
        chunk: &[u64],
        shards: &Shards,
        then: impl FnOnce(Option<Cow<'_, [u8]>>),
    ) -> Result<()> {
        // Taken out, so that whatever `then` reads has memory of its own.
        let mut encoded = ENCODED.take();
        let found = match &self.format.shards {
            None => self
                .place
                .storage
                .read_into(&self.chunk_key(chunk), &mut encoded)?,
            Some(layout) => {
                let (place, number) = layout.place(chunk);
                match shards.get(&place) {
                    Some(shard) => shard.read(number, &mut encoded).map_err(self.broken(chunk))?,
                    None => false,
                }
            }
        };
        if found {
            then(Some(self.format.decode(&encoded).map_err(self.broken(chunk))?));
        } else {
            then(None);
        }
        ENCODED.set(encoded);
        Ok(())
    }
}
