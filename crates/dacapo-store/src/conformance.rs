//! What every implementation of a store must do, as suites that panic where one does not. Each suite takes an
//! empty store, and leaves it as it likes. What only one implementation promises is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a suite is a test: it ends where the contract is broken"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use dacapo_array::storage::{Access, MemoryStorage};
use dacapo_array::{ArrayRead, ArraySpec, ArrayWrite, Coordinate, CreateOptions, DType, NdData, Roi};
use ndarray::ArrayD;

use crate::{
    ArrayStore, ConfigStore, Error, LocalArrayIdentifier, LocalStore, Removed, StatsStore, TrainingStat,
    ValidationScore, WeightsStore,
};

/// Names that are no runs, whatever the store.
const NO_RUNS: [&str; 9] = ["", ".", "..", "a/b", "../a", "/a", "a\0", ".hidden", "configs"];

/// A small array in world units that are no voxels.
fn spec() -> ArraySpec {
    let roi = Roi::new(Coordinate::new([40, 0, -8]), Coordinate::new([20, 32, 64]));
    ArraySpec::new(roi, Coordinate::new([10, 8, 4]), DType::U8)
}

/// The stores at a `memory://m/…`, and nothing in them.
pub fn in_memory(base: &str) -> LocalStore {
    let access = Access::default().with_memory("m", Arc::new(MemoryStorage::new("m")));
    LocalStore::open(&base.parse().unwrap(), &access).unwrap()
}

/// All suites, over the stores at each of four bases.
pub fn stores(at: &dyn Fn(&str) -> LocalStore) {
    array_store(&at("arrays").arrays);
    config_store(&at("configs-of-runs").configs);
    stats_store(&at("records").stats);
    weights_store(&at("weights").weights);
}

pub fn array_store(store: &dyn ArrayStore) {
    let prediction = store.validation_prediction_array("run", 10, "crop").unwrap();
    let again = store.validation_prediction_array("run", 10, "crop").unwrap();
    assert_eq!(prediction, again);
    assert_eq!(
        prediction.to_string().parse::<LocalArrayIdentifier>().unwrap(),
        prediction
    );
    assert!(!store.exists(&prediction).unwrap(), "an identifier makes nothing");
    assert_eq!(store.remove(&prediction).unwrap(), Removed::Missing);
    assert!(store.open(&prediction).is_err());

    // Written, found, opened, replaced only when asked for.
    let (spec, options) = (spec(), CreateOptions::default());
    let array = store.create(&prediction, &spec, &options).unwrap();
    let ones = NdData::U8(ArrayD::from_elem(spec.shape(), 1));
    array.write(&spec.roi, &ones).unwrap();
    assert!(store.exists(&prediction).unwrap());
    let opened = store.open(&prediction).unwrap();
    assert_eq!(opened.spec().roi, spec.roi);
    assert_eq!(opened.read(&spec.roi).unwrap(), ones);
    assert!(matches!(
        store.create(&prediction, &spec, &options),
        Err(Error::Array(_))
    ));
    assert_eq!(store.open(&prediction).unwrap().read(&spec.roi).unwrap(), ones);
    store
        .create(
            &prediction,
            &spec,
            &CreateOptions {
                overwrite: true,
                ..options.clone()
            },
        )
        .unwrap();
    let zeros = NdData::U8(ArrayD::zeros(spec.shape()));
    assert_eq!(store.open(&prediction).unwrap().read(&spec.roi).unwrap(), zeros);

    // What is being made is found once it is published, in place of what was there.
    let replace = CreateOptions {
        overwrite: true,
        ..options.clone()
    };
    let draft = store.draft(&prediction, &spec, &replace).unwrap();
    draft.write(&spec.roi, &ones).unwrap();
    assert_eq!(store.open(&prediction).unwrap().read(&spec.roi).unwrap(), zeros);
    assert_eq!(draft.publish().unwrap().read(&spec.roi).unwrap(), ones);
    assert_eq!(store.open(&prediction).unwrap().read(&spec.roi).unwrap(), ones);
    drop(store.draft(&prediction, &spec, &replace).unwrap());
    assert_eq!(store.open(&prediction).unwrap().read(&spec.roi).unwrap(), ones);
    let (raw, _) = store.validation_input_arrays("dropped", None).unwrap();
    drop(store.draft(&raw, &spec, &options).unwrap());
    assert!(!store.exists(&raw).unwrap());

    // Every identifier has its place, whatever the names.
    let names = [
        "a",
        "a/b",
        "..",
        "inputs",
        "raw",
        "10",
        "WatershedPostProcessorParameters(id=2)",
        "\u{fc}",
        "u\u{308}",
    ];
    let mut made = vec![prediction.clone()];
    for name in names {
        let (raw, gt) = store.validation_input_arrays("run", Some(name)).unwrap();
        let best = store.best_validation_array("run", "voi", Some(name)).unwrap();
        let output = store.validation_output_array("run", 10, name, "crop").unwrap();
        made.extend([raw, gt, best, output]);
    }
    let (raw, gt) = store.validation_input_arrays("run", None).unwrap();
    made.extend([
        raw,
        gt,
        store
            .snapshot_container("run")
            .unwrap()
            .array_identifier("10/raw")
            .unwrap(),
    ]);
    for array in &made[1..] {
        store.create(array, &spec, &options).unwrap();
    }
    assert!(made.iter().all(|array| store.exists(array).unwrap()));

    // What would meet something else is not created.
    let group = store
        .validation_container("run")
        .unwrap()
        .array_identifier("10/crop")
        .unwrap();
    let inside = store
        .validation_container("run")
        .unwrap()
        .array_identifier("10/crop/prediction/0")
        .unwrap();
    let twin = store.validation_prediction_array("run", 10, "Crop").unwrap();
    assert!(matches!(
        store.create(&group, &spec, &options),
        Err(Error::Refused { .. })
    ));
    assert!(matches!(
        store.create(&inside, &spec, &options),
        Err(Error::Refused { .. })
    ));
    assert!(matches!(
        store.create(&twin, &spec, &options),
        Err(Error::Twin { .. })
    ));

    // Removing takes one array, and nothing that is none.
    assert!(matches!(store.remove(&group), Err(Error::Refused { .. })));
    assert!(matches!(store.remove(&inside), Err(Error::Refused { .. })));
    assert_eq!(store.remove(&prediction).unwrap(), Removed::Removed);
    assert_eq!(store.remove(&prediction).unwrap(), Removed::Missing);
    assert!(made[1..].iter().all(|array| store.exists(array).unwrap()));
    store.create(&prediction, &spec, &options).unwrap();

    for name in NO_RUNS {
        assert!(
            matches!(store.validation_container(name), Err(Error::Name { .. })),
            "{name:?}"
        );
        assert!(
            matches!(
                store.validation_prediction_array(name, 0, "a"),
                Err(Error::Name { .. })
            ),
            "{name:?}"
        );
    }
    assert!(matches!(
        store.validation_prediction_array("run", 0, ""),
        Err(Error::Name { .. })
    ));
    assert!(matches!(
        store.best_validation_array("run", "", None),
        Err(Error::Name { .. })
    ));
}

pub fn config_store(store: &dyn ConfigStore) {
    assert!(store.runs().unwrap().is_empty());
    assert_eq!(store.load_run("run").unwrap(), None);

    let yaml = "name: run\nnum_iterations: 10\n# kept as it is: \u{e4}\n";
    store.store_run("run", yaml).unwrap();
    store.store_run("run", yaml).unwrap();
    assert_eq!(store.load_run("run").unwrap().as_deref(), Some(yaml));

    assert!(matches!(
        store.store_run("run", "name: other\n"),
        Err(Error::Differs { .. })
    ));
    assert_eq!(store.load_run("run").unwrap().as_deref(), Some(yaml));
    store.replace_run("run", "name: other\n").unwrap();
    assert_eq!(store.load_run("run").unwrap().as_deref(), Some("name: other\n"));

    store.store_run("a run (2)", "").unwrap();
    assert_eq!(store.runs().unwrap(), ["a run (2)", "run"]);
    assert!(matches!(store.store_run("Run", yaml), Err(Error::Twin { .. })));
    for name in NO_RUNS {
        assert!(
            matches!(store.store_run(name, yaml), Err(Error::Name { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.load_run(name), Err(Error::Name { .. })),
            "{name:?}"
        );
    }
    assert_eq!(store.runs().unwrap().len(), 2);
}

pub fn stats_store(store: &dyn StatsStore) {
    let stat = |iteration| TrainingStat {
        iteration,
        loss: 0.1 + 0.2 / (iteration + 1) as f64,
        time: 1e-3,
    };
    assert!(store.training("run").unwrap().is_empty() && store.scores("run").unwrap().is_empty());
    store.truncate_after("run", 3).unwrap();

    store.append_training("run", &[]).unwrap();
    store.append_training("run", &[stat(0), stat(1)]).unwrap();
    store.append_training("run", &[stat(2)]).unwrap();
    store.append_training("other", &[stat(5)]).unwrap();
    assert_eq!(store.training("run").unwrap(), [stat(0), stat(1), stat(2)]);

    let score = |iteration, dataset: &str, voi| ValidationScore {
        iteration,
        dataset: dataset.to_owned(),
        parameters: "agglomerate(threshold=0.6)".to_owned(),
        scores: BTreeMap::from([("voi".to_owned(), voi), ("voi_split".to_owned(), None)]),
        time: 2.5,
        counted_by: (iteration == 2).then(|| "another".to_owned()),
    };
    let scores = [score(1, "crop \"1\"\n", Some(1.0 / 3.0)), score(2, "crop2", None)];
    store.append_scores("run", &scores).unwrap();
    assert_eq!(store.scores("run").unwrap(), scores);

    // Resuming after iteration 1 forgets what was done later, and goes on.
    store.truncate_after("run", 1).unwrap();
    assert_eq!(store.training("run").unwrap(), [stat(0), stat(1)]);
    assert_eq!(store.scores("run").unwrap(), scores[..1]);
    store.truncate_after("run", 1).unwrap();
    store.append_training("run", &[stat(2)]).unwrap();
    assert_eq!(store.training("run").unwrap(), [stat(0), stat(1), stat(2)]);
    assert_eq!(store.training("other").unwrap(), [stat(5)]);

    // A loss that is none is kept as one.
    store
        .append_training(
            "run",
            &[TrainingStat {
                loss: f64::NAN,
                ..stat(3)
            }],
        )
        .unwrap();
    assert!(store.training("run").unwrap()[3].loss.is_nan());
    for name in NO_RUNS {
        assert!(
            matches!(store.append_training(name, &[]), Err(Error::Name { .. })),
            "{name:?}"
        );
        assert!(matches!(store.scores(name), Err(Error::Name { .. })), "{name:?}");
    }
}

pub fn weights_store(store: &dyn WeightsStore) {
    assert!(store.iterations("run").unwrap().is_empty());
    assert!(matches!(store.load("run", 1), Err(Error::NoWeights { .. })));
    assert_eq!(store.remove("run", 1).unwrap(), Removed::Missing);

    for iteration in [100, 20, 3, 0, u64::MAX] {
        store
            .store("run", iteration, format!("weights of {iteration}").as_bytes())
            .unwrap();
    }
    assert_eq!(store.iterations("run").unwrap(), [0, 3, 20, 100, u64::MAX]);
    assert_eq!(store.load("run", 20).unwrap(), b"weights of 20");
    store.store("run", 20, b"").unwrap();
    assert_eq!(store.load("run", 20).unwrap(), b"");

    assert_eq!(store.remove("run", 20).unwrap(), Removed::Removed);
    assert_eq!(store.remove("run", 20).unwrap(), Removed::Missing);
    let Err(Error::NoWeights { there, .. }) = store.load("run", 20) else {
        panic!("removed, and still there")
    };
    assert_eq!(there, [0, 3, 100, u64::MAX]);
    assert!(store.iterations("other").unwrap().is_empty());
    for name in NO_RUNS {
        assert!(
            matches!(store.store(name, 1, b""), Err(Error::Name { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.remove(name, 1), Err(Error::Name { .. })),
            "{name:?}"
        );
    }
}
