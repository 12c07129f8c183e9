//! Which array of a run stands where, and creating, opening and removing it. What identifies an array is
//! [`crate::identifiers`]; what is in it is `dacapo-array`'s.

use std::path::{Path, PathBuf};

use crate::{
    BestName, CriterionName, DatasetName, IndexName, LocalArrayIdentifier, LocalContainerIdentifier,
    ParametersName, Removed, Result, local,
    remove::{self, Node},
};

/// Where a run keeps what is being removed.
pub(crate) const TRASH: &str = ".trash";

/// Arrays as DaCapo lays them out, in Zarr containers below a base directory:
///
/// ```text
/// <base>/<run>/snapshot.zarr/…
/// <base>/<run>/validation.zarr/inputs/[<index>/]{raw,gt}
/// <base>/<run>/validation.zarr/<iteration>/<dataset>/prediction
/// <base>/<run>/validation.zarr/<iteration>/<dataset>/output/<parameters>
/// <base>/<run>/validation.zarr/[<index>/]<criterion>                     the best array
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalArrayStore {
    base: PathBuf,
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

    /// Whether the array is there.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] for a path that no array of this store can have, [`crate::Error::Io`].
    fn exists(&self, array: &LocalArrayIdentifier) -> Result<bool>;

    /// Removes one array, atomically: a reader that opens it finds it whole or not at all. That there is none
    /// is an answer.
    ///
    /// # Errors
    /// [`crate::Error::Refused`], with nothing changed, for what is not an array of this store: a group, a
    /// directory without metadata, a path inside an array, a plain file, a path through a symbolic link, a
    /// container elsewhere. [`crate::Error::Io`].
    fn remove(&self, array: &LocalArrayIdentifier) -> Result<Removed>;
}

impl LocalArrayStore {
    /// The arrays in `base`, which need not be there yet.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    fn container(&self, run: &str, name: &str) -> Result<LocalContainerIdentifier> {
        LocalContainerIdentifier::new(local::run_dir(&self.base, run)?.join(name))
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

    fn exists(&self, array: &LocalArrayIdentifier) -> Result<bool> {
        Ok(remove::find(&self.base, array)?.is_some_and(|found| found.node == Node::Array))
    }

    fn remove(&self, array: &LocalArrayIdentifier) -> Result<Removed> {
        remove::remove(&self.base, array)
    }
}
