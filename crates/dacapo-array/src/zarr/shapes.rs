//! Which shapes the chunks and shards of a new array get.

use super::{CreateOptions, ZarrFormat};
use crate::{ArraySpec, Error, Result};

/// Bytes of an object that is decoded whole, at most.
const MOST: usize = 16 << 20;
/// Bytes of an object of many blocks, decoded, at most: of a large prediction there are tens.
const OBJECT: usize = 64 << 20;
/// Bytes of a chunk in a shard, about: windows of training size decode little that they do not need.
const CHUNK: usize = 1 << 20;

/// Shapes in values along all axes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    /// What is written at a time: a shard, or a chunk.
    pub(super) object: Vec<usize>,
    /// What is decoded at a time.
    pub(super) chunk: Vec<usize>,
}

impl Shapes {
    /// Those that the options ask for, or that suit what they say will be written.
    ///
    /// # Errors
    /// [`Error::Spec`] for shapes of other axes, of nothing, or that do not go together.
    pub(super) fn new(spec: &ArraySpec, options: &CreateOptions) -> Result<Self> {
        let shape = spec.shape();
        let fail = |reason: String| Err(Error::Spec { reason });
        for (what, given) in [
            ("chunk", &options.chunk_shape),
            ("shard", &options.shard_shape),
            ("block", &options.block_shape),
        ] {
            if let Some(given) = given
                && (given.len() != shape.len() || given.contains(&0))
            {
                return fail(format!("a {what} shape of {given:?} for an array of {shape:?}"));
            }
        }
        // What is larger than the array only wastes memory.
        let clipped = |given: &[usize]| -> Vec<usize> {
            given
                .iter()
                .zip(&shape)
                .map(|(&n, &length)| n.min(length.max(1)))
                .collect()
        };
        if let Some(shard) = &options.shard_shape {
            if options.format == ZarrFormat::V2 {
                return fail("Zarr 2 has no shards; choose Zarr 3, or no shard shape".to_owned());
            }
            let chunk = match &options.chunk_shape {
                Some(chunk) => clipped(chunk),
                None => inside(spec, shard),
            };
            if shard.iter().zip(&chunk).any(|(shard, chunk)| shard % chunk != 0) {
                return fail(format!(
                    "shards of {shard:?} do not hold whole chunks of {chunk:?}"
                ));
            }
            // As many chunks as the array needs along each axis, if that is less.
            let object = (shard.iter().zip(&chunk).zip(&shape))
                .map(|((&shard, &chunk), &length)| shard.min(length.max(1).div_ceil(chunk) * chunk))
                .collect();
            return Ok(Self { object, chunk });
        }
        let alike = |chunk: Vec<usize>| Self {
            object: chunk.clone(),
            chunk,
        };
        if let Some(chunk) = &options.chunk_shape {
            return Ok(alike(clipped(chunk)));
        }
        let Some(block) = &options.block_shape else {
            return Ok(alike(default_chunk(spec)));
        };
        let block = clipped(block);
        Ok(match options.format {
            ZarrFormat::V2 => alike(part_of(spec, block)),
            ZarrFormat::V3 => Self {
                chunk: inside(spec, &block),
                object: block,
            },
        })
    }
}

impl Shapes {
    /// With as many blocks in an object as it may have, for an array whose objects are kept until they are whole.
    pub(super) fn joined(mut self, spec: &ArraySpec, options: &CreateOptions) -> Self {
        let given = options.chunk_shape.is_some() || options.shard_shape.is_some();
        if options.block_shape.is_none() || !options.join_blocks || given || options.format == ZarrFormat::V2
        {
            return self;
        }
        let (shape, block) = (spec.shape(), self.object.clone());
        let more = |object: &[usize]| {
            let axes = (0..shape.len()).filter(|&axis| object[axis] < shape[axis]);
            let grown = axes.map(|axis| {
                let mut grown = object.to_vec();
                grown[axis] += block[axis];
                (object[axis], grown)
            });
            let fitting = grown.filter(|(_, grown)| bytes(spec, grown) <= OBJECT);
            fitting.min_by_key(|(length, _)| *length).map(|(_, grown)| grown)
        };
        while let Some(grown) = more(&self.object) {
            self.object = grown;
        }
        // As many objects along each axis, all of about the same length.
        for (axis, length) in self.object.iter_mut().enumerate() {
            let blocks = shape[axis].max(1).div_ceil(block[axis]);
            let objects = blocks.div_ceil(*length / block[axis]);
            *length = blocks.div_ceil(objects) * block[axis];
        }
        self
    }
}

fn bytes(spec: &ArraySpec, shape: &[usize]) -> usize {
    shape
        .iter()
        .fold(spec.dtype.size(), |bytes, &n| bytes.saturating_mul(n))
}

/// The largest divisor of `length` that is at most `most`; all of it if that would be small crumbs.
fn divisor(length: usize, most: usize) -> usize {
    let found = (1..=most.min(length))
        .rev()
        .find(|n| length.is_multiple_of(*n))
        .unwrap_or(1);
    if found * 4 < most.min(length) {
        length
    } else {
        found
    }
}

/// Voxels along each axis that make a chunk which windows of training size waste little of, with so many axes.
fn edge(axes: usize) -> usize {
    match axes {
        1 => 1 << 18,
        2 => 1 << 9,
        _ => 1 << 6,
    }
}

/// Chunks that fill a shard: a channel each, if all together are too much, and cubes of about 64 voxels.
fn inside(spec: &ArraySpec, shard: &[usize]) -> Vec<usize> {
    if bytes(spec, shard) <= CHUNK {
        return shard.to_vec();
    }
    let (channels, voxels) = shard.split_at(spec.channels.len());
    let most = edge(voxels.len());
    let voxels: Vec<usize> = voxels.iter().map(|&length| divisor(length, most)).collect();
    let whole: Vec<usize> = channels.iter().copied().chain(voxels.iter().copied()).collect();
    if bytes(spec, &whole) <= CHUNK {
        return whole;
    }
    channels.iter().map(|_| 1).chain(voxels).collect()
}

/// A block, or the largest part of it of which whole ones make it up and that is not too large to decode.
fn part_of(spec: &ArraySpec, mut block: Vec<usize>) -> Vec<usize> {
    let leading = spec.channels.len();
    if bytes(spec, &block) > MOST {
        block[..leading].fill(1);
    }
    while bytes(spec, &block) > MOST {
        let Some((axis, part)) = (leading..block.len())
            .filter_map(|axis| {
                let length = block[axis];
                let part = (1..=length / 2).rev().find(|n| length.is_multiple_of(*n))?;
                Some((axis, part))
            })
            .max_by_key(|&(axis, _)| block[axis])
        else {
            break;
        };
        block[axis] = part;
    }
    block
}

/// Cubes of 64 voxels, in fewer dimensions squares of 512 and lines of 2¹⁸; all channels, up to 16 MiB.
pub(crate) fn default_chunk(spec: &ArraySpec) -> Vec<usize> {
    let shape = spec.shape();
    let (channels, voxels) = shape.split_at(spec.channels.len());
    let most = edge(voxels.len());
    let voxels = voxels.iter().map(|&n| n.clamp(1, most));
    let whole: Vec<usize> = channels.iter().map(|&n| n.max(1)).chain(voxels.clone()).collect();
    if bytes(spec, &whole) <= MOST {
        return whole;
    }
    channels.iter().map(|_| 1).chain(voxels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Coordinate, DType, Roi};

    fn spec(shape: [usize; 3], channels: Vec<usize>, dtype: DType) -> ArraySpec {
        let voxel_size = Coordinate::splat(3, 8);
        ArraySpec::new(Roi::from_voxels(&[0; 3], &shape, &voxel_size), voxel_size, dtype)
            .with_channels(channels)
    }

    fn shapes(spec: &ArraySpec, options: CreateOptions) -> (Vec<usize>, Vec<usize>) {
        let shapes = Shapes::new(spec, &options).unwrap();
        (shapes.object, shapes.chunk)
    }

    #[test]
    fn a_block_is_whole_objects() {
        let prediction = spec([512; 3], vec![9], DType::U8);
        let block = |edge: usize, format| CreateOptions {
            block_shape: Some(vec![9, edge, edge, edge]),
            format,
            ..CreateOptions::default()
        };
        // 64 files, of which a window of training size decodes little.
        let (object, chunk) = shapes(&prediction, block(128, ZarrFormat::V3));
        assert_eq!((object, chunk), (vec![9, 128, 128, 128], vec![1, 64, 64, 64]));
        for edge in [52, 96, 97, 104, 128, 160, 211, 256] {
            for format in [ZarrFormat::V2, ZarrFormat::V3] {
                let (object, chunk) = shapes(&prediction, block(edge, format));
                for axis in 1..4 {
                    assert_eq!(edge % object[axis], 0, "{edge} {object:?}");
                    assert_eq!(object[axis] % chunk[axis], 0, "{object:?} {chunk:?}");
                }
                assert!(chunk[1] >= edge.min(16), "{edge} {chunk:?}");
            }
        }
        // Of a draft, many blocks are an object.
        for (edge, dtype, expected) in [
            (52, DType::U8, [260, 260, 260]),
            (48, DType::F32, [192, 192, 144]),
            (128, DType::U8, [256, 256, 256]),
            (300, DType::U8, [300, 300, 300]),
        ] {
            let prediction = spec([512; 3], vec![3], dtype);
            let options = CreateOptions {
                block_shape: Some(vec![3, edge, edge, edge]),
                join_blocks: true,
                format: ZarrFormat::V3,
                ..CreateOptions::default()
            };
            let shapes = Shapes::new(&prediction, &options)
                .unwrap()
                .joined(&prediction, &options);
            assert_eq!(shapes.object[1..], expected, "{edge} {dtype:?}");
        }
        // More than the array is no object.
        let small = spec([20, 30, 40], vec![], DType::U64);
        let options = CreateOptions {
            block_shape: Some(vec![64; 3]),
            format: ZarrFormat::V3,
            ..CreateOptions::default()
        };
        assert_eq!(shapes(&small, options), (vec![20, 30, 40], vec![20, 30, 40]));
    }

    #[test]
    fn shards_hold_whole_chunks() {
        let spec = spec([100, 300, 512], vec![], DType::F32);
        let options = CreateOptions {
            chunk_shape: Some(vec![64; 3]),
            shard_shape: Some(vec![256; 3]),
            format: ZarrFormat::V3,
            ..CreateOptions::default()
        };
        assert_eq!(shapes(&spec, options.clone()), (vec![128, 256, 256], vec![64; 3]));
        let refused = |options: CreateOptions| Shapes::new(&spec, &options).unwrap_err().to_string();
        let odd = CreateOptions {
            chunk_shape: Some(vec![60; 3]),
            ..options.clone()
        };
        assert!(refused(odd).contains("whole chunks"));
        let old = CreateOptions {
            format: ZarrFormat::V2,
            ..options.clone()
        };
        assert!(refused(old).contains("Zarr 2 has no shards"));
        let axes = CreateOptions {
            block_shape: Some(vec![64; 2]),
            ..options
        };
        assert!(refused(axes).contains("a block shape of [64, 64]"));
    }

    #[test]
    fn chunks_are_never_too_large_to_decode() {
        for (channels, dtype) in [
            (vec![], DType::U8),
            (vec![10], DType::F32),
            (vec![4000], DType::F64),
        ] {
            let spec = spec([600; 3], channels, dtype);
            assert!(bytes(&spec, &default_chunk(&spec)) <= MOST);
        }
    }
}
