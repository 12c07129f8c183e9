//! Buffers that go round: fresh memory costs several times a pass over it.

/// What an arena hands out: memory, or only its size, to find out how much there will be.
pub(crate) trait Room {
    /// Room for `len` values.
    fn of(len: usize) -> Self;
    /// How many values there is room for.
    fn len(&self) -> usize;
}

impl Room for Vec<f32> {
    fn of(len: usize) -> Self {
        vec![0.0; len]
    }

    fn len(&self) -> usize {
        Vec::len(self)
    }
}

impl Room for usize {
    fn of(len: usize) -> Self {
        len
    }

    fn len(&self) -> usize {
        *self
    }
}

/// Buffers that are not in use.
#[derive(Debug)]
pub(crate) struct Arena<B = Vec<f32>> {
    free: Vec<B>,
    /// Values that there is room for in all buffers, those in use among them.
    total: usize,
}

impl<B> Default for Arena<B> {
    fn default() -> Self {
        Self {
            free: Vec::new(),
            total: 0,
        }
    }
}

impl<B: Room> Arena<B> {
    /// A buffer of at least `len` values, which are unspecified: the smallest that fits, but none of more than twice
    /// the length, which something large will soon need.
    pub(crate) fn take(&mut self, len: usize) -> B {
        let fits = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| (len..=2 * len).contains(&buffer.len()));
        if let Some((i, _)) = fits.min_by_key(|(_, buffer)| buffer.len()) {
            return self.free.swap_remove(i);
        }
        // With some room, so that a little more fits there later. Pages that are never touched cost nothing.
        let room = len.next_multiple_of(len.next_power_of_two().div_ceil(8).max(1));
        self.total += room;
        B::of(room)
    }

    pub(crate) fn give(&mut self, buffer: B) {
        if buffer.len() > 0 {
            self.free.push(buffer);
        }
    }

    /// Values that all its buffers have room for.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}
