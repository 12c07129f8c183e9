//! Values that stand one after another in a file, row-major, uncompressed: windows are read and written row
//! by row.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::values::{self, Order};
use crate::{DType, Error, NdData, Result};

/// A stretch of a file that is an array.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Byte at which the first value begins.
    pub(super) start: u64,
    /// Lengths of the axes, slowest first.
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) order: Order,
}

impl Rows {
    /// Refuses a file that is too short for the array.
    pub(super) fn check(&self) -> Result<()> {
        let there = length(&self.file, &self.path)?;
        let needed = self
            .shape
            .iter()
            .try_fold(self.dtype.size() as u64, |bytes, &n| bytes.checked_mul(n as u64))
            .and_then(|bytes| bytes.checked_add(self.start));
        match needed {
            Some(needed) if needed <= there => Ok(()),
            _ => Err(Error::file(
                &self.path,
                format!(
                    "it has {there} bytes, too few for {:?} values of {}",
                    self.shape, self.dtype
                ),
            )),
        }
    }

    /// The values of a part of the array.
    pub(super) fn read(&self, part: &[Range<usize>]) -> Result<NdData> {
        let shape: Vec<usize> = part.iter().map(Range::len).collect();
        let size = self.dtype.size();
        let mut bytes = crate::memory::filled(&[shape.iter().product::<usize>() * size], 0u8)?
            .into_raw_vec_and_offset()
            .0;
        runs(&self.shape, part, |from, to, length| {
            let to = &mut bytes[to * size..(to + length) * size];
            self.file
                .read_exact_at(to, self.start + (from * size) as u64)
                .map_err(Error::io("read", &self.path))
        })?;
        values::from_bytes(self.dtype, &shape, &bytes, self.order)
    }

    /// Writes the values of a part of the array, of its shape.
    pub(super) fn write(&self, part: &[Range<usize>], data: &NdData) -> Result<()> {
        let size = self.dtype.size();
        let bytes = values::to_bytes(data, self.order);
        runs(&self.shape, part, |to, from, length| {
            let from = &bytes[from * size..(from + length) * size];
            self.file
                .write_all_at(from, self.start + (to * size) as u64)
                .map_err(Error::io("write", &self.path))
        })
    }
}

/// Bytes of a file.
pub(super) fn length(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(Error::io("read", path))?.len())
}

/// Calls `f(first value in the array, first value in the part, values)` for each stretch of a part that stands
/// together in the array.
fn runs(
    shape: &[usize],
    part: &[Range<usize>],
    mut f: impl FnMut(usize, usize, usize) -> Result<()>,
) -> Result<()> {
    if part.iter().any(Range::is_empty) {
        return Ok(());
    }
    // Axes from here on are whole: one run goes through them.
    let mut split = shape.len();
    while split > 0 && part[split - 1] == (0..shape[split - 1]) {
        split -= 1;
    }
    let outer = split.saturating_sub(1);
    let length: usize = part[outer..].iter().map(Range::len).product();
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
    let count: usize = part[..outer].iter().map(Range::len).product();
    for run in 0..count {
        let mut rest = run;
        let mut at: usize = part
            .iter()
            .zip(&strides)
            .map(|(range, stride)| range.start * stride)
            .sum();
        for axis in (0..outer).rev() {
            at += rest % part[axis].len() * strides[axis];
            rest /= part[axis].len();
        }
        f(at, run * length, length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_a_part_once() {
        let shape = [3, 4, 5];
        let starts = |n: usize| (0..n).flat_map(move |a| (a..=n).map(move |b| a..b));
        for z in starts(3) {
            for y in starts(4) {
                for x in starts(5) {
                    let part = [z.clone(), y.clone(), x.clone()];
                    let mut found = Vec::new();
                    runs(&shape, &part, |at, to, length| {
                        assert_eq!(to, found.len());
                        found.extend(at..at + length);
                        Ok(())
                    })
                    .unwrap();
                    let x = &x;
                    let y = &y;
                    let expected: Vec<usize> = z
                        .clone()
                        .flat_map(|z| {
                            y.clone()
                                .flat_map(move |y| x.clone().map(move |x| (z * 4 + y) * 5 + x))
                        })
                        .collect();
                    assert_eq!(found, expected, "{part:?}");
                }
            }
        }
    }
}
