//! What every implementation of a store must do, as suites that panic where one does not. Each suite takes an
//! empty store, and leaves it as it likes. What only one implementation promises is tested beside it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a suite is a test: it ends where the contract is broken"
)]

use std::collections::BTreeMap;

use crate::{ConfigStore, Error, Removed, StatsStore, TrainingStat, ValidationScore, WeightsStore};

/// Names that are no runs, whatever the store.
const NO_RUNS: [&str; 9] = ["", ".", "..", "a/b", "../a", "/a", "a\0", ".hidden", "configs"];

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
