//! Optimisers of the Adam family.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::params::{Param, Params, find_all};
use crate::{Error, NamedTensor, Result};

/// How weights are updated from gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The update rule.
    pub kind: OptimizerKind,
    /// The full learning rate; the schedule scales it.
    pub learning_rate: f64,
    /// Decay of the running means of gradients and of squared gradients.
    pub betas: [f64; 2],
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Decoupled decay (adam_w, r_adam), or an L2 penalty's factor (adam).
    pub weight_decay: f64,
}

/// Update rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam (Kingma & Ba 2014).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2017).
    #[default]
    AdamW,
    /// Rectified Adam (Liu et al. 2019) with decoupled weight decay: what the Python original uses.
    RAdam,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            learning_rate: 1e-3,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 1e-4,
        }
    }
}

impl OptimizerConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let check = |field, ok: bool, range: &str, value: String| {
            if ok {
                Ok(())
            } else {
                Err(Error::Config {
                    field,
                    reason: format!("{value} is not {range}"),
                })
            }
        };
        let rate = self.learning_rate;
        check(
            "learning_rate",
            rate.is_finite() && rate > 0.0,
            "a positive number",
            rate.to_string(),
        )?;
        let betas_ok = self.betas.iter().all(|beta| (0.0..1.0).contains(beta));
        check(
            "betas",
            betas_ok,
            "two numbers of at least 0 and below 1",
            format!("{:?}", self.betas),
        )?;
        check(
            "epsilon",
            self.epsilon > 0.0,
            "a positive number",
            self.epsilon.to_string(),
        )?;
        let decay = self.weight_decay;
        check(
            "weight_decay",
            decay.is_finite() && decay >= 0.0,
            "0 or more",
            decay.to_string(),
        )
    }
}

/// An optimiser with its state: running means for each trained parameter, in their order.
#[derive(Debug)]
pub(crate) struct Optimizer {
    config: OptimizerConfig,
    /// Updates done.
    step: u64,
    moments: Vec<[Vec<f32>; 2]>,
}

const STEP: &str = "optimizer/step";
const MOMENTS: [&str; 2] = ["optimizer/exp_avg/", "optimizer/exp_avg_sq/"];
/// Steps are exported as f32, which counts exactly up to here.
const LARGEST_STEP: u64 = 1 << 24;

impl Optimizer {
    pub(crate) fn new(config: OptimizerConfig, params: &Params) -> Self {
        let zeros = |param: &Param| [vec![0.0; param.value.len()], vec![0.0; param.value.len()]];
        Self {
            config,
            step: 0,
            moments: params.trained().map(zeros).collect(),
        }
    }

    /// Updates done.
    pub(crate) fn steps(&self) -> u64 {
        self.step
    }

    /// Running means of gradients and of squared gradients, of each trained parameter in their order.
    pub(crate) fn moments(&self) -> &[[Vec<f32>; 2]] {
        &self.moments
    }

    /// An optimiser that has come so far, with its moments.
    pub(crate) fn at(config: OptimizerConfig, step: u64, moments: Vec<[Vec<f32>; 2]>) -> Self {
        Self {
            config,
            step,
            moments,
        }
    }

    /// Euclidean norm of all gradients.
    pub(crate) fn gradient_norm(params: &Params) -> f64 {
        /// Values that one task sums.
        const CHUNK: usize = 1 << 14;
        let squares = |values: &[f32]| values.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
        let chunks: Vec<&[f32]> = params
            .trained()
            .flat_map(|param| param.gradient.chunks(CHUNK))
            .collect();
        // Added up in order, whatever thread took each.
        let sums: Vec<f64> = chunks.par_iter().map(|chunk| squares(chunk)).collect();
        sums.into_iter().sum::<f64>().sqrt()
    }

    /// Updates all trained parameters from their gradients times `gradient_scale`.
    pub(crate) fn update(&mut self, params: &mut Params, learning_rate: f64, gradient_scale: f64) {
        self.step += 1;
        let rule = Rule::new(&self.config, self.step, learning_rate, gradient_scale);
        let trained = params.0.iter_mut().filter(|param| param.spec.trainable);
        for (param, [mean, square]) in trained.zip(&mut self.moments) {
            let state = mean.par_iter_mut().zip(square.par_iter_mut());
            let weights = param.value.par_iter_mut().zip(&param.gradient);
            weights
                .zip(state)
                .with_min_len(1 << 13)
                .for_each(|((weight, &gradient), (mean, square))| {
                    rule.update(weight, gradient, mean, square);
                });
        }
    }

    pub(crate) fn export(&self, params: &Params) -> Vec<NamedTensor> {
        let step = self.step.min(LARGEST_STEP) as f32;
        let mut tensors = vec![NamedTensor {
            name: STEP.into(),
            shape: vec![],
            data: vec![step],
        }];
        for (i, prefix) in MOMENTS.iter().enumerate() {
            for (param, moments) in params.trained().zip(self.moments()) {
                tensors.push(NamedTensor {
                    name: format!("{prefix}{}", param.spec.name),
                    shape: param.spec.shape.clone(),
                    data: moments[i].clone(),
                });
            }
        }
        tensors
    }

    /// The optimiser whose state is among `tensors`, or a new one if there is none.
    ///
    /// # Errors
    /// [`Error::Weights`] if only a part is there, or does not fit.
    pub(crate) fn import(config: OptimizerConfig, params: &Params, tensors: &[NamedTensor]) -> Result<Self> {
        if !tensors.iter().any(|tensor| tensor.name.starts_with("optimizer/")) {
            return Ok(Self::new(config, params));
        }
        let step = tensors
            .iter()
            .find(|tensor| tensor.name == STEP)
            .and_then(|tensor| tensor.data.first());
        let step = *step.ok_or_else(|| Error::Weights(format!("`{STEP}` is missing")))?;
        let moments = |prefix| find_all(params.trained().map(|param| &param.spec), prefix, tensors);
        let pairs = moments(MOMENTS[0])?.into_iter().zip(moments(MOMENTS[1])?);
        let moments = pairs
            .map(|(mean, square)| [mean.to_vec(), square.to_vec()])
            .collect();
        Ok(Self::at(config, step as u64, moments))
    }
}

/// An update rule with all factors of one step.
pub(crate) struct Rule {
    pub(crate) beta: [f32; 2],
    pub(crate) gradient_scale: f32,
    /// Added to the gradient, as a share of the weight (Adam's L2 penalty).
    pub(crate) penalty: f32,
    /// Factor of the weight before the update (decoupled decay).
    pub(crate) keep: f32,
    /// Learning rate over the first moment's bias correction (and RAdam's rectification).
    pub(crate) rate: f32,
    /// Factor of the root of the second moment, and what is added; RAdam's first steps do without.
    pub(crate) adaptive: Option<(f32, f32)>,
}

impl Rule {
    pub(crate) fn new(config: &OptimizerConfig, step: u64, learning_rate: f64, gradient_scale: f64) -> Self {
        let [beta1, beta2] = config.betas;
        let t = step as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        let decoupled = config.kind != OptimizerKind::Adam;
        let mut rate = learning_rate / correction1;
        let mut adaptive = Some(((1.0 / correction2.sqrt()) as f32, config.epsilon as f32));
        if config.kind == OptimizerKind::RAdam {
            let limit = 2.0 / (1.0 - beta2) - 1.0;
            let length = limit - 2.0 * t * beta2.powf(t) / correction2;
            if length > 5.0 {
                let rectification =
                    ((length - 4.0) * (length - 2.0) * limit) / ((limit - 4.0) * (limit - 2.0) * length);
                // The original adds epsilon to the uncorrected root.
                rate *= rectification.sqrt() * correction2.sqrt();
                adaptive = Some((1.0, config.epsilon as f32));
            } else {
                adaptive = None;
            }
        }
        Self {
            beta: [beta1 as f32, beta2 as f32],
            gradient_scale: gradient_scale as f32,
            penalty: if decoupled {
                0.0
            } else {
                config.weight_decay as f32
            },
            keep: if decoupled {
                (1.0 - learning_rate * config.weight_decay) as f32
            } else {
                1.0
            },
            rate: rate as f32,
            adaptive,
        }
    }

    fn update(&self, weight: &mut f32, gradient: f32, mean: &mut f32, square: &mut f32) {
        let gradient = gradient * self.gradient_scale + self.penalty * *weight;
        *mean = self.beta[0] * *mean + (1.0 - self.beta[0]) * gradient;
        *square = self.beta[1] * *square + (1.0 - self.beta[1]) * gradient * gradient;
        let direction = match self.adaptive {
            Some((factor, epsilon)) => *mean / (square.sqrt() * factor + epsilon),
            None => *mean,
        };
        *weight = *weight * self.keep - self.rate * direction;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::params::{Init, ParamSpec};

    fn one_weight(value: f32) -> Params {
        let spec = ParamSpec {
            name: "w".into(),
            shape: vec![1],
            init: Init::Constant(value),
            trainable: true,
        };
        Params::initialise(&[spec], 0)
    }

    /// Eight steps on w²/2 by PyTorch 2.13's Adam, AdamW and RAdam (decoupled) with rate and decay 0.1;
    /// RAdam rectifies from the sixth on.
    #[test]
    fn follows_pytorch() {
        let expected = [
            (
                OptimizerKind::Adam,
                [
                    0.9,
                    0.800_412_2,
                    0.701_586_2,
                    0.603_939_1,
                    0.507_963_7,
                    0.414_236_5,
                ],
            ),
            (
                OptimizerKind::AdamW,
                [
                    0.89,
                    0.781_571_9,
                    0.675_101_3,
                    0.571_047_7,
                    0.469_952_7,
                    0.372_445_5,
                ],
            ),
            (
                OptimizerKind::RAdam,
                [
                    0.89,
                    0.786_889_5,
                    0.690_537_6,
                    0.600_798_8,
                    0.517_513_8,
                    0.509_915_3,
                ],
            ),
        ];
        for (kind, values) in expected {
            let config = OptimizerConfig {
                kind,
                learning_rate: 0.1,
                weight_decay: 0.1,
                ..Default::default()
            };
            let mut params = one_weight(1.0);
            let mut optimizer = Optimizer::new(config, &params);
            for value in values {
                params.0[0].gradient[0] = params.0[0].value[0];
                optimizer.update(&mut params, 0.1, 1.0);
                let found = params.0[0].value[0];
                assert!(
                    (found - value).abs() < 1e-5,
                    "{kind:?}: {found} instead of {value}"
                );
            }
        }
    }

    #[test]
    fn state_goes_round_by_export_and_import() {
        let mut params = one_weight(1.0);
        let mut optimizer = Optimizer::new(OptimizerConfig::default(), &params);
        params.0[0].gradient[0] = 0.5;
        optimizer.update(&mut params, 0.1, 1.0);
        let tensors = optimizer.export(&params);
        let again = Optimizer::import(OptimizerConfig::default(), &params, &tensors).unwrap();
        assert_eq!(again.export(&params), tensors);
        let missing = Optimizer::import(OptimizerConfig::default(), &params, &tensors[..2]).unwrap_err();
        assert!(
            missing.to_string().contains("optimizer/exp_avg_sq/w"),
            "{missing}"
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = OptimizerConfig {
            learning_rate: -1.0,
            ..Default::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "`learning_rate`: -1 is not a positive number"
        );
    }
}
