//! A base directory that the Python DaCapo wrote: read as it is, and made a run of ours. Nothing in it may change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArrayRead, ArrayWrite, CreateOptions, DType, NdData, ZarrArray};
use dacapo::nn::{CpuEngine, load_checkpoint};
use dacapo::original::{AdoptOptions, OriginalBase, adopt};
use dacapo::store::{ArrayStore, ConfigStore, StatsStore, WeightsStore};
use dacapo::{LocalStore, RunState, TrainOptions, load_run, runs, train};
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
    let array = store
        .arrays
        .validation_prediction_array(RUN, 10, "crop2")
        .unwrap();
    assert!(store.arrays.open(&array).is_ok());
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
        ("lsds: false", "lsds: true", "task_config.lsds is true"),
        (
            "AffinitiesTaskConfig",
            "DistanceTaskConfig",
            "task_config is a DistanceTaskConfig",
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

#[test]
fn its_augmentations_are_imported_in_our_units() {
    let original = Original::new();
    original.edit_config(
        "  augments: []\n",
        "  augments:
  - __type__: ElasticAugmentConfig
    control_point_spacing: !!python/tuple [100, 80, 80]
    control_point_displacement_sigma: !!python/tuple [0.0, 8.0, 12.0]
    rotation_interval: !!python/tuple [0, 1.5707963267948966]
    subsample: 8
    uniform_3d_rotation: false
  - __type__: GammaAugmentConfig
    gamma_range: [0.75, 1.33]
  - __type__: GaussianNoiseAugmentConfig
    mean: 0.0
    var: 0.01
  - __type__: IntensityAugmentConfig
    scale: [0.7, 1.3]
    shift: [-0.2, 0.2]
    clip: false
  - __type__: SimpleAugmentConfig
",
    );
    original.edit_config(
        "start_config: null\n",
        "start_config: {run: other, criterion: best}\n",
    );
    let path = original
        .root()
        .join(format!("runs_base_dir/configs/runs/{RUN}.yaml"));
    let imported = dacapo::original::import(&path, None).unwrap().remove(0);
    assert_eq!(imported.problems, Vec::<String>::new());
    let config = imported.config.unwrap();
    let augment = &config.trainer.augment;
    let elastic = augment.elastic.as_ref().unwrap();
    assert_eq!(elastic.control_point_spacing, [100.0, 80.0, 80.0]);
    // Displacements are in world units there, of voxels of 4 nm.
    assert_eq!(elastic.jitter_sigma, [0.0, 2.0, 3.0]);
    assert!((elastic.rotation[1] - 90.0).abs() < 1e-9 && elastic.subsample == 8);
    assert_eq!(augment.gamma, Some([0.75, 1.33]));
    assert!((augment.noise - 0.1).abs() < 1e-6);
    assert_eq!(
        (augment.intensity_scale, augment.intensity_shift),
        ([0.7, 1.3], [-0.2, 0.2])
    );
    assert!(augment.flips && augment.transposes);
    assert!(matches!(
        &config.start,
        Some(dacapo::config::StartConfig::Run(start)) if start.run == "other"
    ));
    assert!(
        imported
            .notes
            .iter()
            .any(|note| note.contains("it begins with weights of other"))
    );
    assert!(config.problems().is_empty());
}

/// The datasplit of the fixture, as its config says it.
const SIMPLE: &str = "  __type__: SimpleDataSplitConfig
  gt_name: labels
  mask_name: mask
  name: blobs_instance
  path: data/instance.zarr
  raw_name: raw
  train_group_name: train
  validate_group_name: test
";

/// Datasets of arrays that are computed from others, every kind once or more, as the original writes them.
const COMPUTED: &str = "  __type__: TrainValidateDataSplitConfig
  name: computed
  train_configs:
  - __type__: RawGTDatasetConfig
    gt_config:
      __type__: MergeInstancesArrayConfig
      name: merged
      source_array_configs:
      - &labels
        __type__: ZarrArrayConfig
        _axes: null
        dataset: train/crop1/labels
        file_name: data/instance.zarr
        mode: a
        name: labels
        snap_to_grid: null
      - *labels
    mask_config:
      __type__: LogicalOrArrayConfig
      name: any
      source_array_config:
        __type__: ConcatArrayConfig
        channels:
        - known
        - other
        default_config: null
        name: both
        source_array_configs:
          known:
            __type__: OnesArrayConfig
            name: ones
            source_array_config: *labels
    name: a
    raw_config:
      __type__: IntensitiesArrayConfig
      max: 255.0
      min: 0.0
      name: scaled
      source_array_config:
        __type__: CropArrayConfig
        name: cropped
        roi: !!python/tuple
        - &id001 !!python/tuple
          - 0
          - 0
          - 0
        - !!python/tuple
          - 400
          - 400
          - 400
        source_array_config: &raw
          __type__: ZarrArrayConfig
          _axes: null
          dataset: train/crop1/raw
          file_name: data/instance.zarr
          mode: a
          name: raw
          snap_to_grid: null
    sample_points: null
    weight: 2
  - __type__: RawGTDatasetConfig
    gt_config:
      __type__: SumArrayConfig
      name: sum
      source_array_configs:
      - __type__: BinarizeArrayConfig
        background: 0
        groupings:
        - !!python/tuple
          - first
          - - 1
        name: first
        source_array_config: *labels
      - __type__: ConstantArrayConfig
        constant: 0
        name: nothing
        source_array_config: *labels
    mask_config:
      __type__: MissingAnnotationsMaskConfig
      groupings:
      - !!python/tuple
        - first
        - - 1
      name: annotated
      source_array_config:
        __type__: ZarrArrayConfig
        _axes: null
        dataset: annotated
        file_name: data/cells.zarr
        mode: a
        name: labels
        snap_to_grid: null
    name: b
    raw_config:
      __type__: IntensitiesArrayConfig
      max: 200.0
      min: 10.0
      name: scaled
      source_array_config:
        __type__: ResampledArrayConfig
        downsample: &id002 !!python/tuple
        - 1
        - 1
        - 1
        interp_order: false
        name: fine
        source_array_config:
          __type__: ResampledArrayConfig
          downsample: !!python/tuple
          - 2
          - 2
          - 2
          interp_order: true
          name: coarse
          source_array_config: *raw
          upsample: *id002
        upsample: !!python/tuple
        - 2
        - 2
        - 2
    sample_points:
    - !!python/tuple
      - 200
      - 200
      - 200
    weight: 1
  validate_configs: []
";

#[test]
fn arrays_that_are_computed_become_ours() {
    let original = Original::new();
    original.label();
    let data = original.root().join("data");
    let labels: ArrayAddress = format!("{}/instance.zarr/train/crop1/labels", data.display())
        .parse()
        .unwrap();
    let labels = ZarrArray::open(&labels, &Access::default()).unwrap();
    let state = |value: u64, present: bool, annotated: bool| {
        serde_json::json!({
            "value": value, "name": "x", "annotationState": { "present": present, "annotated": annotated },
        })
    };
    let mut options = CreateOptions::default();
    let states = serde_json::json!([
        state(1, true, true),
        state(2, true, false),
        state(3, false, false)
    ]);
    options.attributes.insert("labels".to_owned(), states);
    let annotated: ArrayAddress = format!("{}/cells.zarr/annotated", data.display())
        .parse()
        .unwrap();
    let written = ZarrArray::create(&annotated, &Access::default(), labels.spec(), &options).unwrap();
    let roi = labels.spec().roi.clone();
    written.write(&roi, &labels.read(&roi).unwrap()).unwrap();

    original.edit_config(SIMPLE, COMPUTED);
    let path = original
        .root()
        .join(format!("runs_base_dir/configs/runs/{RUN}.yaml"));
    let imported = dacapo::original::import(&path, None).unwrap().remove(0);
    assert_eq!(imported.problems, Vec::<String>::new());
    assert!(
        imported
            .notes
            .iter()
            .any(|note| note.contains("ids are kept apart"))
    );
    let mut config = imported.config.unwrap();
    let found = serde_json::to_value(&config.data).unwrap();
    let raw = format!("{}/instance.zarr/train/crop1/raw", data.display());
    let labels = format!("{}/instance.zarr/train/crop1/labels", data.display());
    let size = |n: f64| serde_json::json!([n, n, n]);
    assert_eq!(
        found["train"][0],
        serde_json::json!({
            "name": "a",
            "raw": {
                "source": {
                    "source": raw, "crop": { "offset": [0, 0, 0], "shape": [400, 400, 400] },
                },
                "intensities": { "min": 0.0, "max": 255.0, "clip": false },
            },
            "labels": { "merge": [labels, labels] },
            "mask": { "any": [{ "concat": [{ "ones": labels }, { "constant": 0.0 }] }] },
            "roi": null,
            "weight": 2.0,
        })
    );
    let second = &found["train"][1];
    let coarse = serde_json::json!({
        "source": raw, "resample": { "voxel_size": size(8.0), "order": 1 },
    });
    assert_eq!(
        second["raw"].to_string().replace(".0", ""),
        serde_json::json!({
            "source": { "source": coarse, "resample": { "voxel_size": size(4.0), "order": 0 } },
            "intensities": { "min": 10.0, "max": 200.0, "clip": false },
        })
        .to_string()
        .replace(".0", "")
    );
    assert_eq!(
        second["labels"],
        serde_json::json!({
            "sum": [{ "source": labels, "binarize": [[1]] }, { "constant": 0.0, "like": labels }],
        })
    );
    assert_eq!(
        second["mask"],
        serde_json::json!({
            "source": annotated.to_string(), "annotated": { "groups": [[1]], "missing": [2] },
        })
    );
    assert!(second["sample_points"].is_array());
    // What each made 0 and 1 of is said there, so that all have one range.
    assert_eq!(found["intensity"], serde_json::json!({ "min": -0.5, "max": 0.5 }));
    // It trains. Sums are of one type, which constants and binarised labels are not there.
    config.data.train[1].labels = config.data.train[0].labels.clone();
    config.num_iterations = 1;
    train(
        &original.store(),
        &config,
        &engine(),
        &(),
        &TrainOptions::default(),
    )
    .unwrap();
}

#[test]
fn arrays_without_a_counterpart_are_told() {
    let imported = |from: &str, to: &str| {
        let original = Original::new();
        original.label();
        original.edit_config(SIMPLE, &COMPUTED.replace(from, to));
        let path = original
            .root()
            .join(format!("runs_base_dir/configs/runs/{RUN}.yaml"));
        let imported = dacapo::original::import(&path, None).unwrap().remove(0);
        assert!(imported.config.is_none());
        imported.problems.join("\n")
    };
    // What other arrays are made of as well.
    let dvid = "    raw_config: &raw
      __type__: DVIDArrayConfig
      name: remote
      source: !!python/tuple
      - emdata1:8000
      - a1b2
      - grayscale
    sample_points: null
    weight: 2
";
    let begin = COMPUTED.find("    raw_config:").unwrap();
    let end =
        COMPUTED.find("  - __type__: RawGTDatasetConfig\n    gt_config:\n      __type__: SumArrayConfig");
    let text = imported(&COMPUTED[begin..end.unwrap()], dvid);
    assert!(
        text.contains(
            "train_configs[0].raw_config: [\"emdata1:8000\",\"a1b2\",\"grayscale\"] is on a DVID server"
        ),
        "{text}"
    );
    let text = imported(
        "          - first\n          - - 1\n        name: first",
        "          - first\n          - - 1\n        - !!python/tuple\n          - all\n          - []\n        name: first",
    );
    assert!(text.contains("classes that exclude each other"), "{text}");
    let text = imported("data/cells.zarr", "data/nothing.zarr");
    assert!(text.contains("data/nothing.zarr is not there"), "{text}");
}

#[test]
fn an_imported_run_trains_and_predicts_what_the_original_predicted() {
    let original = Original::new();
    original.label();
    let imported = dacapo::original::import(&original.root(), None).unwrap();
    assert_eq!(imported.len(), 1);
    let mut config = imported[0].config.clone().unwrap();
    config.num_iterations = 2;
    config.validation.untrained = true;
    let checkpoint = original
        .root()
        .join(format!("runs_base_dir/{RUN}/checkpoints/iterations/10"));
    config.start = Some(dacapo::config::StartConfig::File(dacapo::config::StartFile {
        file: checkpoint.to_string_lossy().into_owned(),
    }));
    let store = original.store();
    train(&store, &config, &engine(), &(), &TrainOptions::default()).unwrap();
    assert_eq!(store.weights.iterations(RUN).unwrap(), [0, 2]);
    let adopted = Original::new();
    adopted.adopt(&AdoptOptions::default()).unwrap();
    let model = |store: &LocalStore, iteration| {
        let (tensors, _) = load_checkpoint(&store.weights.load(RUN, iteration).unwrap()).unwrap();
        let model = tensors
            .into_iter()
            .filter(|tensor| tensor.name.starts_with("model/"));
        model.collect::<Vec<_>>()
    };
    assert_eq!(
        model(&store, 0),
        model(&adopted.store(), 10),
        "both ways take the same weights"
    );
}

#[test]
fn what_is_no_run_config_is_not_imported() {
    let original = Original::new();
    let configs = original.root().join("runs_base_dir/configs");
    let error = dacapo::original::import(&configs.join("tasks/affs.yaml"), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it is a AffinitiesTaskConfig, a part of run configs"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(dacapo::original::import(empty.path(), None).is_err());
    // A folder of run configs is as good as a base directory; data that is not there is told.
    let folder = empty.path().join("mine");
    fs::create_dir(&folder).unwrap();
    fs::copy(configs.join(format!("runs/{RUN}.yaml")), folder.join("a.yaml")).unwrap();
    fs::copy(configs.join("tasks/affs.yaml"), folder.join("b.yaml")).unwrap();
    let imported = dacapo::original::import(&folder, None).unwrap();
    assert_eq!(imported.len(), 1);
    assert!(
        imported[0].config.is_none() && imported[0].problems[0].contains("data/instance.zarr is not there")
    );
    let imported = dacapo::original::import(&folder, Some(&original.root())).unwrap();
    assert_eq!(imported[0].config.as_ref().unwrap().name, "a");
}
