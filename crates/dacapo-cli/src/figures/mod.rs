//! Pictures of a run: slices and training batches as PNG, curves as SVG, a small curve for the terminal.

mod canvas;
mod curve;
mod montage;
mod overlay;
mod preview;

pub use curve::{Panel, Series, check_svg, draw, sparkline};
pub use montage::{Row, montage};
pub use overlay::overlay;
pub use preview::preview;
