//! The variation of information of segmentations: truth 0 ignored, every other voxel counted.

use std::borrow::Cow;

use ndarray::ArrayView3;

use dacapo_kernels::ContingencyTable;

use crate::Result;
use crate::task::{Criterion, Scores};

/// What [`voi_scores`] finds.
pub(crate) static VOI_CRITERIA: [Criterion; 3] = [
    Criterion {
        name: Cow::Borrowed("voi"),
        higher_is_better: false,
        meaning: "variation of information: voi_split + voi_merge",
        unit: "bits",
    },
    Criterion {
        name: Cow::Borrowed("voi_split"),
        higher_is_better: false,
        meaning: "how far true objects are split: H(segmentation | truth)",
        unit: "bits",
    },
    Criterion {
        name: Cow::Borrowed("voi_merge"),
        higher_is_better: false,
        meaning: "how far true objects are merged: H(truth | segmentation)",
        unit: "bits",
    },
];

/// The variation of information between truth, in which 0 is unknown, and a segmentation; nothing where all of the
/// truth is unknown.
pub(crate) fn voi_scores(truth: ArrayView3<u64>, segmentation: ArrayView3<u64>) -> Result<Scores> {
    let voi = ContingencyTable::new(truth, segmentation)?.voi();
    let scores = [
        ("voi", voi.map(|voi| voi.sum())),
        ("voi_split", voi.map(|voi| voi.split)),
        ("voi_merge", voi.map(|voi| voi.merge)),
    ];
    let named = scores.into_iter().map(|(name, score)| (name.to_owned(), score));
    Ok(Scores(named.collect()))
}
