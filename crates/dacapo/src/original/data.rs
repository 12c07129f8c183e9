//! The Python DaCapo's datasplits in our words: which datasets there are, and what of their values is 0 and 1.

use std::path::PathBuf;

use serde_json::{Value, json};

use dacapo_array::storage::{Access, Location};
use dacapo_array::{ArrayAddress, DType, open_array};

use super::arrays::{array, missing, opened, resolve, step};
use super::fields::{Fields, Remarks};
use crate::datasplit::{Found, Names, find};
use crate::sources::Role;

/// Raw values that the original's network sees as 0 and 1.
type Unit = (f64, f64);

/// The datasets in our words, with the names of those that are validated.
pub(super) fn data(mut fields: Fields, folders: &[PathBuf], remarks: &mut Remarks) -> (Value, Vec<String>) {
    let mut units = Vec::new();
    let (mut train, mut validate) = match fields.kind.as_str() {
        "SimpleDataSplitConfig" => simple(&mut fields, folders, &mut units, remarks),
        "TrainValidateDataSplitConfig" => {
            let mut list = |key: &str| -> Vec<Value> {
                let datasets = fields.take(key);
                let datasets = datasets.as_array().cloned().unwrap_or_default();
                let path = fields.at(key);
                let each = datasets.into_iter().enumerate();
                each.map(|(index, dataset)| {
                    raw_gt(
                        Fields::of(format!("{path}[{index}]"), dataset),
                        folders,
                        &mut units,
                        remarks,
                    )
                })
                .collect()
            };
            (list("train_configs"), list("validate_configs"))
        }
        _ => {
            fields.unknown(remarks);
            return (Value::Null, Vec::new());
        }
    };
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    let names = validate
        .iter()
        .filter_map(|dataset| Some(dataset["name"].as_str()?.to_owned()));
    let names = names.collect();
    let (low, high) = match units.split_first() {
        Some((first, others)) if others.iter().all(|unit| unit == first) => *first,
        // Each makes 0 to 1 of its own.
        _ => {
            for (dataset, (min, max)) in train.iter_mut().chain(&mut validate).zip(units) {
                let range = json!({ "min": min, "max": max, "clip": false });
                dataset["raw"] = step(&dataset["raw"], "intensities", range);
            }
            (0.0, 1.0)
        }
    };
    // Ours become -0.5 and 0.5.
    let half = (high - low) / 2.0;
    let intensity = json!({ "min": low - half, "max": low + half });
    (
        json!({ "train": train, "validate": validate, "intensity": intensity }),
        names,
    )
}

/// A container with a group to train on and one to validate on, which are datasets or groups of datasets.
fn simple(
    fields: &mut Fields,
    folders: &[PathBuf],
    units: &mut Vec<Unit>,
    remarks: &mut Remarks,
) -> (Vec<Value>, Vec<Value>) {
    let path = fields.text("path", "");
    let groups = [
        fields.text("train_group_name", "train"),
        fields.text("validate_group_name", "test"),
    ];
    let raw = fields.text("raw_name", "raw");
    let labels = fields.text("gt_name", "labels");
    let mask = fields.text("mask_name", "mask");
    let Some(container) = resolve(&path, folders).filter(|_| !path.is_empty()) else {
        missing(fields.at("path"), &path, remarks);
        return (Vec::new(), Vec::new());
    };
    let base = Location::from(container.as_path());
    let names = Names {
        raw: &raw,
        labels: &labels,
        mask: &mask,
    };
    let [train, validate] = groups.map(|group| {
        // Arrays right in the container are for both.
        let place = if container.join(&raw).is_dir() {
            ""
        } else {
            group.as_str()
        };
        let found = find(&base, place, names, &Access::default()).unwrap_or_default();
        if found.is_empty() {
            remarks.problem(format!(
                "{}: no {raw} in {group} of {}",
                fields.at("path"),
                container.display()
            ));
        }
        let dataset = |found: Found| {
            let Found {
                name,
                raw,
                labels,
                mask,
            } = found;
            match unit_of(&raw) {
                Ok(unit) => units.push(unit),
                Err(reason) => remarks.problem(format!("dataset {name}: {reason}")),
            }
            if labels.is_none() {
                remarks.problem(format!("dataset {name}: there are no labels beside {raw}"));
            }
            json!({ "name": name, "raw": raw, "labels": labels, "mask": mask })
        };
        found.into_iter().map(dataset).collect()
    });
    (train, validate)
}

/// The range that it makes 0 to 1 by the type of the values.
fn unit_of(raw: &str) -> Result<Unit, String> {
    let address: ArrayAddress = raw
        .parse()
        .map_err(|error: dacapo_array::Error| error.to_string())?;
    match open_array(&address, &Access::default())
        .map_err(|error| error.to_string())?
        .spec()
        .dtype
    {
        DType::U8 => Ok((0.0, 255.0)),
        DType::U16 => Ok((0.0, 65535.0)),
        dtype if dtype.is_float() => Ok((0.0, 1.0)),
        dtype => Err(format!("raw of {dtype} is scaled in a way that is not known")),
    }
}

/// A dataset whose arrays are named one by one.
fn raw_gt(mut fields: Fields, folders: &[PathBuf], units: &mut Vec<Unit>, remarks: &mut Remarks) -> Value {
    if fields.kind != "RawGTDatasetConfig" {
        fields.unknown(remarks);
        return Value::Null;
    }
    let name = fields.text("name", "");
    let mut raw = fields.part("raw_config");
    let mut unit = (0.0, 1.0);
    if raw.kind == "IntensitiesArrayConfig" {
        unit.0 = raw.number("min", unit.0);
        unit.1 = raw.number("max", unit.1);
        let source = raw.part("source_array_config");
        raw.drop_all(&["name"]);
        std::mem::replace(&mut raw, source).finish(remarks);
    }
    units.push(unit);
    let raw = array(raw, Role::Raw, folders, remarks);
    let annotation = |fields: &mut Fields, key: &str, role: Role, remarks: &mut Remarks| {
        let at = fields.at(key);
        let source = array(fields.part(key), role, folders, remarks);
        let channels = opened(&source, role).map(|array| array.spec().channels.iter().product::<usize>());
        match channels {
            Ok(channels) if channels > 1 && role == Role::Labels => {
                remarks.note(format!(
                    "{at}: its channels become the classes 1, 2, …; a voxel of several is of the first"
                ));
                let layers = (0..channels).map(|channel| step(&source, "channels", json!([channel])));
                json!({ "layers": layers.collect::<Vec<_>>() })
            }
            Ok(channels) if channels != 1 => {
                remarks.problem(format!("{at} has several channels, and ours have one"));
                source
            }
            _ => source,
        }
    };
    let labels = annotation(&mut fields, "gt_config", Role::Labels, remarks);
    let mask = match fields.left.get("mask_config") {
        None | Some(Value::Null) => Value::Null,
        Some(_) => annotation(&mut fields, "mask_config", Role::Mask, remarks),
    };
    let weight = fields.number("weight", 1.0);
    let points = fields.take("sample_points");
    fields.drop_all(&["mask_config"]);
    fields.finish(remarks);
    let mut dataset = json!({ "name": name, "raw": raw, "labels": labels, "mask": mask, "weight": weight });
    if points.as_array().is_some_and(|points| !points.is_empty()) {
        dataset["sample_points"] = points;
    }
    dataset
}
