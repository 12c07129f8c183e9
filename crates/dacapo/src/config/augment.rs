//! How crops are varied, as a run's config says it: ranges and probabilities, and what makes no sense in them.
//! What is drawn from them lives in [`crate::augment`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// How crops are varied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Turned, scaled and deformed crops. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elastic: Option<ElasticConfig>,
    /// Mirror along each axis, half of the time.
    pub flips: bool,
    /// Exchange axes that have the same voxel size and the same length in the network's shapes.
    pub transposes: bool,
    /// Gaussian blur. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur: Option<BlurConfig>,
    /// Smallest and largest factor of the contrast.
    pub intensity_scale: [f32; 2],
    /// Smallest and largest shift of the brightness, as a part of the intensity range.
    pub intensity_shift: [f32; 2],
    /// Smallest and largest exponent that intensities from 0 to 1 are raised to, drawn evenly by logarithm: below
    /// 1 brightens, above 1 darkens. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<[f32; 2]>,
    /// Noise of counted particles. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poisson: Option<PoissonConfig>,
    /// Largest standard deviation of Gaussian noise, as a part of the intensity range.
    pub noise: f32,
    /// What happens to single sections of serial-section microscopy, which lie along the first axis of 3D data.
    /// Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sections: Option<SectionsConfig>,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            elastic: None,
            flips: true,
            transposes: true,
            blur: None,
            intensity_scale: [0.8, 1.2],
            intensity_shift: [-0.1, 0.1],
            gamma: None,
            poisson: None,
            noise: 0.04,
            sections: None,
        }
    }
}

/// Crops that are turned, scaled and deformed: raw is interpolated, labels are taken from the nearest voxel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticConfig {
    /// Voxels of raw between the control points of the deformation, along each axis.
    pub control_point_spacing: Vec<f64>,
    /// Standard deviation of the control points' displacement in voxels of raw, along each axis; cut off at three
    /// times that. 0 keeps an axis as it is.
    pub jitter_sigma: Vec<f64>,
    /// Smallest and largest angle in degrees. Turning is done in world units, so that sections of anisotropic data
    /// are turned as they are seen.
    #[serde(default = "unturned")]
    pub rotation: [f64; 2],
    /// What is turned about.
    #[serde(default)]
    pub rotate: Rotate,
    /// Smallest and largest factor of the size, drawn evenly by logarithm: objects look so much larger.
    #[serde(default = "unscaled")]
    pub scale: [f64; 2],
    /// The deformation is computed at every so many voxels along each axis, and linear between.
    #[serde(default = "four")]
    pub subsample: usize,
    /// How often it happens.
    #[serde(default = "always")]
    pub probability: f64,
    /// What becomes of raw that is too small for it.
    #[serde(default)]
    pub outside: Outside,
}

/// What crops are turned about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rotate {
    /// The first of three axes: sections stay sections. 2D data has no other.
    #[default]
    InPlane,
    /// An axis in any direction, by an angle of `rotation`.
    AnyAxis,
    /// Every orientation is as likely as any other; `rotation` is not used.
    Uniform,
}

/// What is done where a crop needs raw that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// Training does not begin with a dataset that is too small.
    #[default]
    Refuse,
    /// Raw goes on mirrored at its border; labels are unknown there, as everywhere outside of the annotated part.
    Mirror,
}

/// Gaussian blur.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlurConfig {
    /// Smallest and largest standard deviation, in voxels of the finest axis; along coarser ones as many world
    /// units.
    pub sigma: [f32; 2],
    /// Not along the first of three axes.
    #[serde(default)]
    pub in_plane: bool,
    /// How often it happens.
    #[serde(default = "always")]
    pub probability: f64,
}

/// Noise of counted particles: the darker, the less, but the more of what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoissonConfig {
    /// Smallest and largest expected count of a voxel at the upper end of the intensity range, drawn evenly by
    /// logarithm: the fewer, the noisier.
    pub counts: [f32; 2],
    /// How often it happens.
    #[serde(default = "always")]
    pub probability: f64,
}

/// What happens to single sections: each with a probability of its own, for each section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SectionsConfig {
    /// It is missing: black. Its labels stay.
    pub missing: f64,
    /// It has little contrast.
    pub low_contrast: f64,
    /// Smallest and largest contrast that is left then.
    pub contrast: [f32; 2],
    /// It is folded along a straight line: a band is hidden, the line is dark. Its labels stay.
    pub folded: f64,
    /// Smallest and largest width of what a fold hides, in voxels of the second axis.
    pub fold_width: [f32; 2],
    /// A dark stain lies on it.
    pub stained: f64,
    /// Smallest and largest radius of a stain, in voxels of the second axis.
    pub stain_radius: [f32; 2],
    /// It alone has slipped in its plane, labels and all.
    pub slipped: f64,
    /// It and all that follow are shifted in their plane, labels and all.
    pub shifted: f64,
    /// The largest slip or shift along each axis of the plane, in voxels of raw.
    pub max_shift: u32,
}

impl Default for SectionsConfig {
    fn default() -> Self {
        Self {
            missing: 0.0,
            low_contrast: 0.0,
            contrast: [0.1, 0.5],
            folded: 0.0,
            fold_width: [4.0, 12.0],
            stained: 0.0,
            stain_radius: [3.0, 12.0],
            slipped: 0.0,
            shifted: 0.0,
            max_shift: 4,
        }
    }
}

impl AugmentConfig {
    /// What makes no sense in it, for data of so many spatial axes.
    pub(crate) fn problems(&self, dims: usize) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut need = |fine: bool, key: &str, message: &str| {
            if !fine {
                found.push(Problem::new(format!("trainer.augment.{key}"), message));
            }
        };
        let finite = |range: [f32; 2]| range.iter().all(|n| n.is_finite());
        let rising = |range: [f32; 2]| finite(range) && range[0] <= range[1];
        let chance = |p: f64| (0.0..=1.0).contains(&p);
        const RISING: &str = "the smaller number first";
        const CHANCE: &str = "a probability: 0 to 1";
        need(rising(self.intensity_scale), "intensity_scale", RISING);
        need(rising(self.intensity_shift), "intensity_shift", RISING);
        need(self.noise >= 0.0, "noise", "not negative");
        let fine = self.gamma.is_none_or(|range| rising(range) && range[0] > 0.0);
        need(fine, "gamma", "above 0, the smaller number first");
        if let Some(elastic) = &self.elastic {
            let per_axis = "one number for each axis";
            need(
                elastic.control_point_spacing.len() == dims,
                "elastic.control_point_spacing",
                per_axis,
            );
            need(
                elastic.jitter_sigma.len() == dims,
                "elastic.jitter_sigma",
                per_axis,
            );
            let fine = elastic
                .control_point_spacing
                .iter()
                .all(|&n| n >= 1.0 && n.is_finite());
            need(fine, "elastic.control_point_spacing", "at least 1 voxel");
            let fine = elastic.jitter_sigma.iter().all(|&n| n >= 0.0 && n.is_finite());
            need(fine, "elastic.jitter_sigma", "not negative");
            let [low, high] = elastic.rotation;
            need(
                low <= high && low.is_finite() && high.is_finite(),
                "elastic.rotation",
                RISING,
            );
            let fine = dims == 3 || elastic.rotate == Rotate::InPlane;
            need(fine, "elastic.rotate", "2D data can only be turned in_plane");
            let [low, high] = elastic.scale;
            let fine = low > 0.0 && low <= high && high.is_finite();
            need(fine, "elastic.scale", "above 0, the smaller number first");
            need(elastic.subsample > 0, "elastic.subsample", "at least 1");
            need(chance(elastic.probability), "elastic.probability", CHANCE);
        }
        if let Some(blur) = &self.blur {
            let fine = rising(blur.sigma) && blur.sigma[0] >= 0.0;
            need(fine, "blur.sigma", "not negative, the smaller number first");
            need(chance(blur.probability), "blur.probability", CHANCE);
        }
        if let Some(poisson) = &self.poisson {
            let fine = rising(poisson.counts) && poisson.counts[0] > 0.0;
            need(fine, "poisson.counts", "above 0, the smaller number first");
            need(chance(poisson.probability), "poisson.probability", CHANCE);
        }
        if let Some(sections) = &self.sections {
            need(dims == 3, "sections", "only 3D data has sections");
            for (key, p) in [
                ("missing", sections.missing),
                ("low_contrast", sections.low_contrast),
                ("folded", sections.folded),
                ("stained", sections.stained),
                ("slipped", sections.slipped),
                ("shifted", sections.shifted),
            ] {
                need(chance(p), &format!("sections.{key}"), CHANCE);
            }
            need(rising(sections.contrast), "sections.contrast", RISING);
            let fine = rising(sections.fold_width) && sections.fold_width[0] > 0.0;
            need(fine, "sections.fold_width", "above 0, the smaller number first");
            let fine = rising(sections.stain_radius) && sections.stain_radius[0] > 0.0;
            need(fine, "sections.stain_radius", "above 0, the smaller number first");
        }
        found
    }
}

fn unturned() -> [f64; 2] {
    [0.0; 2]
}

fn unscaled() -> [f64; 2] {
    [1.0; 2]
}

fn four() -> usize {
    4
}

fn always() -> f64 {
    1.0
}
