//! The options of a machine rather than of a run: where runs are kept, what they may use. Which file they come
//! from is decided here; the environment is read by the caller.

use std::path::{Path, PathBuf};

use dacapo_array::storage::Location;
use dacapo_nn::{Device, EngineConfig, Precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::suggestion;
use crate::{Error, Result};

/// What `dacapo.yaml` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Options {
    /// The folder that has every run, or `s3://bucket/prefix`. A relative folder is meant from the file's own.
    #[schemars(with = "Option<String>")]
    pub runs_base_dir: Option<Location>,
    /// How object stores (`s3://`) are reached.
    pub object_store: ObjectStore,
    /// What the computation may use.
    pub compute: Compute,
}

/// What the computation may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Compute {
    /// Threads; default: as many as the machine has cores.
    pub threads: Option<usize>,
    /// What networks run on: `cpu`, `cuda`, `cuda:1` … (which take a program that was built with libtorch).
    pub device: Device,
    /// What they are computed in on a GPU: `f32`, or mixed precision, `bf16` or `f16`.
    pub precision: Precision,
    /// Whether channels lie side by side in a GPU's memory.
    pub channels_last: bool,
}

impl Compute {
    /// The engine that it asks for.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            device: self.device,
            precision: self.precision,
            channels_last: self.channels_last,
            threads: self.threads,
        }
    }
}

/// How object stores are reached, beside what AWS programs read: `AWS_…` variables and `~/.aws`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectStore {
    /// URL of the service; default: AWS.
    pub endpoint: Option<String>,
    /// Its region; default: us-east-1.
    pub region: Option<String>,
    /// Whether the bucket is a part of the host's name.
    pub virtual_hosted_style: bool,
    /// The profile in `~/.aws` of which the key is used.
    pub profile: Option<String>,
    /// Who asks, where it is nobody with a key.
    pub credentials: Option<CredentialsKind>,
}

/// Who asks an object store without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsKind {
    /// Anybody, for public data.
    Unsigned,
    /// The machine, by the role that its cloud gave it.
    Machine,
}

/// The keys of ours, and those that the Python original writes into the same file, which are passed over.
const KEYS: [&str; 7] = [
    "runs_base_dir",
    "object_store",
    "compute",
    "type",
    "compute_context",
    "mongo_db_host",
    "mongo_db_name",
];

/// Where the options file is looked for, in order: what `DACAPO_OPTIONS_FILE` names, then `dacapo.yaml` in the
/// working directory, the home directory, and `.config/dacapo` under it.
pub fn options_places(
    variable: Option<&Path>,
    working_directory: &Path,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = variable
        .map(|path| working_directory.join(path))
        .into_iter()
        .collect();
    places.push(working_directory.join("dacapo.yaml"));
    if let Some(home) = home {
        places.extend([home.join("dacapo.yaml"), home.join(".config/dacapo/dacapo.yaml")]);
    }
    places
}

/// The options of the first of [`options_places`] that is there, with its path; the defaults without one.
///
/// # Errors
/// [`Error::Io`] if `variable` names a file that is not there or cannot be read, [`Error::Options`] if it is
/// not what it should be.
pub fn find_options(
    variable: Option<&Path>,
    working_directory: &Path,
    home: Option<&Path>,
) -> Result<(Options, Option<PathBuf>)> {
    for (index, path) in options_places(variable, working_directory, home)
        .into_iter()
        .enumerate()
    {
        let is_named = variable.is_some() && index == 0;
        if is_named || path.is_file() {
            return Ok((read(&path)?, Some(path)));
        }
    }
    Ok((Options::default(), None))
}

fn read(path: &Path) -> Result<Options> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io("read the options", path, source))?;
    let refuse = |message: String| Error::Options {
        path: path.to_owned(),
        message,
    };
    if text.trim().is_empty() {
        return Ok(Options::default());
    }
    let document: serde_json::Value = serde_saphyr::from_str(&text).map_err(|e| refuse(e.to_string()))?;
    for key in document.as_object().into_iter().flat_map(|map| map.keys()) {
        if !KEYS.contains(&key.as_str()) {
            return Err(refuse(format!(
                "{key}: unknown key{}",
                suggestion(key, &KEYS[..3])
            )));
        }
    }
    let mut options: Options = serde_json::from_value(document).map_err(|e| refuse(e.to_string()))?;
    if options.compute.threads == Some(0) {
        return Err(refuse("compute.threads: at least 1".to_owned()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    options.runs_base_dir = options.runs_base_dir.map(|base| match base.path() {
        Some(path) => folder.join(path).into(),
        None => base,
    });
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_place_that_has_a_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (working, home) = (dir.path().join("work"), dir.path().join("home"));
        fs::create_dir_all(&working).unwrap();
        fs::create_dir_all(home.join(".config/dacapo")).unwrap();
        let find = |variable: Option<&Path>| find_options(variable, &working, Some(&home));
        assert_eq!(find(None).unwrap(), (Options::default(), None));
        let base = |place: &Path| {
            let (options, found) = find(None).unwrap();
            assert_eq!(found.as_deref(), Some(place));
            options.runs_base_dir.unwrap().path().unwrap().to_owned()
        };
        let last = home.join(".config/dacapo/dacapo.yaml");
        fs::write(&last, "runs_base_dir: /last").unwrap();
        assert_eq!(base(&last), Path::new("/last"));
        fs::write(home.join("dacapo.yaml"), "runs_base_dir: /home").unwrap();
        assert_eq!(base(&home.join("dacapo.yaml")), Path::new("/home"));
        fs::write(working.join("dacapo.yaml"), "runs_base_dir: runs\ntype: files").unwrap();
        assert_eq!(base(&working.join("dacapo.yaml")), working.join("runs"));
        fs::write(working.join("named.yaml"), "compute: {threads: 2}").unwrap();
        assert_eq!(
            find(Some(Path::new("named.yaml"))).unwrap().0.compute.threads,
            Some(2)
        );
        let text = "compute: {device: cuda:1, precision: bf16, channels_last: true}";
        fs::write(working.join("gpu.yaml"), text).unwrap();
        let (options, _) = find(Some(Path::new("gpu.yaml"))).unwrap();
        assert_eq!(
            options.compute.engine(),
            EngineConfig {
                device: Device::Cuda(1),
                precision: Precision::Bf16,
                channels_last: true,
                threads: None,
            }
        );
        assert!(matches!(
            find(Some(Path::new("none.yaml"))),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn mistakes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let mistake = |text: &str| {
            fs::write(dir.path().join("dacapo.yaml"), text).unwrap();
            find_options(None, dir.path(), None).unwrap_err().to_string()
        };
        assert!(mistake("runs_base: x").contains("did you mean `runs_base_dir`?"));
        assert!(mistake("compute: {threads: 0}").contains("compute.threads: at least 1"));
        assert!(mistake("compute: {thread: 1}").contains("thread"));
        assert!(mistake("compute: {device: gpu}").contains("`gpu` is no device: there are `cpu`, `cuda`"));
        assert!(mistake("compute: {precision: f64}").contains("f64"));
        assert!(mistake("object_store: {endpont: x}").contains("endpont"));
        assert!(mistake("runs_base_dir: gs://bucket").contains("gs://"));
        fs::write(
            dir.path().join("dacapo.yaml"),
            "runs_base_dir: s3://bucket/runs/\nobject_store: {region: eu-west-1, credentials: unsigned}",
        )
        .unwrap();
        let (options, _) = find_options(None, dir.path(), None).unwrap();
        assert_eq!(options.runs_base_dir.unwrap().to_string(), "s3://bucket/runs");
        assert_eq!(options.object_store.credentials, Some(CredentialsKind::Unsigned));
    }
}
