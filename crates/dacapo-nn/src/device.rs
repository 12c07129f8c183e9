//! Where networks are computed, and how exactly: the choice of an engine.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CpuEngine, Engine, Error, Result, torch};

/// What networks run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Device {
    /// The CPU, with our own engine: `cpu`.
    #[default]
    Cpu,
    /// The CPU, with libtorch: `torch-cpu`. To compare with; our own engine is several times faster.
    TorchCpu,
    /// A CUDA GPU by its number, with libtorch: `cuda`, which is the first, or `cuda:1`.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "cpu" => Ok(Self::Cpu),
            "torch-cpu" => Ok(Self::TorchCpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => number(text).map(Self::Cuda).ok_or_else(|| {
                format!("`{text}` is no device: there are `cpu`, `cuda`, `cuda:1` and so on, and `torch-cpu`")
            }),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::TorchCpu => f.write_str("torch-cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// What convolutions are computed in, and the values between them. Weights, normalisations, losses and the optimiser's
/// state are 32 bits always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32 (bfloat16): mixed precision on GPUs since Ampere.
    Bf16,
    /// 16 bits of IEEE 754: mixed precision on older GPUs. The loss is scaled, so that small gradients are not lost.
    F16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(format!(
                "`{text}` is no precision: there are `f32`, `bf16` and `f16`"
            )),
        }
    }
}

/// An engine of choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// What networks run on.
    pub device: Device,
    /// Other than [`Precision::F32`] on libtorch's devices only.
    pub precision: Precision,
    /// Whether channels lie side by side in memory, which GPUs are faster with in 16 bits. libtorch's devices only.
    pub channels_last: bool,
    /// Threads on a CPU; by default one a core. libtorch has one number of threads for the whole process.
    pub threads: Option<usize>,
}

impl EngineConfig {
    /// The engine.
    ///
    /// # Errors
    /// [`Error::Config`] for a precision or a layout that the device does not have. [`Error::Engine`] if the device is
    /// not there, if this program was built without libtorch and it takes that, or if threads cannot be started.
    pub fn start(&self) -> Result<Box<dyn Engine>> {
        match self.device {
            Device::Cpu => Ok(Box::new(self.start_cpu()?)),
            Device::TorchCpu | Device::Cuda(_) => torch::start(self),
        }
    }

    /// Our own engine, whatever the device, with what it alone tells of itself.
    ///
    /// # Errors
    /// [`Error::Config`] for a precision or a layout that it does not have, [`Error::Engine`] if threads cannot be
    /// started.
    pub fn start_cpu(&self) -> Result<CpuEngine> {
        let only = |field, ok: bool| match ok {
            true => Ok(()),
            false => Err(Error::Config {
                field,
                reason: "the device `cpu` computes in f32, with channels apart: this is for `cuda`".into(),
            }),
        };
        only("precision", self.precision == Precision::F32)?;
        only("channels_last", !self.channels_last)?;
        CpuEngine::new(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("torch-cpu", Device::TorchCpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:-1", "CPU", ""] {
            assert!(text.parse::<Device>().unwrap_err().contains("`torch-cpu`"));
        }
    }

    #[test]
    fn our_cpu_engine_has_one_precision() {
        let config = EngineConfig {
            precision: Precision::Bf16,
            threads: Some(1),
            ..EngineConfig::default()
        };
        let refusal = config.start().err().unwrap().to_string();
        assert!(refusal.starts_with("`precision`: the device `cpu`"), "{refusal}");
    }
}
