//! Large pages for large arrays: fresh memory costs several times what is done with it, page by page.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, asking for huge pages where much memory is wanted at once: on Linux, where pages of 2 MiB
/// are usually given to those alone who ask (`madvise`), as NumPy does. For programs to install; a library leaves
/// the choice to them.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: dacapo_array::HugePages = dacapo_array::HugePages;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct HugePages;

/// Bytes from which on an allocation asks.
const LARGE: usize = 4 << 20;

// SAFETY: memory is the system's throughout; what it is advised of changes neither its place nor what is in it.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc(layout) };
        ask(memory, layout.size());
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc_zeroed(layout) };
        ask(memory, layout.size());
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.realloc(memory, layout, size) };
        ask(memory, size);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Asks for huge pages in `size` bytes of memory, if that is much.
fn ask(memory: *mut u8, size: usize) {
    #[cfg(target_os = "linux")]
    if size >= LARGE && !memory.is_null() {
        const PAGE: usize = 4096;
        let skipped = memory.align_offset(PAGE);
        // SAFETY: these bytes are a part of an allocation of ours, and advice does not touch them. Where it is refused,
        // pages stay small.
        unsafe {
            libc::madvise(memory.add(skipped).cast(), size - skipped, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (memory, size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_callers_at_every_size() {
        for size in [1, 4096, LARGE - 1, LARGE, 3 * LARGE + 5] {
            for align in [1, 64, 4096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let half = Layout::from_size_align(size.div_ceil(2), align).unwrap();
                // SAFETY: written within its size, grown and freed with the layout that it was made with.
                unsafe {
                    let zeros = HugePages.alloc_zeroed(half);
                    assert!((0..half.size()).all(|i| *zeros.add(i) == 0));
                    zeros.write_bytes(7, half.size());
                    let grown = HugePages.realloc(zeros, half, size);
                    assert!((0..half.size()).all(|i| *grown.add(i) == 7));
                    HugePages.dealloc(grown, layout);
                    let memory = HugePages.alloc(layout);
                    assert_eq!(memory.align_offset(align), 0);
                    memory.write_bytes(1, size);
                    HugePages.dealloc(memory, layout);
                }
            }
        }
    }
}
