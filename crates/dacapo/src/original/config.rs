//! The Python DaCapo's run configs in our words. What has no counterpart is noted; what makes a run mean something
//! else is a problem. Nothing is written here.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::arrays::opened;
use super::data::data;
use super::fields::{Fields, Remarks};
use super::tasks::task;
use crate::config::RunConfig;
use crate::sources::Role;

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
        let task = task(fields.part("task_config"), &data, folders, &mut remarks);
        if !without_data.is_empty() {
            data = json!({ "train": [] });
        }
        let architecture = architecture(fields.part("architecture_config"), &mut remarks);
        let raw = opened(&data["train"][0]["raw"], Role::Raw).ok();
        let voxel_size = raw.map(|raw| raw.spec().voxel_size.to_f64());
        let trainer = trainer(
            fields.part("trainer_config"),
            &mut fields,
            warmup,
            voxel_size.as_deref(),
            &mut remarks,
        );
        let start = match start(fields.part("start_config"), &mut remarks) {
            Value::Null => task.weights.map_or(Value::Null, |file| json!({ "file": file })),
            start => start,
        };
        let interval = fields.take("validation_interval");
        let value = json!({
            "name": run,
            "seed": fields.take("repetition").as_u64().unwrap_or(0),
            "num_iterations": fields.take("num_iterations"),
            "data": data,
            "task": task.config,
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
        "probability": each.number("augmentation_probability", 1.0),
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
                let variance = each.number("var", 0.05);
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
        "min_labelled": fields.number("min_masked", 0.15),
        "augment": augment,
        "snapshot_interval": snapshots.as_u64().unwrap_or(0),
        "workers": workers.iter().filter_map(Value::as_u64).max().unwrap_or(1).max(1),
    });
    fields.drop_all(&["name"]);
    fields.finish(remarks);
    trainer
}
