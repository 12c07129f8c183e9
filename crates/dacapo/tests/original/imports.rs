//! Its run configs alone, in our words.

use std::fs;

use dacapo::LocalStore;
use dacapo::array::storage::Access;
use dacapo::array::{ArrayAddress, ArrayRead, ArrayWrite, CreateOptions, ZarrArray};
use dacapo::nn::load_checkpoint;
use dacapo::original::{AdoptOptions, import};
use dacapo::store::WeightsStore;

use crate::{Original, RUN};

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
    let imported = original.import();
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
pub const SIMPLE: &str = "  __type__: SimpleDataSplitConfig
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
    let labels = original.labels();
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
    let imported = original.import();
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
    original.train(&config);
}

#[test]
fn arrays_without_a_counterpart_are_told() {
    let imported = |from: &str, to: &str| {
        let original = Original::new();
        original.label();
        original.edit_config(SIMPLE, &COMPUTED.replace(from, to));
        let imported = original.import();
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
    let imported = import(&original.root(), None).unwrap();
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
    original.train(&config);
    let store = original.store();
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
    let error = import(&configs.join("tasks/affs.yaml"), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it is a AffinitiesTaskConfig, a part of run configs"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(import(empty.path(), None).is_err());
    // A folder of run configs is as good as a base directory; data that is not there is told.
    let folder = empty.path().join("mine");
    fs::create_dir(&folder).unwrap();
    fs::copy(configs.join(format!("runs/{RUN}.yaml")), folder.join("a.yaml")).unwrap();
    fs::copy(configs.join("tasks/affs.yaml"), folder.join("b.yaml")).unwrap();
    let imported = import(&folder, None).unwrap();
    assert_eq!(imported.len(), 1);
    assert!(
        imported[0].config.is_none() && imported[0].problems[0].contains("data/instance.zarr is not there")
    );
    let imported = import(&folder, Some(&original.root())).unwrap();
    assert_eq!(imported[0].config.as_ref().unwrap().name, "a");
}
