//! How a run begins and when it ends: weights that are there already, early stopping, and what TensorBoard gets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{Watch, config, losses, run};
use dacapo::config::{EarlyStopping, NamedIteration, StartConfig, StartFile, StartIteration, StartRun};
use dacapo::nn::{NamedTensor, load_checkpoint};
use dacapo::store::WeightsStore;
use dacapo::{Event, LocalStore, RunConfig, RunState, Started, TrainOutcome, summary};

/// A run that cannot get better: its weights hardly change.
fn standing(dir: &Path, patience: u64) -> RunConfig {
    let mut config = config(dir);
    config.num_iterations = 20;
    config.validation.interval = 2;
    config.trainer.optimizer.learning_rate = 1e-30;
    config.trainer.early_stopping = Some(EarlyStopping {
        patience,
        criterion: None,
    });
    config
}

#[test]
fn a_run_that_gets_no_better_stops_and_stays_done() {
    let dir = tempfile::tempdir().unwrap();
    let config = standing(dir.path(), 2);
    let store = LocalStore::new(dir.path().join("runs"));
    let watch = Watch::default();
    let outcome = run(&store, &config, &watch).unwrap();
    assert_eq!(outcome, TrainOutcome::Finished { iteration: 6 });
    let events = watch.events.lock().unwrap();
    let stopped = events.iter().find_map(|event| match event {
        Event::StoppedEarly {
            iteration,
            best,
            validations,
            ..
        } => Some((*iteration, *best, *validations)),
        _ => None,
    });
    assert_eq!(stopped, Some((6, 2, 2)));
    drop(events);
    assert_eq!(summary(&store, "small").unwrap().state, RunState::Finished);
    // Asked again, it has nothing to do.
    assert_eq!(
        run(&store, &config, &()).unwrap(),
        TrainOutcome::Finished { iteration: 6 }
    );
    assert_eq!(losses(&store, "small").len(), 6);
}

#[test]
fn a_run_that_was_interrupted_stops_where_one_that_was_not_does() {
    let dir = tempfile::tempdir().unwrap();
    let config = standing(dir.path(), 2);
    let store = LocalStore::new(dir.path().join("runs"));
    for step in [1, 3, 5] {
        let watch = Watch {
            stop_after_step: Some(step),
            ..Watch::default()
        };
        let outcome = run(&store, &config, &watch).unwrap();
        assert_eq!(outcome, TrainOutcome::Interrupted { iteration: step });
        assert_eq!(summary(&store, "small").unwrap().state, RunState::Interrupted);
    }
    assert_eq!(
        run(&store, &config, &()).unwrap(),
        TrainOutcome::Finished { iteration: 6 }
    );
}

#[test]
fn patience_that_is_not_used_up_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = standing(dir.path(), 10);
    let store = LocalStore::new(dir.path().join("runs"));
    assert_eq!(
        run(&store, &config, &()).unwrap(),
        TrainOutcome::Finished { iteration: 20 }
    );
}

#[test]
fn an_unknown_criterion_to_stop_by_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = standing(dir.path(), 1);
    if let Some(stopping) = &mut config.trainer.early_stopping {
        stopping.criterion = Some("vio".to_owned());
    }
    let store = LocalStore::new(dir.path().join("runs"));
    let error = run(&store, &config, &()).unwrap_err().to_string();
    assert!(
        error.starts_with("trainer.early_stopping.criterion: unknown criterion `vio`; did you mean `voi`?"),
        "{error}"
    );
}

/// The records of an event file: lengths and checksums are checked.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    let masked = |data: &[u8]| {
        crc32c::crc32c(data)
            .rotate_right(15)
            .wrapping_add(0xa282_ead8)
            .to_le_bytes()
    };
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(rest[8..12], masked(&rest[..8]));
        let data = &rest[12..12 + length];
        assert_eq!(rest[12 + length..16 + length], masked(data));
        found.push(data.to_vec());
        rest = &rest[16 + length..];
    }
    found
}

fn event_files(store: &LocalStore, run: &str) -> Vec<(String, PathBuf)> {
    let folder = store.run_dir(run).unwrap().path().unwrap().join("tensorboard");
    let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    found.sort();
    found
}

#[test]
fn tensorboard_gets_every_step_once_and_the_scores_however_often_the_run_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.trainer.tensorboard = true;
    let store = LocalStore::new(dir.path().join("runs"));
    let watch = Watch {
        stop_after_step: Some(5),
        ..Watch::default()
    };
    run(&store, &config, &watch).unwrap();
    run(&store, &config, &()).unwrap();
    let files = event_files(&store, "small");
    let names: Vec<&str> = files
        .iter()
        .map(|(name, _)| name.trim_start_matches("events.out.tfevents."))
        .collect();
    assert_eq!(
        names,
        [
            "0000000003.training",
            "0000000005.training",
            "0000000006.training",
            "0000000006.validation",
            "0000000009.training",
            "0000000012.training",
            "0000000012.validation",
        ]
    );
    let text = |record: &[u8], part: &str| record.windows(part.len()).any(|window| window == part.as_bytes());
    let mut losses = 0;
    for (name, path) in &files {
        let records = records(path);
        assert!(text(&records[0], "brain.Event:2"));
        losses += records
            .iter()
            .filter(|record| text(record, "training/loss"))
            .count();
        if name.ends_with("validation") {
            assert!(records.iter().any(|record| text(record, "validation/back/voi")));
        }
    }
    assert_eq!(losses, 12);
}

/// The weights of a checkpoint.
fn weights(store: &LocalStore, run: &str, iteration: u64) -> Vec<NamedTensor> {
    let (mut tensors, _) = load_checkpoint(&store.weights.load(run, iteration).unwrap()).unwrap();
    tensors.retain(|tensor| tensor.name.starts_with("model/"));
    tensors
}

fn started(watch: &Watch) -> Started {
    let events = watch.events.lock().unwrap();
    let started = events.iter().find_map(|event| match event {
        Event::Started(started) => Some(started.clone()),
        _ => None,
    });
    started.unwrap()
}

fn from_run(config: &RunConfig, name: &str, iteration: StartIteration) -> RunConfig {
    let mut next = config.clone();
    name.clone_into(&mut next.name);
    next.num_iterations = 1;
    next.validation.untrained = true;
    next.start = Some(StartConfig::Run(StartRun {
        run: config.name.clone(),
        iteration,
    }));
    next
}

#[test]
fn a_run_begins_with_the_weights_of_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    for (name, iteration, number) in [
        ("number", StartIteration::Number(6), 6),
        ("latest", StartIteration::Named(NamedIteration::Latest), 12),
    ] {
        let watch = Watch::default();
        run(&store, &from_run(&config, name, iteration), &watch).unwrap();
        // The untrained network is kept as iteration 0.
        assert_eq!(weights(&store, name, 0), weights(&store, "small", number));
        let started = started(&watch);
        assert_eq!(started.taken.len(), weights(&store, "small", 6).len());
        assert!(started.left.is_empty(), "{started}");
    }
    let best = from_run(&config, "best", StartIteration::default());
    run(&store, &best, &()).unwrap();
    let zero = weights(&store, "best", 0);
    assert!(zero == weights(&store, "small", 6) || zero == weights(&store, "small", 12));
    // Going on with the run takes nothing anew.
    let mut longer = best;
    longer.num_iterations = 2;
    let watch = Watch::default();
    run(&store, &longer, &watch).unwrap();
    assert!(
        !watch
            .events
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, Event::Started(_)))
    );
    // What is not there is said before anything is written.
    let missing = from_run(&config, "missing", StartIteration::Number(7));
    let error = run(&store, &missing, &()).unwrap_err().to_string();
    assert!(error.contains("has no checkpoint of iteration 7"), "{error}");
    assert!(!dir.path().join("runs/missing").exists());
}

#[test]
fn heads_meet_by_the_names_of_their_channels_and_other_tensors_by_shape() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let mut next = from_run(&config, "next", StartIteration::Named(NamedIteration::Latest));
    // Two of the six channels, in another order, and one that is new.
    next.task = serde_json::from_value(serde_json::json!({
        "kind": "affinities", "neighborhood": [[0, 0, -1], [-2, 0, 0], [-1, 0, 0]],
    }))
    .unwrap();
    let watch = Watch::default();
    run(&store, &next, &watch).unwrap();
    let started = started(&watch);
    assert_eq!(started.channels.len(), 2, "{started}");
    let left: Vec<&str> = started.left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, ["prediction_head.weight", "prediction_head.bias"]);
    assert!(
        started.to_string().contains("only 2 of its 3 channels are there"),
        "{started}"
    );
    let of = |run: &str, iteration, name: &str| {
        let all = weights(&store, run, iteration);
        all.into_iter()
            .find(|tensor| tensor.name == format!("model/{name}"))
            .unwrap()
    };
    let (ours, theirs) = (
        of("next", 0, "prediction_head.bias"),
        of("small", 12, "prediction_head.bias"),
    );
    assert_eq!([ours.data[0], ours.data[2]], [theirs.data[2], theirs.data[0]]);
    let first = "l_conv.0.conv_pass.0.weight";
    assert_eq!(of("next", 0, first), of("small", 12, first));
    // A wider network shares hardly anything, and says so.
    let mut wide = from_run(&config, "wide", StartIteration::Named(NamedIteration::Latest));
    wide.architecture = serde_json::from_value(serde_json::json!({
        "kind": "unet", "input_shape": [16, 16, 16], "num_fmaps": 6, "fmap_inc_factor": 2,
        "downsample_factors": [[2, 2, 2]], "padding": "same", "norm": "group",
    }))
    .unwrap();
    let watch = Watch::default();
    match run(&store, &wide, &watch) {
        Ok(_) => {
            let started = self::started(&watch);
            assert!(
                started
                    .left
                    .iter()
                    .any(|(_, reason)| reason.starts_with("it has the shape")),
                "{started}"
            );
        }
        Err(error) => assert!(error.to_string().starts_with("start: "), "{error}"),
    }
}

#[test]
fn a_run_begins_with_weights_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let store = LocalStore::new(dir.path().join("runs"));
    run(&store, &config, &()).unwrap();
    let file = dir.path().join("weights.safetensors");
    std::fs::write(&file, store.weights.load("small", 12).unwrap()).unwrap();
    let from_file = |name: &str, file: &Path| {
        let mut next = from_run(&config, name, StartIteration::default());
        next.start = Some(StartConfig::File(StartFile {
            file: file.to_string_lossy().into_owned(),
        }));
        next
    };
    run(&store, &from_file("ours", &file), &()).unwrap();
    assert_eq!(weights(&store, "ours", 0), weights(&store, "small", 12));

    // A PyTorch checkpoint of the Python DaCapo, of another network.
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/original");
    let checkpoint = original.join("runs_base_dir/run_affs_none/checkpoints/iterations/10");
    let mut torch = from_file("torch", &checkpoint);
    let imported = dacapo::original::import(&original.join("runs_base_dir"), None).unwrap();
    torch.architecture = imported[0].config.as_ref().unwrap().architecture.clone();
    torch.task = imported[0].config.as_ref().unwrap().task.clone();
    let watch = Watch::default();
    run(&store, &torch, &watch).unwrap();
    let started = started(&watch);
    assert!(started.left.is_empty(), "{started}");
    assert_eq!(started.taken.len(), weights(&store, "torch", 0).len());

    let error = run(&store, &from_file("none", &dir.path().join("none.pt")), &()).unwrap_err();
    assert!(error.to_string().contains("none.pt"), "{error}");
    std::fs::write(&file, b"nothing").unwrap();
    assert!(run(&store, &from_file("torn", &file), &()).is_err());
    assert!(!dir.path().join("runs/torn").exists());
}
