//! Names, whatever they are, lead to no array outside of their container, and no two of them to the same.
#![no_main]

use std::path::{Component, Path};

use dacapo_store::{ArrayStore, LocalArrayIdentifier, LocalArrayStore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|names: (String, String, u64, String, String, u64)| {
    let store = LocalArrayStore::new("base");
    let (a, b) = ((&names.0, &names.1, names.2), (&names.3, &names.4, names.5));
    let made = |(dataset, other, iteration): (&String, &String, u64)| {
        vec![
            store.validation_prediction_array("run", iteration, dataset),
            store.validation_output_array("run", iteration, other, dataset),
            store.validation_input_arrays("run", Some(dataset)).map(|(raw, _)| raw),
            store.best_validation_array("run", other, Some(dataset)),
            store.best_validation_array("run", other, None),
            store.validation_prediction_array(dataset, iteration, other),
        ]
    };
    let (first, second) = (made(a), made(b));
    for array in first.iter().flatten() {
        let text = array.to_string();
        assert_eq!(&text.parse::<LocalArrayIdentifier>().unwrap(), array);
        let below = Path::new(&text).strip_prefix("base").unwrap();
        assert!(below.components().count() > 2);
        assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
    }
    // The same place means the same arguments.
    for (which, array) in first.iter().enumerate() {
        for (other, meets) in second.iter().enumerate() {
            let (Ok(array), Ok(meets)) = (array, meets) else { continue };
            if array == meets {
                assert_eq!(which, other);
                match which {
                    0 | 5 => assert_eq!(a, (if which == 0 { (b.0, a.1, b.2) } else { b })),
                    1 => assert_eq!(a, b),
                    2 => assert_eq!(a.0, b.0),
                    3 => assert_eq!((a.0, a.1), (b.0, b.1)),
                    _ => assert_eq!(a.1, b.1),
                }
            }
        }
    }
});
