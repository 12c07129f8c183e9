//! The Python DaCapo's tasks in our words. Its tasks of classes take a channel of labels for each class; ours have ids.

use std::path::PathBuf;

use dacapo_tasks::ClassConfig;
use serde_json::{Value, json};

use super::arrays::{missing, resolve};
use super::fields::{Fields, Remarks};

/// Biases that its watershed tries; they are in no config.
const BIASES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// A task, translated.
pub(super) struct Task {
    pub config: Value,
    /// The file with the weights that it begins with, if it is one that is trained already.
    pub weights: Option<PathBuf>,
}

/// What the labels of a dataset were made of, as far as classes go.
#[derive(Clone, Copy, PartialEq)]
enum Classes {
    /// So many channels, which became the ids 1, 2, ….
    Channels(usize),
    /// The labels of a file: objects, or classes by id.
    Labels,
}

impl Classes {
    /// Those of labels in our words.
    fn of(labels: &Value) -> Self {
        for key in ["binarize", "classes", "layers"] {
            if let Some(channels) = labels[key].as_array() {
                return Self::Channels(channels.len());
            }
        }
        // Whatever else is done with labels leaves their ids.
        match labels.get("source") {
            Some(source) => Self::of(source),
            None => Self::Labels,
        }
    }

    /// Those of all datasets.
    fn of_all(data: &Value, remarks: &mut Remarks) -> Self {
        let lists = ["train", "validate"].map(|list| data[list].as_array().cloned().unwrap_or_default());
        let mut each = lists.iter().flatten().map(|dataset| Self::of(&dataset["labels"]));
        let first = each.next().unwrap_or(Self::Labels);
        if each.any(|other| other != first) {
            remarks.problem("datasplit_config: the labels of its datasets have different channels");
        }
        first
    }
}

/// The task for labels such as those of `data`, which are in our words. Relative paths are looked for in `folders`.
pub(super) fn task(mut fields: Fields, data: &Value, folders: &[PathBuf], remarks: &mut Remarks) -> Task {
    let mut weights = None;
    if fields.kind == "PretrainedTaskConfig" {
        let path = fields.text("weights", "");
        weights = resolve(&path, folders).filter(|_| !path.is_empty());
        if weights.is_none() {
            missing(fields.at("weights"), &path, remarks);
        }
        let task = fields.part("sub_task_config");
        fields.drop_all(&["name"]);
        std::mem::replace(&mut fields, task).finish(remarks);
    }
    let config = match fields.kind.as_str() {
        "AffinitiesTaskConfig" => affinities(&mut fields, remarks),
        "DistanceTaskConfig" => distance(&mut fields, "distance", data, remarks),
        "InnerDistanceTaskConfig" => distance(&mut fields, "inner_distance", data, remarks),
        "HotDistanceTaskConfig" => distance(&mut fields, "hot_distance", data, remarks),
        "OneHotTaskConfig" => one_hot(&mut fields, data, remarks),
        _ => {
            fields.unknown(remarks);
            return Task {
                config: Value::Null,
                weights,
            };
        }
    };
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    Task { config, weights }
}

/// Affinities, with shape descriptors beside them if it says so.
fn affinities(fields: &mut Fields, remarks: &mut Remarks) -> Value {
    let lsds = json!({
        "num_voxels": fields.number("num_lsd_voxels", 10.0),
        "downsample": fields.number("downsample_lsds", 1.0) as u64,
        "loss_weight": fields.number("lsds_to_affs_weight_ratio", 1.0),
    });
    let weights = json!({ "balanced": {
        "clip_min": fields.number("affs_weight_clipmin", 0.05),
        "clip_max": fields.number("affs_weight_clipmax", 0.95),
    } });
    let (low, high) = (
        fields.number("lsd_weight_clipmin", 0.05),
        fields.number("lsd_weight_clipmax", 0.95),
    );
    let has_lsds = fields.take("lsds") == true;
    if has_lsds && weights != json!({ "balanced": { "clip_min": low, "clip_max": high } }) {
        remarks.note(format!(
            "{}: shares of classes are clipped as those of the affinities are",
            fields.at("lsd_weight_clipmin")
        ));
    }
    remarks.note(
        "its watershed with the biases 0.1 to 0.9 becomes our mutex watershed, which keeps fragments of low affinity",
    );
    json!({
        "kind": "affinities",
        "neighborhood": fields.take("neighborhood"),
        "lsds": if has_lsds { lsds } else { Value::Null },
        "background_as_object": fields.take("background_as_object") == true,
        "weights": weights,
        "post_processing": [{ "method": "mutex_watershed", "biases": BIASES.map(|bias| [bias; 2]) }],
        "store_prediction_as": "f32",
    })
}

/// Distances of classes. Its thresholds are in no config, and were measured in bytes at times: ours are tried.
fn distance(fields: &mut Fields, kind: &str, data: &Value, remarks: &mut Remarks) -> Value {
    let found = Classes::of_all(data, remarks);
    let channels = fields.take("channels");
    let channels = channels.as_array().cloned().unwrap_or_default();
    let at = fields.at("channels");
    let classes: Vec<Value> = channels
        .iter()
        .enumerate()
        .map(|(index, channel)| {
            // Of old, a channel has its ids beside its name.
            let (name, ids) = match channel.as_array().map(Vec::as_slice) {
                Some([name, ids]) => (name, ids.clone()),
                _ if channels.len() == 1 => (channel, json!([])),
                _ => (channel, json!([index + 1])),
            };
            json!({ "name": class_name(&format!("{at}[{index}]"), name, remarks), "ids": ids })
        })
        .collect();
    let has_ids = channels.iter().any(Value::is_array);
    let expected = match found {
        Classes::Channels(count) => count,
        Classes::Labels => 1,
    };
    if !has_ids && expected != channels.len() {
        remarks.problem(format!(
            "{at} names {} classes, but the labels have {expected}",
            channels.len()
        ));
    }
    if found == Classes::Labels {
        remarks.note(format!(
            "{at}: borders between labels that touch count there; here only those of the class do, unless `instances` is true"
        ));
    }
    head(fields, remarks);
    json!({
        "kind": kind,
        "classes": classes,
        "scale": fields.number("scale_factor", 1.0),
        "weights": { "balanced": {
            "clip_min": fields.number("clipmin", 0.05),
            "clip_max": fields.number("clipmax", 0.95),
        } },
        "evaluation": {
            "tolerance": fields.number("tol_distance", 0.0),
            "clip": fields.number("clip_distance", 0.0),
        },
        "mask_distances": fields.take("mask_distances") == true,
    })
}

/// Classes that exclude each other. Its classes have the ids 0, 1, …; of ours, 0 is there without being named.
fn one_hot(fields: &mut Fields, data: &Value, remarks: &mut Remarks) -> Value {
    let found = Classes::of_all(data, remarks);
    let names = fields.take("classes");
    let names = names.as_array().cloned().unwrap_or_default();
    let at = fields.at("classes");
    let first = match found {
        // Each class has a channel, and what is in none is of no class there.
        Classes::Channels(count) if count > 1 && count == names.len() => 0,
        Classes::Channels(count) if count + 1 != names.len() => {
            remarks.problem(format!(
                "{at} names {} classes, but the labels have {count} beside the background",
                names.len()
            ));
            1
        }
        _ => 1,
    };
    let name = match names.first() {
        Some(name) if first == 1 => name.to_string(),
        _ => "what is in no channel".to_owned(),
    };
    remarks.note(format!("{at}: {name} becomes the channel `background`"));
    let classes: Vec<Value> = names
        .iter()
        .skip(first)
        .enumerate()
        .map(|(index, name)| {
            let name = class_name(&format!("{at}[{}]", index + first), name, remarks);
            json!({ "name": name, "ids": [index + 1] })
        })
        .collect();
    let weights = fields.take("weights");
    if weights.as_array().is_some_and(|weights| !weights.is_empty()) {
        remarks.note(format!(
            "{}: classes are weighted by how many voxels they have, not by {weights}",
            fields.at("weights")
        ));
    }
    remarks.note(format!(
        "{}: it is learned by cross-entropy and scored class by class, neither of which it is there",
        fields.path
    ));
    head(fields, remarks);
    json!({ "kind": "one_hot", "classes": classes })
}

/// Its last layer may look around.
fn head(fields: &mut Fields, remarks: &mut Remarks) {
    let size = fields.take("kernel_size").as_u64().unwrap_or(1);
    if size != 1 {
        remarks.note(format!(
            "{}: the last layer sees one voxel here, not {size} along each axis",
            fields.at("kernel_size")
        ));
    }
}

/// A name with the letters that ours may have.
fn class_name(at: &str, name: &Value, remarks: &mut Remarks) -> String {
    let name = name.as_str().unwrap_or_default();
    let ours = name.replace(|c| !ClassConfig::may_have(c), "_");
    if ours != name {
        remarks.note(format!("{at}: {name:?} is called {ours} here"));
    }
    ours
}
