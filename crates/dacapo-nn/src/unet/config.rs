//! The U-Net's options and their checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What convolutions do at the borders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// They use no voxel that is not there: outputs are smaller than inputs, and tiles join without a seam.
    #[default]
    Valid,
    /// Zeros outside: outputs are as large as inputs, less exact at the border.
    Same,
}

/// What normalises the output of each convolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Nothing.
    #[default]
    None,
    /// Batch normalisation, with running statistics for prediction.
    Batch,
    /// Group normalisation with at most 8 groups; the same in training and prediction.
    Group,
    /// Instance normalisation: each channel of each sample by itself; the same in training and prediction.
    Instance,
}

/// What makes a network more than a linear function: applied behind every convolution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// Negative values become 0.
    #[default]
    Relu,
    /// Negative values become a hundredth of themselves.
    LeakyRelu,
    /// x Φ(x), with Φ the normal distribution.
    Gelu,
}

/// How features are brought to the resolution of the level above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// Voxels are repeated; a convolution of kernel 1.
    Nearest,
    /// A transposed convolution.
    Transposed,
    /// Linear interpolation along each axis; a convolution of kernel 1. With `padding: valid`, voxels without a
    /// neighbour to interpolate with are left out, so that tiles still join without a seam.
    Trilinear,
}

/// A U-Net in 2D or 3D: the CNNectome U-Net of the original, and what has been found to learn faster.
///
/// Lists of lengths are in z, y, x order (y, x in 2D), in voxels; levels are counted from the full
/// resolution down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UNetConfig {
    /// Input shape of a training patch, in voxels. Its number of axes makes the network 2D or 3D.
    pub input_shape: Vec<usize>,
    /// Added to the input shape for prediction, in voxels; nothing by default.
    pub eval_shape_increase: Option<Vec<usize>>,
    /// Channels of the raw data.
    pub fmaps_in: usize,
    /// Channels in front of the head; by default `num_fmaps`.
    pub fmaps_out: Option<usize>,
    /// Channels of the first level.
    pub num_fmaps: usize,
    /// Each level has this many times the channels of the level above.
    pub fmap_inc_factor: usize,
    /// Max pooling between levels: one entry fewer than there are levels.
    pub downsample_factors: Vec<Vec<usize>>,
    /// Kernels of the convolutions on the way down, a list for each level; by default two of 3 a level.
    pub kernel_size_down: Option<Vec<Vec<Vec<usize>>>>,
    /// Kernels of the convolutions on the way up, a list for each level but the lowest.
    pub kernel_size_up: Option<Vec<Vec<Vec<usize>>>>,
    /// What convolutions do at the borders.
    pub padding: Padding,
    /// Upsampling behind the network, each with two convolutions: the output has smaller voxels.
    pub upsample_factors: Vec<Vec<usize>>,
    /// Upsample by repeating voxels and a convolution of kernel 1; otherwise by a transposed convolution.
    pub constant_upsample: bool,
    /// How to upsample; by default as `constant_upsample` says.
    pub upsampling: Option<Upsampling>,
    /// Narrow the upsampled features to their level's width at the first level too; the original narrows
    /// them at the lower levels only.
    pub narrow_upsampling: bool,
    /// Batch normalisation; the same as `norm: batch`.
    pub batch_norm: bool,
    /// What normalises the output of each convolution.
    pub norm: Norm,
    /// What stands behind each convolution and its normalisation.
    pub activation: Nonlinearity,
    /// Share of the values behind each level's convolutions that are set to 0 in training.
    pub dropout: f64,
    /// Add each level's input to its output (through a convolution of kernel 1 where widths differ).
    pub residual: bool,
    /// Work at a resolution that is lower by these factors (1 or even): a strided convolution in front, a
    /// transposed one as the head.
    pub stem_factors: Option<Vec<usize>>,
    /// Gate the skip connections by attention (Oktay et al. 2018).
    pub use_attention: bool,
    /// Heads at the coarser levels of the way up as well, while training. Each predicts the target at its own
    /// resolution, and counts half of the one above it (Lee et al. 2015).
    pub deep_supervision: bool,
}

impl Default for UNetConfig {
    fn default() -> Self {
        Self {
            input_shape: vec![92, 92, 92],
            eval_shape_increase: None,
            fmaps_in: 1,
            fmaps_out: None,
            num_fmaps: 12,
            fmap_inc_factor: 3,
            downsample_factors: vec![vec![2, 2, 2]; 2],
            kernel_size_down: None,
            kernel_size_up: None,
            padding: Padding::Valid,
            upsample_factors: Vec::new(),
            constant_upsample: true,
            upsampling: None,
            narrow_upsampling: false,
            batch_norm: false,
            norm: Norm::None,
            activation: Nonlinearity::Relu,
            dropout: 0.0,
            residual: false,
            stem_factors: None,
            use_attention: false,
            deep_supervision: false,
        }
    }
}

/// Channels that no layer should pass: a typo in `fmap_inc_factor` must not ask for terabytes.
const MOST_CHANNELS: usize = 1 << 16;

impl UNetConfig {
    /// 2 or 3.
    pub fn dims(&self) -> usize {
        self.input_shape.len()
    }

    /// Spatial input shape for prediction, in voxels.
    pub fn eval_input_shape(&self) -> Vec<usize> {
        let increase = self
            .eval_shape_increase
            .clone()
            .unwrap_or_else(|| vec![0; self.dims()]);
        self.input_shape
            .iter()
            .zip(increase)
            .map(|(a, b)| a + b)
            .collect()
    }

    /// Whether what is predicted of a voxel does not depend on the shape of the input: without padding, and with no
    /// normalisation by what else is in it.
    pub fn is_local(&self) -> bool {
        self.padding == Padding::Valid && matches!(self.norm, Norm::None | Norm::Batch)
    }

    /// How many output voxels there are to an input voxel along each axis; above 1 with
    /// `upsample_factors`.
    pub fn output_scale(&self) -> Vec<usize> {
        (0..self.dims())
            .map(|axis| self.upsample_factors.iter().map(|factor| factor[axis]).product())
            .collect()
    }

    /// Levels, the full resolution among them.
    pub(super) fn levels(&self) -> usize {
        self.downsample_factors.len() + 1
    }

    pub(super) fn width(&self, level: usize) -> usize {
        self.num_fmaps * self.fmap_inc_factor.pow(level as u32)
    }

    pub(crate) fn effective_norm(&self) -> Norm {
        if self.batch_norm { Norm::Batch } else { self.norm }
    }

    pub(super) fn effective_upsampling(&self) -> Upsampling {
        self.upsampling.unwrap_or(if self.constant_upsample {
            Upsampling::Nearest
        } else {
            Upsampling::Transposed
        })
    }

    /// Kernels of a level, as z, y, x; `given` is the option that may hold them.
    pub(super) fn kernels(&self, given: &Option<Vec<Vec<Vec<usize>>>>, level: usize) -> Vec<[usize; 3]> {
        match given {
            Some(levels) => levels[level].iter().map(|kernel| self.zyx(kernel)).collect(),
            None => vec![self.zyx(&vec![3; self.dims()]); 2],
        }
    }

    /// Factors or kernels as z, y, x: 1 along z in 2D.
    pub(crate) fn zyx(&self, values: &[usize]) -> [usize; 3] {
        let mut zyx = [1; 3];
        zyx[3 - values.len()..].copy_from_slice(values);
        zyx
    }

    /// Checks everything that does not depend on shapes.
    pub(super) fn validate(&self) -> Result<()> {
        let fail = |field, reason: String| Err(Error::Config { field, reason });
        let dims = self.dims();
        if !(2..=3).contains(&dims) || self.input_shape.contains(&0) {
            return fail(
                "input_shape",
                format!("{:?} is not 2 or 3 positive lengths", self.input_shape),
            );
        }
        if let Some(increase) = &self.eval_shape_increase
            && increase.len() != dims
        {
            return fail(
                "eval_shape_increase",
                format!("{increase:?} does not have {dims} axes"),
            );
        }
        let counts = [
            ("fmaps_in", self.fmaps_in),
            ("num_fmaps", self.num_fmaps),
            ("fmap_inc_factor", self.fmap_inc_factor),
            ("fmaps_out", self.fmaps_out.unwrap_or(1)),
        ];
        for (field, count) in counts {
            if count == 0 {
                return fail(field, "0 is not a number of channels".into());
            }
        }
        let widest = (self.fmap_inc_factor as f64).powi(self.levels() as i32 - 1) * self.num_fmaps as f64;
        if widest > MOST_CHANNELS as f64 {
            return fail(
                "fmap_inc_factor",
                format!("the lowest level would have {widest} channels"),
            );
        }
        for (field, factors) in [
            ("downsample_factors", &self.downsample_factors),
            ("upsample_factors", &self.upsample_factors),
        ] {
            if let Some(bad) = factors.iter().find(|f| f.len() != dims || f.contains(&0)) {
                return fail(field, format!("{bad:?} is not {dims} positive factors"));
            }
        }
        self.validate_kernels("kernel_size_down", &self.kernel_size_down, self.levels())?;
        self.validate_kernels("kernel_size_up", &self.kernel_size_up, self.levels() - 1)?;
        if self.batch_norm && !matches!(self.norm, Norm::None | Norm::Batch) {
            let norm = if self.norm == Norm::Group {
                "group"
            } else {
                "instance"
            };
            return fail("batch_norm", format!("it cannot be true with `norm: {norm}`"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(
                "dropout",
                format!("{} is not at least 0 and below 1", self.dropout),
            );
        }
        if self.deep_supervision && self.levels() < 3 {
            let reason = "there is no coarser level on the way up: it needs two `downsample_factors` or more";
            return fail("deep_supervision", reason.into());
        }
        if let Some(stem) = &self.stem_factors {
            if stem.len() != dims || stem.iter().any(|&f| f != 1 && (f == 0 || !f.is_multiple_of(2))) {
                return fail(
                    "stem_factors",
                    format!("{stem:?} is not {dims} factors that are 1 or even"),
                );
            }
            if !self.upsample_factors.is_empty() {
                return fail("stem_factors", "it does not go with `upsample_factors`".into());
            }
        }
        if self.levels() == 1 && self.fmaps_out.is_some_and(|out| out != self.num_fmaps) {
            return fail(
                "fmaps_out",
                "without `downsample_factors` it has to equal `num_fmaps`".into(),
            );
        }
        Ok(())
    }

    fn validate_kernels(
        &self,
        field: &'static str,
        given: &Option<Vec<Vec<Vec<usize>>>>,
        levels: usize,
    ) -> Result<()> {
        let Some(given) = given else { return Ok(()) };
        let fail = |reason| Err(Error::Config { field, reason });
        if given.len() != levels {
            return fail(format!(
                "there are kernels for {} levels, not for {levels}",
                given.len()
            ));
        }
        for kernel in given.iter().flatten() {
            if kernel.len() != self.dims() || kernel.contains(&0) {
                return fail(format!("{kernel:?} is not {} positive lengths", self.dims()));
            }
            if self.padding == Padding::Same && kernel.iter().any(|k| k.is_multiple_of(2)) {
                return fail(format!(
                    "{kernel:?} is even, which has no centre for `padding: same`"
                ));
            }
        }
        match given.iter().position(Vec::is_empty) {
            Some(level) => fail(format!("level {level} has no kernels")),
            None => Ok(()),
        }
    }
}
