//! A base directory that the Python DaCapo wrote: read as it is, and made a run of ours. Nothing in it may change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod imports;
mod tasks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArrayRead, ArrayWrite, CreateOptions, DType, NdData, ZarrArray};
use dacapo::config::RunConfig;
use dacapo::nn::{CpuEngine, load_checkpoint};
use dacapo::original::{AdoptOptions, Imported, OriginalBase, adopt, import};
use dacapo::store::{ArrayEntry, ArrayStore, ConfigStore, StatsStore, WeightsStore};
use dacapo::{LocalStore, RunScores, RunState, TrainOptions, load_run, runs, train};
use ndarray::ArrayD;

const RUN: &str = "run_affs_none";

/// All files below a directory, with their content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

/// The fixture in a directory of its own.
struct Original {
    dir: tempfile::TempDir,
}

impl Original {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/original");
        for (path, content) in files(&fixture) {
            let to = dir
                .path()
                .join("original")
                .join(path.strip_prefix(&fixture).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, content).unwrap();
        }
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("original")
    }

    fn base(&self) -> OriginalBase {
        OriginalBase::find(&self.root(), None).unwrap()
    }

    fn store(&self) -> LocalStore {
        LocalStore::new(self.dir.path().join("ours"))
    }

    fn adopt(&self, options: &AdoptOptions) -> dacapo::Result<dacapo::original::Adopted> {
        adopt(&self.base(), RUN, &self.store(), &engine(), options)
    }

    /// Changes a file of the base directory.
    fn edit(&self, path: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.root().join("runs_base_dir").join(path);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
    }

    /// Gives the data labels, of which the fixture has none: two halves.
    fn label(&self) {
        for crop in ["train/crop1", "test/crop2"] {
            let address = format!("{}/data/instance.zarr/{crop}/labels", self.root().display());
            let address: ArrayAddress = address.parse().unwrap();
            let spec = ZarrArray::open(&address, &Access::default())
                .unwrap()
                .spec()
                .clone();
            let halves = ArrayD::from_shape_fn(spec.shape(), |i| 1 + u8::from(i[2] > 30));
            let labels = match spec.dtype {
                DType::U8 => NdData::U8(halves),
                _ => NdData::U64(halves.mapv(u64::from)),
            };
            let options = CreateOptions {
                overwrite: true,
                ..CreateOptions::default()
            };
            ZarrArray::create(&address, &Access::default(), &spec, &options)
                .unwrap()
                .write(&spec.roi, &labels)
                .unwrap();
        }
    }

    fn train(&self, config: &RunConfig) {
        train(&self.store(), config, &engine(), &(), &TrainOptions::default()).unwrap();
    }

    /// The labels that it trains on.
    fn labels(&self) -> ZarrArray {
        let address = format!("{}/data/instance.zarr/train/crop1/labels", self.root().display());
        ZarrArray::open(&address.parse().unwrap(), &Access::default()).unwrap()
    }

    /// Its run config in our words.
    fn import(&self) -> Imported {
        let path = self.root().join(format!("runs_base_dir/configs/runs/{RUN}.yaml"));
        import(&path, None).unwrap().remove(0)
    }

    fn edit_config(&self, from: &str, to: &str) {
        self.edit(&format!("configs/runs/{RUN}.yaml"), |text| {
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(from), "{from}");
            text.replace(from, to).into_bytes()
        });
    }
}

fn engine() -> CpuEngine {
    CpuEngine::new(Some(1)).unwrap()
}

#[test]
fn everything_in_it_can_be_read_and_stays_as_it_is() {
    let original = Original::new();
    let before = files(&original.root());
    let base = original.base();
    assert_eq!(base.root(), original.root().join("runs_base_dir"));
    assert_eq!(base.runs().unwrap(), [RUN]);
    let run = base.inspect(RUN, &engine()).unwrap();
    assert!(run.config && run.problems.is_empty(), "{:?}", run.problems);
    assert_eq!((run.iterations, run.total), (20, Some(20)));
    assert_eq!((run.validated.as_slice(), run.scores), (&[10, 20][..], 10));
    assert_eq!(run.arrays.len(), 15);
    let unreadable: Vec<_> = run
        .arrays
        .iter()
        .filter(|array| array.problem.is_some())
        .collect();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let prediction = run
        .arrays
        .iter()
        .find(|array| array.path.ends_with("10/crop2/prediction"))
        .unwrap();
    assert_eq!(prediction.shape, [3, 64, 64, 64]);
    assert_eq!(
        prediction.roi.as_ref().unwrap().to_string(),
        "[80:336, 80:336, 80:336]"
    );
    let checkpoint = &run.checkpoints[0];
    assert_eq!(
        (checkpoint.iteration, checkpoint.fits),
        (10, true),
        "{:?}",
        checkpoint.problem
    );
    // 28 of the model, two of them twice; step and two moments of 26 parameters.
    assert_eq!(checkpoint.tensors, 28 + 3 * 26);

    // As a base directory of its own.
    let store = LocalStore::new(base.root());
    let listed = runs(&store).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(
        listed[0].original && listed[0].problem.is_none(),
        "{:?}",
        listed[0].problem
    );
    assert_eq!(
        (&listed[0].state, listed[0].iterations),
        (&RunState::Finished, 20)
    );
    assert_eq!(listed[0].best[0].criterion, "voi");
    assert_eq!(listed[0].best[0].counted_by.as_deref(), Some("Python DaCapo"));
    let array = store
        .arrays
        .validation_prediction_array(RUN, 10, "crop2")
        .unwrap();
    assert!(store.arrays.open(&array).is_ok());
    let scores = RunScores::load_any(&store, RUN).unwrap();
    assert_eq!(scores.counted_by(), Some("Python DaCapo"));
    let score = scores.of(&ArrayEntry::of(array), None).unwrap();
    assert_eq!(
        (score.criterion.as_str(), score.counted_by.as_deref()),
        ("voi", Some("Python DaCapo"))
    );
    assert!(RunScores::load(&store, RUN).is_err(), "nothing of it is pruned");
    let hint = load_run(&store, RUN).unwrap_err().to_string();
    assert!(
        hint.contains("`dacapo arrays adopt` makes it one of ours"),
        "{hint}"
    );
    assert!(files(&original.root()) == before);
}

#[test]
fn it_becomes_a_run_of_ours_and_stays_as_it_is() {
    let original = Original::new();
    let before = files(&original.root());
    let store = original.store();
    let adopted = original.adopt(&AdoptOptions::default()).unwrap();
    assert!(files(&original.root()) == before);
    assert_eq!(
        (adopted.run.as_str(), adopted.checkpoints.as_slice()),
        (RUN, &[10][..])
    );

    let config = load_run(&store, RUN).unwrap();
    assert_eq!(config.architecture.unet().num_fmaps, 1);
    assert_eq!(config.data.train[0].name, "crop1");
    assert_eq!(config.data.validate[0].name, "crop2");
    assert!(
        config.data.validate[0]
            .raw
            .to_string()
            .ends_with("original/data/instance.zarr/test/crop2/raw")
    );
    // The original's network sees 0 to 1, ours -0.5 to 0.5.
    let range = config.data.intensity.unwrap();
    assert_eq!((range.min, range.max), (-127.5, 127.5));
    // 0.01 + 0.99 · 10 / 20, as the checkpoint says.
    assert_eq!(config.trainer.schedule.warmup, 20);

    let training = store.stats.training(RUN).unwrap();
    assert_eq!(training.len(), 20);
    assert_eq!((training[0].iteration, training[0].loss), (1, 0.7252134084701538));
    let scores = store.stats.scores(RUN).unwrap();
    assert_eq!(scores.len(), 10);
    let score = &scores[2];
    assert_eq!((score.iteration, score.dataset.as_str()), (10, "crop2"));
    assert_eq!(
        score.parameters,
        "WatershedPostProcessorParameters(id=2, bias=0.5, context=(32, 32, 32))"
    );
    let (split, merge) = (12.711186279004036, 0.3861076997797243);
    assert_eq!(score.counted_by.as_deref(), Some("Python DaCapo"));
    assert_eq!(score.scores["voi_split"], Some(split));
    assert_eq!(score.scores["voi_merge"], Some(merge));
    assert_eq!(score.scores["voi"], Some(split + merge));

    let (tensors, meta) = load_checkpoint(&store.weights.load(RUN, 10).unwrap()).unwrap();
    assert_eq!(meta["iteration"], "10");
    let step = tensors
        .iter()
        .find(|tensor| tensor.name == "optimizer/step")
        .unwrap();
    assert_eq!(step.data, [10.0]);
    let head = tensors
        .iter()
        .find(|tensor| tensor.name == "model/prediction_head.weight")
        .unwrap();
    assert_eq!(head.shape, [3, 1, 1, 1, 1]);

    // Arrays as they were, with the metadata of groups that was missing.
    let ours = store.run_dir(RUN).unwrap().path().unwrap().to_owned();
    let theirs = original.base().root().join(RUN);
    let mut copied = 0;
    for (path, content) in files(&theirs.join("validation.zarr")) {
        assert!(
            fs::read(ours.join(path.strip_prefix(&theirs).unwrap())).unwrap() == content,
            "{path:?}"
        );
        copied += 1;
    }
    assert!(
        copied > 20 && adopted.files > copied,
        "{copied} of {}",
        adopted.files
    );
    assert!(ours.join("validation.zarr/10/crop2/output/.zgroup").is_file());
    assert!(!ours.join("validation.zarr/10/crop2/prediction/.zgroup").exists());
    let yaml = fs::read(original.base().root().join(format!("configs/runs/{RUN}.yaml"))).unwrap();
    assert_eq!(fs::read(ours.join("original/run.yaml")).unwrap(), yaml);
    let left: Vec<_> = fs::read_dir(store.base().path().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [RUN]);
    assert_eq!(
        runs(&store).unwrap()[0].state,
        RunState::Interrupted,
        "its last checkpoint is 10"
    );

    // Once.
    let again = original.adopt(&AdoptOptions::default()).unwrap_err().to_string();
    assert!(again.contains("it is there already"), "{again}");
    let options = AdoptOptions {
        prefix: "old-".to_owned(),
        without_arrays: true,
    };
    let other = original.adopt(&options).unwrap();
    assert_eq!((other.run.as_str(), other.files), ("old-run_affs_none", 0));
    assert_eq!(
        load_run(&store, "old-run_affs_none").unwrap().name,
        "old-run_affs_none"
    );
    assert_eq!(store.configs.runs().unwrap().len(), 2);
    assert!(files(&original.root()) == before);
}

#[test]
fn nothing_is_written_into_the_original() {
    let original = Original::new();
    let before = files(&original.root());
    let base = original.base();
    let inside = ["", "ours", RUN, "../runs_base_dir/x/y"];
    for path in inside.map(|path| base.root().join(path)) {
        let error = adopt(
            &base,
            RUN,
            &LocalStore::new(&path),
            &engine(),
            &AdoptOptions::default(),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("it is there already") || error.contains("stays as it is"),
            "{error}"
        );
    }
    // Nor does a run of ours begin in the place of one of its.
    original.adopt(&AdoptOptions::default()).unwrap();
    let config = load_run(&original.store(), RUN).unwrap();
    let error = train(
        &LocalStore::new(base.root()),
        &config,
        &engine(),
        &(),
        &TrainOptions::default(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the Python DaCapo has a run of this name there"),
        "{error}"
    );
    assert!(files(&original.root()) == before);
}

#[test]
fn what_cannot_be_said_in_our_words_is_told_and_leaves_nothing() {
    for (from, to, reason) in [
        (
            "AffinitiesTaskConfig",
            "DummyTaskConfig",
            "task_config is a DummyTaskConfig",
        ),
        (
            "CNNectomeUNetConfig",
            "DummyConfig",
            "architecture_config is a DummyConfig",
        ),
        (
            "path: data/",
            "path: elsewhere/",
            "elsewhere/instance.zarr is not there",
        ),
        ("train_group_name: train", "train_group_name: x", "no raw in x"),
        ("  - 60\n", "  - 61\n", "the network cannot take"),
        ("num_iterations: 20", "num_iterations: many", "does not fit ours"),
    ] {
        let original = Original::new();
        original.edit_config(from, to);
        let run = original.base().inspect(RUN, &engine()).unwrap();
        assert!(
            !run.config && run.problems.iter().any(|problem| problem.contains(reason)),
            "{:?}",
            run.problems
        );
        assert_eq!(
            (run.iterations, run.scores, run.arrays.len()),
            (20, 10, 15),
            "the rest is still read"
        );
        let error = original.adopt(&AdoptOptions::default()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        let base = original.store().base().path().unwrap().to_owned();
        assert!(!base.exists() || files(&base).is_empty());
    }
    // What only has no counterpart is noted.
    let original = Original::new();
    original.edit_config("clip_raw: false", "clip_raw: true");
    let adopted = original.adopt(&AdoptOptions::default()).unwrap();
    let note = "trainer_config.clip_raw has no counterpart: true".to_owned();
    assert!(adopted.notes.contains(&note), "{:?}", adopted.notes);
}

#[test]
fn without_its_data_the_network_and_the_best_scores_are_still_known() {
    let original = Original::new();
    fs::remove_dir_all(original.root().join("data")).unwrap();
    let run = original.base().inspect(RUN, &engine()).unwrap();
    assert!(!run.config && run.checkpoints[0].fits, "{:?}", run.checkpoints);
    let listed = runs(&LocalStore::new(original.base().root())).unwrap();
    assert_eq!(listed[0].best[0].dataset, "crop2");
}

#[test]
fn damage_is_told_and_hides_nothing_else() {
    let original = Original::new();
    original.edit(&format!("stats/training_stats/{RUN}"), |bytes| {
        bytes[..100].to_vec()
    });
    let run = original.base().inspect(RUN, &engine()).unwrap();
    assert_eq!(run.scores, 10);
    let problem = &run.problems[0];
    assert!(
        problem.contains("training_stats") && problem.contains("at byte"),
        "{problem}"
    );
    assert!(original.adopt(&AdoptOptions::default()).is_err());

    // A pickle that would run something is data without a meaning.
    let original = Original::new();
    original.edit(&format!("stats/validation_scores/{RUN}"), |_| {
        b"cos\nsystem\n(S'touch harm'\ntR.".to_vec()
    });
    let run = original.base().inspect(RUN, &engine()).unwrap();
    assert!(
        run.problems[0].ends_with("it holds no list of records"),
        "{:?}",
        run.problems
    );

    let original = Original::new();
    original.edit(&format!("{RUN}/checkpoints/iterations/10"), |bytes| {
        bytes[..9000].to_vec()
    });
    let run = original.base().inspect(RUN, &engine()).unwrap();
    assert!(!run.checkpoints[0].fits && run.checkpoints[0].problem.is_some());
    let adopted = original.adopt(&AdoptOptions::default()).unwrap();
    assert!(adopted.checkpoints.is_empty());
    assert!(
        adopted
            .notes
            .iter()
            .any(|note| note.starts_with("checkpoint 10 is not taken")),
        "{:?}",
        adopted.notes
    );
}

#[test]
fn a_directory_without_runs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = OriginalBase::find(dir.path(), None).unwrap_err().to_string();
    assert!(
        error.ends_with("neither configs/runs nor stats/training_stats is in it"),
        "{error}"
    );
    for base in ["a", "b"] {
        fs::create_dir_all(dir.path().join(base).join("configs/runs")).unwrap();
    }
    let error = OriginalBase::find(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("2 base directories are in it"), "{error}");
}
