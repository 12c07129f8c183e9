//! A block of an N5 dataset as its file has it: a header of big-endian numbers, then compressed values, big
//! endian too, the first axis the fastest.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use zarrs::array::codec::BloscCodec;
use zarrs::array::{BytesRepresentation, BytesToBytesCodecTraits, CodecOptions};

use crate::formats::values::{self, Order};
use crate::{DType, NdData};

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Raw,
    Gzip {
        level: u32,
    },
    /// As gzip, by another header.
    Zlib,
    Zstd,
    Blosc,
}

impl Compression {
    /// From a dataset's attributes.
    ///
    /// # Errors
    /// As a text what is wrong with them.
    pub(super) fn parse(attributes: &Map<String, Value>) -> Result<Self, String> {
        let (name, options) = match (attributes.get("compression"), attributes.get("compressionType")) {
            (Some(Value::Object(options)), _) => (
                options
                    .get("type")
                    .and_then(Value::as_str)
                    .unwrap_or("none given"),
                options,
            ),
            // As the first N5 programs had it.
            (None, Some(Value::String(name))) => (name.as_str(), attributes),
            _ => return Err("`compression` is missing".into()),
        };
        match name {
            "raw" => Ok(Self::Raw),
            "gzip" if options.get("useZlib") == Some(&json!(true)) => Ok(Self::Zlib),
            "gzip" => Ok(Self::Gzip { level: 6 }),
            "zstd" => Ok(Self::Zstd),
            "blosc" => Ok(Self::Blosc),
            other => Err(format!(
                "its compression `{other}` is not supported; raw, gzip, zstd and blosc are"
            )),
        }
    }

    pub(super) fn describe(self) -> Value {
        match self {
            Self::Raw => json!({"type": "raw"}),
            Self::Gzip { level } => json!({"type": "gzip", "useZlib": false, "level": level}),
            Self::Zlib => json!({"type": "gzip", "useZlib": true, "level": 6}),
            Self::Zstd => json!({"type": "zstd", "level": 1}),
            Self::Blosc => {
                json!({"type": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0})
            }
        }
    }

    /// Exactly `most` bytes or fewer; more are an error.
    fn decompress(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
        let bounded = |reader: &mut dyn Read| -> std::io::Result<Vec<u8>> {
            let mut values = Vec::new();
            reader.take(most as u64 + 1).read_to_end(&mut values)?;
            Ok(values)
        };
        let values = match self {
            Self::Raw => Ok(bytes.to_vec()),
            Self::Gzip { .. } => bounded(&mut GzDecoder::new(bytes)),
            Self::Zlib => bounded(&mut ZlibDecoder::new(bytes)),
            Self::Zstd => zstd::Decoder::new(bytes).and_then(|mut decoder| bounded(&mut decoder)),
            Self::Blosc => return blosc(bytes, most),
        };
        values.map_err(|error| error.to_string())
    }
}

fn blosc(bytes: &[u8], most: usize) -> Result<Vec<u8>, String> {
    // The header says how much it decodes to.
    let claimed = bytes
        .get(4..8)
        .map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize);
    if claimed.is_none_or(|claimed| claimed > most) {
        return Err("it claims more values than a block has".into());
    }
    let configuration = json!({"cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "blocksize": 0});
    let configuration = serde_json::from_value(configuration).map_err(|error| error.to_string())?;
    BloscCodec::new_with_configuration(&configuration)
        .map_err(|error| error.to_string())?
        .decode(
            bytes.to_vec().into(),
            &BytesRepresentation::UnboundedSize,
            &CodecOptions::default(),
        )
        .map(|values| values.into_owned())
        .map_err(|error| error.to_string())
}

/// Reads a block's file. `most` is the shape that blocks have, slowest axis first.
///
/// # Errors
/// As a text what is wrong with it.
pub(super) fn decode(
    file: &[u8],
    most: &[usize],
    dtype: DType,
    compression: Compression,
) -> Result<NdData, String> {
    let cut = || "it is cut off".to_owned();
    let short = |at: usize| -> Result<u16, String> {
        let bytes = file.get(at..at + 2).ok_or_else(cut)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let axes = usize::from(short(2)?);
    let mode = short(0)?;
    // Mode 1 has a number of values behind the shape: blocks of objects, but also of plain values.
    let start = match mode {
        0 => 4 + 4 * axes,
        1 => 8 + 4 * axes,
        _ => return Err(format!("blocks of mode {mode} are not supported")),
    };
    let lengths = file.get(4..4 + 4 * axes).ok_or_else(cut)?;
    let mut shape: Vec<usize> = lengths
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_be_bytes(*bytes) as usize)
        .collect();
    shape.reverse();
    if shape.len() != most.len() || shape.iter().zip(most).any(|(n, most)| n > most) {
        return Err(format!("it says that it is {shape:?}, of blocks of {most:?}"));
    }
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let values = compression.decompress(file.get(start..).ok_or_else(cut)?, bytes)?;
    if values.len() != bytes {
        return Err(format!("it has not the {bytes} bytes of values that it should"));
    }
    values::from_bytes(dtype, &shape, &values, Order::Big).map_err(|error| error.to_string())
}

/// A block as its file has it.
///
/// # Errors
/// As a text why it cannot be.
pub(super) fn encode(data: &NdData, compression: Compression) -> Result<Vec<u8>, String> {
    let shape = data.shape();
    let mut file = Vec::new();
    file.extend(0u16.to_be_bytes());
    file.extend((shape.len() as u16).to_be_bytes());
    for &length in shape.iter().rev() {
        let length = u32::try_from(length).map_err(|_| format!("a block of {shape:?} is too large"))?;
        file.extend(length.to_be_bytes());
    }
    let values = values::to_bytes(data, Order::Big);
    match compression {
        Compression::Raw => file.extend(values),
        Compression::Gzip { level } => {
            let mut encoder = GzEncoder::new(file, flate2::Compression::new(level));
            std::io::Write::write_all(&mut encoder, &values).map_err(|error| error.to_string())?;
            file = encoder.finish().map_err(|error| error.to_string())?;
        }
        other => return Err(format!("blocks are not written as {other:?}")),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;

    #[test]
    fn blocks_go_round_and_damage_is_found() {
        let data = NdData::U16(ArrayD::from_shape_fn(vec![2, 3, 4], |i| {
            (i[0] * 100 + i[1] * 10 + i[2]) as u16
        }));
        for compression in [Compression::Raw, Compression::Gzip { level: 1 }] {
            let file = encode(&data, compression).unwrap();
            assert_eq!(&file[..16], &[0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2]);
            assert_eq!(decode(&file, &[2, 3, 5], DType::U16, compression).unwrap(), data);
            assert!(decode(&file, &[2, 2, 4], DType::U16, compression).is_err());
            for end in 0..file.len() - 8 {
                assert!(
                    decode(&file[..end], &[2, 3, 4], DType::U16, compression).is_err(),
                    "{end}"
                );
            }
        }
    }

    #[test]
    fn a_block_decodes_to_no_more_than_it_may() {
        let bomb = NdData::U8(ArrayD::zeros(vec![1 << 20]));
        let mut file = encode(&bomb, Compression::Gzip { level: 9 }).unwrap();
        file[4..8].copy_from_slice(&10u32.to_be_bytes());
        assert!(decode(&file, &[16], DType::U8, Compression::Gzip { level: 9 }).is_err());
        for compression in [Compression::Zstd, Compression::Blosc, Compression::Zlib] {
            assert!(decode(&file, &[16], DType::U8, compression).is_err());
        }
    }
}
