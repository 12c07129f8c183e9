//! The commands, one file each: its options, and what it prints. The work is done by the library.

pub mod arrays;
pub mod bench;
pub mod config;
pub mod datasplit;
pub mod demo;
pub mod evaluate;
pub mod export;
pub mod predict;
pub mod runs;
pub mod segment;
pub mod shapes;
pub mod show;
pub mod sweep;
pub mod train;
pub mod validate;
