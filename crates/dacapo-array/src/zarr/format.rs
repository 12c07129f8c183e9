//! An array's own metadata, version 2 or 3: shape, chunks, codecs, chunk keys. Where the array lies in the
//! world is in `placement`.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use zarrs::array::{
    Array, ArrayBytes, ArrayMetadata, ArrayToBytesCodecTraits, CodecChain, CodecOptions, DataType, FillValue,
};

use super::{CreateOptions, files};
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
    array: Array<()>,
    codecs: Arc<CodecChain>,
    data_type: DataType,
    fill_value: FillValue,
    chunk: Vec<NonZeroU64>,
}

/// What stands at a path.
#[derive(Debug)]
pub(super) enum Node {
    /// Metadata of an array.
    Array(ZarrFormat, Value),
    /// A group, or a folder.
    Group,
    /// Nothing, or a file.
    Nothing,
}

/// Looks for metadata in `dir`.
///
/// # Errors
/// As a text what is wrong with a metadata file.
pub(super) fn node(dir: &Path) -> Result<Node, String> {
    if let Some(metadata) = files::read_json(&dir.join(".zarray"))? {
        return Ok(Node::Array(ZarrFormat::V2, metadata));
    }
    if let Some(metadata) = files::read_json(&dir.join("zarr.json"))?
        && metadata.get("node_type").and_then(Value::as_str) == Some("array")
    {
        return Ok(Node::Array(ZarrFormat::V3, metadata));
    }
    Ok(if dir.is_dir() { Node::Group } else { Node::Nothing })
}

/// The attributes of the group in `dir`; empty if there are none.
pub(super) fn group_attributes(dir: &Path) -> Map<String, Value> {
    let object = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    // Broken metadata of a group is nothing that an array inside depends on.
    let v2 = object(files::read_json(&dir.join(".zattrs")).ok().flatten());
    if !v2.is_empty() {
        return v2;
    }
    let v3 = object(files::read_json(&dir.join("zarr.json")).ok().flatten());
    object(v3.get("attributes").cloned())
}

impl Format {
    /// From the metadata in `dir`.
    ///
    /// # Errors
    /// As a text what is wrong with it.
    pub(super) fn parse(dir: &Path, version: ZarrFormat, mut metadata: Value) -> Result<Self, String> {
        let object = metadata.as_object_mut().ok_or("it is no JSON object")?;
        let attributes = match version {
            ZarrFormat::V2 => files::read_json(&dir.join(".zattrs"))?,
            ZarrFormat::V3 => object.get("attributes").cloned(),
        };
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
        Ok(Self {
            version,
            shape: array.shape().iter().map(|&n| n as usize).collect(),
            chunk_shape: chunk.iter().map(|n| n.get() as usize).collect(),
            dtype,
            fill,
            attributes,
            dimension_names,
            codecs: array.codecs(),
            data_type: array.data_type().clone(),
            fill_value: array.fill_value().clone(),
            chunk: chunk.to_vec(),
            array,
        })
    }

    /// Path of a chunk below the array's directory.
    pub(super) fn chunk_key(&self, chunk: &[u64]) -> String {
        self.array.chunk_key(chunk).to_string()
    }

    /// The values of a chunk, row-major, as bytes of this machine.
    ///
    /// # Errors
    /// As a text what is wrong with the bytes.
    pub(super) fn decode(&self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let options = CodecOptions::default().with_concurrent_target(1);
        let decoded = self
            .codecs
            .decode(
                bytes.into(),
                &self.chunk,
                &self.data_type,
                &self.fill_value,
                &options,
            )
            .and_then(|decoded| Ok(decoded.into_fixed()?))
            .map_err(|error| error.to_string())?;
        if decoded.len() != self.chunk_bytes() {
            return Err(format!(
                "it decodes to {} bytes, not {}",
                decoded.len(),
                self.chunk_bytes()
            ));
        }
        Ok(decoded.into_owned())
    }

    /// The bytes that a chunk's values are stored as.
    ///
    /// # Errors
    /// As a text why they cannot be.
    pub(super) fn encode(&self, values: &[u8]) -> Result<Vec<u8>, String> {
        let options = CodecOptions::default().with_concurrent_target(1);
        self.codecs
            .encode(
                ArrayBytes::new_flen(values),
                &self.chunk,
                &self.data_type,
                &self.fill_value,
                &options,
            )
            .map(|encoded| encoded.into_owned())
            .map_err(|error| error.to_string())
    }

    /// Bytes of a decoded chunk.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// The files that an array with these properties has in its directory: name and content.
pub(super) fn describe(
    spec: &ArraySpec,
    chunk_shape: &[usize],
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
                Codec::Gzip { level } => json!({"id": "gzip", "level": level}),
            };
            let array = json!({
                "zarr_format": 2,
                "shape": shape,
                "chunks": chunk_shape,
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
                Codec::Gzip { level } => {
                    codecs.push(json!({"name": "gzip", "configuration": {"level": level}}))
                }
            }
            codecs.push(json!({"name": "crc32c"}));
            vec![(
                "zarr.json",
                json!({
                    "zarr_format": 3,
                    "node_type": "array",
                    "shape": shape,
                    "data_type": dtype.name(),
                    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
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
