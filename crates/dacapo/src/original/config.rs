//! The Python DaCapo's run configs in our words. What has no counterpart is noted; what makes a run mean something
//! else is a problem. Nothing is written here.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use dacapo_array::storage::{Access, Location};
use dacapo_array::{ArrayAddress, DType, open_array};

use crate::config::RunConfig;
use crate::datasplit::{Found, Names, find};

/// Biases that its watershed tries; they are in no config.
const BIASES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];
/// Steps over which its learning rate rises, where no checkpoint says otherwise.
const WARMUP: u64 = 1000;

/// A config, translated.
pub(super) struct Translation {
    /// In our words, with its data only if all of that is there; nothing if something else has no counterpart.
    pub config: Option<RunConfig>,
    pub total: Option<u64>,
    /// The validated datasets in the config's order, where that is known.
    pub validate: Vec<String>,
    pub notes: Vec<String>,
    pub problems: Vec<String>,
}

/// What is said about a translation while it is made.
#[derive(Default)]
struct Remarks {
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Remarks {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

/// The keys of a part of a config, each taken once: what is left in the end means nothing here.
struct Fields {
    path: String,
    kind: String,
    left: Map<String, Value>,
}

impl Fields {
    fn of(path: impl Into<String>, value: Value) -> Self {
        let mut left = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let kind = left.remove("__type__");
        let kind = kind
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // Names of parts are labels without further meaning.
        Self {
            path: path.into(),
            kind,
            left,
        }
    }

    fn take(&mut self, key: &str) -> Value {
        self.left.remove(key).unwrap_or(Value::Null)
    }

    fn part(&mut self, key: &str) -> Fields {
        Fields::of(self.at(key), self.take(key))
    }

    fn text(&mut self, key: &str, default: &str) -> String {
        self.take(key).as_str().unwrap_or(default).to_owned()
    }

    fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn drop_all(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Notes what is left and says something.
    fn finish(self, remarks: &mut Remarks) {
        let means_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        for (key, value) in self.left.iter().filter(|(_, value)| means_something(value)) {
            remarks
                .notes
                .push(format!("{} has no counterpart: {value}", self.at(key)));
        }
    }

    fn unknown(&self, remarks: &mut Remarks) {
        remarks.problem(format!(
            "{} is a {}, which has no counterpart here",
            self.path, self.kind
        ));
    }
}

/// Translates the config of `run`. Relative paths in it are looked for in `folders`.
pub(super) fn translate(yaml: &str, run: &str, folders: &[PathBuf], warmup: Option<u64>) -> Translation {
    let mut remarks = Remarks::default();
    let document: Value = match serde_saphyr::from_str(yaml) {
        Ok(document) => document,
        Err(error) => {
            remarks.problem(format!("its config is not YAML: {error}"));
            Value::Null
        }
    };
    let mut fields = Fields::of("", document);
    let total = fields.left.get("num_iterations").and_then(Value::as_u64);
    let mut validate = Vec::new();
    let mut without_data = Vec::new();
    let translated = (!fields.left.is_empty()).then(|| {
        let (mut data, names) = data(fields.part("datasplit_config"), folders, &mut remarks);
        validate = names;
        without_data = std::mem::take(&mut remarks.problems);
        if !without_data.is_empty() {
            data = json!({ "train": [] });
        }
        let task = task(fields.part("task_config"), &mut remarks);
        let architecture = architecture(fields.part("architecture_config"), &mut remarks);
        let voxel_size = data["train"][0]["raw"].as_str().and_then(voxel_size_of);
        let trainer = trainer(
            fields.part("trainer_config"),
            &mut fields,
            warmup,
            voxel_size.as_deref(),
            &mut remarks,
        );
        let start = start(fields.part("start_config"), &mut remarks);
        let interval = fields.take("validation_interval");
        let value = json!({
            "name": run,
            "seed": fields.take("repetition").as_u64().unwrap_or(0),
            "num_iterations": fields.take("num_iterations"),
            "data": data,
            "task": task,
            "architecture": architecture,
            "start": start,
            "trainer": trainer,
            "validation": { "interval": interval.as_u64().filter(|&n| n > 0).unwrap_or(1000) },
        });
        fields.drop_all(&["name"]);
        value
    });
    if translated.is_some() {
        fields.finish(&mut remarks);
    }
    let config = translated.filter(|_| remarks.problems.is_empty());
    let config = config.and_then(|value| match serde_json::from_value::<RunConfig>(value) {
        Ok(config) => {
            if without_data.is_empty() {
                let problems = config.problems();
                remarks.problems.extend(problems.iter().map(ToString::to_string));
            }
            let unet = config.architecture.unet();
            let meaning = unet.output_shape(&unet.input_shape);
            remarks
                .problems
                .extend(meaning.err().map(|error| error.to_string()));
            let task = config.task.build(unet.dims());
            remarks.problems.extend(task.err().map(|error| error.to_string()));
            remarks.problems.is_empty().then_some(config)
        }
        Err(error) => {
            remarks.problem(format!("its config does not fit ours: {error}"));
            None
        }
    });
    remarks.problems.extend(without_data);
    Translation {
        config,
        total,
        validate,
        notes: remarks.notes,
        problems: remarks.problems,
    }
}

fn task(mut fields: Fields, remarks: &mut Remarks) -> Value {
    if fields.kind != "AffinitiesTaskConfig" {
        fields.unknown(remarks);
        return Value::Null;
    }
    if fields.take("lsds") == true {
        remarks.problem(format!(
            "{} is true: its network also predicts LSDs",
            fields.at("lsds")
        ));
    }
    let clip = |fields: &mut Fields, key: &str, default: f64| fields.take(key).as_f64().unwrap_or(default);
    let task = json!({
        "kind": "affinities",
        "neighborhood": fields.take("neighborhood"),
        "background_as_object": fields.take("background_as_object") == true,
        "weights": { "balanced": {
            "clip_min": clip(&mut fields, "affs_weight_clipmin", 0.05),
            "clip_max": clip(&mut fields, "affs_weight_clipmax", 0.95),
        } },
        "post_processing": [{ "method": "mutex_watershed", "biases": BIASES.map(|bias| [bias; 2]) }],
        "store_prediction_as": "f32",
    });
    remarks.notes.push(
        "its watershed with the biases 0.1 to 0.9 becomes our mutex watershed, which keeps fragments of low affinity"
            .to_owned(),
    );
    fields.drop_all(&[
        "name",
        "lsd_weight_clipmin",
        "lsd_weight_clipmax",
        "lsds_to_affs_weight_ratio",
        "num_lsd_voxels",
        "downsample_lsds",
    ]);
    fields.finish(remarks);
    task
}

fn architecture(mut fields: Fields, remarks: &mut Remarks) -> Value {
    if fields.kind != "CNNectomeUNetConfig" {
        fields.unknown(remarks);
        return Value::Null;
    }
    let mut unet = Map::new();
    unet.insert("kind".to_owned(), "unet".into());
    for (theirs, ours) in [
        ("_input_shape", "input_shape"),
        ("input_shape", "input_shape"),
        ("_eval_shape_increase", "eval_shape_increase"),
        ("eval_shape_increase", "eval_shape_increase"),
        ("fmaps_in", "fmaps_in"),
        ("fmaps_out", "fmaps_out"),
        ("num_fmaps", "num_fmaps"),
        ("fmap_inc_factor", "fmap_inc_factor"),
        ("downsample_factors", "downsample_factors"),
        ("kernel_size_down", "kernel_size_down"),
        ("kernel_size_up", "kernel_size_up"),
        ("upsample_factors", "upsample_factors"),
        ("constant_upsample", "constant_upsample"),
        ("padding", "padding"),
        ("batch_norm", "batch_norm"),
        ("use_attention", "use_attention"),
    ] {
        let value = fields.take(theirs);
        if !value.is_null() {
            unet.insert(ours.to_owned(), value);
        }
    }
    // Its defaults, where they are not ours.
    for (key, default) in [
        ("padding", json!("valid")),
        ("constant_upsample", json!(false)),
        ("batch_norm", json!(true)),
    ] {
        unet.entry(key).or_insert(default);
    }
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    Value::Object(unet)
}

/// The weights that it begins with.
fn start(mut fields: Fields, remarks: &mut Remarks) -> Value {
    let run = fields.text("run", "");
    if run.is_empty() {
        return Value::Null;
    }
    let criterion = fields.text("criterion", "best");
    let iteration = match criterion.parse::<u64>() {
        Ok(iteration) => json!(iteration),
        Err(_) => json!("best"),
    };
    remarks.notes.push(format!(
        "it begins with weights of {run}, which has to be in the base of ours; what is best there ({criterion}), ours decides"
    ));
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    json!({ "run": run, "iteration": iteration })
}

/// World units of a voxel of an array, if it can be opened.
fn voxel_size_of(raw: &str) -> Option<Vec<f64>> {
    let address: ArrayAddress = raw.parse().ok()?;
    let array = open_array(&address, &Access::default()).ok()?;
    Some(array.spec().voxel_size.to_f64())
}

/// Its deformation. Displacements are in world units there, angles in radians.
fn elastic(each: &mut Fields, voxel_size: Option<&[f64]>, remarks: &mut Remarks) -> Value {
    let numbers = |value: Value| -> Vec<f64> {
        let items = value.as_array().cloned().unwrap_or_default();
        items.iter().filter_map(Value::as_f64).collect()
    };
    let spacing = numbers(each.take("control_point_spacing"));
    let mut sigma = numbers(each.take("control_point_displacement_sigma"));
    match voxel_size {
        Some(size) if size.len() == sigma.len() => {
            sigma.iter_mut().zip(size).for_each(|(s, size)| *s /= size)
        }
        _ => remarks.notes.push(format!(
            "{} is taken to be in voxels: the voxel size is not known",
            each.at("control_point_displacement_sigma")
        )),
    }
    let rotation = numbers(each.take("rotation_interval"));
    let rotation = match rotation[..] {
        [low, high] => [low.to_degrees(), high.to_degrees()],
        _ => [0.0; 2],
    };
    let is_uniform = each.take("uniform_3d_rotation") == true;
    json!({
        "control_point_spacing": spacing,
        "jitter_sigma": sigma,
        "rotation": rotation,
        "rotate": if is_uniform { "uniform" } else { "in_plane" },
        "subsample": each.take("subsample").as_u64().unwrap_or(1).max(1),
        "probability": each.take("augmentation_probability").as_f64().unwrap_or(1.0),
        "outside": "mirror",
    })
}

fn trainer(
    mut fields: Fields,
    run: &mut Fields,
    warmup: Option<u64>,
    voxel_size: Option<&[f64]>,
    remarks: &mut Remarks,
) -> Value {
    if fields.kind != "GunpowderTrainerConfig" {
        fields.unknown(remarks);
        return Value::Null;
    }
    let mut augment = json!({
        "flips": false,
        "transposes": false,
        "intensity_scale": [1.0, 1.0],
        "intensity_shift": [0.0, 0.0],
        "noise": 0.0,
    });
    let augments = fields.take("augments");
    for (index, each) in augments.as_array().into_iter().flatten().enumerate() {
        let mut each = Fields::of(format!("{}[{index}]", fields.at("augments")), each.clone());
        match each.kind.as_str() {
            "SimpleAugmentConfig" => {
                augment["flips"] = true.into();
                augment["transposes"] = true.into();
            }
            "IntensityAugmentConfig" => {
                for (theirs, ours) in [("scale", "intensity_scale"), ("shift", "intensity_shift")] {
                    let range = each.take(theirs);
                    if range.as_array().is_some_and(|range| range.len() == 2) {
                        augment[ours] = range;
                    }
                }
                each.drop_all(&["clip"]);
            }
            "ElasticAugmentConfig" => {
                augment["elastic"] = elastic(&mut each, voxel_size, remarks);
                remarks.notes.push(format!(
                    "{}: between control points displacements are smooth here, and raw is mirrored at its border",
                    each.path
                ));
            }
            "GammaAugmentConfig" => {
                augment["gamma"] = each.take("gamma_range");
                remarks
                    .notes
                    .push(format!("{}: there it changes nothing, here it does", each.path));
            }
            "GaussianNoiseAugmentConfig" => {
                let variance = each.take("var").as_f64().unwrap_or(0.05);
                augment["noise"] = variance.sqrt().into();
                remarks.notes.push(format!(
                    "{}: there the noise always has this variance, here it is the largest",
                    each.path
                ));
            }
            kind => {
                remarks
                    .notes
                    .push(format!("{} has no counterpart: {kind}", each.path));
                continue;
            }
        }
        each.finish(remarks);
    }
    let warmup = warmup.unwrap_or_else(|| {
        remarks.notes.push(format!(
            "its learning rate is taken to rise over {WARMUP} steps: no checkpoint says it"
        ));
        WARMUP
    });
    let workers = [run.take("num_workers"), fields.take("num_data_fetchers")];
    let mut either = |key: &str| match run.take(key) {
        Value::Null => fields.take(key),
        value => value,
    };
    let (batch_size, rate, snapshots) = (
        either("batch_size"),
        either("learning_rate"),
        either("snapshot_interval"),
    );
    let trainer = json!({
        "batch_size": batch_size.as_u64().unwrap_or(1),
        "optimizer": {
            "kind": "r_adam",
            "learning_rate": rate,
            "betas": [0.9, 0.999],
            "epsilon": 1e-8,
            "weight_decay": 0.0,
        },
        "schedule": { "warmup": warmup, "decay": "none" },
        "clip_gradient_norm": null,
        "min_labelled": fields.take("min_masked").as_f64().unwrap_or(0.15),
        "augment": augment,
        "snapshot_interval": snapshots.as_u64().unwrap_or(0),
        "workers": workers.iter().filter_map(Value::as_u64).max().unwrap_or(1).max(1),
    });
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    trainer
}

/// Raw values that the original's network sees as 0 and 1.
type Unit = (f64, f64);

/// The datasets in our words, with the names of those that are validated.
fn data(mut fields: Fields, folders: &[PathBuf], remarks: &mut Remarks) -> (Value, Vec<String>) {
    let mut units = Vec::new();
    let (train, validate) = match fields.kind.as_str() {
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
    let (low, high) = units.first().copied().unwrap_or((0.0, 1.0));
    if units.iter().any(|&unit| unit != (low, high)) {
        remarks.problem("its datasets have different ranges of intensity, and ours have one");
    }
    // Ours become -0.5 and 0.5.
    let half = (high - low) / 2.0;
    let intensity = json!({ "min": low - half, "max": low + half });
    (
        json!({ "train": train, "validate": validate, "intensity": intensity }),
        names,
    )
}

/// A path as it can be opened: an absolute one, or in the first of the folders that has it.
fn resolve(path: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let mut places = folders.iter().map(|folder| folder.join(path));
    places.find(|place| place.exists())
}

fn missing(at: impl Display, path: &str, remarks: &mut Remarks) {
    remarks.problem(format!(
        "{at}: {path} is not there; say where its relative paths begin (`--data`)"
    ));
}

fn address(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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
    let unit = if raw.kind == "IntensitiesArrayConfig" {
        let range = (
            raw.take("min").as_f64().unwrap_or(0.0),
            raw.take("max").as_f64().unwrap_or(1.0),
        );
        let source = raw.part("source_array_config");
        raw.drop_all(&["name"]);
        std::mem::replace(&mut raw, source).finish(remarks);
        range
    } else {
        (0.0, 1.0)
    };
    units.push(unit);
    let raw = zarr(raw, folders, remarks);
    let labels = zarr(fields.part("gt_config"), folders, remarks);
    let mask = match fields.left.get("mask_config") {
        None | Some(Value::Null) => Value::Null,
        Some(_) => zarr(fields.part("mask_config"), folders, remarks),
    };
    let weight = fields.take("weight").as_f64().unwrap_or(1.0);
    fields.drop_all(&["mask_config"]);
    fields.finish(remarks);
    json!({ "name": name, "raw": raw, "labels": labels, "mask": mask, "weight": weight })
}

fn zarr(mut fields: Fields, folders: &[PathBuf], remarks: &mut Remarks) -> Value {
    if fields.kind != "ZarrArrayConfig" {
        fields.unknown(remarks);
        return Value::Null;
    }
    let (file, dataset) = (fields.text("file_name", ""), fields.text("dataset", ""));
    fields.drop_all(&["name", "_axes"]);
    let at = fields.at("file_name");
    fields.finish(remarks);
    match resolve(&file, folders).filter(|_| !file.is_empty()) {
        Some(container) => address(&container.join(dataset.trim_start_matches('/'))).into(),
        None => {
            missing(at, &file, remarks);
            Value::Null
        }
    }
}
