//! Whatever a caller passes as names: identifiers stay in the container of their run, no two different calls meet in
//! one place, and what is printed is parsed back.

#![no_main]

use std::collections::HashMap;

use arbitrary::Arbitrary;
use dacapo_store::{ArrayStore, LocalArrayIdentifier, LocalArrayStore};
use libfuzzer_sys::fuzz_target;

/// The arguments of a method of the array store.
#[derive(Arbitrary, Clone, Debug, PartialEq)]
enum Call {
    Prediction(u64, String),
    Output(u64, String, String),
    Input(Option<String>),
    Best(String, Option<String>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    run: String,
    calls: Vec<Call>,
}

fuzz_target!(|input: Input| {
    let store = LocalArrayStore::new("base");
    let run = &input.run;
    let Ok(container) = store.validation_container(run) else {
        return;
    };
    assert!(container.to_string().starts_with("base/") && container.to_string().ends_with("/validation.zarr"));
    let mut seen = HashMap::<LocalArrayIdentifier, Call>::new();
    for call in input.calls {
        let array = match &call {
            Call::Prediction(at, dataset) => store.validation_prediction_array(run, *at, dataset),
            Call::Output(at, parameters, dataset) => {
                store.validation_output_array(run, *at, parameters, dataset)
            }
            Call::Input(index) => store
                .validation_input_arrays(run, index.as_deref())
                .map(|(raw, _)| raw),
            Call::Best(criterion, index) => store.best_validation_array(run, criterion, index.as_deref()),
        };
        let Ok(array) = array else { continue };
        assert_eq!(array.container_identifier(), &container);
        let parts: Vec<&str> = array.dataset().split('/').collect();
        assert!(parts.iter().all(|part| !part.is_empty() && !part.starts_with('.')), "{array}");
        assert_eq!(array.to_string().parse::<LocalArrayIdentifier>().ok().as_ref(), Some(&array));
        let first = seen.entry(array).or_insert_with(|| call.clone());
        assert_eq!(*first, call);
    }
});
