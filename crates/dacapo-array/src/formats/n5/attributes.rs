//! What `attributes.json` says of a dataset: shape, blocks, type and compression, and where it lies.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::block::Compression;
use crate::formats::placement::Placement;
use crate::storage;
use crate::{ArraySpec, Coordinate, DType, Decimal, Error, Result};

pub(super) const FILE: &str = "attributes.json";
/// Files larger than this are not read.
const MOST_BYTES: u64 = 64 << 20;
/// Blocks that are larger than this, decoded, are refused.
const MOST_BLOCK: u64 = 4 << 30;
const MOST_AXES: usize = 32;

/// How a dataset is stored. Axes are in our order, slowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) shape: Vec<usize>,
    pub(super) block: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) compression: Compression,
}

/// The attributes of a folder in a storage; nothing if it has none.
///
/// # Errors
/// [`Error::File`] for what is no JSON object; [`Error::Io`].
pub(super) fn load(storage: &dyn storage::Storage, folder: &str) -> Result<Option<Map<String, Value>>> {
    let key = storage::join(folder, FILE);
    let fail = |reason: String| Error::file(Path::new(&storage.describe(&key)), reason);
    let mut bytes = Vec::new();
    match storage.read_state(&key, MOST_BYTES, &mut bytes) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge => {
            return Err(fail(source.to_string()));
        }
        state => {
            if state?.is_none() {
                return Ok(None);
            }
        }
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(attributes)) => Ok(Some(attributes)),
        Ok(_) => Err(fail("it is no JSON object".into())),
        Err(error) => Err(fail(error.to_string())),
    }
}

impl Storage {
    /// From a dataset's attributes.
    ///
    /// # Errors
    /// As a text what is wrong with them.
    pub(super) fn parse(attributes: &Map<String, Value>) -> std::result::Result<Self, String> {
        let value = |key: &str| attributes.get(key).ok_or_else(|| format!("`{key}` is missing"));
        let lengths = |key: &str| -> std::result::Result<Vec<usize>, String> {
            let found = value(key)?;
            let lengths: Vec<u64> = serde_json::from_value(found.clone())
                .map_err(|error| format!("`{key}` is {found}: {error}"))?;
            // Block files have 32 bits for a length, and no array needs more than 63.
            let fits = lengths.iter().all(|&n| i64::try_from(n).is_ok());
            let lengths = lengths.into_iter().rev().map(|n| n as usize).collect();
            fits.then_some(lengths)
                .ok_or_else(|| format!("`{key}` is {found}"))
        };
        let (shape, block) = (lengths("dimensions")?, lengths("blockSize")?);
        if shape.is_empty() || shape.len() > MOST_AXES || shape.len() != block.len() || block.contains(&0) {
            return Err(format!("blocks of {block:?} for a shape of {shape:?}"));
        }
        let name = value("dataType")?;
        let dtype = name
            .as_str()
            .and_then(DType::from_name)
            .filter(|&dtype| dtype != DType::Bool)
            .ok_or_else(|| format!("values of type {name} are not supported"))?;
        let bytes = block
            .iter()
            .try_fold(dtype.size() as u64, |bytes, &n| bytes.checked_mul(n as u64));
        if bytes.is_none_or(|bytes| bytes > MOST_BLOCK) {
            return Err(format!("a block of {block:?} is too large"));
        }
        Ok(Self {
            shape,
            block,
            dtype,
            compression: Compression::parse(attributes)?,
        })
    }

    /// The attributes that say this.
    pub(super) fn describe(&self) -> Map<String, Value> {
        let turned = |lengths: &[usize]| lengths.iter().rev().copied().collect::<Vec<_>>();
        object(json!({
            "dimensions": turned(&self.shape),
            "blockSize": turned(&self.block),
            "dataType": self.dtype.name(),
            "compression": self.compression.describe(),
        }))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Where a dataset lies, by its attributes and those of its group. Positions are of the first voxel's corner.
///
/// Read are `pixelResolution` (a list, or `dimensions` with a `unit`) or `resolution`, of the dataset or of the
/// group, times `downsamplingFactors`; `offset`, `units`, `axes`; and the `transform` of CellMap's data.
pub(super) fn placement(own: &Map<String, Value>, group: &Map<String, Value>) -> Placement {
    let numbers = |value: &Value| serde_json::from_value::<Coordinate>(value.clone()).ok();
    let turned = |c: Coordinate| Coordinate::new(c.iter().rev());
    let texts = |value: &Value| serde_json::from_value::<Vec<String>>(value.clone()).ok();
    let first = |key: &str| own.get(key).or_else(|| group.get(key));
    if let Some(transform) = own.get("transform").and_then(Value::as_object) {
        // Said in the order of its own axes, whatever that is.
        let axes = transform.get("axes").and_then(texts);
        let is_ours = axes
            .as_ref()
            .is_some_and(|axes| axes.last().is_some_and(|axis| axis == "x"));
        let ours = |c: Coordinate| if is_ours { c } else { turned(c) };
        let list = |mut texts: Vec<String>| {
            if !is_ours {
                texts.reverse();
            }
            texts
        };
        let scale = transform.get("scale").and_then(numbers).map(ours);
        // Translations are of the first voxel's middle.
        let corner = |(at, scale): (Coordinate, &Coordinate)| {
            at - &(scale.clone() / &Coordinate::splat(scale.dims(), 2))
        };
        let translation = transform.get("translate").and_then(numbers).map(ours);
        return Placement {
            offset: translation
                .zip(scale.as_ref())
                .filter(|(a, b)| a.dims() == b.dims())
                .map(corner),
            voxel_size: scale,
            units: transform
                .get("units")
                .and_then(texts)
                .map(|units| short(list(units))),
            axis_names: axes.map(list),
        };
    }
    let pixels = first("pixelResolution");
    let size = pixels
        .and_then(|pixels| pixels.get("dimensions").or(Some(pixels)))
        .and_then(numbers)
        .or_else(|| first("resolution").and_then(numbers));
    let factors = own.get("downsamplingFactors").and_then(numbers);
    let size = match (size, factors) {
        (Some(size), Some(factors)) if size.dims() == factors.dims() => Some(size * &factors),
        (size, factors) => size.or(factors),
    };
    let dims = size.as_ref().map_or(0, Coordinate::dims);
    let unit = pixels
        .and_then(|pixels| pixels.get("unit"))
        .and_then(Value::as_str);
    let units = own.get("units").and_then(texts).map(|mut units| {
        units.reverse();
        short(units)
    });
    Placement {
        voxel_size: size.map(turned),
        offset: own.get("offset").and_then(numbers).map(turned),
        units: units.or_else(|| unit.map(|unit| short(vec![unit.to_owned(); dims]))),
        axis_names: own.get("axes").and_then(texts).map(|mut axes| {
            axes.reverse();
            axes
        }),
    }
}

fn short(units: Vec<String>) -> Vec<String> {
    let short = |unit: String| match unit.as_str() {
        "nanometer" | "nanometers" => "nm".to_owned(),
        "micrometer" | "micrometers" | "µm" => "um".to_owned(),
        "pixel" | "pixels" => String::new(),
        _ => unit,
    };
    units.into_iter().map(short).collect()
}

/// The attributes that place an array, as [`placement`] reads them.
pub(super) fn place(spec: &ArraySpec) -> Map<String, Value> {
    // Leading axes have a size of 1 at 0.
    let leading = spec.channels.len();
    let padded = |c: &Coordinate, front: Decimal| -> Vec<Decimal> {
        c.iter()
            .rev()
            .copied()
            .chain(std::iter::repeat_n(front, leading))
            .collect()
    };
    let resolution = padded(&spec.voxel_size, Decimal::ONE);
    let axes: Vec<&String> = spec.axis_names.iter().rev().collect();
    let units: Vec<&str> = spec
        .units
        .iter()
        .rev()
        .map(String::as_str)
        .chain(std::iter::repeat_n("", leading))
        .collect();
    let unit = units.first().copied().filter(|unit| !unit.is_empty());
    object(json!({
        "resolution": resolution,
        "offset": padded(spec.roi.begin(), Decimal::ZERO),
        "units": units,
        "axes": axes,
        "pixelResolution": {"dimensions": resolution, "unit": unit.unwrap_or("pixel")},
    }))
}

/// Without what a placement says of leading axes: those that have a `^`.
pub(super) fn spatial(placement: Placement, axes: usize) -> Placement {
    let leading = placement
        .axis_names
        .as_ref()
        .map_or(0, |names| names.iter().filter(|name| name.ends_with('^')).count());
    let cut = |c: Coordinate| {
        let skip = if c.dims() == axes { leading } else { 0 };
        Coordinate::new(c.iter().skip(skip))
    };
    Placement {
        voxel_size: placement.voxel_size.map(cut),
        offset: placement.offset.map(cut),
        units: placement.units.map(|mut units| {
            if units.len() == axes {
                units.drain(..leading.min(axes));
            }
            units
        }),
        axis_names: placement.axis_names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Roi;

    #[test]
    fn axes_are_turned_round() {
        let attributes = object(json!({
            "dimensions": [7, 6, 5], "blockSize": [4, 3, 2], "dataType": "uint16", "compression": {"type": "raw"},
            "resolution": [4, 4.6, 40], "offset": [8, 0, -40], "units": ["nm", "nm", "um"],
        }));
        let storage = Storage::parse(&attributes).unwrap();
        assert_eq!((&storage.shape, &storage.block), (&vec![5, 6, 7], &vec![2, 3, 4]));
        let found = placement(&attributes, &Map::new());
        assert_eq!(found.voxel_size.unwrap().to_string(), "(40, 4.6, 4)");
        assert_eq!(found.offset.unwrap().to_string(), "(-40, 0, 8)");
        assert_eq!(found.units.unwrap(), ["um", "nm", "nm"]);
    }

    #[test]
    fn levels_are_multiples_of_their_group() {
        let own = object(json!({"downsamplingFactors": [4, 4, 2]}));
        let group = object(json!({"pixelResolution": {"dimensions": [4, 4, 40], "unit": "nm"}}));
        let found = placement(&own, &group);
        assert_eq!(found.voxel_size.unwrap().to_string(), "(80, 16, 16)");
        assert_eq!(found.units.unwrap(), ["nm", "nm", "nm"]);
        let transform = json!({"transform": {"axes": ["z", "y", "x"], "scale": [8, 4, 4], "translate": [2, 0, 0], "units": ["nm", "nm", "nm"]}});
        let found = placement(&object(transform), &group);
        assert_eq!(found.voxel_size.unwrap().to_string(), "(8, 4, 4)");
        assert_eq!(found.offset.unwrap().to_string(), "(-2, -2, -2)");
    }

    #[test]
    fn what_is_written_is_read() {
        let voxel_size = Coordinate::new(["4.6", "4", "40"].map(|n| n.parse::<Decimal>().unwrap()));
        let roi = Roi::from_voxels(&[1, -2, 3], &[5, 6, 7], &voxel_size);
        let spec = ArraySpec::new(roi, voxel_size, DType::U8).with_channels(vec![3]);
        let found = spatial(placement(&place(&spec), &Map::new()), 4);
        let again = Placement::default()
            .spec(found, &[3, 5, 6, 7], DType::U8)
            .unwrap();
        assert_eq!(again, spec);
    }

    #[test]
    fn attributes_that_make_no_sense_are_refused() {
        let good = json!({"dimensions": [7, 6], "blockSize": [4, 3], "dataType": "uint16", "compression": {"type": "raw"}});
        for (key, bad) in [
            ("dimensions", json!([-7, 6])),
            ("dimensions", json!([7])),
            ("dimensions", json!([])),
            ("dimensions", json!([18446744073709551615u64, 6])),
            ("blockSize", json!([0, 3])),
            ("blockSize", json!([4294967295u64, 4294967295u64])),
            ("dataType", json!("string")),
            ("dataType", json!(3)),
            ("compression", json!({"type": "lzma"})),
            ("compression", json!(null)),
        ] {
            let mut attributes = object(good.clone());
            attributes.insert(key.to_owned(), bad.clone());
            assert!(Storage::parse(&attributes).is_err(), "{key} {bad}");
        }
    }
}
