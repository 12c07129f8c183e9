//! What a network has learnt, on a device: parameters, moments and averages, each in one piece of memory that an update
//! passes over at once.

use tch::{Kind, Tensor};

use crate::cpu::average::{Average, share_of_new};
use crate::cpu::params::{Param, ParamSpec, Params};
use crate::optimizer::{Optimizer, Rule};
use crate::state::State;
use crate::{NetworkSpec, Result};

/// Values of all parameters of a graph.
#[derive(Debug)]
pub(super) struct Weights {
    /// Those that are trained, one after another, and the statistics.
    trained: Tensor,
    statistics: Tensor,
    /// Each parameter, in the graph's order: a part of one of the two, and where gradients are asked for.
    views: Vec<Tensor>,
}

impl Weights {
    /// Values for parameters, in their order.
    fn new<'a>(
        specs: &[ParamSpec],
        values: impl Iterator<Item = &'a [f32]> + Clone,
        device: tch::Device,
    ) -> Result<Self> {
        let part = |trainable: bool| -> Result<Tensor> {
            let own = specs.iter().zip(values.clone());
            let own = own.filter(|(spec, _)| spec.trainable == trainable);
            upload(
                &own.flat_map(|(_, values)| values).copied().collect::<Vec<_>>(),
                device,
            )
        };
        let (trained, statistics) = (part(true)?, part(false)?);
        let mut begins = [0, 0];
        let view = |spec: &ParamSpec| -> Result<Tensor> {
            let whole = if spec.trainable { &trained } else { &statistics };
            let begin = &mut begins[usize::from(spec.trainable)];
            let len: usize = spec.shape.iter().product();
            let part = whole.f_narrow(0, *begin, len as i64)?;
            *begin += len as i64;
            let part = part.f_reshape(shape_of(&spec.shape))?.f_detach()?;
            Ok(part.f_set_requires_grad(spec.trainable)?)
        };
        let views = specs.iter().map(view).collect::<Result<_>>()?;
        Ok(Self {
            trained,
            statistics,
            views,
        })
    }

    /// Of parameters on the host.
    pub(super) fn of(params: &Params, device: tch::Device) -> Result<Self> {
        let specs: Vec<ParamSpec> = params.0.iter().map(|param| param.spec.clone()).collect();
        let values = params.0.iter().map(|param| param.value.as_slice());
        Self::new(&specs, values, device)
    }

    pub(super) fn views(&self) -> &[Tensor] {
        &self.views
    }

    /// The values on the host, in the parameters' order.
    fn values(&self, specs: &[ParamSpec]) -> Result<Vec<Vec<f32>>> {
        let mut trained = cut(specs, true, &self.trained)?.into_iter();
        let mut statistics = cut(specs, false, &self.statistics)?.into_iter();
        let next = |spec: &ParamSpec| {
            if spec.trainable {
                trained.next()
            } else {
                statistics.next()
            }
        };
        Ok(specs.iter().filter_map(next).collect())
    }
}

/// The parts of the trained parameters, or of the statistics, in a tensor that has them one after another.
fn cut(specs: &[ParamSpec], trainable: bool, whole: &Tensor) -> Result<Vec<Vec<f32>>> {
    let values = download(whole)?;
    let mut rest = values.as_slice();
    let specs = specs.iter().filter(|spec| spec.trainable == trainable);
    Ok(specs
        .map(|spec| {
            let (part, behind) = rest.split_at(spec.shape.iter().product());
            rest = behind;
            part.to_vec()
        })
        .collect())
}

/// Weights, the optimiser's state and the average.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) weights: Weights,
    /// Running means of gradients and of their squares, as the trained parameters lie.
    moments: [Tensor; 2],
    steps: u64,
    average: Option<Weights>,
}

impl Learnt {
    pub(super) fn upload(state: &State, device: tch::Device) -> Result<Self> {
        let specs: Vec<ParamSpec> = state.params.0.iter().map(|param| param.spec.clone()).collect();
        let moments = |i: usize| {
            let moments = state.optimizer.moments().iter();
            upload(
                &moments.flat_map(|pair| &pair[i]).copied().collect::<Vec<_>>(),
                device,
            )
        };
        let average = state.average.as_ref().map(|average| {
            let values = average.values().iter().map(Vec::as_slice);
            Weights::new(&specs, values, device)
        });
        Ok(Self {
            weights: Weights::of(&state.params, device)?,
            moments: [moments(0)?, moments(1)?],
            steps: state.optimizer.steps(),
            average: average.transpose()?,
        })
    }

    pub(super) fn download(&self, spec: &NetworkSpec, specs: &[ParamSpec]) -> Result<State> {
        let values = specs.iter().zip(self.weights.values(specs)?);
        let params = values.map(|(spec, value)| Param {
            spec: spec.clone(),
            value,
            gradient: Vec::new(),
        });
        let [means, squares] = [0, 1].map(|i| cut(specs, true, &self.moments[i]));
        let moments = means?.into_iter().zip(squares?);
        let average = match (&self.average, spec.ema) {
            (Some(average), Some(decay)) => Some(Average::of(decay, average.values(specs)?)),
            _ => None,
        };
        Ok(State {
            params: Params(params.collect()),
            optimizer: Optimizer::at(
                spec.optimizer.clone(),
                self.steps,
                moments.map(|(mean, square)| [mean, square]).collect(),
            ),
            average,
        })
    }

    /// Updates done.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// One update from the gradients of all trained parameters, as these lie, times `gradient_scale`: what
    /// [`Optimizer::update`] and [`Average::update`] do.
    pub(super) fn update(
        &mut self,
        spec: &NetworkSpec,
        gradient: &Tensor,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let rule = Rule::new(&spec.optimizer, self.steps + 1, learning_rate, gradient_scale);
        let [first, second] = rule.beta;
        let weights = &mut self.weights.trained;
        let penalty = weights.f_mul_scalar(f64::from(rule.penalty))?;
        let gradient = gradient
            .f_mul_scalar(f64::from(rule.gradient_scale))?
            .f_add(&penalty)?;
        let [mean, square] = &mut self.moments;
        let squared = gradient.f_square()?.f_mul_scalar(f64::from(1.0 - second))?;
        let _ = square.f_mul_scalar_(f64::from(second))?.f_add_(&squared)?;
        let share = gradient.f_mul_scalar(f64::from(1.0 - first))?;
        let _ = mean.f_mul_scalar_(f64::from(first))?.f_add_(&share)?;
        let direction = match rule.adaptive {
            Some((factor, epsilon)) => {
                let root = square.f_sqrt()?.f_mul_scalar(f64::from(factor))?;
                mean.f_div(&root.f_add_scalar(f64::from(epsilon))?)?
            }
            None => mean.shallow_clone(),
        };
        let step = direction.f_mul_scalar(f64::from(rule.rate))?;
        let _ = weights.f_mul_scalar_(f64::from(rule.keep))?.f_sub_(&step)?;
        self.steps += 1;
        if let (Some(average), Some(decay)) = (&mut self.average, spec.ema) {
            let share = f64::from(share_of_new(decay, self.steps));
            let _ = average.trained.f_lerp_(&self.weights.trained, share)?;
            let _ = average.statistics.f_lerp_(&self.weights.statistics, share)?;
        }
        Ok(())
    }
}

/// A shape as libtorch takes it.
pub(super) fn shape_of(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

/// Values from the host, in one row.
pub(super) fn upload(values: &[f32], device: tch::Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_to_device(device)?)
}

/// Values to the host.
pub(super) fn download(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.numel()];
    tensor
        .f_to_kind(Kind::Float)?
        .f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::params::Init;
    use crate::{OptimizerConfig, OptimizerKind, UNetConfig};

    /// Updates are those of the host, for every rule, with statistics among the parameters and averages of both.
    #[test]
    fn updates_are_those_of_the_cpu_engine() {
        let param = |name: &str, len, trainable| ParamSpec {
            name: name.into(),
            shape: vec![len],
            init: Init::Kaiming(3),
            trainable,
        };
        let specs = [param("a", 7, true), param("b", 2, false), param("c", 5, true)];
        for kind in [OptimizerKind::Adam, OptimizerKind::AdamW, OptimizerKind::RAdam] {
            let spec = NetworkSpec {
                optimizer: OptimizerConfig {
                    kind,
                    weight_decay: 0.1,
                    ..OptimizerConfig::default()
                },
                ema: Some(0.9),
                ..NetworkSpec::new(UNetConfig::default(), 1)
            };
            let params = Params::initialise(&specs, 4);
            let mut state = State {
                optimizer: Optimizer::new(spec.optimizer.clone(), &params),
                average: Some(Average::new(0.9, &params)),
                params,
            };
            let mut learnt = Learnt::upload(&state, tch::Device::Cpu).unwrap();
            for step in 1..9 {
                let mut gradients = Vec::new();
                for (salt, param) in state
                    .params
                    .0
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, p)| p.spec.trainable)
                {
                    let value = |i| ((i * 7919 + salt * 31 + step * 104_729) % 2003) as f32 / 1001.5 - 1.0;
                    param.gradient = (0..param.value.len()).map(value).collect();
                    gradients.extend_from_slice(&param.gradient);
                }
                state.optimizer.update(&mut state.params, 0.01, 0.5);
                let steps = state.optimizer.steps();
                state.average.as_mut().unwrap().update(&state.params, steps);
                learnt
                    .update(&spec, &Tensor::from_slice(&gradients), 0.01, 0.5)
                    .unwrap();
            }
            let (expected, found) = (state.export(), learnt.download(&spec, &specs).unwrap().export());
            for (expected, found) in expected.iter().zip(&found) {
                assert_eq!(expected.name, found.name);
                for (a, b) in expected.data.iter().zip(&found.data) {
                    assert!((a - b).abs() < 1e-6, "{kind:?}, {}: {a} {b}", expected.name);
                }
            }
            assert_eq!(expected.len(), found.len());
        }
    }
}
