//! The engine on libtorch, for GPUs: the graph of the CPU engine, each operation by one function of libtorch, with the
//! gradients that libtorch derives. The same initial values, losses, optimisers and named tensors, so that a run may
//! change its engine at any checkpoint. `absent` stands in its place where the feature `torch` is off.

use tch::Kind;

use crate::{Device, Engine, EngineConfig, Error, Memory, Network, NetworkSpec, Precision, Result};
use network::TorchNetwork;
pub(crate) use ops::ToTorch;

mod loss;
mod memory;
mod network;
mod ops;
mod pass;
mod weights;

/// Where and how tensors of libtorch are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    device: tch::Device,
    /// Of convolutions and of the values between them.
    kind: Kind,
    channels_last: bool,
}

/// Builds networks that run in libtorch.
#[derive(Debug)]
struct TorchEngine {
    setting: Setting,
}

/// The engine for a device of libtorch.
///
/// # Errors
/// [`Error::Engine`] if the device is not there.
pub(crate) fn start(config: &EngineConfig) -> Result<Box<dyn Engine>> {
    let device = match config.device {
        Device::Cpu | Device::TorchCpu => tch::Device::Cpu,
        Device::Cuda(number) => {
            let found = tch::Cuda::device_count();
            if !tch::Cuda::is_available() || found == 0 {
                return Err(Error::Engine(
                    "libtorch finds no CUDA device: it takes an NVIDIA GPU with its driver, and a PyTorch that was \
                     built for CUDA (docs/gpu.md)"
                        .into(),
                ));
            }
            if number as i64 >= found {
                return Err(Error::Engine(format!(
                    "there is no `{}`: libtorch finds {found} CUDA devices, counted from 0",
                    config.device
                )));
            }
            // Shapes repeat: it pays to try which algorithm is the fastest.
            tch::Cuda::cudnn_set_benchmark(true);
            tch::Device::Cuda(number)
        }
    };
    if let (tch::Device::Cpu, Some(threads)) = (device, config.threads) {
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
    let kind = match config.precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::F16 => Kind::Half,
    };
    Ok(Box::new(TorchEngine {
        setting: Setting {
            device,
            kind,
            channels_last: config.channels_last,
        },
    }))
}

impl Engine for TorchEngine {
    fn build(&self, spec: &NetworkSpec) -> Result<Box<dyn Network>> {
        Ok(Box::new(TorchNetwork::new(spec, self.setting)?))
    }

    fn memory(&self, spec: &NetworkSpec, input: &[usize], batch: usize) -> Result<Memory> {
        memory::estimate(spec, input, batch, self.setting)
    }

    fn free_memory(&self) -> Option<u64> {
        // libtorch's interface to Rust does not tell that of a GPU.
        match self.setting.device {
            tch::Device::Cpu => crate::cpu::free::free(),
            _ => None,
        }
    }
}

impl From<tch::TchError> for Error {
    /// What libtorch says, without the C++ calls that led there.
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}
