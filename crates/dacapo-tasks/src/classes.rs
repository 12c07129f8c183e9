//! Classes: which labels make up each, and how much their voxels count in training.

use ndarray::{Array3, ArrayView3, Zip};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{Clip, class_weights};

use crate::{Error, Result};

/// Labels that are one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassConfig {
    /// Names its channel and its scores: letters, digits, `_` and `-`.
    pub name: String,
    /// Its labels. Without any, all but 0 are: then there is no other class.
    #[serde(default)]
    pub ids: Vec<u64>,
}

impl ClassConfig {
    /// Whether a name may have this letter.
    pub fn may_have(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    }
}

pub(crate) fn default_classes() -> Vec<ClassConfig> {
    vec![ClassConfig {
        name: "foreground".to_owned(),
        ids: Vec::new(),
    }]
}

/// How much voxels count in training. Those that are not annotated never count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassWeights {
    /// In each crop, every class counts as much as any other: its voxels by the inverse of their share, which is
    /// clipped to the given range first.
    Balanced {
        /// The smallest share.
        #[serde(default = "default_clip_min")]
        clip_min: f64,
        /// The largest share.
        #[serde(default = "default_clip_max")]
        clip_max: f64,
    },
    /// All voxels count the same.
    Uniform,
}

pub(crate) fn default_clip_min() -> f64 {
    0.05
}

pub(crate) fn default_clip_max() -> f64 {
    0.95
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Balanced {
            clip_min: default_clip_min(),
            clip_max: default_clip_max(),
        }
    }
}

impl ClassWeights {
    pub(crate) fn build(&self) -> Result<Weighting> {
        let clip = match *self {
            Self::Balanced { clip_min, clip_max } => {
                let clip = Clip::new(clip_min, clip_max).map_err(|reason| Error::Config {
                    key: "weights.balanced",
                    reason,
                })?;
                Some(clip)
            }
            Self::Uniform => None,
        };
        Ok(Weighting { clip })
    }
}

/// [`ClassWeights`], checked.
pub(crate) struct Weighting {
    clip: Option<Clip>,
}

impl Weighting {
    /// The weight of each voxel by its class, below `count`; 0 where it does not count.
    pub fn of(&self, classes: &Array3<u8>, count: usize, counts: ArrayView3<bool>) -> Array3<f32> {
        let by_class = match self.clip {
            None => vec![1.0; count],
            Some(clip) => {
                let mut voxels = vec![0; count];
                Zip::from(classes).and(counts).for_each(|&class, &counts| {
                    voxels[usize::from(class)] += u64::from(counts);
                });
                class_weights(&voxels, clip)
            }
        };
        Zip::from(classes)
            .and(counts)
            .map_collect(|&class, &counts| if counts { by_class[usize::from(class)] } else { 0.0 })
    }
}

/// The classes of a config, checked: none has a label that another has too.
pub(crate) struct Classes {
    names: Vec<String>,
    /// Sorted, with the class; empty for a single class of all labels.
    ids: Vec<(u64, u8)>,
}

impl Classes {
    pub fn new(configs: &[ClassConfig]) -> Result<Self> {
        let wrong = |reason: String| Err(Error::Classes { reason });
        if configs.is_empty() {
            return wrong("there are none".to_owned());
        }
        if configs.len() > 255 {
            return wrong(format!(
                "there are {}, but at most 255 are possible",
                configs.len()
            ));
        }
        let mut names: Vec<String> = Vec::new();
        let mut ids = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let name = &config.name;
            if name.is_empty() || !name.chars().all(ClassConfig::may_have) {
                return wrong(format!("{name:?} is no name: letters, digits, `_` and `-` are"));
            }
            if names.contains(name) {
                return wrong(format!("{name:?} is there twice"));
            }
            if config.ids.is_empty() && configs.len() > 1 {
                return wrong(format!(
                    "{name:?} has no ids, which means all, beside other classes"
                ));
            }
            if config.ids.contains(&0) {
                return wrong(format!("{name:?} has the id 0, which is background"));
            }
            names.push(name.clone());
            ids.extend(config.ids.iter().map(|&id| (id, index as u8)));
        }
        ids.sort_unstable();
        ids.dedup();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let [a, b] = [pair[0].1, pair[1].1].map(|class| &names[usize::from(class)]);
            return wrong(format!("the id {} is of {a:?} and of {b:?}", pair[0].0));
        }
        Ok(Self { names, ids })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The class of each label, counted from 1; 0 for those of none.
    pub fn of(&self, labels: ArrayView3<u64>) -> Array3<u8> {
        if self.ids.is_empty() {
            return labels.mapv(|label| u8::from(label != 0));
        }
        let (mut last, mut class) = (0, 0);
        labels.map(|&label| {
            if label != last {
                last = label;
                let found = self.ids.binary_search_by_key(&label, |&(id, _)| id);
                class = found.map_or(0, |place| self.ids[place].1 + 1);
            }
            class
        })
    }
}
