//! Intensities from one percentile of an array's values to another. The percentiles are those of the whole array
//! and exact, found in passes over its parts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::intensities::Scale;
use super::window::{padded, refuse};
use crate::formats::{PART, parts};
use crate::{ArrayRead, ArraySpec, DType, NdData, Result, Roi};

/// A lazy normalisation by percentiles. They are looked for when values are first asked for: that reads the array
/// once if its values have 8 or 16 bits, twice for 32 and four times for 64; a part of it is in memory at a time.
pub struct Percentiles {
    array: Arc<dyn ArrayRead>,
    percentiles: [f64; 2],
    clip: bool,
    found: Mutex<Option<Scale>>,
    spec: ArraySpec,
}

impl Percentiles {
    /// The percentile `low` of all values becomes 0 and `high` becomes 1; with `clip`, what is past them too.
    /// Between two values a percentile is interpolated, as NumPy's is by default; NaN is not counted. Where both
    /// are the same value, everything becomes 0.
    ///
    /// # Errors
    /// [`crate::Error::Spec`] unless 0 <= `low` < `high` <= 100.
    pub fn new(array: Arc<dyn ArrayRead>, low: f64, high: f64, clip: bool) -> Result<Self> {
        if !(0.0 <= low && low < high && high <= 100.0) {
            return refuse(format!(
                "percentiles {low} and {high} are no range: from 0 to 100, the lower one first"
            ));
        }
        let spec = ArraySpec {
            dtype: DType::F32,
            ..array.spec().clone()
        };
        Ok(Self {
            array,
            percentiles: [low, high],
            clip,
            found: Mutex::new(None),
            spec,
        })
    }

    /// The values that become 0 and 1.
    ///
    /// # Errors
    /// As reading; [`crate::Error::Spec`] if there is no number in the array.
    pub fn range(&self) -> Result<[f64; 2]> {
        self.scale().map(|scale| [scale.min, scale.max])
    }

    fn scale(&self) -> Result<Scale> {
        // Whoever comes while they are looked for waits for them.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scale) = *found {
            return Ok(scale);
        }
        let [min, max] = percentiles(&*self.array, self.percentiles)?;
        let clip = self.clip;
        Ok(*found.insert(Scale { min, max, clip }))
    }
}

impl ArrayRead for Percentiles {
    fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    fn read(&self, roi: &Roi) -> Result<NdData> {
        padded(&self.spec, roi, |shared| {
            let scale = self.scale()?;
            Ok(scale.apply(self.array.read(shared)?))
        })
    }
}

/// Bits of a value's key that one pass decides.
const DIGIT: u32 = 16;

/// The percentiles of all values of an array: the values at their ranks are found 16 bits at a time, from the
/// highest, by counting how many values begin with the bits that are known already and go on with which.
fn percentiles<const N: usize>(array: &dyn ArrayRead, percentiles: [f64; N]) -> Result<[f64; N]> {
    let spec = array.spec();
    let bits = 8 * spec.dtype.size() as u32;
    let step = vec![64; spec.spatial_dims()];
    let parts = parts(spec, &step, PART / 16);
    // For each beginning of keys that is looked into, how many keys go on with each digit.
    let pass = |known: &[u64], shift: u32, digit: u32| -> Result<BTreeMap<u64, Vec<u64>>> {
        let mut counts: BTreeMap<u64, Vec<u64>> = known
            .iter()
            .map(|&prefix| (prefix, vec![0; 1 << digit]))
            .collect();
        for part in &parts {
            for key in keys(&array.read(part)?) {
                let (prefix, next) = (key >> shift >> digit, key >> shift & ((1 << digit) - 1));
                if let Some(counts) = counts.get_mut(&prefix) {
                    counts[next as usize] += 1;
                }
            }
        }
        Ok(counts)
    };
    let first = DIGIT.min(bits);
    let mut shift = bits - first;
    let mut counts = pass(&[0], shift, first)?;
    let total: u64 = counts.values().flatten().sum();
    if total == 0 {
        return refuse("percentiles of nothing: there is no number in it");
    }
    // The ranks on both sides of each percentile, each with the beginning of its key and its rank among the keys
    // that begin so.
    let places = percentiles.map(|percent| (total - 1) as f64 * percent / 100.0);
    let mut ranks: Vec<(u64, u64)> = places
        .iter()
        .flat_map(|place| [place.floor() as u64, place.ceil() as u64])
        .map(|rank| (0, rank))
        .collect();
    loop {
        let digit = if shift + first == bits { first } else { DIGIT };
        for (prefix, rank) in &mut ranks {
            let counts = counts.get(prefix).map_or(&[][..], Vec::as_slice);
            let mut next = 0;
            while counts.get(next).is_some_and(|&n| n <= *rank) {
                *rank -= counts[next];
                next += 1;
            }
            *prefix = *prefix << digit | next as u64;
        }
        if shift == 0 {
            break;
        }
        shift -= DIGIT;
        let known: Vec<u64> = ranks.iter().map(|&(prefix, _)| prefix).collect();
        counts = pass(&known, shift, DIGIT)?;
    }
    let value = |i: usize| value_of(spec.dtype, ranks[i].0);
    Ok(std::array::from_fn(|i| {
        let (below, above) = (value(2 * i), value(2 * i + 1));
        below + (above - below) * places[i].fract()
    }))
}

/// A number for each value (NaN has none), in the same order as the values; as many bits as the type has.
fn keys(data: &NdData) -> Vec<u64> {
    let float = |bits: u64, sign: u64| {
        if bits & sign == 0 {
            bits | sign
        } else {
            !bits & (sign | (sign - 1))
        }
    };
    match data {
        NdData::Bool(v) => v.iter().map(|&v| v.into()).collect(),
        NdData::U8(v) => v.iter().map(|&v| v.into()).collect(),
        NdData::U16(v) => v.iter().map(|&v| v.into()).collect(),
        NdData::U32(v) => v.iter().map(|&v| v.into()).collect(),
        NdData::U64(v) => v.iter().copied().collect(),
        NdData::I8(v) => v.iter().map(|&v| (v as u8 ^ 1 << 7).into()).collect(),
        NdData::I16(v) => v.iter().map(|&v| (v as u16 ^ 1 << 15).into()).collect(),
        NdData::I32(v) => v.iter().map(|&v| (v as u32 ^ 1 << 31).into()).collect(),
        NdData::I64(v) => v.iter().map(|&v| v as u64 ^ 1 << 63).collect(),
        NdData::F32(v) => {
            let numbers = v.iter().filter(|v| !v.is_nan());
            numbers.map(|v| float(v.to_bits().into(), 1 << 31)).collect()
        }
        NdData::F64(v) => {
            let numbers = v.iter().filter(|v| !v.is_nan());
            numbers.map(|v| float(v.to_bits(), 1 << 63)).collect()
        }
    }
}

/// The value that has a key.
fn value_of(dtype: DType, key: u64) -> f64 {
    let float = |sign: u64| {
        if key & sign != 0 {
            key ^ sign
        } else {
            !key & (sign | (sign - 1))
        }
    };
    match dtype {
        DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 => key as f64,
        DType::I8 => f64::from((key as u8 ^ 1 << 7) as i8),
        DType::I16 => f64::from((key as u16 ^ 1 << 15) as i16),
        DType::I32 => f64::from((key as u32 ^ 1 << 31) as i32),
        DType::I64 => (key ^ 1 << 63) as i64 as f64,
        DType::F32 => f64::from(f32::from_bits(float(1 << 31) as u32)),
        DType::F64 => f64::from_bits(float(1 << 63)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_the_values_and_lead_back_to_them() {
        let floats = [
            f64::NEG_INFINITY,
            -1e300,
            -1.5,
            -0.0,
            0.0,
            1e-310,
            2.0,
            f64::INFINITY,
        ];
        let data = NdData::F64(ndarray::arr1(&floats).into_dyn());
        let of = keys(&data);
        assert!(of.is_sorted());
        assert!(
            of.iter()
                .zip(floats)
                .all(|(&key, value)| value_of(DType::F64, key) == value)
        );
        let data = NdData::I16(ndarray::arr1(&[i16::MIN, -1, 0, 1, i16::MAX]).into_dyn());
        let of = keys(&data);
        assert!(of.is_sorted() && of[4] == 65535);
        assert_eq!(value_of(DType::I16, of[1]), -1.0);
        let data = NdData::F32(ndarray::arr1(&[-2.5f32, f32::NAN, 0.5]).into_dyn());
        let of = keys(&data);
        assert_eq!(of.len(), 2);
        assert_eq!(
            of.iter()
                .map(|&key| value_of(DType::F32, key))
                .collect::<Vec<_>>(),
            [-2.5, 0.5]
        );
    }
}
