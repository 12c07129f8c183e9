//! An exponential moving average of the weights: what predictions are made with, where it is asked for (Polyak &
//! Juditsky 1992, with the decay of Tarvainen & Valpola 2017).

use crate::cpu::params::{Params, find_all};
use crate::{Error, NamedTensor, Result};

/// Beginning of the names of averaged tensors in checkpoints.
pub(crate) const PREFIX: &str = "average/";

/// The average of all parameters, running statistics among them, in their order.
#[derive(Debug)]
pub(crate) struct Average {
    decay: f64,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// An average of one moment.
    pub(crate) fn new(decay: f64, params: &Params) -> Self {
        Self {
            decay,
            values: params.0.iter().map(|param| param.value.clone()).collect(),
        }
    }

    /// Moves towards the parameters as they are after update `step` (from 1), by [`share_of_new`].
    pub(crate) fn update(&mut self, params: &Params, step: u64) {
        use rayon::prelude::*;
        let new = share_of_new(self.decay, step);
        for (average, param) in self.values.iter_mut().zip(&params.0) {
            average
                .par_iter_mut()
                .with_min_len(1 << 14)
                .zip(&param.value)
                .for_each(|(average, value)| *average += new * (value - *average));
        }
    }

    /// An average with its values, in the order of the parameters.
    pub(crate) fn of(decay: f64, values: Vec<Vec<f32>>) -> Self {
        Self { decay, values }
    }

    /// The averages, in the order of the parameters.
    pub(crate) fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    pub(crate) fn export(&self, params: &Params) -> Vec<NamedTensor> {
        let tensor = |(param, value): (&crate::cpu::params::Param, &Vec<f32>)| NamedTensor {
            name: format!("{PREFIX}{}", param.spec.name),
            shape: param.spec.shape.clone(),
            data: value.clone(),
        };
        params.0.iter().zip(&self.values).map(tensor).collect()
    }

    /// The average among `tensors`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a part of it is missing, or does not fit.
    pub(crate) fn import(decay: f64, params: &Params, tensors: &[NamedTensor]) -> Result<Self> {
        let values = find_all(params.0.iter().map(|param| &param.spec), PREFIX, tensors)?;
        Ok(Self::of(decay, values.into_iter().map(<[f32]>::to_vec).collect()))
    }
}

/// Share of the parameters as they are after update `step` (from 1) in the average that they are taken into. The first
/// updates weigh more than the decay says, so that the initial weights are soon forgotten.
pub(crate) fn share_of_new(decay: f64, step: u64) -> f32 {
    let step = step as f64;
    (1.0 - decay.min((1.0 + step) / (10.0 + step))) as f32
}

/// Checks a decay.
///
/// # Errors
/// [`Error::Config`] where it is not at least 0 and below 1.
pub(crate) fn validate(decay: f64) -> Result<()> {
    if (0.0..1.0).contains(&decay) {
        return Ok(());
    }
    Err(Error::Config {
        field: "ema",
        reason: format!("{decay} is not at least 0 and below 1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::params::{Init, ParamSpec};

    #[test]
    fn follows_its_definition() {
        let spec = ParamSpec {
            name: "w".into(),
            shape: vec![1],
            init: Init::Constant(1.0),
            trainable: true,
        };
        let mut params = Params::initialise(&[spec], 0);
        let mut average = Average::new(0.5, &params);
        let mut expected = 1.0;
        for step in 1..20 {
            params.0[0].value[0] = step as f32;
            average.update(&params, step);
            let decay = (0.5f64).min((1.0 + step as f64) / (10.0 + step as f64));
            expected = decay * expected + (1.0 - decay) * step as f64;
            assert!(
                (f64::from(average.values()[0][0]) - expected).abs() < 1e-5,
                "{step}"
            );
        }
        let again = Average::import(0.5, &params, &average.export(&params)).unwrap();
        assert_eq!(again.values(), average.values());
        assert!(validate(1.0).is_err() && validate(f64::NAN).is_err() && validate(0.999).is_ok());
    }
}
