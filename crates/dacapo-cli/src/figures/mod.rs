//! Pictures of a run: a montage of slices as PNG, curves as SVG, a small curve for the terminal.

mod canvas;
mod curve;
mod montage;
mod overlay;

pub use curve::{Panel, Series, draw, sparkline};
pub use montage::{Row, montage};
pub use overlay::overlay;
