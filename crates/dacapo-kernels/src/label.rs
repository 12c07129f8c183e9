//! What voxels can be labelled with.

mod sealed {
    pub trait Sealed {}
}

/// A label: an integer of any width and sign, or a boolean. Zero (`false`) is background. Floats are no labels:
/// what a label of 0.5 or NaN would mean is not decided here.
pub trait Label: sealed::Sealed + Copy + Eq + Send + Sync {
    /// The label of background.
    const BACKGROUND: Self;
}

macro_rules! labels {
    ($($T:ty = $zero:expr),*) => {$(
        impl sealed::Sealed for $T {}
        impl Label for $T {
            const BACKGROUND: Self = $zero;
        }
    )*};
}
labels!(
    bool = false,
    u8 = 0,
    u16 = 0,
    u32 = 0,
    u64 = 0,
    i8 = 0,
    i16 = 0,
    i32 = 0,
    i64 = 0
);

/// A label that is an id: unsigned, and of at most 64 bits.
pub trait Id: Label + Ord + Into<u64> + TryFrom<u64> {}

impl Id for u8 {}
impl Id for u16 {}
impl Id for u32 {}
impl Id for u64 {}
