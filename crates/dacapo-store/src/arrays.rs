//! Which array of a run stands where, and creating, opening and removing it. What identifies an array is
//! [`crate::identifiers`]; what is in it is `dacapo-array`'s.

use std::path::PathBuf;

use dacapo_array::{
    ArraySpec, CreateOptions, DraftArray, ZarrArray,
    storage::{Location, join},
};

use crate::{
    BestName, CriterionName, DatasetName, IndexName, LocalArrayIdentifier, LocalContainerIdentifier,
    ParametersName, Removed, Result,
    local::Base,
    remove::{self, Node},
};

/// Where a run keeps what is being removed.
pub(crate) const TRASH: &str = ".trash";

/// Arrays as DaCapo lays them out, in Zarr containers below a base, which is a directory, or what stands for one
/// in an object store or in memory:
///
/// ```text
/// <base>/<run>/snapshot.zarr/…
/// <base>/<run>/validation.zarr/inputs/[<index>/]{raw,gt}
/// <base>/<run>/validation.zarr/<iteration>/<dataset>/prediction
/// <base>/<run>/validation.zarr/<iteration>/<dataset>/output/<parameters>
/// <base>/<run>/validation.zarr/[<index>/]<criterion>                     the best array
/// ```
#[derive(Clone, Debug)]
pub struct LocalArrayStore {
    pub(crate) base: Base,
}

/// Keeps the arrays that training, validation and prediction make.
///
/// The methods that give identifiers are pure: they touch no disk, the same arguments give the same identifier
/// and different ones never do. Names are encoded where they have to be ([`crate::names`]), so that every
/// identifier lies inside its container.
///
/// # Errors
/// Of those methods: [`crate::Error::Name`] for a name that cannot be written, and nothing else.
pub trait ArrayStore: Send + Sync {
    /// What the network predicted on a dataset after `iteration`.
    #[allow(
        clippy::missing_errors_doc,
        reason = "the same for all identifiers: on the trait"
    )]
    fn validation_prediction_array(
        &self,
        run: &str,
        iteration: u64,
        dataset: &str,
    ) -> Result<LocalArrayIdentifier>;

    /// What post-processing with `parameters` made of that prediction.
    fn validation_output_array(
        &self,
        run: &str,
        iteration: u64,
        parameters: &str,
        dataset: &str,
    ) -> Result<LocalArrayIdentifier>;

    /// The raw and the ground truth that a run is validated on; `index` names them where there are several.
    fn validation_input_arrays(
        &self,
        run: &str,
        index: Option<&str>,
    ) -> Result<(LocalArrayIdentifier, LocalArrayIdentifier)>;

    /// Where a run shows what it is trained on.
    fn snapshot_container(&self, run: &str) -> Result<LocalContainerIdentifier>;

    /// Where the inputs, predictions and outputs of a run's validations are.
    fn validation_container(&self, run: &str) -> Result<LocalContainerIdentifier>;

    /// The output that is best by a criterion, of one dataset if there are several.
    ///
    /// An index and a criterion without index share a level, as they do in DaCapo: where both have one name,
    /// the second to be created is refused.
    fn best_validation_array(
        &self,
        run: &str,
        criterion: &str,
        index: Option<&str>,
    ) -> Result<LocalArrayIdentifier>;

    /// Begins an array: it is filled where nobody finds it, and [`DraftArray::publish`] puts it in its place,
    /// whole or not at all. One that is there already is only replaced if the options ask for it, and then in
    /// one step.
    ///
    /// # Errors
    /// [`crate::Error::Refused`], with nothing changed, where the array would stand inside another or in place
    /// of a group, behind a symbolic link or outside of the store; [`crate::Error::Twin`];
    /// [`crate::Error::Array`] if it is there, or cannot be written.
    fn draft(
        &self,
        array: &LocalArrayIdentifier,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<DraftArray>;

    /// Creates an array that has the fill value everywhere, as an array that several writers fill has to be.
    ///
    /// # Errors
    /// As [`ArrayStore::draft`].
    fn create(
        &self,
        array: &LocalArrayIdentifier,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<ZarrArray> {
        Ok(self.draft(array, spec, options)?.publish()?)
    }

    /// Opens an array.
    ///
    /// # Errors
    /// [`crate::Error::Array`] if there is none, which names what is there instead; [`crate::Error::Refused`] for
    /// an array that is none of this store.
    fn open(&self, array: &LocalArrayIdentifier) -> Result<ZarrArray>;

    /// Whether the array is there.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] for a path that no array of this store can have, [`crate::Error::Io`].
    fn exists(&self, array: &LocalArrayIdentifier) -> Result<bool>;

    /// Removes one array, atomically: a reader that opens it finds it whole or not at all. That there is none
    /// is an answer. With it go the levels that [`dacapo_array::make_pyramid`] made of it beside it, and what its
    /// group says of it.
    ///
    /// # Errors
    /// [`crate::Error::Refused`], with nothing changed, for what is not an array of this store: a group, a
    /// directory without metadata, a path inside an array, a plain file, a path through a symbolic link, a
    /// container elsewhere. [`crate::Error::Io`].
    fn remove(&self, array: &LocalArrayIdentifier) -> Result<Removed>;
}

impl LocalArrayStore {
    /// The arrays in the directory `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = Base::directory(base);
        Self { base }
    }

    /// Where they are.
    pub fn base(&self) -> &Location {
        &self.base.location
    }

    fn container(&self, run: &str, name: &str) -> Result<LocalContainerIdentifier> {
        let run = self.base.run(run)?;
        LocalContainerIdentifier::new(self.base.location.join(&join(&run, name)))
    }

    /// Refuses a key of which a part stands beside its twin of another case.
    fn refuse_twins(&self, array: &LocalArrayIdentifier) -> Result<()> {
        let container = remove::container_key(&self.base, array)?;
        let mut prefix = String::new();
        for part in container.split('/').chain(array.dataset().split('/')) {
            self.base.refuse_twin(&prefix, part)?;
            prefix = join(&prefix, part);
        }
        Ok(())
    }

    fn of_validation(&self, run: &str, parts: &[&str]) -> Result<LocalArrayIdentifier> {
        self.validation_container(run)?.array_identifier(&parts.join("/"))
    }
}

impl ArrayStore for LocalArrayStore {
    fn validation_prediction_array(
        &self,
        run: &str,
        iteration: u64,
        dataset: &str,
    ) -> Result<LocalArrayIdentifier> {
        let dataset = DatasetName::new(dataset)?;
        self.of_validation(run, &[&iteration.to_string(), dataset.component(), "prediction"])
    }

    fn validation_output_array(
        &self,
        run: &str,
        iteration: u64,
        parameters: &str,
        dataset: &str,
    ) -> Result<LocalArrayIdentifier> {
        let (dataset, parameters) = (DatasetName::new(dataset)?, ParametersName::new(parameters)?);
        self.of_validation(
            run,
            &[
                &iteration.to_string(),
                dataset.component(),
                "output",
                parameters.component(),
            ],
        )
    }

    fn validation_input_arrays(
        &self,
        run: &str,
        index: Option<&str>,
    ) -> Result<(LocalArrayIdentifier, LocalArrayIdentifier)> {
        let index = index.map(IndexName::new).transpose()?;
        let group: Vec<&str> = std::iter::once("inputs")
            .chain(index.as_ref().map(|index| index.component()))
            .collect();
        let array = |name| self.of_validation(run, &[&group[..], &[name]].concat());
        Ok((array("raw")?, array("gt")?))
    }

    fn snapshot_container(&self, run: &str) -> Result<LocalContainerIdentifier> {
        self.container(run, "snapshot.zarr")
    }

    fn validation_container(&self, run: &str) -> Result<LocalContainerIdentifier> {
        self.container(run, "validation.zarr")
    }

    fn best_validation_array(
        &self,
        run: &str,
        criterion: &str,
        index: Option<&str>,
    ) -> Result<LocalArrayIdentifier> {
        let (index, criterion) = (
            index.map(BestName::new).transpose()?,
            CriterionName::new(criterion)?,
        );
        let parts: Vec<&str> = index
            .iter()
            .chain([&criterion])
            .map(BestName::component)
            .collect();
        self.of_validation(run, &parts)
    }

    fn draft(
        &self,
        array: &LocalArrayIdentifier,
        spec: &ArraySpec,
        options: &CreateOptions,
    ) -> Result<DraftArray> {
        if remove::find(&self.base, array)? == Some(Node::Group) {
            return remove::refuse(array, "a group or a plain directory is there already");
        }
        self.refuse_twins(array)?;
        let container = remove::container_key(&self.base, array)?;
        let storage = self.base.storage.clone();
        Ok(DraftArray::new_within(
            storage,
            &container,
            &array.address(),
            spec,
            options,
        )?)
    }

    fn open(&self, array: &LocalArrayIdentifier) -> Result<ZarrArray> {
        let container = remove::container_key(&self.base, array)?;
        let storage = self.base.storage.clone();
        Ok(ZarrArray::open_within(storage, &container, &array.address())?)
    }

    fn exists(&self, array: &LocalArrayIdentifier) -> Result<bool> {
        Ok(remove::find(&self.base, array)? == Some(Node::Array))
    }

    fn remove(&self, array: &LocalArrayIdentifier) -> Result<Removed> {
        remove::remove(&self.base, array)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::conformance;

    #[test]
    fn conforms() {
        let base = tempfile::tempdir().unwrap();
        conformance::array_store(&LocalArrayStore::new(base.path().join("base")));
        conformance::array_store(&conformance::in_memory("memory://m/base").arrays);
    }

    #[test]
    fn the_layout_is_that_of_dacapo() {
        let store = LocalArrayStore::new("base");
        let text = |array: Result<LocalArrayIdentifier>| array.unwrap().to_string();
        let parameters = "WatershedPostProcessorParameters(id=2, bias=0.5, context=(32, 32, 32))";
        assert_eq!(
            text(store.validation_prediction_array("run", 10, "crop2")),
            "base/run/validation.zarr/10/crop2/prediction"
        );
        assert_eq!(
            text(store.validation_output_array("run", 10, parameters, "crop2")),
            format!("base/run/validation.zarr/10/crop2/output/{parameters}")
        );
        let (raw, gt) = store.validation_input_arrays("run", Some("crop2")).unwrap();
        assert_eq!(raw.to_string(), "base/run/validation.zarr/inputs/crop2/raw");
        assert_eq!(gt.to_string(), "base/run/validation.zarr/inputs/crop2/gt");
        let (raw, _) = store.validation_input_arrays("run", None).unwrap();
        assert_eq!(raw.to_string(), "base/run/validation.zarr/inputs/raw");
        assert_eq!(
            store.snapshot_container("run").unwrap().to_string(),
            "base/run/snapshot.zarr"
        );
        assert_eq!(
            store.validation_container("run").unwrap().to_string(),
            "base/run/validation.zarr"
        );
        assert_eq!(
            text(store.best_validation_array("run", "voi", None)),
            "base/run/validation.zarr/voi"
        );
        assert_eq!(
            text(store.best_validation_array("run", "voi", Some("crop2"))),
            "base/run/validation.zarr/crop2/voi"
        );
    }

    #[test]
    fn words_of_the_layout_as_names_meet_nothing() {
        let store = LocalArrayStore::new("base");
        let (raw, _) = store.validation_input_arrays("run", None).unwrap();
        let (inner, _) = store.validation_input_arrays("run", Some("raw")).unwrap();
        assert_eq!(raw.location().key_of(&inner.location()), None);
        let best = store.best_validation_array("run", "raw", Some("inputs")).unwrap();
        assert_ne!(best, raw);
        let best = store
            .best_validation_array("run", "prediction", Some("10"))
            .unwrap();
        assert_eq!(best.dataset(), "%310/prediction");
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{1,12}",
            "[./%0-2]{1,4}",
            any::<String>(),
            prop::sample::select(vec![
                "inputs",
                "raw",
                "gt",
                "output",
                "prediction",
                "10",
                "..",
                ""
            ])
            .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #[test]
        fn different_arguments_never_meet_and_stay_in_their_container(
            names in prop::collection::vec((name(), name(), 0..30_u64), 1..12),
        ) {
            let store = LocalArrayStore::new("base");
            let container = store.validation_container("run").unwrap();
            let mut seen = HashMap::new();
            for (a, b, iteration) in names {
                let inputs = store.validation_input_arrays("run", Some(&a));
                for (array, arguments) in [
                    (store.validation_prediction_array("run", iteration, &a), format!("prediction {iteration} {a:?}")),
                    (
                        store.validation_output_array("run", iteration, &b, &a),
                        format!("output {iteration} {a:?} {b:?}"),
                    ),
                    (inputs.map(|(raw, _)| raw), format!("input {a:?}")),
                    (store.validation_input_arrays("run", None).map(|(raw, _)| raw), "input".to_owned()),
                    (store.best_validation_array("run", &b, None), format!("best {b:?}")),
                    (store.best_validation_array("run", &b, Some(&a)), format!("best {b:?} of {a:?}")),
                ] {
                    let Ok(array) = array else { continue };
                    prop_assert_eq!(array.container_identifier(), &container);
                    prop_assert!(!array.dataset().is_empty());
                    prop_assert!(!array.dataset().split('/').any(|part| part.is_empty() || part.starts_with('.')));
                    let first = seen.entry(array).or_insert_with(|| arguments.clone());
                    prop_assert_eq!(first, &arguments);
                }
            }
        }
    }
}
