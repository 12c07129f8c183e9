//! Going through an array part by part, so that no more of it is in memory than a part.

use std::ops::ControlFlow;

use crate::{ArraySpec, Error, Result, Roi};

/// Bytes of a part, about.
pub(crate) const PART: usize = 64 << 20;

/// Hears how many of all parts are done; says whether to go on.
pub type OnPart<'a> = &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// The parts of an array, in order: whole rows and planes as far as `most` bytes go, borders on multiples of
/// `step` voxels; at least one step.
pub(crate) fn parts(spec: &ArraySpec, step: &[usize], most: usize) -> Vec<Roi> {
    let leading = spec.channels.len();
    let shape = spec.shape()[leading..].to_vec();
    let step: Vec<usize> = step
        .iter()
        .zip(&shape)
        .map(|(&step, &n)| step.clamp(1, n.max(1)))
        .collect();
    if shape.contains(&0) {
        return Vec::new();
    }
    let voxel = spec.channels.iter().product::<usize>().max(1) * spec.dtype.size();
    let mut part = step.clone();
    for axis in (0..shape.len()).rev() {
        let bytes = part.iter().try_fold(voxel, |bytes, &n| bytes.checked_mul(n));
        let times = bytes.map_or(1, |bytes| (most / bytes).max(1));
        part[axis] = shape[axis].min(step[axis].saturating_mul(times));
        if part[axis] < shape[axis] {
            break;
        }
    }
    let counts: Vec<usize> = shape
        .iter()
        .zip(&part)
        .map(|(n, part)| n.div_ceil(*part))
        .collect();
    (0..counts.iter().product())
        .map(|i| {
            let mut rest = i;
            let mut begin = vec![0; shape.len()];
            for axis in (0..shape.len()).rev() {
                begin[axis] = rest % counts[axis] * part[axis];
                rest /= counts[axis];
            }
            let size: Vec<usize> = (0..shape.len())
                .map(|a| part[a].min(shape[a] - begin[a]))
                .collect();
            voxels(spec, &begin, &size)
        })
        .collect()
}

/// A region in voxels from the array's first.
pub(crate) fn voxels(spec: &ArraySpec, begin: &[usize], shape: &[usize]) -> Roi {
    let begin: Vec<i64> = begin.iter().map(|&n| n as i64).collect();
    Roi::from_voxels(&begin, shape, &spec.voxel_size).shift(spec.roi.begin())
}

/// Runs `f` on each part, and says how far it is.
///
/// # Errors
/// [`Error::Interrupted`] if the listener says so; whatever `f` meets.
pub(crate) fn go_through(
    parts: &[Roi],
    on_part: OnPart<'_>,
    mut f: impl FnMut(&Roi) -> Result<()>,
) -> Result<()> {
    let mut told = on_part(0, parts.len());
    for (i, part) in parts.iter().enumerate() {
        if told.is_break() {
            return Err(Error::Interrupted);
        }
        f(part)?;
        told = on_part(i + 1, parts.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Coordinate, DType};

    #[test]
    fn parts_cover_the_array_once_on_the_grid_within_memory() {
        let voxel_size = Coordinate::new([3, 2, 1]);
        for shape in [[7, 9, 11], [1, 1, 1], [16, 8, 8], [0, 3, 3]] {
            let roi = Roi::from_voxels(&[5, -5, 0], &shape, &voxel_size);
            let spec = ArraySpec::new(roi, voxel_size.clone(), DType::U16).with_channels(vec![2]);
            for step in [[1, 1, 1], [4, 4, 4], [100, 2, 3]] {
                for most in [1, 100, 1000, 100_000] {
                    let mut hits = vec![0; shape.iter().product()];
                    for part in parts(&spec, &step, most) {
                        let (begin, size) = spec.window(&part).unwrap();
                        let at_least: usize = step.iter().zip(shape).map(|(&s, n)| s.min(n)).product();
                        let count: usize = size.iter().product();
                        assert!(count * 4 <= most || count <= at_least, "{part} {step:?} {most}");
                        for z in 0..size[0] {
                            for y in 0..size[1] {
                                for x in 0..size[2] {
                                    let at = [
                                        begin[0] as usize + z,
                                        begin[1] as usize + y,
                                        begin[2] as usize + x,
                                    ];
                                    hits[(at[0] * shape[1] + at[1]) * shape[2] + at[2]] += 1;
                                }
                            }
                        }
                        for axis in 0..3 {
                            assert!((begin[axis] as usize).is_multiple_of(step[axis].min(shape[axis])));
                        }
                    }
                    assert!(hits.iter().all(|&n| n == 1), "{shape:?} {step:?} {most}");
                }
            }
        }
    }
}
