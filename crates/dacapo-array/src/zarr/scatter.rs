//! Values that several threads fill at once, each at places of its own.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice of which threads take parts that nobody else has.
pub(super) struct Scatter<'a, T> {
    start: *mut T,
    length: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out parts of the slice only, as exclusive references whose caller promises that nobody else
// has them; sending those to other threads needs no more than `T: Send`.
unsafe impl<T: Send> Sync for Scatter<'_, T> {}

impl<'a, T> Scatter<'a, T> {
    pub(super) fn new(values: &'a mut [T]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            length: values.len(),
            of: PhantomData,
        }
    }

    /// A part of the slice.
    ///
    /// # Panics
    /// If the range is not in the slice.
    ///
    /// # Safety
    /// As long as the part is used, no other part that is asked for shares a value with it.
    #[allow(
        clippy::mut_from_ref,
        reason = "that nobody else has the part is the caller's promise"
    )]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.length,
            "{range:?} of {}",
            self.length
        );
        // SAFETY: the range is in the slice, which is borrowed exclusively as long as `self` lives; parts do not
        // overlap, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
