//! Arrays that are being made: filled where nobody finds them, then put in their place in one step.

use std::sync::Arc;
use std::time::Duration;

use super::format::{self, Node};
use super::pending::Pending;
use super::place::Place;
use super::shapes::Shapes;
use super::{Codec, CreateOptions, ZarrArray, ZarrFormat, group, placement, stored};
use crate::storage::{Access, Durability, Hold, Moved, Storage, join, unfinished};
use crate::{ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Error, NdData, Result, Roi};

/// What is unfinished and younger than this is not taken for a leftover: its maker may not hold it yet.
const LEFTOVER: Duration = Duration::from_secs(60);

/// An array that nobody finds before it is published. Dropped instead, it leaves nothing behind; what a kill
/// leaves of it, the next draft beside it clears away. Reading what another thread is just writing may fail.
#[derive(Debug)]
pub struct DraftArray {
    array: ZarrArray,
    unfinished: Unfinished,
    replace: bool,
    format: ZarrFormat,
}

/// A tree that is moved to its place when it is whole, and goes away otherwise.
#[derive(Debug)]
struct Unfinished {
    storage: Arc<dyn Storage>,
    key: String,
    is_moved: bool,
    _hold: Hold,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_moved
            && let Err(error) = self.storage.remove_tree(&self.key)
        {
            // Its name says that it is unfinished: it is swept.
            tracing::debug!(%error, "cannot remove what is not finished");
        }
    }
}

impl DraftArray {
    /// Begins an array that has the fill value everywhere, and creates the groups above it in its container.
    ///
    /// # Errors
    /// [`Error::Spec`] for a spec or chunk shape that makes no sense; [`Error::Exists`] for an array that may
    /// not be replaced; [`Error::Address`] for a name that no new array may have, and where a group is in its place or an
    /// array above it; [`Error::Key`]
    /// where a symbolic link leads out of the container; [`Error::Io`], and as [`Access::storage`].
    pub fn new(
        address: &ArrayAddress,
        access: &Access,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<Self> {
        Self::begin(Place::of(address, access)?, spec, options)
    }

    /// As [`DraftArray::new`], in a storage that has the container at a key.
    ///
    /// # Errors
    /// As [`DraftArray::new`].
    pub fn new_within(
        storage: Arc<dyn Storage>,
        container: &str,
        address: &ArrayAddress,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<Self> {
        Self::begin(Place::within(storage, container, address)?, spec, options)
    }

    fn begin(place: Place, spec: &ArraySpec, options: &CreateOptions) -> Result<Self> {
        place.address.check_new()?;
        spec.check()?;
        let shapes = Shapes::new(spec, options)?.joined(spec, options);
        let codec = options.codec.unwrap_or(if spec.dtype.is_float() {
            Codec::Blosc { level: 1 }
        } else {
            Codec::Zstd { level: 1 }
        });
        let mut attributes = options.attributes.clone();
        // Those of an array that it is made after may say which chunks that had.
        attributes.shift_remove(stored::CHUNKS);
        attributes.extend(placement::funlib(spec));
        let metadata = format::describe(spec, &shapes, codec, options, attributes);
        may_be_made(&place, options.overwrite)?;
        group::create(&place, options.format)?;
        let storage = &place.storage;
        let group = place.group();
        if let Err(error) = storage.sweep(&group, LEFTOVER) {
            tracing::debug!(%error, "cannot clear away what was never finished");
        }
        let key = join(&group, &unfinished());
        let unfinished = Unfinished {
            storage: storage.clone(),
            _hold: storage.hold(&key)?,
            key,
            is_moved: false,
        };
        for (name, content) in &metadata {
            storage.write(
                &join(&unfinished.key, name),
                &group::pretty(content),
                Durability::Later,
            )?;
        }
        // What was made is what a reader will find: a spec that does not come back is refused here.
        let array = ZarrArray::at(&place, unfinished.key.clone(), Durability::Later)?
            .ok_or_else(|| place.broken("it was not written"))?;
        Ok(Self {
            array,
            unfinished,
            replace: options.overwrite,
            format: options.format,
        })
    }

    /// Keeps up to so many bytes of shards that are written part by part, instead of the default of 256 MiB: each is
    /// stored when it is whole, so that blocks may be smaller.
    #[must_use]
    pub fn with_pending(mut self, bytes: usize) -> Self {
        self.array.pending = Some(Pending::new(bytes));
        self
    }

    /// Shape of its objects, shards or chunks, in values along all axes: what is written at a time.
    pub fn object_shape(&self) -> &[usize] {
        self.array.object_shape()
    }

    /// Gives it the values of an array that is stored alike (shape, chunks, codecs), without copying them where the
    /// storage can; either can be written or removed, and the other stays as it is. Programs that change files in
    /// place, instead of replacing them, would change both. False, with nothing done, if they are not stored alike.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Metadata`]. Then the draft may have some of the values.
    pub fn share_chunks(&self, other: &ZarrArray) -> Result<bool> {
        self.array.share_chunks(other)
    }

    /// Puts the array in its place, in one step and durably: readers find the one that was there before, or
    /// this one with all that was written to it. (In an object store, none at all for a while, if one is
    /// replaced.)
    ///
    /// # Errors
    /// [`Error::Exists`] if one is there by now that may not be replaced, [`Error::Io`]. Then the draft is gone, and so
    /// is the array, unless it has replaced another.
    pub fn publish(self) -> Result<ZarrArray> {
        let Self {
            array,
            mut unfinished,
            replace,
            format,
        } = self;
        array.write_pending()?;
        array.record_written()?;
        let place = array.place;
        may_be_made(&place, replace)?;
        place.storage.sync_tree(&unfinished.key)?;
        match place.storage.move_tree(&unfinished.key, &place.key(), replace)? {
            Moved::Moved => unfinished.is_moved = true,
            Moved::Occupied => {
                return Err(Error::Exists {
                    address: place.address,
                });
            }
            Moved::Missing => {
                return Err(Error::Gone {
                    address: place.address,
                });
            }
        }
        let entered = group::enter(&place, format, &array.spec);
        if entered.is_err() && !replace {
            // Best effort: what is told is the failure.
            let _ = place.storage.remove_tree(&place.key());
        }
        entered?;
        ZarrArray::found(&place)
    }
}

impl ZarrArray {
    /// Makes what is above an array in its container groups, and enters it into the multiscales of the one that
    /// it is in: for arrays that were put where they are as they were.
    ///
    /// # Errors
    /// [`Error::Address`] for an array inside another, [`Error::Io`].
    pub fn join_groups(&self) -> Result<()> {
        group::create(&self.place, self.format.version)?;
        group::enter(&self.place, self.format.version, &self.spec)
    }
}

impl ArrayRead for DraftArray {
    fn spec(&self) -> &ArraySpec {
        self.array.spec()
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        self.array.write_pending()?;
        self.array.read(roi)
    }
}

impl ArrayWrite for DraftArray {
    fn write(&self, roi: &Roi, data: &NdData) -> Result<()> {
        self.array.write(roi, data)
    }
}

/// Refuses to make an array where one is that may not be replaced, or where something else is.
fn may_be_made(place: &Place, replace: bool) -> Result<()> {
    match format::node(&*place.storage, &place.key())? {
        Ok(Node::Nothing) if place.storage.kind(&place.key())?.is_none() => Ok(()),
        // An array of which the metadata is broken may be replaced too.
        Ok(Node::Array) | Err(_) if replace => Ok(()),
        Ok(Node::Array) | Err(_) => Err(Error::Exists {
            address: place.address.clone(),
        }),
        Ok(Node::Group | Node::Nothing) => Err(Error::Address {
            text: place.address.to_string(),
            reason: "something is there that is no array, and is not replaced by one".to_owned(),
        }),
    }
}
