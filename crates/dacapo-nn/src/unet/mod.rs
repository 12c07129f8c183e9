//! The U-Net family: its config, the shapes that it takes, and the graph of operations that it is.

mod build;
mod config;
mod shapes;

pub(crate) use build::Purpose;
pub use config::{Nonlinearity, Norm, Padding, UNetConfig, Upsampling};
