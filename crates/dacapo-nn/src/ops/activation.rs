//! Element-wise functions of one input.

use rayon::prelude::*;

use super::{BackwardStep, Kernel, Needs, Op, Pass, Site};
use crate::Result;
use crate::cpu::params::Params;
use crate::math::{normal_cdf_and_density, sigmoid};

/// Values that one task works on.
const CHUNK: usize = 1 << 14;

/// What is left of negative values by a leaky ReLU.
pub(crate) const LEAK: f32 = 0.01;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// max(x, 0).
    Relu,
    /// x, or a hundredth of it where it is negative (Maas et al. 2013).
    LeakyRelu,
    /// x Φ(x), with Φ the normal distribution (Hendrycks & Gimpel 2016): the exact one, by the error function.
    Gelu,
    /// 1 / (1 + e^-x).
    Sigmoid,
}

impl Function {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        match self {
            Self::Relu if x < 0.0 => 0.0,
            Self::LeakyRelu if x < 0.0 => LEAK * x,
            Self::Relu | Self::LeakyRelu => x,
            Self::Gelu => x * normal_cdf_and_density(x).0,
            Self::Sigmoid => sigmoid(x),
        }
    }

    /// Whether the slope is that at an input; otherwise that at the place of an output.
    fn by_input(self) -> bool {
        self == Self::Gelu
    }

    /// The slope at input `at`, or where the output is `at`.
    #[inline(always)]
    fn slope(self, at: f32) -> f32 {
        match self {
            Self::Relu if at <= 0.0 => 0.0,
            Self::LeakyRelu if at <= 0.0 => LEAK,
            Self::Relu | Self::LeakyRelu => 1.0,
            Self::Gelu => {
                let (cdf, density) = normal_cdf_and_density(at);
                cdf + at * density
            }
            Self::Sigmoid => at * (1.0 - at),
        }
    }
}

/// Applies a function to every value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activate(pub(crate) Function);

impl Op for Activate {
    fn channels(&self, inputs: &[usize]) -> usize {
        inputs[0]
    }

    fn length(&self, _: usize, inputs: &[usize]) -> std::result::Result<usize, String> {
        Ok(inputs[0])
    }

    fn plan(&self, _: &Site<'_>) -> Result<Box<dyn Kernel>> {
        Ok(Box::new(*self))
    }
}

/// Runs an expression with `$function` a constant in each branch, so that the loops inside are of one function each.
macro_rules! with_constant {
    ($value:expr, $function:ident => $work:expr) => {
        match $value {
            Function::Relu => {
                const $function: Function = Function::Relu;
                $work
            }
            Function::LeakyRelu => {
                const $function: Function = Function::LeakyRelu;
                $work
            }
            Function::Gelu => {
                const $function: Function = Function::Gelu;
                $work
            }
            Function::Sigmoid => {
                const $function: Function = Function::Sigmoid;
                $work
            }
        }
    };
}

impl Kernel for Activate {
    fn forward(&mut self, inputs: &[&[f32]], output: &mut [f32], _: &mut Params, _: Pass) {
        let chunks = output.par_chunks_mut(CHUNK).zip(inputs[0].par_chunks(CHUNK));
        with_constant!(self.0, FUNCTION => chunks.for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = FUNCTION.value(x));
        }));
    }

    fn needs(&self) -> Needs {
        Needs {
            inputs: self.0.by_input(),
            output: !self.0.by_input(),
        }
    }

    fn in_place(&self) -> bool {
        true
    }

    fn backward(&mut self, step: BackwardStep<'_>, _: &mut Params) {
        let places = if self.0.by_input() {
            step.inputs[0]
        } else {
            step.output
        };
        let chunks = step.gradient.par_chunks_mut(CHUNK).zip(places.par_chunks(CHUNK));
        with_constant!(self.0, FUNCTION => chunks.for_each(|(gradient, at)| {
            gradient.iter_mut().zip(at).for_each(|(g, &at)| *g *= FUNCTION.slope(at));
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check, compare_with_peer};

    const ALL: [(Function, &str); 4] = [
        (Function::Relu, "relu"),
        (Function::LeakyRelu, "leaky_relu"),
        (Function::Gelu, "gelu"),
        (Function::Sigmoid, "sigmoid"),
    ];

    #[test]
    fn gradients_agree_with_central_differences() {
        for (function, _) in ALL {
            check(&Activate(function), &[(2, [2, 3, 4])], 2);
        }
    }

    #[test]
    fn values_and_gradients_are_pytorchs() {
        for (function, name) in ALL {
            compare_with_peer(&Activate(function), name);
        }
    }

    #[test]
    fn nan_stays() {
        for (function, _) in ALL {
            assert!(function.value(f32::NAN).is_nan(), "{function:?}");
        }
    }
}
