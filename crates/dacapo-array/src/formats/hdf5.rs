//! HDF5 files, read by a library in pure Rust, some rows of the first axis at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hdf5_pure::{AttrValue, DType as Kind, Dataset, Datatype, DatatypeByteOrder, File, Group};

use super::blocks::{BlockArray, Blocks};
use super::placement::Placement;
use super::values::{self, Order};
use crate::{ArrayRead, Coordinate, DType, Decimal, Error, NdData, Result};

/// What is read at a time: so many bytes, unless a chunk has more.
const BAND: u64 = 16 << 20;
/// Groups are looked into so deep, and so many of them, to name what is there: they may lead round in a circle.
const MOST_LEVELS: usize = 8;
const MOST_GROUPS: usize = 10_000;

/// Rows of a dataset as blocks.
struct Rows {
    path: PathBuf,
    dataset: Dataset,
    shape: Vec<usize>,
    rows: usize,
    dtype: DType,
    order: Order,
}

impl Blocks for Rows {
    fn load(&self, index: &[usize]) -> Result<Option<NdData>> {
        let first = index[0] * self.rows;
        let rows = self.rows.min(self.shape[0] - first);
        let bytes = self
            .dataset
            .read_raw_rows(first as u64, rows as u64)
            .map_err(|error| Error::file(&self.path, error.to_string()))?;
        let shape = [&[rows], &self.shape[1..]].concat();
        values::from_bytes(self.dtype, &shape, &bytes, self.order)
            .map(Some)
            .map_err(|_| Error::file(&self.path, "a dataset does not have the values that it should"))
    }
}

/// Opens a dataset by its path in a file; with none, the only one that there is.
///
/// # Errors
/// [`Error::File`] if there is none, naming what is there, or of values that arrays cannot have; [`Error::Spec`].
pub(super) fn open(path: &Path, dataset: &str, placement: &Placement) -> Result<Box<dyn ArrayRead>> {
    let broken = |error: hdf5_pure::Error| Error::file(path, error.to_string());
    let file = File::open_streaming(path).map_err(broken)?;
    let there = || {
        let mut there = Vec::new();
        list(&file.root(), "", 0, &mut 0, &mut there);
        there.sort();
        there
    };
    let name = match dataset {
        "" => {
            let mut there = there();
            if there.len() > 1 {
                let reason = format!(
                    "name a dataset behind it, as file.h5/dataset: {}",
                    there.join(", ")
                );
                return Err(Error::file(path, reason));
            }
            there
                .pop()
                .ok_or_else(|| Error::file(path, "there is no dataset in it"))?
        }
        name => name.to_owned(),
    };
    let dataset = file.dataset(&name).map_err(|error| {
        let there = there().join(", ");
        Error::file(
            path,
            format!("there is no dataset `{name}` ({error}); there are: {there}"),
        )
    })?;
    let shape: Vec<usize> = dataset
        .shape()
        .map_err(broken)?
        .iter()
        .map(|&n| n as usize)
        .collect();
    if shape.is_empty() {
        return Err(Error::file(path, format!("`{name}` holds one number, no array")));
    }
    let kind = dataset.dtype().map_err(broken)?;
    let dtype = match &kind {
        Kind::U8 => DType::U8,
        Kind::U16 => DType::U16,
        Kind::U32 => DType::U32,
        Kind::U64 => DType::U64,
        Kind::I8 => DType::I8,
        Kind::I16 => DType::I16,
        Kind::I32 => DType::I32,
        Kind::I64 => DType::I64,
        Kind::F32 => DType::F32,
        Kind::F64 => DType::F64,
        // As h5py writes booleans.
        Kind::Enum(names) if names.len() == 2 && names[0] == "FALSE" && names[1] == "TRUE" => DType::Bool,
        other => {
            return Err(Error::file(
                path,
                format!("values of type {other} in `{name}` are not supported"),
            ));
        }
    };
    let order = match dataset.datatype().map_err(broken)? {
        Datatype::FixedPoint { byte_order, .. } | Datatype::FloatingPoint { byte_order, .. } => {
            match byte_order {
                DatatypeByteOrder::LittleEndian => Order::Little,
                DatatypeByteOrder::BigEndian => Order::Big,
                DatatypeByteOrder::Vax => return Err(Error::file(path, "VAX floats are not supported")),
            }
        }
        _ => Order::Little,
    };
    if dataset.element_size().map_err(broken)? != dtype.size() as u64 {
        return Err(Error::file(
            path,
            format!("values in `{name}` have another size than {dtype}"),
        ));
    }
    let found = dataset
        .attrs()
        .map(|attributes| found(&attributes, shape.len()))
        .unwrap_or_default();
    let spec = placement.spec(found, &shape, dtype)?;
    let row = shape[1..].iter().product::<usize>() as u64 * dtype.size() as u64;
    let chunk = dataset
        .chunk_shape()
        .map_err(broken)?
        .and_then(|chunk| chunk.first().copied());
    let chunk = chunk.unwrap_or(1).max(1);
    // Whole chunks, so that none is decoded twice.
    let rows = (BAND / row.max(1) / chunk).max(1) * chunk;
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).min(shape[0].max(1));
    let block = [&[rows], &shape[1..]].concat();
    let rows = Rows {
        path: path.to_owned(),
        dataset,
        shape,
        rows,
        dtype,
        order,
    };
    Ok(Box::new(BlockArray::new(spec, block, rows)))
}

/// Names the datasets in a group; `groups` counts those that were looked into.
fn list(group: &Group, prefix: &str, level: usize, groups: &mut usize, found: &mut Vec<String>) {
    *groups += 1;
    found.extend(
        group
            .datasets()
            .into_iter()
            .flatten()
            .map(|name| format!("{prefix}{name}")),
    );
    for name in group.groups().into_iter().flatten() {
        if level < MOST_LEVELS
            && *groups < MOST_GROUPS
            && let Ok(group) = group.group(&name)
        {
            list(&group, &format!("{prefix}{name}/"), level + 1, groups, found);
        }
    }
}

/// What a dataset's attributes say: those of funlib and CREMI, and ilastik's size in micrometers.
fn found(attributes: &HashMap<String, AttrValue>, axes: usize) -> Placement {
    let numbers = |name: &str| {
        attributes
            .get(name)
            .and_then(numbers)
            .filter(|c| c.dims() <= axes)
    };
    let texts = |name: &str| match attributes.get(name) {
        Some(AttrValue::StringArray(texts)) => Some(texts.clone()),
        Some(AttrValue::String(text)) => Some(vec![text.clone()]),
        _ => None,
    };
    let in_um = numbers("element_size_um");
    let units = texts("units").or_else(|| in_um.as_ref().map(|_| vec!["um".to_owned()]));
    let voxel_size = numbers("voxel_size").or_else(|| numbers("resolution")).or(in_um);
    let offset = numbers("offset");
    let dims = voxel_size.as_ref().or(offset.as_ref()).map(Coordinate::dims);
    Placement {
        axis_names: texts("axis_names").filter(|names| names.len() == axes || Some(names.len()) == dims),
        units: units.filter(|units| units.len() == 1 || dims.is_none_or(|dims| dims == units.len())),
        voxel_size,
        offset,
    }
}

fn numbers(value: &AttrValue) -> Option<Coordinate> {
    let floats = |values: &[f64]| {
        values
            .iter()
            .map(|&v| Decimal::try_from(v).ok())
            .collect::<Option<Vec<_>>>()
    };
    // The shortest number that a float is, not its 64-bit twin's.
    let short = |values: &[f32]| {
        let texts = values.iter().map(|v| v.to_string().parse::<Decimal>().ok());
        texts.collect::<Option<Vec<_>>>()
    };
    let integers = |values: Vec<i64>| Some(values.into_iter().map(Decimal::from).collect::<Vec<_>>());
    let values = match value {
        AttrValue::F64Array(values) => floats(values),
        AttrValue::F32Array(values) => short(values),
        AttrValue::I8Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::I16Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::I32Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::I64Array(values) => integers(values.clone()),
        AttrValue::U8Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::U16Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::U32Array(values) => integers(values.iter().map(|&v| i64::from(v)).collect()),
        AttrValue::U64Array(values) => integers(
            values
                .iter()
                .map(|&v| i64::try_from(v).unwrap_or(i64::MAX))
                .collect(),
        ),
        _ => None,
    };
    values.filter(|values| !values.is_empty()).map(Coordinate::new)
}
