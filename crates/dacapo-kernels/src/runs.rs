//! Where runs of equal voxels end in a row, as bits: 64 voxels are compared at once, without a branch.

use crate::Label;

/// Voxels of a word.
const WORD: usize = u64::BITS as usize;

/// How many words a row of so many voxels takes.
pub(crate) fn words(columns: usize) -> usize {
    columns.div_ceil(WORD)
}

/// Appends the words of a row: the bit of each voxel is set that is the last of its run of equal ones.
pub(crate) fn push_ends<T: Label>(row: &[T], ends: &mut Vec<u64>) {
    let mut rest = row;
    while let Some(voxels) = rest.first_chunk() {
        ends.push(differences(voxels));
        rest = &rest[WORD..];
    }
    if let Some(last) = rest.len().checked_sub(1) {
        let mut voxels = [rest[last]; WORD + 1];
        voxels[..=last].copy_from_slice(rest);
        let inside = differences(&voxels) & ((1 << last) - 1);
        ends.push(inside | 1 << last);
    }
}

/// The bit of each voxel that differs from the next one. Two loops over indices, in a function of their own: in any other
/// form that was tried, the compiler does fewer at once.
#[inline(never)]
#[allow(clippy::needless_range_loop, reason = "see above")]
fn differences<T: Label>(voxels: &[T; WORD + 1]) -> u64 {
    let none = T::Difference::default();
    let mut differences = [none; WORD];
    for i in 0..WORD {
        differences[i] = voxels[i].difference(voxels[i + 1]);
    }
    let mut bytes = [0; WORD];
    for i in 0..WORD {
        bytes[i] = u8::from(differences[i] != none);
    }
    let eights = bytes.as_chunks::<8>().0.iter();
    // Multiplied, the lowest bits of the bytes come to lie in the highest byte, side by side.
    let bits = eights.map(|&eight| u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56);
    bits.rev().fold(0, |word, bits| word << 8 | bits)
}

/// Visits the bits of the words of a row, as places along it.
#[inline(always)]
pub(crate) fn for_each_place(words: impl IntoIterator<Item = u64>, mut visit: impl FnMut(usize)) {
    for (index, mut word) in words.into_iter().enumerate() {
        while word != 0 {
            visit(index * WORD + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_where_the_next_voxel_differs() {
        for columns in [0usize, 1, 2, 63, 64, 65, 127, 128, 129, 300] {
            for period in [1, 2, 3, 64, 1000] {
                let row: Vec<u64> = (0..columns).map(|x| (x / period) as u64 % 2 * u64::MAX).collect();
                let mut ends = vec![7];
                push_ends(&row, &mut ends);
                assert_eq!(ends.len(), 1 + words(columns));
                let mut found = Vec::new();
                for_each_place(ends[1..].iter().copied(), |place| found.push(place));
                let expected: Vec<usize> = (0..columns)
                    .filter(|&x| row.get(x + 1) != Some(&row[x]))
                    .collect();
                assert_eq!(found, expected, "{columns}, {period}");
            }
        }
    }
}
