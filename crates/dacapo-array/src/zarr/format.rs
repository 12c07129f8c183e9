//! An array's own metadata, version 2 or 3: shape, chunks, codecs, chunk keys. Where the array lies in the
//! world is in `placement`.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits, CodecChain, CodecOptions, DataType, FillValue,
};

use super::CreateOptions;
use super::place::{Read, read_json};
use super::shapes::Shapes;
use super::shard::{self, Layout};
use crate::storage::{Kind, Stamp, Storage, join};
use crate::{ArraySpec, DType};

/// Versions of the Zarr format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZarrFormat {
    /// Version 2, which every Zarr program reads.
    #[default]
    V2,
    /// Version 3, with checksums.
    V3,
}

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// Zstandard; level 1 suits images and labels.
    Zstd {
        /// 1 (fast) to 22 (small).
        level: i32,
    },
    /// Blosc with Zstandard and bits shuffled: for floats.
    Blosc {
        /// 1 (fast) to 9 (small).
        level: u8,
    },
    /// Blosc with LZ4 and bytes shuffled: the fastest to read.
    BloscLz4 {
        /// 1 (fast) to 9 (small).
        level: u8,
    },
    /// Gzip, for programs that know no other.
    Gzip {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
}

/// Chunks that are larger than this, decoded, are refused: hostile metadata must not ask for all memory.
const MOST_CHUNK_BYTES: u64 = 4 << 30;
/// Arrays of more axes are refused.
const MOST_AXES: usize = 32;

/// What the metadata says.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) version: ZarrFormat,
    pub(super) shape: Vec<usize>,
    /// Of all chunks alike; with shards, of those.
    pub(super) chunk_shape: Vec<usize>,
    pub(super) dtype: DType,
    /// One value, as bytes of this machine.
    pub(super) fill: Vec<u8>,
    pub(super) attributes: Map<String, Value>,
    /// Version 3 names of the axes.
    pub(super) dimension_names: Vec<Option<String>>,
    /// How chunks stand in objects of many, if they do.
    pub(super) shards: Option<Layout>,
    /// Whether a CRC-32C ends each chunk. It is no part of `codecs`, which would copy a chunk for it.
    has_checksum: bool,
    array: Array<()>,
    codecs: Arc<CodecChain>,
    data_type: DataType,
    fill_value: FillValue,
    /// Shape of what is decoded at a time.
    inner: Vec<NonZeroU64>,
}

/// What stands at a key.
#[derive(Debug)]
pub(super) enum Node {
    /// Metadata of an array.
    Array,
    /// A group, or a prefix without metadata.
    Group,
    /// Nothing, or no prefix.
    Nothing,
}

/// The object that makes a prefix an array.
pub(super) fn metadata_key(version: ZarrFormat, prefix: &str) -> String {
    join(
        prefix,
        match version {
            ZarrFormat::V2 => ".zarray",
            ZarrFormat::V3 => "zarr.json",
        },
    )
}

/// Looks for the metadata of an array at `prefix`.
///
/// # Errors
/// [`crate::Error::Io`].
pub(super) fn array_metadata(
    storage: &dyn Storage,
    prefix: &str,
) -> crate::Result<Read<Option<(ZarrFormat, Value, Stamp)>>> {
    match read_json(storage, &metadata_key(ZarrFormat::V2, prefix))? {
        Ok(None) => {}
        Ok(Some((metadata, stamp))) => return Ok(Ok(Some((ZarrFormat::V2, metadata, stamp)))),
        Err(reason) => return Ok(Err(reason)),
    }
    let v3 = read_json(storage, &metadata_key(ZarrFormat::V3, prefix))?;
    let is_array = |metadata: &Value| metadata.get("node_type").and_then(Value::as_str) == Some("array");
    Ok(v3.map(|v3| {
        v3.filter(|(metadata, _)| is_array(metadata))
            .map(|(metadata, stamp)| (ZarrFormat::V3, metadata, stamp))
    }))
}

/// Looks for anything at `prefix`.
///
/// # Errors
/// [`crate::Error::Io`].
pub(super) fn node(storage: &dyn Storage, prefix: &str) -> crate::Result<Read<Node>> {
    match array_metadata(storage, prefix)? {
        Ok(Some(_)) => return Ok(Ok(Node::Array)),
        Ok(None) => {}
        Err(reason) => return Ok(Err(reason)),
    }
    Ok(Ok(match storage.kind(prefix)? {
        Some(Kind::Prefix) => Node::Group,
        _ => Node::Nothing,
    }))
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The attributes of a group; empty if there are none.
pub(super) fn group_attributes(storage: &dyn Storage, prefix: &str) -> Map<String, Value> {
    // Broken metadata of a group is nothing that an array inside depends on.
    let read = |name: &str| read_json(storage, &join(prefix, name)).ok()?.ok()?;
    let v2 = object(read(".zattrs").map(|(value, _)| value));
    if !v2.is_empty() {
        return v2;
    }
    let v3 = object(read("zarr.json").map(|(value, _)| value));
    object(v3.get("attributes").cloned())
}

impl Format {
    /// From an array's metadata, and its attributes if it has any.
    ///
    /// # Errors
    /// As a text what is wrong with it.
    pub(super) fn parse(version: ZarrFormat, mut metadata: Value, attributes: Option<Value>) -> Read<Self> {
        let object = metadata.as_object_mut().ok_or("it is no JSON object")?;
        let attributes = match attributes {
            Some(Value::Object(attributes)) => attributes,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err("its attributes are no JSON object".into()),
        };
        let dimension_names = object
            .get("dimension_names")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |names| {
                names
                    .iter()
                    .map(|name| name.as_str().map(str::to_owned))
                    .collect()
            });
        // Frames of Zstandard may end with a checksum, which every reader heeds and no metadata has to announce:
        // version 2 has no other.
        if let (ZarrFormat::V2, Some(zstd)) = (version, metadata.pointer_mut("/compressor"))
            && zstd.get("id").and_then(Value::as_str) == Some("zstd")
        {
            zstd["checksum"] = json!(true);
        }
        let mut shards = match version {
            ZarrFormat::V2 => None,
            ZarrFormat::V3 => shard::describe(&metadata),
        };
        let has_checksum = match &mut shards {
            Some(described) => take_checksum(&mut described.inner),
            None => take_checksum(&mut metadata),
        };
        let metadata: ArrayMetadata = match version {
            ZarrFormat::V2 => serde_json::from_value(metadata).map(ArrayMetadata::V2),
            ZarrFormat::V3 => serde_json::from_value(metadata).map(ArrayMetadata::V3),
        }
        .map_err(|error| error.to_string())?;
        let array =
            Array::new_with_metadata(Arc::new(()), "/", metadata).map_err(|error| error.to_string())?;
        let axes = array.dimensionality();
        if axes == 0 || axes > MOST_AXES {
            return Err(format!("it has {axes} axes"));
        }
        if array.shape().iter().any(|&length| i64::try_from(length).is_err()) {
            return Err(format!("its shape of {:?} is too large", array.shape()));
        }
        let name = array
            .data_type()
            .name(zarrs::plugin::ZarrVersion::V3)
            .map_or_else(String::new, |n| n.to_string());
        let dtype =
            DType::from_name(&name).ok_or_else(|| format!("values of type `{name}` are not supported"))?;
        let chunk = array
            .chunk_shape(&vec![0; axes])
            .map_err(|error| error.to_string())?;
        let regular = array.chunk_grid_shape().iter().zip(array.shape()).zip(&chunk);
        if !regular
            .clone()
            .all(|((&count, &length), chunk)| count == length.div_ceil(chunk.get()))
        {
            return Err("its chunks are not all of one shape".into());
        }
        let bytes = chunk
            .iter()
            .try_fold(dtype.size() as u64, |bytes, n| bytes.checked_mul(n.get()));
        if bytes.is_none_or(|bytes| bytes > MOST_CHUNK_BYTES) {
            return Err(format!("a chunk of {chunk:?} is too large"));
        }
        let fill = array.fill_value().as_ne_bytes().to_vec();
        if fill.len() != dtype.size() {
            return Err("its fill value has another type".into());
        }
        let chunk_shape: Vec<usize> = chunk.iter().map(|n| n.get() as usize).collect();
        let shards = match shards {
            None => None,
            Some(described) => {
                // What an array would be of which each chunk were an object.
                let inner = serde_json::from_value(described.inner.clone())
                    .map_err(|error| error.to_string())
                    .and_then(|metadata| {
                        Array::new_with_metadata(Arc::new(()), "/", ArrayMetadata::V3(metadata))
                            .map_err(|error| error.to_string())
                    })
                    .map_err(|reason| format!("the chunks of its shards: {reason}"))?;
                let shape = inner
                    .chunk_shape(&vec![0; axes])
                    .map_err(|error| error.to_string())?;
                let shape = shape.iter().map(|n| n.get() as usize).collect();
                described.layout(&chunk_shape, shape, inner.codecs())
            }
        };
        let inner = match &shards {
            None => chunk.to_vec(),
            Some(layout) => (layout.chunk_shape.iter())
                .filter_map(|&n| NonZeroU64::new(n as u64))
                .collect(),
        };
        Ok(Self {
            version,
            inner,
            shards,
            has_checksum,
            shape: array.shape().iter().map(|&n| n as usize).collect(),
            chunk_shape,
            dtype,
            fill,
            attributes,
            dimension_names,
            codecs: array.codecs(),
            data_type: array.data_type().clone(),
            fill_value: array.fill_value().clone(),
            array,
        })
    }

    /// Key of a chunk below the array's.
    pub(super) fn chunk_key(&self, chunk: &[u64]) -> String {
        self.array.chunk_key(chunk).to_string()
    }

    /// Shape of what is decoded at a time.
    pub(super) fn inner_shape(&self) -> &[usize] {
        self.shards
            .as_ref()
            .map_or(&self.chunk_shape, |layout| &layout.chunk_shape)
    }

    /// The values of a chunk, row-major, as bytes of this machine. The chunks of shards that are read whole
    /// ([`shard::describe`]) are the shards.
    ///
    /// # Errors
    /// As a text what is wrong with the bytes.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let bytes = if self.has_checksum {
            let (bytes, checksum) = bytes
                .split_last_chunk()
                .ok_or("it has too few bytes for a checksum")?;
            if crc32c::crc32c(bytes).to_le_bytes() != *checksum {
                return Err("the checksum is invalid".to_owned());
            }
            bytes
        } else {
            bytes
        };
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded = self
            .chunk_codecs()
            .decode(
                bytes.into(),
                &self.inner,
                &self.data_type,
                &self.fill_value,
                &options,
            )
            .and_then(|decoded| Ok(decoded.into_fixed()?))
            .map_err(|error| error.to_string())?;
        let expected = self.chunk_bytes();
        if decoded.len() != expected {
            return Err(format!("it decodes to {} bytes, not {expected}", decoded.len()));
        }
        Ok(decoded)
    }

    fn chunk_codecs(&self) -> &CodecChain {
        self.shards.as_ref().map_or(&self.codecs, |layout| &layout.codecs)
    }

    /// The bytes that a chunk's values are stored as.
    ///
    /// # Errors
    /// As a text why they cannot be.
    pub(super) fn encode(&self, values: &[u8]) -> Result<Vec<u8>, String> {
        let options = CodecOptions::default().with_concurrent_target(1);
        let encoded = self
            .chunk_codecs()
            .encode(
                ArrayBytes::new_flen(values),
                &self.inner,
                &self.data_type,
                &self.fill_value,
                &options,
            )
            .map_err(|error| error.to_string())?;
        if !self.has_checksum {
            return Ok(encoded.into_owned());
        }
        let checksum = crc32c::crc32c(&encoded).to_le_bytes();
        Ok(match encoded {
            Cow::Borrowed(encoded) => [encoded, &checksum].concat(),
            Cow::Owned(mut encoded) => {
                encoded.extend_from_slice(&checksum);
                encoded
            }
        })
    }

    /// Bytes of a decoded chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.inner_shape().iter().product::<usize>() * self.dtype.size()
    }
}

/// Takes a checksum that ends the codecs of version 3 metadata out of them. Whether there is one.
fn take_checksum(metadata: &mut Value) -> bool {
    let codecs = metadata.get_mut("codecs").and_then(Value::as_array_mut);
    let Some(codecs) = codecs.filter(|codecs| codecs.len() > 1) else {
        return false;
    };
    let is_checksum = |codec: &Value| {
        let at_the_end = codec
            .pointer("/configuration/location")
            .is_none_or(|at| at == "end");
        codec.get("name").and_then(Value::as_str) == Some("crc32c") && at_the_end
    };
    codecs.pop_if(|codec| is_checksum(codec)).is_some()
}

/// The objects that an array with these properties has for its metadata: name and content.
pub(super) fn describe(
    spec: &ArraySpec,
    shapes: &Shapes,
    codec: Codec,
    options: &CreateOptions,
    attributes: Map<String, Value>,
) -> Vec<(&'static str, Value)> {
    let (shape, dtype, fill) = (spec.shape(), spec.dtype, options.fill);
    let fill = match dtype {
        DType::Bool => json!(fill != 0.0),
        DType::F32 | DType::F64 => number(fill),
        DType::U64 => json!(fill as u64),
        _ => json!(fill as i64),
    };
    match options.format {
        ZarrFormat::V2 => {
            let compressor = match codec {
                Codec::None => Value::Null,
                Codec::Zstd { level } => json!({"id": "zstd", "level": level}),
                Codec::Blosc { level } => {
                    json!({"id": "blosc", "cname": "zstd", "clevel": level, "shuffle": 2, "blocksize": 0})
                }
                Codec::BloscLz4 { level } => {
                    json!({"id": "blosc", "cname": "lz4", "clevel": level, "shuffle": 1, "blocksize": 0})
                }
                Codec::Gzip { level } => json!({"id": "gzip", "level": level}),
            };
            let array = json!({
                "zarr_format": 2,
                "shape": shape,
                "chunks": shapes.chunk,
                "dtype": v2_name(dtype),
                "compressor": compressor,
                "fill_value": fill,
                "order": "C",
                "filters": null,
                "dimension_separator": "/",
            });
            vec![(".zattrs", Value::Object(attributes)), (".zarray", array)]
        }
        ZarrFormat::V3 => {
            let mut codecs = vec![match dtype.size() {
                1 => json!({"name": "bytes"}),
                _ => json!({"name": "bytes", "configuration": {"endian": "little"}}),
            }];
            match codec {
                Codec::None => {}
                Codec::Zstd { level } => {
                    codecs
                        .push(json!({"name": "zstd", "configuration": {"level": level, "checksum": false}}));
                }
                Codec::Blosc { level } => codecs.push(json!({"name": "blosc", "configuration": {
                    "cname": "zstd", "clevel": level, "shuffle": "bitshuffle",
                    "typesize": dtype.size(), "blocksize": 0,
                }})),
                Codec::BloscLz4 { level } => codecs.push(json!({"name": "blosc", "configuration": {
                    "cname": "lz4", "clevel": level, "shuffle": "shuffle",
                    "typesize": dtype.size(), "blocksize": 0,
                }})),
                Codec::Gzip { level } => {
                    codecs.push(json!({"name": "gzip", "configuration": {"level": level}}))
                }
            }
            codecs.push(json!({"name": "crc32c"}));
            if shapes.object != shapes.chunk {
                codecs = vec![json!({"name": "sharding_indexed", "configuration": {
                    "chunk_shape": shapes.chunk,
                    "codecs": codecs,
                    "index_codecs": [
                        {"name": "bytes", "configuration": {"endian": "little"}},
                        {"name": "crc32c"},
                    ],
                    "index_location": "end",
                }})];
            }
            vec![(
                "zarr.json",
                json!({
                    "zarr_format": 3,
                    "node_type": "array",
                    "shape": shape,
                    "data_type": dtype.name(),
                    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shapes.object}},
                    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                    "fill_value": fill,
                    "codecs": codecs,
                    "dimension_names": spec.axis_names,
                    "attributes": attributes,
                }),
            )]
        }
    }
}

/// A float as Zarr metadata has it.
fn number(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// NumPy's name of a type, little endian.
fn v2_name(dtype: DType) -> String {
    let kind = match dtype {
        DType::Bool => 'b',
        DType::F32 | DType::F64 => 'f',
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => 'i',
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 'u',
    };
    let order = if dtype.size() == 1 { '|' } else { '<' };
    format!("{order}{kind}{}", dtype.size())
}
