//! What an array is, in a line and for programs.

use dacapo::array::ArraySpec;
use serde_json::{Value, json};

/// An array in a line: `uint8 [170, 250, 250] at [0:1700, …], voxels of (10, 10, 10) nm`.
pub fn line(spec: &ArraySpec) -> String {
    let mut units = spec.units.clone();
    units.dedup();
    let units = if units == [""] {
        String::new()
    } else {
        format!(" {}", units.join(", "))
    };
    format!(
        "{} {:?} at {}, voxels of {}{units}",
        spec.dtype,
        spec.shape(),
        spec.roi,
        spec.voxel_size
    )
}

/// The same for programs.
pub fn value(spec: &ArraySpec) -> Value {
    json!({
        "dtype": spec.dtype.name(),
        "shape": spec.shape(),
        "voxel_size": spec.voxel_size,
        "offset": spec.roi.offset,
        "units": spec.units,
        "axis_names": spec.axis_names,
    })
}
