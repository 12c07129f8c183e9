//! A network's named parameters: values, gradients, running statistics.

use crate::{Error, NamedTensor, Result};

/// Place of a parameter in [`Params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamId(pub(crate) usize);

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    Constant(f32),
    /// Kaiming normal with this many inputs a unit.
    Kaiming(usize),
}

/// A parameter before it has values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParamSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
    /// Running statistics are not trained.
    pub(crate) trainable: bool,
}

/// One parameter with its gradient.
#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) spec: ParamSpec,
    pub(crate) value: Vec<f32>,
    /// Empty where the parameter is not trained.
    pub(crate) gradient: Vec<f32>,
}

/// All parameters of a network, in the order in which its layers were added.
#[derive(Debug)]
pub(crate) struct Params(pub(crate) Vec<Param>);

impl Params {
    pub(crate) fn initialise(specs: &[ParamSpec], seed: u64) -> Self {
        let param = |spec: &ParamSpec| {
            let len = spec.shape.iter().product();
            let mut value = vec![0.0; len];
            match spec.init {
                Init::Constant(constant) => value.fill(constant),
                Init::Kaiming(fan_in) => crate::init::kaiming_normal(&mut value, fan_in, seed, &spec.name),
            }
            Param {
                spec: spec.clone(),
                value,
                gradient: vec![0.0; if spec.trainable { len } else { 0 }],
            }
        };
        Self(specs.iter().map(param).collect())
    }

    pub(crate) fn value(&self, id: ParamId) -> &[f32] {
        &self.0[id.0].value
    }

    pub(crate) fn value_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.0[id.0].value
    }

    /// Runs `f` with the value of `weight` and the gradients of `weight` and `bias`.
    pub(crate) fn with_gradients<R>(
        &mut self,
        weight: ParamId,
        bias: ParamId,
        f: impl FnOnce(&[f32], &mut [f32], &mut [f32]) -> R,
    ) -> R {
        let mut weight_gradient = std::mem::take(&mut self.0[weight.0].gradient);
        let mut bias_gradient = std::mem::take(&mut self.0[bias.0].gradient);
        let result = f(&self.0[weight.0].value, &mut weight_gradient, &mut bias_gradient);
        self.0[weight.0].gradient = weight_gradient;
        self.0[bias.0].gradient = bias_gradient;
        result
    }

    pub(crate) fn trained(&self) -> impl Iterator<Item = &Param> {
        self.0.iter().filter(|param| param.spec.trainable)
    }

    /// The parameters as tensors whose names begin with `prefix`.
    pub(crate) fn export(&self, prefix: &str) -> Vec<NamedTensor> {
        let tensor = |param: &Param| NamedTensor {
            name: format!("{prefix}{}", param.spec.name),
            shape: param.spec.shape.clone(),
            data: param.value.clone(),
        };
        self.0.iter().map(tensor).collect()
    }
}

/// Finds `specs` among `tensors` by name (`prefix` + the parameter's name): their values in the order of
/// `specs`.
///
/// # Errors
/// [`Error::Weights`] if one is missing or has another shape.
pub(crate) fn find_all<'t>(
    specs: impl Iterator<Item = &'t ParamSpec>,
    prefix: &str,
    tensors: &'t [NamedTensor],
) -> Result<Vec<&'t [f32]>> {
    let by_name: std::collections::HashMap<&str, &NamedTensor> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    specs
        .map(|spec| {
            let name = format!("{prefix}{}", spec.name);
            let tensor = by_name
                .get(name.as_str())
                .ok_or_else(|| Error::Weights(format!("`{name}` is missing")))?;
            let len: usize = spec.shape.iter().product();
            if tensor.shape != spec.shape || tensor.data.len() != len {
                return Err(Error::Weights(format!(
                    "`{name}` has shape {:?}, the network's has {:?}",
                    tensor.shape, spec.shape
                )));
            }
            Ok(tensor.data.as_slice())
        })
        .collect()
}
