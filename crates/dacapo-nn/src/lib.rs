//! U-Nets and what trains them: architectures, losses, optimisers, schedules and checkpoints behind one
//! small [`Engine`] trait; the CPU engine that is the default, and one on libtorch for GPUs (feature `torch`). No
//! files, no volumes, no tasks live here: tensors go in and come out, and checkpoints are bytes.
//!
//! ```
//! use dacapo_nn::{CpuEngine, Engine, NetworkSpec, Tensor, UNetConfig};
//!
//! # fn main() -> Result<(), dacapo_nn::Error> {
//! let architecture = UNetConfig { input_shape: vec![44, 44, 44], num_fmaps: 2, ..UNetConfig::default() };
//! let mut network = CpuEngine::new(Some(1))?.build(&NetworkSpec::new(architecture, 3))?;
//! let shape = network.output_shape(&[44, 44, 44])?;
//! let mut output = Tensor::default();
//! network.forward(&Tensor::zeros(&[1, 1, 44, 44, 44]), &mut output)?;
//! assert_eq!(&output.shape[2..], shape);
//! # Ok(())
//! # }
//! ```

pub mod pickle;
pub mod protobuf;

mod checkpoint;
mod conv;
mod cpu;
mod device;
mod engine;
mod error;
mod head;
mod init;
mod loss;
mod math;
mod onnx;
mod ops;
mod optimizer;
mod schedule;
mod simd;
mod state;
mod tensor;
#[cfg(feature = "torch")]
mod torch;
#[cfg(not(feature = "torch"))]
#[path = "torch/absent.rs"]
mod torch;
mod torch_file;
mod unet;

pub use checkpoint::{load_checkpoint, save_checkpoint};
pub use conv::{ConvGeometry, Convolution, TransposedConvolution};
pub use cpu::{CpuEngine, LayerProfile};
pub use device::{Device, EngineConfig, Precision};
pub use engine::{Activation, Batch, Engine, Memory, Network, NetworkSpec, OutputGroup, Step};
pub use error::{Error, Result};
pub use head::activate;
pub use loss::Loss;
pub use onnx::export_onnx;
pub use optimizer::{OptimizerConfig, OptimizerKind};
pub use schedule::{Decay, Schedule};
pub use simd::InstructionSet;
pub use tensor::{NamedTensor, Tensor};
pub use torch_file::{TorchFile, TorchTensor, TorchType};
pub use unet::{Nonlinearity, Norm, Padding, UNetConfig, Upsampling};
