//! What an array is, as stored and as others see it, and the statistics of its values. Whether it is sound is for
//! [`crate::verify()`] to say.

use std::collections::HashSet;

use dacapo_array::{ArrayRead, Coordinate, DType, NdData, Roi, ZarrArray, ZarrFormat};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Provenance, Result, Tick};

/// Chunks that are decoded at a time.
const BATCH: usize = 64;
/// Labels beyond this many are not counted one by one.
const MOST_LABELS: usize = 10_000_000;

/// What an array is.
#[derive(Clone, Debug, Serialize)]
pub struct ArrayDetails {
    /// Its address.
    pub array: String,
    /// Lengths of all axes, channels first.
    pub shape: Vec<usize>,
    /// Names of all axes; those of channels end in `^`.
    pub axis_names: Vec<String>,
    /// Type of the values.
    pub dtype: String,
    /// Where it lies, in world units.
    pub roi: Roi,
    /// In world units.
    pub voxel_size: Coordinate,
    /// Of the spatial axes.
    pub units: Vec<String>,
    /// 2 or 3.
    pub zarr_format: u8,
    /// What is decoded at a time, in values along all axes.
    pub chunk_shape: Vec<usize>,
    /// What is stored as one object, if that is not a chunk: a shard of many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_shape: Option<Vec<usize>>,
    /// Number of chunks (shards, if it has such) along all axes.
    pub chunk_grid: Vec<u64>,
    /// What chunks go through when they are stored.
    pub codecs: Vec<Value>,
    /// Chunks (shards) that are stored; the others have the fill value.
    pub chunks_stored: u64,
    /// Chunks in all.
    pub chunks_total: u64,
    /// Chunks that were written once and are gone.
    pub chunks_missing: u64,
    /// Bytes on disk, metadata among them.
    pub bytes_stored: u64,
    /// Bytes of all values, not compressed.
    pub bytes_raw: u64,
    /// The value of what was never written.
    pub fill: Value,
    /// What made it, where this program did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Why there is no provenance, if it is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance_problem: Option<String>,
    /// Its metadata documents by their names, as other programs find them.
    pub metadata: Map<String, Value>,
}

/// Describes an array; reads its metadata and lists its chunks.
///
/// # Errors
/// [`Error::Array`].
pub fn details(array: &ZarrArray) -> Result<ArrayDetails> {
    let spec = array.spec();
    let stored = array.stored()?;
    let missing = array.missing_chunks(&stored)?;
    let grid = array.chunk_grid();
    let (provenance, provenance_problem) = match Provenance::from_attributes(array.attributes()) {
        Ok(provenance) => (provenance, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(ArrayDetails {
        array: array.address().to_string(),
        shape: spec.shape(),
        axis_names: spec.axis_names.clone(),
        dtype: spec.dtype.to_string(),
        roi: spec.roi.clone(),
        voxel_size: spec.voxel_size.clone(),
        units: spec.units.clone(),
        zarr_format: match array.format() {
            ZarrFormat::V2 => 2,
            ZarrFormat::V3 => 3,
        },
        chunk_shape: array.chunk_shape().to_vec(),
        shard_shape: Some(array.object_shape())
            .filter(|shape| *shape != array.chunk_shape())
            .map(<[usize]>::to_vec),
        chunks_stored: stored.chunks.len() as u64,
        chunks_total: grid.iter().fold(1, |total, &count| total.saturating_mul(count)),
        chunk_grid: grid,
        codecs: array.codecs()?,
        chunks_missing: missing.chunks.len() as u64 + missing.others,
        bytes_stored: stored.chunk_bytes() + stored.metadata_bytes,
        bytes_raw: values_in(array).saturating_mul(spec.dtype.size() as u64),
        fill: first_value(&array.fill_value()),
        provenance,
        provenance_problem,
        metadata: array.documents()?,
    })
}

fn values_in(array: &ZarrArray) -> u64 {
    let shape = array.spec().shape();
    shape
        .iter()
        .fold(1, |total, &length| total.saturating_mul(length as u64))
}

/// The statistics of an array's values, what was never written among them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The smallest value; null where there is none.
    pub min: Value,
    /// The largest.
    pub max: Value,
    /// The mean of those that are numbers.
    pub mean: Option<f64>,
    /// Values that are no number.
    pub not_a_number: u64,
    /// Of integers: how many different values there are beside 0, which is background. None if they were not
    /// asked for, or are more than ten million.
    pub labels: Option<u64>,
}

/// Statistics of some values.
#[derive(Debug)]
struct Part {
    min: Option<Scalar>,
    max: Option<Scalar>,
    sum: f64,
    numbers: u64,
    not_a_number: u64,
    labels: Option<HashSet<u64>>,
}

/// A value, exactly.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Scalar {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Scalar {
    fn to_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// JSON has no infinities: they are text, as in Zarr metadata.
    fn to_json(self) -> Value {
        match self {
            Self::Unsigned(value) => value.into(),
            Self::Signed(value) => value.into(),
            Self::Float(value) if value.is_finite() => value.into(),
            Self::Float(value) if value.is_nan() => "NaN".into(),
            Self::Float(value) if value > 0.0 => "Infinity".into(),
            Self::Float(_) => "-Infinity".into(),
        }
    }
}

fn part(values: impl Iterator<Item = Scalar>, labels: bool) -> Part {
    let mut part = Part {
        min: None,
        max: None,
        sum: 0.0,
        numbers: 0,
        not_a_number: 0,
        labels: labels.then(HashSet::new),
    };
    let mut last = None;
    for value in values {
        if let (Some(labels), Scalar::Unsigned(label)) = (&mut part.labels, value)
            && last != Some(label)
        {
            labels.insert(label);
            last = Some(label);
        }
        if matches!(value, Scalar::Float(value) if value.is_nan()) {
            part.not_a_number += 1;
            continue;
        }
        part.numbers += 1;
        part.sum += value.to_f64();
        if part.min.is_none_or(|min| value < min) {
            part.min = Some(value);
        }
        if part.max.is_none_or(|max| value > max) {
            part.max = Some(value);
        }
    }
    part
}

fn part_of(data: &NdData, labels: bool) -> Part {
    macro_rules! each {
        ($values:expr, $kind:ident as $wide:ty) => {
            part(
                $values.iter().map(|&value| Scalar::$kind(value as $wide)),
                labels,
            )
        };
    }
    match data {
        NdData::Bool(values) => part(
            values.iter().map(|&value| Scalar::Unsigned(u64::from(value))),
            labels,
        ),
        NdData::U8(values) => each!(values, Unsigned as u64),
        NdData::U16(values) => each!(values, Unsigned as u64),
        NdData::U32(values) => each!(values, Unsigned as u64),
        NdData::U64(values) => each!(values, Unsigned as u64),
        NdData::I8(values) => each!(values, Signed as i64),
        NdData::I16(values) => each!(values, Signed as i64),
        NdData::I32(values) => each!(values, Signed as i64),
        NdData::I64(values) => each!(values, Signed as i64),
        NdData::F32(values) => each!(values, Float as f64),
        NdData::F64(values) => each!(values, Float as f64),
    }
}

fn first_value(data: &NdData) -> Value {
    let part = part_of(data, false);
    part.min.map_or_else(|| "NaN".into(), Scalar::to_json)
}

impl Part {
    /// Takes in another part, `times` over.
    fn add(&mut self, other: Self, times: u64) {
        self.sum += other.sum * times as f64;
        self.numbers += other.numbers * times;
        self.not_a_number += other.not_a_number * times;
        if let Some(value) = other.min.filter(|value| self.min.is_none_or(|min| *value < min)) {
            self.min = Some(value);
        }
        if let Some(value) = other.max.filter(|value| self.max.is_none_or(|max| *value > max)) {
            self.max = Some(value);
        }
        let both = self.labels.take().zip(other.labels);
        self.labels = both.map(|(mut labels, others)| {
            labels.extend(others);
            labels
        });
        if self
            .labels
            .as_ref()
            .is_some_and(|labels| labels.len() > MOST_LABELS)
        {
            self.labels = None;
        }
    }
}

/// Whether values of a type are labels by themselves, and not intensities.
fn are_labels(dtype: DType) -> bool {
    matches!(dtype, DType::U32 | DType::U64)
}

/// Streams through an array, chunk by chunk; the values of chunks that are not stored are the fill value. Labels
/// are counted in unsigned integers of 32 and 64 bits, and in smaller ones if `labels`. `tick` is told of chunks.
///
/// # Errors
/// [`Error::Array`] for a chunk that does not decode, [`Error::Stopped`].
pub fn statistics(array: &ZarrArray, labels: bool, tick: Tick) -> Result<Statistics> {
    let dtype = array.spec().dtype;
    let labels = labels || are_labels(dtype);
    let mut all = part(std::iter::empty(), labels);
    let stored = array.stored()?;
    for batch in stored.chunks.chunks(BATCH) {
        let parts: Vec<Part> = batch
            .par_iter()
            .map(|(chunk, _)| {
                let part = part_of(&array.read_chunk(chunk)?, labels);
                if tick(1) { Ok(part) } else { Err(Error::Stopped) }
            })
            .collect::<Result<_>>()?;
        // In the order of the chunks: the same sum at any number of threads.
        for part in parts {
            all.add(part, 1);
        }
    }
    let rest = values_in(array).saturating_sub(all.numbers + all.not_a_number);
    if rest > 0 {
        all.add(part_of(&array.fill_value(), labels), rest);
    }
    let is_counted = dtype == DType::Bool || dtype.to_string().starts_with("uint");
    Ok(Statistics {
        min: all.min.map_or(Value::Null, Scalar::to_json),
        max: all.max.map_or(Value::Null, Scalar::to_json),
        mean: (all.numbers > 0).then(|| all.sum / all.numbers as f64),
        not_a_number: all.not_a_number,
        labels: all
            .labels
            .filter(|_| is_counted)
            .map(|labels| labels.iter().filter(|label| **label != 0).count() as u64),
    })
}

#[cfg(test)]
mod tests {
    use dacapo_array::storage::Access;
    use dacapo_array::{ArraySpec, ArrayWrite, CreateOptions};
    use ndarray::ArrayD;
    use serde_json::json;

    use super::*;

    fn array(dir: &std::path::Path, dtype: DType, fill: f64) -> ZarrArray {
        let voxel_size = Coordinate::new([4, 4, 4]);
        let spec = ArraySpec::new(
            Roi::from_voxels(&[1, 0, 0], &[10, 6, 6], &voxel_size),
            voxel_size,
            dtype,
        );
        let options = CreateOptions {
            chunk_shape: Some(vec![4, 4, 4]),
            fill,
            ..CreateOptions::default()
        };
        let address = dir.join("a.zarr/x").display().to_string().parse().unwrap();
        ZarrArray::create(&address, &Access::default(), &spec, &options).unwrap()
    }

    #[test]
    fn statistics_are_those_of_all_values() {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path(), DType::U64, 3.0);
        let big = u64::MAX;
        let roi = Roi::from_voxels(&[1, 0, 0], &[1, 1, 2], &array.spec().voxel_size);
        array
            .write(
                &roi,
                &NdData::U64(ArrayD::from_shape_vec(vec![1, 1, 2], vec![0, big]).unwrap()),
            )
            .unwrap();
        let found = statistics(&array, false, &|_| true).unwrap();
        assert_eq!((&found.min, &found.max), (&json!(0), &json!(big)));
        assert_eq!(found.labels, Some(2), "3 and the largest");
        let mean = (big as f64 + 3.0 * 358.0) / 360.0;
        assert!((found.mean.unwrap() / mean - 1.0).abs() < 1e-12);

        let details = details(&array).unwrap();
        assert_eq!((details.chunks_stored, details.chunks_total), (1, 12));
        assert_eq!(details.bytes_raw, 360 * 8);
        assert_eq!(details.fill, json!(3));
        assert!(details.metadata.contains_key(".zarray") && details.metadata.contains_key(".zattrs"));
        assert!(matches!(
            statistics(&array, false, &|_| false),
            Err(Error::Stopped)
        ));
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let dir = tempfile::tempdir().unwrap();
        let array = array(dir.path(), DType::F32, 0.5);
        let roi = Roi::from_voxels(&[1, 0, 0], &[1, 1, 2], &array.spec().voxel_size);
        let values = ArrayD::from_shape_vec(vec![1, 1, 2], vec![f32::NAN, f32::INFINITY]).unwrap();
        array.write(&roi, &NdData::F32(values)).unwrap();
        let found = statistics(&array, false, &|_| true).unwrap();
        assert_eq!(found.not_a_number, 1);
        assert_eq!((&found.min, &found.max), (&json!(0.5), &json!("Infinity")));
        assert_eq!(found.labels, None);
    }
}
