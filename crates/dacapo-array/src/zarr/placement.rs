//! Where an array lies in the world: the attributes of funlib.persistence on the array, and OME-NGFF
//! multiscales on its group. Both are written, both are read.

use serde_json::{Map, Value, json};

use crate::{ArraySpec, Coordinate, Decimal, Roi};

use super::format::{Format, ZarrFormat};

/// The attributes that funlib.persistence reads and writes. Numbers are integers where they are whole;
/// programs that expect integers only will truncate others.
pub(super) fn funlib(spec: &ArraySpec) -> Map<String, Value> {
    let types: Vec<&str> = spec
        .axis_names
        .iter()
        .map(|name| if name.ends_with('^') { "channel" } else { "space" })
        .collect();
    let Value::Object(attributes) = json!({
        "offset": spec.roi.begin(),
        "voxel_size": spec.voxel_size,
        "axis_names": spec.axis_names,
        "units": spec.units,
        "types": types,
    }) else {
        return Map::new();
    };
    attributes
}

/// Enters an array (`name` in its group) into its group's `multiscales`, in place of an older entry: OME-NGFF
/// 0.4 in version 2, 0.5 (under `ome`) in version 3.
pub(super) fn enter(attributes: &mut Map<String, Value>, version: ZarrFormat, name: &str, spec: &ArraySpec) {
    let mut entry = multiscale(name, spec);
    let owner = match version {
        ZarrFormat::V2 => {
            entry["version"] = json!("0.4");
            attributes
        }
        ZarrFormat::V3 => {
            let ome = attributes
                .entry("ome")
                .or_insert_with(|| json!({"version": "0.5"}));
            // Something else of that name is somebody else's.
            let Value::Object(ome) = ome else { return };
            ome
        }
    };
    if let Value::Array(entries) = owner.entry("multiscales").or_insert_with(|| json!([])) {
        entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
        entries.push(entry);
    }
}

/// One level. The translation is the first voxel's corner in world units, as the offset is.
fn multiscale(name: &str, spec: &ArraySpec) -> Value {
    let leading = spec.channels.len();
    let axes: Vec<Value> = spec
        .axis_names
        .iter()
        .enumerate()
        .map(|(i, axis)| match (i.checked_sub(leading), axis.as_str()) {
            (Some(i), axis) if spec.units[i].is_empty() => json!({"name": axis, "type": "space"}),
            (Some(i), axis) => json!({"name": axis, "type": "space", "unit": long_unit(&spec.units[i])}),
            (None, "c^") => json!({"name": "c", "type": "channel"}),
            (None, axis) => json!({"name": axis.trim_end_matches('^')}),
        })
        .collect();
    let padded = |values: &Coordinate, front: f64| -> Vec<f64> {
        std::iter::repeat_n(front, leading)
            .chain(values.to_f64())
            .collect()
    };
    json!({
        "name": name,
        "axes": axes,
        "datasets": [{
            "path": name,
            "coordinateTransformations": [
                {"type": "scale", "scale": padded(&spec.voxel_size, 1.0)},
                {"type": "translation", "translation": padded(spec.roi.begin(), 0.0)},
            ],
        }],
    })
}

/// Names of units: short in this program, long in OME-NGFF.
const UNITS: [(&str, &str); 7] = [
    ("pm", "picometer"),
    ("Å", "angstrom"),
    ("nm", "nanometer"),
    ("um", "micrometer"),
    ("mm", "millimeter"),
    ("m", "meter"),
    ("s", "second"),
];

fn long_unit(unit: &str) -> &str {
    UNITS
        .iter()
        .find(|(short, _)| *short == unit)
        .map_or(unit, |(_, long)| long)
}

fn short_unit(unit: &str) -> &str {
    UNITS
        .iter()
        .find(|(_, long)| *long == unit)
        .map_or(unit, |(short, _)| short)
}

/// What is found in metadata, before anything is assumed.
#[derive(Default)]
struct Found {
    offset: Option<Coordinate>,
    voxel_size: Option<Coordinate>,
    axis_names: Option<Vec<String>>,
    units: Option<Vec<String>>,
}

impl Found {
    fn is_whole(&self) -> bool {
        self.offset.is_some()
            && self.voxel_size.is_some()
            && self.axis_names.is_some()
            && self.units.is_some()
    }
}

/// The spec of an array: from its attributes, else from the multiscales in its group's attributes, where it has
/// the path `name`, else voxels of 1 at 0. The group is asked only for what the array does not say.
///
/// # Errors
/// As a text what contradicts the array's shape.
pub(super) fn read(
    format: &Format,
    name: &str,
    group: impl FnOnce() -> Map<String, Value>,
) -> Result<ArraySpec, String> {
    let axes = format.shape.len();
    let own = from_attributes(&format.attributes)?;
    let ngff = if own.is_whole() {
        Found::default()
    } else {
        from_multiscales(&group(), name)
    };
    let names = own
        .axis_names
        .or(ngff.axis_names)
        .filter(|names| names.len() == axes)
        .or_else(|| {
            let names: Option<Vec<String>> = format.dimension_names.iter().cloned().collect();
            names.filter(|names| names.len() == axes)
        });

    // How many axes are spatial: as many as there are voxel sizes, else those without a `^`, else three.
    let sizes = own
        .voxel_size
        .as_ref()
        .or(own.offset.as_ref())
        .map(Coordinate::dims);
    let by_name = names
        .as_ref()
        .map(|names| names.iter().filter(|name| is_spatial(name)).count());
    let dims = sizes.or(by_name.filter(|&n| n > 0)).unwrap_or(axes.min(3));
    if dims == 0 || dims > axes {
        return Err(format!("there are {dims} voxel sizes for {axes} axes"));
    }
    let last = |coordinate: Coordinate| {
        (coordinate.dims() >= dims).then(|| Coordinate::new(coordinate.iter().skip(coordinate.dims() - dims)))
    };
    let voxel_size = own.voxel_size.or(ngff.voxel_size).and_then(last);
    let voxel_size = voxel_size.unwrap_or_else(|| Coordinate::splat(dims, 1));
    let offset = own
        .offset
        .or(ngff.offset)
        .and_then(last)
        .unwrap_or_else(|| Coordinate::splat(dims, 0));
    let units = own.units.or(ngff.units).filter(|units| units.len() >= dims);
    let units = units.map_or_else(
        || vec![String::new(); dims],
        |units| units[units.len() - dims..].to_vec(),
    );

    let (channels, voxels) = format.shape.split_at(axes - dims);
    let shape: Vec<i64> = voxels
        .iter()
        .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
        .collect();
    let roi = Roi::new(offset, Coordinate::from_voxels(&shape, &voxel_size));
    let mut spec = ArraySpec::new(roi, voxel_size, format.dtype)
        .with_channels(channels.to_vec())
        .with_units(units);
    if let Some(names) = names {
        let leading = names.len() - dims;
        let mark = |(i, name): (usize, String)| {
            if i < leading && !name.ends_with('^') {
                name + "^"
            } else {
                name
            }
        };
        spec.axis_names = names.into_iter().enumerate().map(mark).collect();
    }
    spec.check().map_err(|error| error.to_string())?;
    Ok(spec)
}

fn is_spatial(name: &str) -> bool {
    !name.ends_with('^') && !matches!(name, "c" | "t" | "b" | "channel" | "time")
}

fn from_attributes(attributes: &Map<String, Value>) -> Result<Found, String> {
    let coordinate = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| attributes.get(*name).map(|value| (name, value)))
            .map_or(Ok(None), |(name, value)| {
                match serde_json::from_value::<Coordinate>(value.clone()) {
                    Ok(values) if values.dims() > 0 => Ok(Some(values)),
                    Ok(_) => Ok(None),
                    Err(error) => Err(format!("attribute `{name}` is {value}: {error}")),
                }
            })
    };
    let names = |key: &str| serde_json::from_value(attributes.get(key)?.clone()).ok();
    Ok(Found {
        offset: coordinate(&["offset"])?,
        // `resolution` is what older programs wrote.
        voxel_size: coordinate(&["voxel_size", "resolution"])?,
        axis_names: names("axis_names"),
        units: names("units"),
    })
}

/// What the group's multiscales say of the array at `path`. Metadata that does not make sense says nothing.
fn from_multiscales(attributes: &Map<String, Value>, path: &str) -> Found {
    // Version 0.5 keeps it under `ome`.
    let scales = attributes
        .get("multiscales")
        .or_else(|| attributes.get("ome")?.get("multiscales"));
    let entries = scales.and_then(Value::as_array).into_iter().flatten();
    for entry in entries {
        let datasets = entry
            .get("datasets")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let Some(dataset) = datasets
            .into_iter()
            .find(|d| d.get("path").and_then(Value::as_str) == Some(path))
        else {
            continue;
        };
        let axes: Vec<&Value> = entry
            .get("axes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let spatial = |axis: &&Value| axis.get("type").and_then(Value::as_str) == Some("space");
        let text = |axis: &Value, key: &str| {
            axis.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let dims = axes.iter().filter(|axis| spatial(axis)).count();
        let name = |axis: &&Value| text(axis, "name") + if spatial(axis) { "" } else { "^" };
        let mut found = Found {
            axis_names: (dims > 0).then(|| axes.iter().map(name).collect()),
            units: (dims > 0).then(|| {
                axes.iter()
                    .filter(|axis| spatial(axis))
                    .map(|axis| short_unit(&text(axis, "unit")).to_owned())
                    .collect()
            }),
            ..Found::default()
        };
        // Those of the dataset come first, those of all datasets after it.
        let transformations = [dataset, entry]
            .into_iter()
            .filter_map(|owner| owner.get("coordinateTransformations")?.as_array())
            .flatten();
        for transformation in transformations {
            let numbers = |key: &str| -> Option<Coordinate> {
                let values: Vec<Decimal> = serde_json::from_value(transformation.get(key)?.clone()).ok()?;
                let skip = values.len().checked_sub(dims).filter(|_| dims > 0)?;
                Some(Coordinate::new(&values[skip..]))
            };
            let one = || Coordinate::splat(dims, 1);
            if let Some(scale) = numbers("scale") {
                found.voxel_size = Some(found.voxel_size.unwrap_or_else(one) * &scale);
                found.offset = found.offset.map(|offset| offset * &scale);
            }
            if let Some(translation) = numbers("translation") {
                let before = found.offset.unwrap_or_else(|| Coordinate::splat(dims, 0));
                found.offset = Some(before + &translation);
            }
        }
        return found;
    }
    Found::default()
}
