//! Arrays that are being made: filled where nobody finds them, then put in their place in one step.

use std::path::Path;

use serde_json::Value;

use super::files::{self, Durability, Unfinished};
use super::format::{self, Format, Node};
use super::{Codec, CreateOptions, ZarrArray, ZarrFormat, placement, stored};
use crate::{ArrayAddress, ArrayRead, ArraySpec, ArrayWrite, Error, NdData, Result, Roi};

/// Bytes of a chunk of default shape, at most.
const DEFAULT_CHUNK: usize = 16 << 20;

/// An array that nobody finds before it is published. Dropped instead, it leaves nothing behind; what a kill
/// leaves of it, the next draft beside it clears away.
#[derive(Debug)]
pub struct DraftArray {
    array: ZarrArray,
    unfinished: Unfinished,
    replace: bool,
    format: ZarrFormat,
}

impl DraftArray {
    /// Begins an array that has the fill value everywhere, and creates the groups above it in its container.
    ///
    /// # Errors
    /// [`Error::Spec`] for a spec or chunk shape that makes no sense; [`Error::Exists`] for an array that may
    /// not be replaced; [`Error::Address`] where a group is in its place or an array above it; [`Error::Io`].
    pub fn new(address: &ArrayAddress, spec: &ArraySpec, options: &CreateOptions) -> Result<Self> {
        address.check()?;
        spec.check()?;
        let shape = spec.shape();
        let chunk_shape = match &options.chunk_shape {
            Some(chunk) if chunk.len() != shape.len() || chunk.contains(&0) => {
                let reason = format!("a chunk shape of {chunk:?} for an array of {shape:?}");
                return Err(Error::Spec { reason });
            }
            // A chunk larger than the array only wastes memory.
            Some(chunk) => chunk
                .iter()
                .zip(&shape)
                .map(|(&chunk, &length)| chunk.min(length.max(1)))
                .collect(),
            None => default_chunk(spec),
        };
        let codec = options.codec.unwrap_or(if spec.dtype.is_float() {
            Codec::Blosc { level: 1 }
        } else {
            Codec::Zstd { level: 1 }
        });
        let mut attributes = options.attributes.clone();
        // Those of an array that it is made after may say which chunks that had.
        attributes.shift_remove(stored::CHUNKS);
        attributes.extend(placement::funlib(spec));
        let metadata = format::describe(spec, &chunk_shape, codec, options, attributes);
        may_be_made(address, options.overwrite)?;
        create_groups(address, options.format)?;
        let unfinished = Unfinished::new(&address.path())?;
        for (name, content) in &metadata {
            files::write(&unfinished.dir.join(name), &pretty(content), Durability::Later)?;
        }
        // What was made is what a reader will find: a spec that does not come back is refused here.
        let broken = |reason| Error::Metadata {
            address: address.clone(),
            reason,
        };
        let Node::Array(version, content) = format::node(&unfinished.dir).map_err(broken)? else {
            return Err(broken("it was not written".into()));
        };
        let format = Format::parse(&unfinished.dir, version, content).map_err(broken)?;
        Ok(Self {
            array: ZarrArray::at(unfinished.dir.clone(), address, format, Durability::Later)?,
            unfinished,
            replace: options.overwrite,
            format: options.format,
        })
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
    /// this one with all that was written to it.
    ///
    /// # Errors
    /// [`Error::Exists`] if one is there by now that may not be replaced, [`Error::Io`]. Then the draft is gone.
    pub fn publish(self) -> Result<ZarrArray> {
        let Self {
            array,
            unfinished,
            replace,
            format,
        } = self;
        array.record_written()?;
        let (address, spec) = (array.address, array.spec);
        may_be_made(&address, replace)?;
        match unfinished.finish(replace) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { address });
            }
            finished => finished?,
        }
        place_in_group(&address.path(), format, &spec)?;
        ZarrArray::over(&address, array.format)
    }
}

impl ZarrArray {
    /// Makes what is above an array in its container groups, and enters it into the multiscales of the one that
    /// it is in: for arrays that were put where they are as they were.
    ///
    /// # Errors
    /// [`Error::Address`] for an array inside another, [`Error::Io`].
    pub fn join_groups(&self) -> Result<()> {
        create_groups(&self.address, self.format.version)?;
        place_in_group(&self.address.path(), self.format.version, &self.spec)
    }
}

impl ArrayRead for DraftArray {
    fn spec(&self) -> &ArraySpec {
        self.array.spec()
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        self.array.read(roi)
    }
}

impl ArrayWrite for DraftArray {
    fn write(&self, roi: &Roi, data: &NdData) -> Result<()> {
        self.array.write(roi, data)
    }
}

/// Refuses to make an array where one is that may not be replaced, or where something else is.
fn may_be_made(address: &ArrayAddress, replace: bool) -> Result<()> {
    let dir = address.path();
    match format::node(&dir) {
        Ok(Node::Nothing) if !dir.exists() => Ok(()),
        // An array of which the metadata is broken may be replaced too.
        Ok(Node::Array(..)) | Err(_) if replace => Ok(()),
        Ok(Node::Array(..)) | Err(_) => Err(Error::Exists {
            address: address.clone(),
        }),
        Ok(Node::Group | Node::Nothing) => Err(Error::Address {
            text: address.to_string(),
            reason: "something is there that is no array, and is not replaced by one".to_owned(),
        }),
    }
}

/// Cubes of 128 voxels (squares of 1024, …) with all channels, smaller where that is too much.
fn default_chunk(spec: &ArraySpec) -> Vec<usize> {
    let shape = spec.shape();
    let (channels, voxels) = shape.split_at(spec.channels.len());
    let mut edge = match voxels.len() {
        1 => 1 << 20,
        2 => 1 << 10,
        _ => 1 << 7,
    };
    let mut channels: Vec<usize> = channels.iter().map(|&n| n.max(1)).collect();
    loop {
        let voxels = voxels.iter().map(|&n| n.clamp(1, edge));
        let chunk: Vec<usize> = channels.iter().copied().chain(voxels).collect();
        if edge <= 32 && chunk.iter().product::<usize>() * spec.dtype.size() > DEFAULT_CHUNK {
            // That many channels are read one by one.
            channels.fill(1);
            edge = 64;
        } else if chunk.iter().product::<usize>() * spec.dtype.size() <= DEFAULT_CHUNK {
            return chunk;
        } else {
            edge /= 2;
        }
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The file that makes a folder a group.
fn group_file(version: ZarrFormat) -> (&'static str, Value) {
    match version {
        ZarrFormat::V2 => (".zgroup", serde_json::json!({"zarr_format": 2})),
        ZarrFormat::V3 => (
            "zarr.json",
            serde_json::json!({"zarr_format": 3, "node_type": "group", "attributes": {}}),
        ),
    }
}

/// Makes the container and every folder between it and the array a group.
fn create_groups(address: &ArrayAddress, version: ZarrFormat) -> Result<()> {
    let (name, content) = group_file(version);
    let mut dir = address.container.clone();
    let parts: Vec<&str> = address.dataset.split('/').collect();
    for part in std::iter::once(None).chain(parts[..parts.len() - 1].iter().map(Some)) {
        if let Some(part) = part {
            dir.push(part);
        }
        if let Ok(Node::Array(..)) = format::node(&dir) {
            let reason = format!("{} is an array, which holds no others", dir.display());
            return Err(Error::Address {
                text: address.to_string(),
                reason,
            });
        }
        files::create_dirs(&dir)?;
        if !dir.join(name).exists() {
            files::write(&dir.join(name), &pretty(&content), Durability::Synced)?;
            files::sync_dir(&dir)?;
        }
    }
    Ok(())
}

/// Enters an array into the multiscales of its group, in place of an older entry.
fn place_in_group(dir: &Path, version: ZarrFormat, spec: &ArraySpec) -> Result<()> {
    let (Some(group), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    files::locked(group, || {
        let mut attributes = format::group_attributes(group);
        placement::enter(&mut attributes, version, name, spec);
        match version {
            ZarrFormat::V2 => {
                let content = pretty(&Value::Object(attributes));
                files::write(&group.join(".zattrs"), &content, Durability::Synced)
            }
            ZarrFormat::V3 => {
                let (file, mut content) = group_file(version);
                content["attributes"] = Value::Object(attributes);
                files::write(&group.join(file), &pretty(&content), Durability::Synced)
            }
        }
    })
}
