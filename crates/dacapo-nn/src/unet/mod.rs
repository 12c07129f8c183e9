//! The U-Net family: its config, the shapes that it takes, and the graph of operations that it is.

mod build;
mod config;

pub use config::{Norm, Padding, UNetConfig};
