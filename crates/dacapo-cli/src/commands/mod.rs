//! The commands, one file each: its options, and what it prints. The work is done by the library.

pub mod arrays;
pub mod config;
pub mod demo;
pub mod export;
pub mod predict;
pub mod runs;
pub mod show;
pub mod train;
pub mod validate;
