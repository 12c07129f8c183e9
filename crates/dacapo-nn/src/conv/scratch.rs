//! Working memory that is kept: each thread holds the buffers that its last convolutions used and lends them
//! again, so that a training step touches no fresh pages. Also the view by which tasks write disjoint parts of one
//! output.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A lent buffer; goes back to the thread that drops it. What it holds at first is left over from before.
pub(super) struct Scratch {
    memory: Vec<f32>,
    /// Where a cache line begins: vectors that straddle two lines take twice as long.
    start: usize,
    len: usize,
}

/// Elements of a cache line.
const LINE: usize = 16;

impl Scratch {
    /// Lends `len` elements from the start of a cache line: the smallest free buffer that is large enough, else the largest one, grown.
    pub(super) fn take(len: usize) -> Self {
        let room = len + LINE;
        let found = FREE.with_borrow_mut(|free| {
            let fits = free
                .iter()
                .enumerate()
                .filter(|(_, b)| b.len() >= room)
                .min_by_key(|(_, b)| b.len());
            let chosen = fits
                .or_else(|| free.iter().enumerate().max_by_key(|(_, b)| b.len()))
                .map(|(i, _)| i);
            chosen.map(|i| free.swap_remove(i))
        });
        let mut memory = found.unwrap_or_default();
        if memory.len() < room {
            // Not `resize`: the old contents need not be copied.
            memory = vec![0.0; room];
        }
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, start, len }
    }

    /// The same, filled with zeros.
    pub(super) fn zeroed(len: usize) -> Self {
        let mut scratch = Self::take(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // A thread that is ending has no list any more; then the memory is freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(memory));
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// A mutable slice that several tasks write at once, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: `part` is the only access, and its contract forbids two tasks the same elements.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: std::marker::PhantomData,
        }
    }

    /// For writers that compute their own addresses: they must keep to the slice, and to elements that no other
    /// task touches.
    pub(super) fn start(&self) -> *mut f32 {
        self.start
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other reference to any of them may be alive.
    ///
    /// # Panics
    /// Where the range is not inside the slice.
    #[allow(
        clippy::mut_from_ref,
        reason = "that is what it is for; the contract says who may"
    )]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is outside of {}",
            self.len
        );
        // SAFETY: inside the slice by the assertion; unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
