//! Runs from end to end: what they keep, and that stopping them changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::fs;

use common::{Watch, config, engine, losses, run};
use dacapo::config::KeepOutputs;
use dacapo::{
    Error, Event, IterationChoice, LocalStore, PIECE_MEMORY, PredictRequest, RunState, TrainOptions,
    TrainOutcome, best, predict, runs, summary, train, validate,
};
use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData,
    Roi, ZarrArray, open_array,
};
use dacapo_store::{ArrayStore, StatsStore, WeightsStore};
use ndarray::Axis;

#[test]
fn a_run_keeps_everything_that_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path().join("runs"));
    let config = config(dir.path());
    let watch = Watch::default();
    assert_eq!(
        run(&store, &config, &watch).unwrap(),
        TrainOutcome::Finished { iteration: 12 }
    );
    assert!(watch.warnings().is_empty());

    assert_eq!(
        losses(&store, "small")
            .iter()
            .map(|(i, _)| *i)
            .collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    assert_eq!(store.weights.iterations("small").unwrap(), [3, 6, 9, 12]);
    let scores = store.stats.scores("small").unwrap();
    let mut iterations: Vec<u64> = scores.iter().map(|score| score.iteration).collect();
    iterations.dedup();
    assert_eq!(iterations, [6, 12]);
    assert!(
        scores
            .iter()
            .all(|score| score.dataset == "back" && score.scores["voi"].is_some())
    );

    // The best is the smallest of all stored scores.
    let best = best(&store, "small").unwrap();
    let voi = best.iter().find(|best| best.criterion == "voi").unwrap();
    let smallest = scores
        .iter()
        .filter_map(|score| score.scores["voi"])
        .fold(f64::INFINITY, f64::min);
    assert_eq!(voi.score, smallest);

    let arrays = &store.arrays;
    let prediction = arrays
        .open(&arrays.validation_prediction_array("small", 12, "back").unwrap())
        .unwrap();
    assert_eq!(prediction.spec().shape(), [6, 24, 40, 15]);
    assert_eq!(prediction.spec().dtype, DType::U8);
    assert_eq!(prediction.spec().roi.to_string(), "[0:192, 0:320, 200:320]");
    let values = prediction.read_as::<u8>(&prediction.spec().roi.clone()).unwrap();
    assert!(values.iter().any(|&v| v != values[[0, 0, 0, 0]]));

    let (raw, gt) = arrays.validation_input_arrays("small", Some("back")).unwrap();
    let source = open_array(
        &config.data.validate[0]
            .labels
            .to_string()
            .parse::<ArrayAddress>()
            .unwrap(),
        &Access::default(),
    )
    .unwrap();
    let gt = arrays.open(&gt).unwrap();
    assert_eq!(gt.read_all().unwrap(), source.read(&gt.spec().roi).unwrap());
    assert_eq!(arrays.open(&raw).unwrap().spec().roi, gt.spec().roi);

    // The best segmentation stands in its own place too.
    let output = arrays
        .validation_output_array("small", voi.iteration, &voi.parameters, "back")
        .unwrap();
    let of_best = arrays
        .best_validation_array("small", "voi", Some("back"))
        .unwrap();
    let output = arrays.open(&output).unwrap().read_all().unwrap();
    assert_eq!(arrays.open(&of_best).unwrap().read_all().unwrap(), output);

    let container = arrays.snapshot_container("small").unwrap();
    for iteration in [1, 6, 12] {
        for (name, shape) in [
            ("raw", &[16, 16, 16][..]),
            ("gt", &[16, 16, 16]),
            ("target", &[6, 16, 16, 16]),
            ("weight", &[6, 16, 16, 16]),
            ("prediction", &[6, 16, 16, 16]),
        ] {
            let array = container
                .array_identifier(&format!("{iteration}/volumes/{name}"))
                .unwrap();
            assert_eq!(arrays.open(&array).unwrap().spec().shape(), shape, "{name}");
        }
    }

    let found = runs(&store).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].iterations, found[0].total, &found[0].state),
        (12, 12, &RunState::Finished)
    );
    assert!(found[0].bytes > 10_000 && found[0].problem.is_none());

    // Again: nothing to do, and nothing is done twice.
    let before = losses(&store, "small");
    assert_eq!(
        run(&store, &config, &()).unwrap(),
        TrainOutcome::Finished { iteration: 12 }
    );
    assert_eq!(losses(&store, "small"), before);
    assert_eq!(store.stats.scores("small").unwrap().len(), scores.len());
}

#[test]
fn stopping_anywhere_changes_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let whole = LocalStore::new(dir.path().join("whole"));
    run(&whole, &config, &()).unwrap();
    for stop in [1, 3, 5, 6, 11] {
        let store = LocalStore::new(dir.path().join(format!("stopped{stop}")));
        let watch = Watch {
            stop_after_step: Some(stop),
            ..Watch::default()
        };
        assert_eq!(
            run(&store, &config, &watch).unwrap(),
            TrainOutcome::Interrupted { iteration: stop }
        );
        assert_eq!(summary(&store, "small").unwrap().state, RunState::Interrupted);
        assert_eq!(
            run(&store, &config, &()).unwrap(),
            TrainOutcome::Finished { iteration: 12 }
        );
        assert_eq!(
            losses(&store, "small"),
            losses(&whole, "small"),
            "stopped after {stop}"
        );
        let values = |store: &LocalStore| -> Vec<_> {
            let scores = store.stats.scores("small").unwrap();
            scores
                .into_iter()
                .map(|s| (s.iteration, s.parameters, s.scores))
                .collect()
        };
        assert_eq!(values(&store), values(&whole), "stopped after {stop}");
        let weights = |store: &LocalStore| store.weights.load("small", 12).unwrap();
        assert!(weights(&store) == weights(&whole));
    }
}

/// With several batches a step, averaged weights, dropout and values that are computed again.
#[test]
fn stopping_changes_nothing_whatever_the_trainer_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let whole = LocalStore::new(dir.path().join("plain"));
    run(&whole, &config, &()).unwrap();
    let plain = losses(&whole, "small");
    config.trainer.accumulate = 2;
    config.trainer.ema = Some(0.9);
    config.trainer.recompute = true;
    let dacapo::config::ArchitectureConfig::Unet(unet) = &mut config.architecture;
    unet.dropout = 0.1;
    let whole = LocalStore::new(dir.path().join("whole"));
    run(&whole, &config, &()).unwrap();
    assert_eq!(losses(&whole, "small").len(), plain.len());
    assert_ne!(losses(&whole, "small"), plain);
    let store = LocalStore::new(dir.path().join("stopped"));
    for stop in [2, 7] {
        let watch = Watch {
            stop_after_step: Some(stop),
            ..Watch::default()
        };
        run(&store, &config, &watch).unwrap();
    }
    run(&store, &config, &()).unwrap();
    assert_eq!(losses(&store, "small"), losses(&whole, "small"));
    let weights = |store: &LocalStore| store.weights.load("small", 12).unwrap();
    assert!(weights(&store) == weights(&whole));
    let scores = |store: &LocalStore| {
        let scores = store.stats.scores("small").unwrap().into_iter();
        scores.map(|s| (s.iteration, s.scores)).collect::<Vec<_>>()
    };
    assert_eq!(scores(&store), scores(&whole));
}

#[test]
fn a_validation_that_was_interrupted_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    let watch = Watch {
        stop_in_validation: true,
        ..Watch::default()
    };
    assert_eq!(
        run(&store, &config, &watch).unwrap(),
        TrainOutcome::Interrupted { iteration: 6 }
    );
    assert!(store.stats.scores("small").unwrap().is_empty());
    run(&store, &config, &()).unwrap();
    let mut iterations: Vec<u64> = store
        .stats
        .scores("small")
        .unwrap()
        .iter()
        .map(|s| s.iteration)
        .collect();
    iterations.dedup();
    assert_eq!(iterations, [6, 12]);
}

#[test]
fn a_truncated_checkpoint_is_passed_over_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let before = losses(&store, "small");
    let path = store.weights.path("small", 12).unwrap();
    let path = path.path().unwrap();
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    let watch = Watch::default();
    run(&store, &config, &watch).unwrap();
    let warnings = watch.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("iteration 12") && warnings[0].contains("the one before"),
        "{warnings:?}"
    );
    let steps = watch
        .events
        .lock()
        .unwrap()
        .iter()
        .filter(|e| matches!(e, Event::Step { .. }))
        .count();
    assert_eq!(steps, 3, "from 9 on");
    assert_eq!(losses(&store, "small"), before);
    assert!(fs::read(path).unwrap() == bytes);
}

#[test]
fn more_iterations_continue_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    config.num_iterations = 15;
    let watch = Watch::default();
    assert_eq!(
        run(&store, &config, &watch).unwrap(),
        TrainOutcome::Finished { iteration: 15 }
    );
    assert!(
        watch
            .events
            .lock()
            .unwrap()
            .iter()
            .any(|e| matches!(e, Event::TrainingStarted { iteration: 12, .. }))
    );
    assert_eq!(losses(&store, "small").len(), 15);
    assert_eq!(summary(&store, "small").unwrap().total, 15);
}

#[test]
fn inputs_are_kept_anew_when_their_source_changed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let (raw, _) = store
        .arrays
        .validation_input_arrays("small", Some("back"))
        .unwrap();
    let kept = store.arrays.open(&raw).unwrap().read_all().unwrap();

    let made = dir.path().join("made.zarr");
    fs::remove_dir_all(&made).unwrap();
    let mut recipe = config.data.synthetic.clone().unwrap();
    recipe.seed = 99;
    dacapo::synthetic::write_if_missing(&recipe, &Access::default()).unwrap();
    let found = validate(&store, "small", Some(12), &engine(), &()).unwrap();
    assert_eq!((found[0].iteration, found[0].dataset.as_str()), (12, "back"));
    assert_ne!(store.arrays.open(&raw).unwrap().read_all().unwrap(), kept);
    // Scores of the same iteration are replaced, not added up.
    let stored = store.stats.scores("small").unwrap();
    let last = stored.last().unwrap();
    assert_eq!(last.scores, found[0].scores.last().unwrap().1);
}

#[test]
#[cfg(unix)]
fn runs_share_an_input_and_a_damaged_one_is_kept_anew() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.num_iterations = 1;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    config.name = "second".to_owned();
    run(&store, &config, &()).unwrap();
    let raw = |run: &str| {
        let arrays = store.arrays.validation_input_arrays(run, Some("back"));
        arrays.unwrap().0
    };
    let chunk = |run: &str| raw(run).location().path().unwrap().join("0/0/0");
    let inode = |run: &str| fs::metadata(chunk(run)).unwrap().ino();
    assert_eq!(inode("small"), inode("second"));

    // Damage reaches both, and mending one leaves the other as it is.
    let sound = store.arrays.open(&raw("small")).unwrap().read_all().unwrap();
    fs::write(chunk("second"), "no chunk").unwrap();
    validate(&store, "second", Some(1), &engine(), &()).unwrap();
    let mended = store.arrays.open(&raw("second")).unwrap().read_all().unwrap();
    assert_eq!(mended, sound);
    assert_eq!(fs::read(chunk("small")).unwrap(), b"no chunk");
}

#[test]
fn all_outputs_are_kept_if_asked_or_only_the_best_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let base = config(dir.path());
    for keep in [KeepOutputs::All, KeepOutputs::BestOverall] {
        let mut config = base.clone();
        config.validation.keep_outputs = keep;
        let store = LocalStore::new(dir.path().join(format!("{keep:?}")));
        run(&store, &config, &()).unwrap();
        let best = best(&store, "small").unwrap();
        let best = best.iter().find(|best| best.criterion == "voi").unwrap();
        for score in store.stats.scores("small").unwrap() {
            let array =
                store
                    .arrays
                    .validation_output_array("small", score.iteration, &score.parameters, "back");
            let is_best = (score.iteration, &score.parameters) == (best.iteration, &best.parameters);
            let expected = keep == KeepOutputs::All || is_best;
            assert_eq!(
                store.arrays.exists(&array.unwrap()).unwrap(),
                expected,
                "{keep:?} {score:?}"
            );
        }
    }
}

#[test]
fn prediction_of_a_part_equals_that_of_the_whole_away_from_its_border() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.architecture = serde_json::from_value(serde_json::json!({
        "kind": "unet", "input_shape": [20, 20, 20], "num_fmaps": 4, "fmap_inc_factor": 2,
        "downsample_factors": [[2, 2, 2]], "padding": "valid"
    }))
    .unwrap();
    config.data.validate.clear();
    config.num_iterations = 2;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let input: ArrayAddress = config.data.train[0].raw.to_string().parse().unwrap();
    let request = |name: &str, roi: Option<Roi>| PredictRequest {
        input: input.to_string().into(),
        output: format!("{}/{name}.zarr/affinities", dir.path().display())
            .parse()
            .unwrap(),
        iteration: IterationChoice::Latest,
        roi,
        overwrite: false,
        memory: PIECE_MEMORY,
        format: dacapo_array::ZarrFormat::V3,
    };
    let whole = request("whole", None);
    let done = predict(&store, "small", &whole, &engine(), &()).unwrap();
    assert_eq!((done.iteration, &done.shape[..]), (2, &[6, 24, 40, 40][..]));
    // Valid networks have no seams: a part has the same values, however it is cut into blocks, if it begins a
    // multiple of the pooling away.
    let roi = Roi::new(Coordinate::new([16, 48, 16]), Coordinate::new([96, 200, 280]));
    let part = PredictRequest {
        memory: 0,
        ..request("part", Some(roi.clone()))
    };
    predict(&store, "small", &part, &engine(), &()).unwrap();
    let (whole_array, part_array) = (
        open_array(&whole.output, &Access::default()).unwrap(),
        open_array(&part.output, &Access::default()).unwrap(),
    );
    assert_eq!(part_array.spec().roi, roi);
    let (expected, found) = (
        whole_array.read_as::<u8>(&roi).unwrap(),
        part_array.read_as::<u8>(&roi).unwrap(),
    );
    let differ = expected
        .iter()
        .zip(&found)
        .filter(|(a, b)| a.abs_diff(**b) > 1)
        .count();
    assert_eq!(differ, 0);

    assert!(
        matches!(
            predict(&store, "small", &whole, &engine(), &()),
            Err(Error::Array(_))
        ),
        "it is there already"
    );
    let apart = request(
        "apart",
        Some(Roi::new(Coordinate::splat(3, 9000), Coordinate::splat(3, 80))),
    );
    assert!(matches!(
        predict(&store, "small", &apart, &engine(), &()),
        Err(Error::RoiApart { .. })
    ));
    let best = PredictRequest {
        iteration: IterationChoice::Best,
        ..request("best", None)
    };
    assert!(matches!(
        predict(&store, "small", &best, &engine(), &()),
        Err(Error::NoCheckpoint { .. })
    ));
}

#[test]
fn images_are_trained_on_like_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let made = dacapo::synthetic::generate(&config.data.synthetic.take().unwrap());
    let size = Coordinate::splat(2, 8);
    let write = |name: &str, data: NdData| {
        let roi = Roi::from_voxels(&[3, 5], data.shape(), &size);
        let spec = ArraySpec::new(roi.clone(), size.clone(), data.dtype());
        let address: ArrayAddress = format!("{}/image.zarr/{name}", dir.path().display())
            .parse()
            .unwrap();
        ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default())
            .unwrap()
            .write(&roi, &data)
            .unwrap();
        address.to_string()
    };
    let raw = write("raw", NdData::U8(made.raw.index_axis_move(Axis(0), 0).into_dyn()));
    let labels = write(
        "labels",
        NdData::U64(made.labels.index_axis_move(Axis(0), 0).into_dyn()),
    );
    for dataset in config.data.train.iter_mut().chain(&mut config.data.validate) {
        (dataset.raw, dataset.labels, dataset.roi) = (raw.clone().into(), labels.clone().into(), None);
    }
    config.task = serde_json::from_value(serde_json::json!({
        "kind": "affinities", "neighborhood": [[-1, 0], [0, -1], [-3, 0], [0, -3]]
    }))
    .unwrap();
    config.architecture = serde_json::from_value(serde_json::json!({
        "kind": "unet", "input_shape": [16, 16], "num_fmaps": 4, "fmap_inc_factor": 2,
        "downsample_factors": [[2, 2]], "padding": "same"
    }))
    .unwrap();
    config.trainer.batch_size = 2;
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let prediction = store
        .arrays
        .validation_prediction_array("small", 12, "back")
        .unwrap();
    let prediction = store.arrays.open(&prediction).unwrap();
    assert_eq!(prediction.spec().shape(), [4, 40, 40]);
    assert_eq!(prediction.spec().roi.to_string(), "[24:344, 40:360]");
    let (_, gt) = store
        .arrays
        .validation_input_arrays("small", Some("back"))
        .unwrap();
    assert_eq!(store.arrays.open(&gt).unwrap().spec().shape(), [40, 40]);
    let snapshot = store.arrays.snapshot_container("small").unwrap();
    let target = snapshot.array_identifier("12/volumes/target").unwrap();
    assert_eq!(store.arrays.open(&target).unwrap().spec().shape(), [2, 4, 16, 16]);
}

#[test]
fn a_run_has_one_trainer() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    let lease = store.lease("small").unwrap();
    let error = run(&store, &config, &()).unwrap_err();
    assert!(
        matches!(error, Error::Store(dacapo_store::Error::Held { .. })),
        "{error}"
    );
    drop(lease);
    let options = TrainOptions {
        as_new: Some("other".to_owned()),
    };
    train(&store, &config, &engine(), &(), &options).unwrap();
    assert_eq!(
        runs(&store)
            .unwrap()
            .iter()
            .map(|run| run.name.as_str())
            .collect::<Vec<_>>(),
        ["other"]
    );
}
