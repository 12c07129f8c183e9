//! What a network has learnt, on the host: parameters, the optimiser's state, the averaged weights; as named tensors
//! and back. Every engine writes and reads its checkpoints through this.

use crate::cpu::average::{self, Average};
use crate::cpu::graph::Graph;
use crate::cpu::params::{Param, ParamSpec, Params, find_all};
use crate::ops::fold_batch_norm;
use crate::optimizer::Optimizer;
use crate::{Error, NamedTensor, NetworkSpec, Result};

/// Parameters, and what an optimiser and an average have made of them.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) params: Params,
    pub(crate) optimizer: Optimizer,
    pub(crate) average: Option<Average>,
}

impl State {
    /// Initial values for the parameters of a graph that is to be trained.
    ///
    /// # Errors
    /// [`Error::Config`] for an optimiser or an average that makes no sense.
    pub(crate) fn new(spec: &NetworkSpec, training: &Graph) -> Result<Self> {
        spec.optimizer.validate()?;
        spec.ema.map_or(Ok(()), average::validate)?;
        let params = Params::initialise(&training.params, spec.seed);
        Ok(Self {
            optimizer: Optimizer::new(spec.optimizer.clone(), &params),
            average: spec.ema.map(|decay| Average::new(decay, &params)),
            params,
        })
    }

    /// The tensors of a checkpoint, in a fixed order.
    pub(crate) fn export(&self) -> Vec<NamedTensor> {
        let mut tensors = self.params.export("model/");
        tensors.extend(self.optimizer.export(&self.params));
        let average = self.average.iter();
        tensors.extend(average.flat_map(|average| average.export(&self.params)));
        tensors
    }

    /// Takes over the tensors of a checkpoint, as [`crate::Network::import`] says.
    ///
    /// # Errors
    /// [`Error::Weights`]; then nothing was taken.
    pub(crate) fn import(&mut self, spec: &NetworkSpec, tensors: &[NamedTensor]) -> Result<()> {
        let values = find_all(self.params.0.iter().map(|param| &param.spec), "model/", tensors)?;
        let known = |name: &str| self.params.0.iter().any(|param| param.spec.name == name);
        let unknown = tensors
            .iter()
            .filter_map(|t| t.name.strip_prefix("model/"))
            .find(|name| !known(name));
        if let Some(name) = unknown {
            return Err(Error::Weights(format!(
                "`model/{name}` is unknown to the network"
            )));
        }
        let weights = self.params.0.iter().map(|param| &param.spec.name);
        for (name, values) in weights.zip(&values) {
            if let Some((place, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(Error::Weights(format!(
                    "`model/{name}` holds {value}, at place {place}"
                )));
            }
        }
        let optimizer = Optimizer::import(spec.optimizer.clone(), &self.params, tensors)?;
        let found = |prefix: &str| tensors.iter().any(|tensor| tensor.name.starts_with(prefix));
        let averaged = match spec.ema {
            Some(decay) if found(average::PREFIX) => Some(Average::import(decay, &self.params, tensors)?),
            _ => None,
        };
        let values: Vec<Vec<f32>> = values.into_iter().map(<[f32]>::to_vec).collect();
        let params = self.params.0.iter_mut().zip(values);
        params.for_each(|(param, value)| param.value = value);
        self.optimizer = optimizer;
        self.average = spec
            .ema
            .map(|decay| averaged.unwrap_or_else(|| Average::new(decay, &self.params)));
        Ok(())
    }

    /// The parameters that a graph predicts with: averaged where there is an average, and with normalisations folded
    /// into convolutions.
    pub(crate) fn to_predict_with(&self, predicting: &Graph) -> Params {
        let own = |i: usize| match &self.average {
            Some(average) => &average.values()[i],
            None => &self.params.0[i].value,
        };
        let place = |name: &str| self.params.0.iter().position(|param| param.spec.name == name);
        let value = |name: &str| place(name).map_or(&[][..], |i| own(i));
        let param = |spec: &ParamSpec| Param {
            value: value(&spec.name).to_vec(),
            gradient: Vec::new(),
            spec: spec.clone(),
        };
        let mut params = Params(predicting.params.iter().map(param).collect());
        for fold in &predicting.folds {
            let [weight, bias] = ["weight", "bias"].map(|suffix| format!("{}.{suffix}", fold.conv));
            let norm = ["weight", "bias", "running_mean", "running_var"]
                .map(|suffix| value(&format!("{}.{suffix}", fold.norm)));
            let conv = params
                .0
                .iter_mut()
                .filter(|param| param.spec.name == weight || param.spec.name == bias);
            if let [weight, bias] = &mut conv.collect::<Vec<_>>()[..] {
                fold_batch_norm(&mut weight.value, &mut bias.value, norm);
            }
        }
        params
    }
}

/// Tells the batches of a training apart: what is random in one is a function of this.
pub(crate) fn stream(seed: u64, updates: u64, batches_since: usize) -> u64 {
    use crate::init::mix;
    mix(mix(seed).wrapping_add(updates)).wrapping_add(mix(batches_since as u64))
}
