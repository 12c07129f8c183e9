//! Which chunks a window meets, and copying between a window and a chunk, row by row.

use std::ops::Range;

/// A box of an array's voxels, channels among its axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// First voxel; may lie outside of the array.
    pub(super) begin: Vec<i64>,
    pub(super) shape: Vec<usize>,
}

/// What a window and a chunk share.
#[derive(Debug)]
pub(super) struct Shared {
    /// In the window.
    window: Vec<Range<usize>>,
    /// In the chunk.
    chunk: Vec<Range<usize>>,
}

impl Window {
    /// Whether all of it is in the array.
    pub(super) fn is_inside(&self, shape: &[usize]) -> bool {
        (self.begin.iter().zip(&self.shape).zip(shape))
            .all(|((&begin, &length), &whole)| begin >= 0 && begin as usize + length <= whole)
    }

    /// Indices of the chunks that have something of the window.
    pub(super) fn chunks(&self, array_shape: &[usize], chunk_shape: &[usize]) -> Vec<Vec<u64>> {
        let ranges: Vec<Range<u64>> = (0..self.shape.len())
            .map(|axis| {
                let length = array_shape[axis] as i64;
                let first = self.begin[axis].clamp(0, length) as u64;
                let end = (self.begin[axis] + self.shape[axis] as i64).clamp(0, length) as u64;
                let chunk = chunk_shape[axis] as u64;
                if first >= end {
                    0..0
                } else {
                    first / chunk..end.div_ceil(chunk)
                }
            })
            .collect();
        let mut chunks = vec![Vec::with_capacity(ranges.len())];
        for range in &ranges {
            let longer = chunks.iter().flat_map(|chunk: &Vec<u64>| {
                range
                    .clone()
                    .map(move |index| [chunk.as_slice(), &[index]].concat())
            });
            chunks = longer.collect();
        }
        chunks
    }

    /// What it shares with a chunk, of which only the part inside the array counts.
    pub(super) fn shared(&self, chunk: &[u64], array_shape: &[usize], chunk_shape: &[usize]) -> Shared {
        let mut shared = Shared {
            window: Vec::new(),
            chunk: Vec::new(),
        };
        for axis in 0..self.shape.len() {
            let start = chunk[axis] as i64 * chunk_shape[axis] as i64;
            let end = (start + chunk_shape[axis] as i64).min(array_shape[axis] as i64);
            let first = start.max(self.begin[axis]);
            let last = end.min(self.begin[axis] + self.shape[axis] as i64).max(first);
            let range = |origin: i64| (first - origin) as usize..(last - origin) as usize;
            shared.window.push(range(self.begin[axis]));
            shared.chunk.push(range(start));
        }
        shared
    }
}

impl Shared {
    /// Whether it is all of the chunk that lies in the array.
    pub(super) fn is_whole(&self, chunk: &[u64], array_shape: &[usize], chunk_shape: &[usize]) -> bool {
        self.chunk.iter().enumerate().all(|(axis, range)| {
            let inside = array_shape[axis].saturating_sub(chunk[axis] as usize * chunk_shape[axis]);
            *range == (0..chunk_shape[axis].min(inside))
        })
    }

    /// Whether it is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.chunk.iter().any(Range::is_empty)
    }

    /// Whether it is all of a chunk.
    pub(super) fn fills(&self, chunk_shape: &[usize]) -> bool {
        self.chunk
            .iter()
            .zip(chunk_shape)
            .all(|(range, &length)| *range == (0..length))
    }

    /// Calls `f(first value in the window, first value in the chunk, values)` for each shared row.
    pub(super) fn rows(
        &self,
        window_shape: &[usize],
        chunk_shape: &[usize],
        mut f: impl FnMut(usize, usize, usize),
    ) {
        let axes = window_shape.len();
        if self.window.iter().any(Range::is_empty) {
            return;
        }
        let strides = |shape: &[usize]| -> Vec<usize> {
            let mut strides = vec![1; axes];
            (1..axes)
                .rev()
                .for_each(|axis| strides[axis - 1] = strides[axis] * shape[axis]);
            strides
        };
        let (window_strides, chunk_strides) = (strides(window_shape), strides(chunk_shape));
        let start = |ranges: &[Range<usize>], strides: &[usize]| -> usize {
            ranges
                .iter()
                .zip(strides)
                .map(|(range, stride)| range.start * stride)
                .sum()
        };
        let mut at = (
            start(&self.window, &window_strides),
            start(&self.chunk, &chunk_strides),
        );
        let length = self.window[axes - 1].len();
        // Rows of a plane follow each other by the same steps; planes are counted, the slowest axis last.
        let (rows, planes) = match axes {
            1 => (1, 0),
            _ => (self.window[axes - 2].len(), axes - 2),
        };
        let steps = match axes {
            1 => (0, 0),
            _ => (window_strides[axes - 2], chunk_strides[axes - 2]),
        };
        let mut index = vec![0; planes];
        loop {
            for row in 0..rows {
                f(at.0 + row * steps.0, at.1 + row * steps.1, length);
            }
            let mut axis = planes;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                at.0 += window_strides[axis];
                at.1 += chunk_strides[axis];
                if index[axis] < self.window[axis].len() {
                    break;
                }
                at.0 -= index[axis] * window_strides[axis];
                at.1 -= index[axis] * chunk_strides[axis];
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_window_cover_what_of_it_is_in_the_array_once() {
        let (array, chunk) = ([7, 5, 9], [3, 5, 4]);
        for begin in [[-2, 0, 3], [0, 0, 0], [6, 4, 8], [7, 0, 0], [2, -9, 1]] {
            let window = Window {
                begin: begin.to_vec(),
                shape: vec![5, 6, 7],
            };
            let mut hits = vec![0; 5 * 6 * 7];
            for index in window.chunks(&array, &chunk) {
                let shared = window.shared(&index, &array, &chunk);
                shared.rows(&window.shape, &chunk, |w, c, n| {
                    for i in 0..n {
                        hits[w + i] += 1;
                        // Both ends of the row name the same voxel.
                        let at = |flat: usize, shape: &[usize]| {
                            [
                                flat / shape[2] / shape[1],
                                flat / shape[2] % shape[1],
                                flat % shape[2],
                            ]
                        };
                        let (w, c) = (at(w + i, &window.shape), at(c + i, &chunk));
                        for axis in 0..3 {
                            let voxel = w[axis] as i64 + begin[axis];
                            assert_eq!(voxel, (index[axis] as usize * chunk[axis] + c[axis]) as i64);
                        }
                    }
                });
            }
            for (i, hits) in hits.into_iter().enumerate() {
                let at = [i / 42, i / 7 % 6, i % 7];
                let inside = (0..3).all(|a| (0..array[a] as i64).contains(&(at[a] as i64 + begin[a])));
                assert_eq!(hits, usize::from(inside));
            }
        }
    }
}
