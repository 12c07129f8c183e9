//! The Python DaCapo's arrays as sources of ours: files, and what is computed of others when it is read.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use dacapo_array::storage::Access;
use dacapo_array::{ArrayAddress, ArrayRead, Coordinate, ZarrArray};

use super::fields::{Fields, Remarks};
use crate::config::ArraySource;
use crate::sources::{Role, open};

/// A path as it can be opened: an absolute one, or in the first of the folders that has it.
pub(super) fn resolve(path: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    if path.contains("://") {
        return Some(path.into());
    }
    let mut places = folders.iter().map(|folder| folder.join(path));
    places.find(|place| place.exists())
}

pub(super) fn missing(at: impl Display, path: &str, remarks: &mut Remarks) {
    remarks.problem(format!(
        "{at}: {path} is not there; say where its relative paths begin (`--data`)"
    ));
}

/// Opens a source, if it is one.
///
/// # Errors
/// As a text why it cannot be opened.
pub(super) fn opened(source: &Value, role: Role) -> Result<Arc<dyn ArrayRead>, String> {
    let source: ArraySource = serde_json::from_value(source.clone()).map_err(|error| error.to_string())?;
    open(&source, role, &Access::default()).map_err(|failure| failure.error.to_string())
}

/// A source, and what is done with it.
pub(super) fn step(source: &Value, key: &str, what: Value) -> Value {
    json!({ "source": source, key: what })
}

/// An array in our words.
pub(super) fn array(mut fields: Fields, role: Role, folders: &[PathBuf], remarks: &mut Remarks) -> Value {
    fields.drop_all(&["name"]);
    let inner = |fields: &mut Fields, remarks: &mut Remarks| {
        array(fields.part("source_array_config"), role, folders, remarks)
    };
    let list = |fields: &mut Fields, remarks: &mut Remarks| -> Vec<Value> {
        let path = fields.at("source_array_configs");
        let sources = fields.take("source_array_configs");
        let each = sources.as_array().cloned().unwrap_or_default().into_iter();
        each.enumerate()
            .map(|(index, source)| {
                let source = Fields::of(format!("{path}[{index}]"), source);
                array(source, role, folders, remarks)
            })
            .collect()
    };
    let made = match fields.kind.as_str() {
        "ZarrArrayConfig" => {
            fields.drop_all(&["_axes", "mode"]);
            let dataset = fields.text("dataset", "");
            file(&mut fields, folders, remarks, |file| {
                json!(file.join(dataset.trim_start_matches('/')))
            })
        }
        "TiffArrayConfig" => {
            let [voxel_size, offset, units, axes] =
                ["voxel_size", "offset", "units", "axis_names"].map(|key| fields.take(key));
            file(
                &mut fields,
                folders,
                remarks,
                |file| json!({ "source": file, "voxel_size": voxel_size, "offset": offset, "units": units, "axes": axes }),
            )
        }
        "CropArrayConfig" => {
            let roi = fields.take("roi");
            let roi = json!({ "offset": roi[0], "shape": roi[1] });
            step(&inner(&mut fields, remarks), "crop", roi)
        }
        "IntensitiesArrayConfig" => {
            let range = json!({ "min": fields.take("min"), "max": fields.take("max"), "clip": false });
            step(&inner(&mut fields, remarks), "intensities", range)
        }
        "ResampledArrayConfig" => {
            let source = inner(&mut fields, remarks);
            resampled(&mut fields, &source, role, remarks)
        }
        "BinarizeArrayConfig" => {
            let source = inner(&mut fields, remarks);
            binarized(&mut fields, &source, role, remarks)
        }
        "MissingAnnotationsMaskConfig" => {
            let groups = groups(&mut fields);
            let source = inner(&mut fields, remarks);
            let missing = not_annotated(&source).unwrap_or_else(|| {
                remarks.note(format!(
                    "{}: nothing says which labels are there without being annotated; none is taken to be",
                    fields.path
                ));
                Vec::new()
            });
            step(
                &source,
                "annotated",
                json!({ "groups": groups, "missing": missing }),
            )
        }
        "ConcatArrayConfig" => {
            let channels = concatenated(&mut fields, role, folders, remarks);
            // Labels have no channels: what is in several of them is of the first.
            let key = if role == Role::Labels { "layers" } else { "concat" };
            json!({ key: channels })
        }
        "LogicalOrArrayConfig" => json!({ "any": [inner(&mut fields, remarks)] }),
        "SumArrayConfig" => json!({ "sum": list(&mut fields, remarks) }),
        "MergeInstancesArrayConfig" => {
            remarks.note(format!(
                "{}: ids are kept apart; there they are added up, where objects overlap too",
                fields.path
            ));
            json!({ "merge": list(&mut fields, remarks) })
        }
        "ConstantArrayConfig" => {
            let constant = fields.number("constant", 1.0);
            json!({ "constant": constant, "like": inner(&mut fields, remarks) })
        }
        "OnesArrayConfig" => json!({ "ones": inner(&mut fields, remarks) }),
        "DVIDArrayConfig" => {
            let source = fields.take("source");
            remarks.problem(format!(
                "{}: {source} is on a DVID server, which is not read here; copy it into a Zarr container",
                fields.path
            ));
            return Value::Null;
        }
        _ => {
            fields.unknown(remarks);
            return Value::Null;
        }
    };
    fields.finish(remarks);
    made
}

/// An array of a file.
fn file(
    fields: &mut Fields,
    folders: &[PathBuf],
    remarks: &mut Remarks,
    source: impl FnOnce(PathBuf) -> Value,
) -> Value {
    let name = fields.text("file_name", "");
    match resolve(&name, folders).filter(|_| !name.is_empty()) {
        Some(file) => source(file),
        None => {
            missing(fields.at("file_name"), &name, remarks);
            Value::Null
        }
    }
}

/// The ids of each group, without the groups' names.
fn groups(fields: &mut Fields) -> Vec<Value> {
    let groups = fields.take("groupings");
    let groups = groups.as_array().cloned().unwrap_or_default();
    groups.into_iter().map(|group| group[1].clone()).collect()
}

/// Channels by groups of ids; of labels the number of the group, for they have no channels.
fn binarized(fields: &mut Fields, source: &Value, role: Role, remarks: &mut Remarks) -> Value {
    let groups = groups(fields);
    let background = fields.take("background").as_u64().unwrap_or(0);
    let is_empty = |group: &Value| group.as_array().is_some_and(Vec::is_empty);
    if background != 0 && groups.iter().any(is_empty) {
        remarks.problem(format!(
            "{}: a group of everything but {background}; here it is everything but 0",
            fields.path
        ));
    }
    if role != Role::Labels || groups.len() < 2 {
        return step(source, "binarize", json!(groups));
    }
    let mut ids: Vec<u64> = groups
        .iter()
        .flat_map(|group| group.as_array().into_iter().flatten())
        .filter_map(Value::as_u64)
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    // An empty group has the ids of all others.
    if ids.len() < count || groups.iter().any(is_empty) {
        remarks.problem(format!(
            "{}: its groups share ids, so that they are no classes that exclude each other",
            fields.path
        ));
    }
    remarks.note(format!(
        "{}: its channels become the classes 1, 2, …",
        fields.path
    ));
    step(source, "classes", json!(groups))
}

/// The parts of a list of channels; those that are missing are of a default, or 0.
fn concatenated(fields: &mut Fields, role: Role, folders: &[PathBuf], remarks: &mut Remarks) -> Vec<Value> {
    let path = fields.at("source_array_configs");
    let sources = fields.take("source_array_configs");
    let default = fields.take("default_config");
    let at_default = fields.at("default_config");
    let channels = fields.take("channels");
    let channels = channels.as_array().cloned().unwrap_or_default();
    let channels = channels.iter().filter_map(Value::as_str);
    channels
        .map(|channel| match (sources.get(channel), &default) {
            (Some(source), _) if !source.is_null() => {
                let source = Fields::of(format!("{path}.{channel}"), source.clone());
                array(source, role, folders, remarks)
            }
            (_, Value::Null) => json!({ "constant": 0 }),
            (_, default) => array(Fields::of(&at_default, default.clone()), role, folders, remarks),
        })
        .collect()
}

/// Voxels of another size: so many times as fine, or as coarse, as those of the source.
fn resampled(fields: &mut Fields, source: &Value, role: Role, remarks: &mut Remarks) -> Value {
    let factors = |value: Value| serde_json::from_value::<Coordinate>(value).ok();
    let (up, down) = (
        factors(fields.take("upsample")),
        factors(fields.take("downsample")),
    );
    let order = match fields.take("interp_order") {
        Value::Bool(order) => u64::from(order),
        order => order.as_u64().unwrap_or(0).min(1),
    };
    let array = match opened(source, role) {
        Ok(array) => array,
        Err(reason) => {
            remarks.problem(format!(
                "{}: how large its voxels are depends on its source: {reason}",
                fields.path
            ));
            return Value::Null;
        }
    };
    let size = &array.spec().voxel_size;
    // A factor of 0 stands for none.
    let factors = |factors: Option<Coordinate>| match factors {
        Some(factors) if factors.dims() == size.dims() && factors.iter().all(|n| n.is_positive()) => factors,
        _ => Coordinate::splat(size.dims(), 1),
    };
    let wanted = size.clone() * &factors(down) / &factors(up);
    step(
        source,
        "resample",
        json!({ "voxel_size": wanted, "order": order }),
    )
}

/// The labels that a Zarr array's attributes name as present but not annotated, as CellMap's annotations have it;
/// nothing if they name none at all.
fn not_annotated(source: &Value) -> Option<Vec<u64>> {
    let address: ArrayAddress = source.as_str()?.parse().ok()?;
    let array = ZarrArray::open(&address, &Access::default()).ok()?;
    let labels = array.attributes().get("labels")?.as_array()?.clone();
    let state = |label: &Value, key: &str| label["annotationState"][key] == true;
    let missing = labels
        .iter()
        .filter(|label| state(label, "present") && !state(label, "annotated"));
    Some(missing.filter_map(|label| label["value"].as_u64()).collect())
}
