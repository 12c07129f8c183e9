//! Reading run configs: YAML or TOML text, checked key by key, relative paths made absolute.

use std::path::{Path, PathBuf};

use schemars::schema_for;
use serde_json::Value;

use super::schema::{self, Problem};
use super::{DatasetConfig, RunConfig, StartConfig};
use crate::{Error, Result};

/// The languages that a config can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.0.
    Toml,
}

/// The config in a file: TOML if it is named `.toml`, YAML otherwise. Relative paths in it are looked for
/// beside the file, then in `working_directory`, and become absolute.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Config`] with every problem found.
pub fn load_config(path: &Path, working_directory: &Path) -> Result<RunConfig> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io("read the config", path, source))?;
    let is_toml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let mut config = parse_config(&text, if is_toml { Format::Toml } else { Format::Yaml }, path)?;
    let folder = working_directory.join(path.parent().unwrap_or(Path::new("")));
    config.resolve_paths(&[folder, working_directory.to_owned()]);
    Ok(config)
}

/// The config in a text. `name` stands in errors.
///
/// # Errors
/// [`Error::Config`] with every problem found: unknown keys with the nearest known one, missing keys, values
/// of a wrong type, values that make no sense.
pub fn parse_config(text: &str, format: Format, name: &Path) -> Result<RunConfig> {
    let refuse = |problems| {
        Err(Error::Config {
            path: name.to_owned(),
            problems,
        })
    };
    let whole = |message: String| vec![Problem::new("", message)];
    let document: Result<Value, String> = match format {
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        Format::Toml => toml::from_str(text).map_err(|error| error.to_string()),
    };
    let document = match document {
        Ok(document) => document,
        Err(message) => return refuse(whole(message)),
    };
    let problems = schema::check(&config_schema(), &document);
    if !problems.is_empty() {
        return refuse(problems);
    }
    let config: RunConfig = match serde_json::from_value(document) {
        Ok(config) => config,
        Err(error) => return refuse(whole(error.to_string())),
    };
    let problems = config.problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        refuse(problems)
    }
}

/// The JSON Schema of a run config, for editors.
pub fn config_schema() -> Value {
    schema_for!(RunConfig).to_value()
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
        need(!self.data.train.is_empty(), "data.train", "at least one dataset");
        let fine = self.data.intensity.is_none_or(|range| range.min < range.max);
        need(fine, "data.intensity", "min below max");
        for (list, datasets) in [("train", &self.data.train), ("validate", &self.data.validate)] {
            for (index, dataset) in datasets.iter().enumerate() {
                let key = |name: &str| format!("data.{list}[{index}].{name}");
                need(!dataset.name.is_empty(), &key("name"), "a name");
                let unique = !datasets[..index].iter().any(|other| other.name == dataset.name);
                need(unique, &key("name"), "another dataset has this name");
                let weight = dataset.weight;
                need(weight > 0.0 && weight.is_finite(), &key("weight"), "above 0");
                let roi = dataset.roi.as_ref();
                need(
                    roi.is_none_or(|roi| !roi.is_empty()),
                    &key("roi"),
                    "nothing is in it: each length above 0",
                );
            }
        }
        found.extend(trainer.augment.problems(self.architecture.unet().dims()));
        found
    }

    /// Makes relative array paths absolute: in the first of `folders` that has the container, else in the first.
    fn resolve_paths(&mut self, folders: &[PathBuf]) {
        for DatasetConfig {
            raw, labels, mask, ..
        } in self.data.train.iter_mut().chain(&mut self.data.validate)
        {
            for text in [Some(raw), Some(labels), mask.as_mut()].into_iter().flatten() {
                *text = resolve(text, folders);
            }
        }
        if let Some(StartConfig::File(start)) = &mut self.start {
            start.file = resolve(&start.file, folders);
        }
        if let Some(synthetic) = &mut self.data.synthetic {
            synthetic.container = resolve(&synthetic.container, folders);
        }
    }
}

fn resolve(text: &str, folders: &[PathBuf]) -> String {
    if text.contains("://") || Path::new(text).is_absolute() {
        return text.to_owned();
    }
    let container = match text.find(".zarr/").or_else(|| text.find(".n5/")) {
        Some(at) => &text[..at + text[at..].find('/').unwrap_or(0)],
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
            config.data.train[0].raw,
            beside.join("a.zarr/raw").to_string_lossy()
        );
        // Else in the working directory; what is not there yet will be made beside the config.
        std::fs::remove_dir(beside.join("a.zarr")).unwrap();
        let labels = || {
            load_config(&beside.join("a.yaml"), &working).unwrap().data.train[0]
                .labels
                .clone()
        };
        assert_eq!(labels(), beside.join("a.zarr/labels").to_string_lossy());
        std::fs::create_dir(working.join("a.zarr")).unwrap();
        assert_eq!(labels(), working.join("a.zarr/labels").to_string_lossy());
    }
}
