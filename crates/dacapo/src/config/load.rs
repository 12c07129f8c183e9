//! Reading run configs: YAML or TOML text, checked key by key, relative paths made absolute.

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::{self, Problem};
use super::{DataConfig, RunConfig, StartConfig};
use crate::{Error, Result};

/// The languages that a config can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.0.
    Toml,
}

/// The config in a file: TOML if it is named `.toml`, YAML otherwise. Its `data` can be another file's. Relative
/// paths in it are looked for beside the file that they stand in, then in `working_directory`, and become absolute.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, [`Error::Config`] with every problem found.
pub fn load_config(path: &Path, working_directory: &Path) -> Result<RunConfig> {
    let mut document = read(path)?;
    let folder = working_directory.join(path.parent().unwrap_or(Path::new("")));
    let mut folders = vec![folder, working_directory.to_owned()];
    let there = document
        .get("data")
        .and_then(Value::as_str)
        .map(|there| resolve(there, &folders));
    if let Some(there) = there {
        let there = PathBuf::from(there);
        let mut file = read(&there)?;
        let Some(data) = file
            .get_mut("data")
            .filter(|data| data.is_object())
            .map(Value::take)
        else {
            return refuse(
                &there,
                vec![Problem::new(
                    "data",
                    "missing; it is what a config names this file for",
                )],
            );
        };
        document["data"] = data;
        folders.insert(0, there.parent().unwrap_or(Path::new("")).to_owned());
    }
    let mut config = checked(document, path)?;
    config.data.resolve_paths(&folders);
    if let Some(StartConfig::File(start)) = &mut config.start {
        start.file = resolve(&start.file, &folders);
    }
    Ok(config)
}

/// The `data` of a config, or of a file that has nothing else, as [`load_config`] reads it. What else is in the file
/// is not looked at.
///
/// # Errors
/// As [`load_config`].
pub fn load_data(path: &Path, working_directory: &Path) -> Result<DataConfig> {
    /// What a file has to have.
    #[derive(Deserialize, JsonSchema)]
    struct File {
        data: DataConfig,
    }
    let document = read(path)?;
    let folder = working_directory.join(path.parent().unwrap_or(Path::new("")));
    let folders = [folder, working_directory.to_owned()];
    if let Some(there) = document.get("data").and_then(Value::as_str) {
        let there = resolve(there, &folders);
        // A file that names itself is no data.
        let inner = read(Path::new(&there))?;
        return match inner.get("data") {
            Some(Value::Object(_)) => load_data(Path::new(&there), working_directory),
            _ => refuse(
                Path::new(&there),
                vec![Problem::new(
                    "data",
                    "missing; it is what a config names this file for",
                )],
            ),
        };
    }
    let problems = schema::check(&schema_for!(File).to_value(), &document);
    if !problems.is_empty() {
        return refuse(path, problems);
    }
    let mut data = match serde_json::from_value::<File>(document) {
        Ok(file) => file.data,
        Err(error) => return refuse(path, vec![Problem::new("", error.to_string())]),
    };
    let problems = data.problems();
    if !problems.is_empty() {
        return refuse(path, problems);
    }
    data.resolve_paths(&folders);
    Ok(data)
}

/// The config in a text. `name` stands in errors.
///
/// # Errors
/// [`Error::Config`] with every problem found: unknown keys with the nearest known one, missing keys, values
/// of a wrong type, values that make no sense.
pub fn parse_config(text: &str, format: Format, name: &Path) -> Result<RunConfig> {
    checked(document(text, format, name)?, name)
}

/// The JSON Schema of a run config, for editors.
pub fn config_schema() -> Value {
    let mut schema = schema_for!(RunConfig).to_value();
    if let Some(data) = schema
        .pointer_mut("/properties/data")
        .and_then(Value::as_object_mut)
    {
        let there = data.remove("$ref");
        let file = json!({"type": "string", "description": "A file that has it, as `dacapo datasplit make` writes it."});
        data.insert("anyOf".to_owned(), json!([{ "$ref": there }, file]));
    }
    schema
}

fn refuse<T>(path: &Path, problems: Vec<Problem>) -> Result<T> {
    Err(Error::Config {
        path: path.to_owned(),
        problems,
    })
}

/// What is in a file.
fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io("read the config", path, source))?;
    let is_toml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    document(&text, if is_toml { Format::Toml } else { Format::Yaml }, path)
}

fn document(text: &str, format: Format, name: &Path) -> Result<Value> {
    let document = match format {
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        Format::Toml => toml::from_str(text).map_err(|error| error.to_string()),
    };
    document.or_else(|message| refuse(name, vec![Problem::new("", message)]))
}

fn checked(document: Value, name: &Path) -> Result<RunConfig> {
    let problems = schema::check(&config_schema(), &document);
    if !problems.is_empty() {
        return refuse(name, problems);
    }
    let config: RunConfig = match serde_json::from_value(document) {
        Ok(config) => config,
        Err(error) => return refuse(name, vec![Problem::new("", error.to_string())]),
    };
    let problems = config.problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        refuse(name, problems)
    }
}

impl RunConfig {
    /// What makes no sense in it, as far as can be said without its data.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut need = |fine: bool, key: &str, message: &str| {
            if !fine {
                found.push(Problem::new(key, message));
            }
        };
        let trainer = &self.trainer;
        need(trainer.batch_size > 0, "trainer.batch_size", "at least 1");
        need(trainer.accumulate > 0, "trainer.accumulate", "at least 1");
        need(
            trainer.ema.is_none_or(|decay| (0.0..1.0).contains(&decay)),
            "trainer.ema",
            "at least 0 and below 1, or null",
        );
        need(
            (0.0..=1.0).contains(&trainer.min_labelled),
            "trainer.min_labelled",
            "a fraction: 0 to 1",
        );
        need(
            trainer.clip_gradient_norm.is_none_or(|n| n > 0.0),
            "trainer.clip_gradient_norm",
            "above 0, or null",
        );
        need(
            trainer.checkpoint_interval != Some(0),
            "trainer.checkpoint_interval",
            "at least 1",
        );
        if let Some(stopping) = &trainer.early_stopping {
            let key = "trainer.early_stopping";
            need(stopping.patience > 0, &format!("{key}.patience"), "at least 1");
            let fine = !self.data.validate.is_empty();
            need(fine, key, "nothing says when to stop: data.validate is empty");
        }
        need(self.validation.interval > 0, "validation.interval", "at least 1");
        found.extend(trainer.augment.problems(self.architecture.unet().dims()));
        found.extend(self.data.problems());
        found
    }
}

impl DataConfig {
    /// Makes relative array paths absolute: in the first of `folders` that has the container, else in the first.
    fn resolve_paths(&mut self, folders: &[PathBuf]) {
        for path in self.paths_mut() {
            *path = resolve(path, folders);
        }
    }
}

/// A relative path made absolute: in the first of `folders` that has its container, else in the first.
pub(crate) fn resolve(text: &str, folders: &[PathBuf]) -> String {
    if text.contains("://") || Path::new(text).is_absolute() {
        return text.to_owned();
    }
    // What is in a container is looked for when it is opened.
    let ends = [".zarr/", ".n5/", ".h5/", ".hdf5/", ".hdf/"];
    let container = match ends.iter().find_map(|end| Some(text.find(end)? + end.len() - 1)) {
        Some(end) => &text[..end],
        None => text,
    };
    let there = folders
        .iter()
        .find(|folder| folder.join(container).exists())
        // What is not there yet will be made beside the config.
        .or(folders.first());
    there.map_or_else(
        || text.to_owned(),
        |folder| normal(&folder.join(text)).to_string_lossy().into_owned(),
    )
}

/// Without `.` and `..`, by the text alone.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "
name: a
num_iterations: 10
data: {train: [{name: t, raw: a.zarr/raw, labels: a.zarr/labels}]}
task: {kind: affinities}
architecture: {kind: unet}
";

    fn parse(text: &str) -> Result<RunConfig, Vec<String>> {
        parse_config(text, Format::Yaml, Path::new("a.yaml")).map_err(|error| match error {
            Error::Config { problems, .. } => problems.iter().map(Problem::to_string).collect(),
            other => vec![other.to_string()],
        })
    }

    #[test]
    fn a_minimal_config_gets_defaults_and_survives_writing() {
        let config = parse(MINIMAL).unwrap();
        assert_eq!(config.trainer.batch_size, 1);
        assert_eq!(config.checkpoint_interval(), config.validation.interval);
        assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
    }

    #[test]
    fn toml_says_the_same() {
        let text = r#"
            name = "a"
            num_iterations = 10
            data.train = [{ name = "t", raw = "a.zarr/raw", labels = "a.zarr/labels" }]
            task.kind = "affinities"
            architecture.kind = "unet"
        "#;
        assert_eq!(
            parse_config(text, Format::Toml, Path::new("a.toml")).unwrap(),
            parse(MINIMAL).unwrap()
        );
    }

    #[test]
    fn every_problem_is_told_at_once_with_the_nearest_key() {
        let text = MINIMAL.replace("num_iterations", "num_iteration")
            + "trainer: {batch_size: -1, optimiser: {}, augment: {flip: true}}\nvalidation: {keep_outputs: bests}\n";
        assert_eq!(
            parse(&text).unwrap_err(),
            [
                "num_iteration: unknown key; did you mean `num_iterations`?",
                "trainer.batch_size: expected a whole number, not negative, found -1",
                "trainer.optimiser: unknown key; did you mean `optimizer`?",
                "trainer.augment.flip: unknown key; did you mean `flips`?",
                "validation.keep_outputs: unknown choice \"bests\"; did you mean `best`?",
                "num_iterations: missing",
            ]
        );
    }

    #[test]
    fn tagged_choices_are_told_by_their_kind() {
        let text = MINIMAL.replace("kind: unet", "kind: unnet");
        assert_eq!(
            parse(&text).unwrap_err(),
            ["architecture.kind: unknown choice \"unnet\"; did you mean `unet`?"]
        );
        let text = MINIMAL.replace("kind: unet", "kind: unet, num_fmap: 12");
        assert_eq!(
            parse(&text).unwrap_err(),
            ["architecture.num_fmap: unknown key; did you mean `num_fmaps`?"]
        );
    }

    #[test]
    fn losses_are_named_or_weighed() {
        let with = |kind: &str, loss: &str| {
            let task = format!("task: {{kind: {kind}, loss: {loss}}}");
            let text: Vec<&str> = MINIMAL.lines().filter(|line| !line.starts_with("task")).collect();
            parse(&format!("{}\n{task}\n", text.join("\n")))
        };
        for (kind, loss) in [
            ("foreground", "{bce: 1.0, dice: 0.5}"),
            ("affinities", "dice"),
            ("hot_distance", "{bce: 1, mse: 1}"),
            ("one_hot", "{cross_entropy: 1, dice: 1}"),
            ("one_hot", "mse"),
        ] {
            let config = with(kind, loss).unwrap();
            assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
        }
        assert_eq!(
            with("foreground", "{bec: 1}").unwrap_err(),
            ["task.loss.bec: unknown key; did you mean `bce`?"]
        );
        assert_eq!(
            with("one_hot", "cross_entrpy").unwrap_err(),
            ["task.loss: unknown choice \"cross_entrpy\"; did you mean `cross_entropy`?"]
        );
    }

    #[test]
    fn augmentations_without_sense_are_told() {
        let text = MINIMAL.to_owned()
            + "trainer: {augment: {noise: -1, gamma: [0, 2], elastic: {control_point_spacing: [4, 4], jitter_sigma: [1, 1, -1], \
               scale: [2, 1]}, blur: {sigma: [1, 2], probability: 2}, sections: {missing: 1.5}}}\n";
        assert_eq!(
            parse(&text).unwrap_err(),
            [
                "trainer.augment.noise: not negative",
                "trainer.augment.gamma: above 0, the smaller number first",
                "trainer.augment.elastic.control_point_spacing: one number for each axis",
                "trainer.augment.elastic.jitter_sigma: not negative",
                "trainer.augment.elastic.scale: above 0, the smaller number first",
                "trainer.augment.blur.probability: a probability: 0 to 1",
                "trainer.augment.sections.missing: a probability: 0 to 1",
            ]
        );
        let text = MINIMAL.to_owned()
            + "trainer: {augment: {elastic: {jitter_sigma: [1, 1, 1], rotate: in_plain}}}\n";
        assert_eq!(
            parse(&text).unwrap_err(),
            [
                "trainer.augment.elastic.rotate: unknown choice \"in_plain\"; did you mean `in_plane`?",
                "trainer.augment.elastic.control_point_spacing: missing",
            ]
        );
    }

    #[test]
    fn weights_to_begin_with_are_told_by_the_nearest_choice() {
        let with = |start: &str| parse(&format!("{MINIMAL}start: {start}\n"));
        for fine in [
            "{run: a}",
            "{run: a, iteration: best}",
            "{run: a, iteration: 5}",
            "{file: a.pt}",
        ] {
            let config = with(fine).unwrap();
            assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
        }
        assert_eq!(
            with("{run: a, iteration: bets}").unwrap_err(),
            ["start.iteration: unknown choice \"bets\"; did you mean `best`?"]
        );
        assert_eq!(
            with("{run: a, itertion: 5}").unwrap_err(),
            ["start.itertion: unknown key; did you mean `iteration`?"]
        );
        let none = MINIMAL.to_owned() + "trainer: {early_stopping: {patience: 0}}\n";
        assert_eq!(
            parse(&none).unwrap_err(),
            [
                "trainer.early_stopping.patience: at least 1",
                "trainer.early_stopping: nothing says when to stop: data.validate is empty",
            ]
        );
    }

    #[test]
    fn values_without_sense_are_told() {
        let text = MINIMAL.to_owned() + "trainer: {min_labelled: 2, checkpoint_interval: 0}\n";
        assert_eq!(
            parse(&text).unwrap_err(),
            [
                "trainer.min_labelled: a fraction: 0 to 1",
                "trainer.checkpoint_interval: at least 1"
            ]
        );
        assert!(parse("name: [").is_err());
    }

    #[test]
    fn paths_are_found_beside_the_file_first() {
        let dir = tempfile::tempdir().unwrap();
        let (beside, working) = (dir.path().join("beside"), dir.path().join("working"));
        std::fs::create_dir_all(beside.join("a.zarr")).unwrap();
        std::fs::create_dir_all(&working).unwrap();
        std::fs::write(beside.join("a.yaml"), MINIMAL).unwrap();
        let config = load_config(&beside.join("a.yaml"), &working).unwrap();
        assert_eq!(
            config.data.train[0].raw.to_string(),
            beside.join("a.zarr/raw").to_string_lossy()
        );
        // Else in the working directory; what is not there yet will be made beside the config.
        std::fs::remove_dir(beside.join("a.zarr")).unwrap();
        let labels = || {
            load_config(&beside.join("a.yaml"), &working).unwrap().data.train[0]
                .labels
                .to_string()
        };
        assert_eq!(labels(), beside.join("a.zarr/labels").to_string_lossy());
        std::fs::create_dir(working.join("a.zarr")).unwrap();
        assert_eq!(labels(), working.join("a.zarr/labels").to_string_lossy());
        // Every path of what is made of several.
        let made = MINIMAL.replace(
            "labels: a.zarr/labels",
            "labels: {merge: [{source: a.zarr/x, binarize: [[1]]}, b.h5/y]}, mask: {ones: s3://b/c.zarr/d}",
        );
        std::fs::write(beside.join("a.yaml"), made).unwrap();
        std::fs::write(beside.join("b.h5"), "").unwrap();
        let mut config = load_config(&beside.join("a.yaml"), &working).unwrap();
        let paths: Vec<String> = config
            .data
            .paths_mut()
            .into_iter()
            .map(|path| path.clone())
            .collect();
        let (there, here) = (working.join("a.zarr"), beside.join("b.h5/y"));
        let expected = [
            there.join("raw").to_string_lossy().into_owned(),
            there.join("x").to_string_lossy().into_owned(),
            here.to_string_lossy().into_owned(),
            "s3://b/c.zarr/d".to_owned(),
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn data_can_be_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (beside, inner) = (dir.path().join("a.yaml"), dir.path().join("splits"));
        std::fs::create_dir_all(inner.join("a.zarr")).unwrap();
        let data = "data: {train: [{name: t, raw: a.zarr/raw, labels: a.zarr/labels}]}\n";
        std::fs::write(inner.join("split.yaml"), data).unwrap();
        std::fs::write(
            &beside,
            MINIMAL.replace(data.trim_end(), "data: splits/split.yaml"),
        )
        .unwrap();
        let config = load_config(&beside, dir.path()).unwrap();
        // Its paths are looked for beside it.
        assert_eq!(
            config.data.train[0].raw.to_string(),
            inner.join("a.zarr/raw").to_string_lossy()
        );
        for file in [beside.clone(), inner.join("split.yaml")] {
            assert_eq!(load_data(&file, dir.path()).unwrap(), config.data);
        }
        let wrong = data.replace("train", "trian");
        std::fs::write(inner.join("split.yaml"), wrong).unwrap();
        let error = load_config(&beside, dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("data.trian: unknown key; did you mean `train`?"),
            "{error}"
        );
        std::fs::write(inner.join("split.yaml"), "data: split.yaml").unwrap();
        assert!(load_config(&beside, dir.path()).is_err());
        assert!(load_data(&beside, dir.path()).is_err());
    }

    #[test]
    fn arrays_are_named_by_path_or_by_what_is_made_of_them() {
        let made = |text: &str| MINIMAL.replace("labels: a.zarr/labels", &format!("labels: {text}"));
        let fine = "{layers: [{source: a.zarr/x, binarize: [[1, 2], []], channels: [0]}, {constant: 1}], resample: \
                    {voxel_size: [4.6, 8, 8], order: 0}, cast: uint16, crop: {offset: [0, 0, 0], shape: [10, 10, 10]}}";
        let config = parse(&made(fine)).unwrap();
        assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
        for (text, expected) in [
            ("3", "labels: expected text, found 3"),
            (
                "{sourc: a.zarr/x}",
                "labels.sourc: unknown key; did you mean `source`?",
            ),
            (
                "{source: a.zarr/x, resample: {voxel_sizes: [1]}}",
                "labels.resample.voxel_sizes: unknown key; did you mean `voxel_size`?",
            ),
            (
                "{merge: [a.zarr/x, {sorce: y}]}",
                "labels.merge[1].sorce: unknown key; did you mean `source`?",
            ),
            (
                "{source: a.zarr/x, cast: unit8}",
                "labels.cast: unknown choice \"unit8\"; did you mean `uint8`?",
            ),
            (
                "{binarize: [[1]]}",
                "labels: what it is made of is missing: one of source",
            ),
            (
                "{source: a.zarr/x, sum: [a.zarr/y]}",
                "labels: source and sum at once",
            ),
            (
                "{source: a.zarr/x, resample: {voxel_size: [8, 8, 8], order: 2}}",
                "labels.resample.order: 0 or 1",
            ),
            (
                "{source: a.zarr/x, percentiles: {low: 9, high: 3}}",
                "labels.percentiles: from 0 to 100",
            ),
            (
                "{any: [{constant: 1}]}",
                "labels.any: at least one array that is no constant",
            ),
            (
                "{any: [a.zarr/x], voxel_size: [1]}",
                "labels.voxel_size: it is said of a source that is a path",
            ),
            (
                "{source: a.zarr/x, binarize: [], classes: [[1]]}",
                "labels: one of intensities",
            ),
        ] {
            let problems = parse(&made(text)).unwrap_err();
            let found = problems
                .iter()
                .any(|problem| problem.starts_with(&format!("data.train[0].{expected}")));
            assert!(found, "{text}: {problems:?}");
        }
    }

    #[test]
    fn sampling_needs_what_it_is_about() {
        let with = |text: &str| {
            parse(&MINIMAL.replace("labels: a.zarr/labels", &format!("labels: a.zarr/labels, {text}")))
        };
        assert!(
            with("sampling: mask").unwrap_err()[0].contains("data.train[0].sampling: `mask` needs a mask")
        );
        assert!(with("sampling: points").unwrap_err()[0].contains("needs sample_points"));
        assert!(with("sample_points: []").unwrap_err()[0].contains("at least one point"));
        assert!(with("sampling: uniform, sample_points: [[1, 2, 3]]").is_err());
        assert!(with("sampling: unifrom").unwrap_err()[0].contains("did you mean `uniform`?"));
        let points = with("sample_points: [[4.6, 2, 3]]").unwrap();
        assert_eq!(points.data.train[0].sampling(), crate::config::Sampling::Points);
    }
}
