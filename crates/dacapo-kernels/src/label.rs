//! What voxels can be labelled with.

mod sealed {
    pub trait Sealed {}
}

/// A label: an integer of any width and sign, or a boolean. Zero (`false`) is background. Floats are no labels:
/// what a label of 0.5 or NaN would mean is not decided here.
pub trait Label: sealed::Sealed + Copy + Eq + Send + Sync {
    /// The label of background.
    const BACKGROUND: Self;

    /// Bits, some of which are set if two labels differ: half as many as theirs where these are many.
    #[doc(hidden)]
    type Difference: Copy + Default + Eq;

    #[doc(hidden)]
    fn difference(self, other: Self) -> Self::Difference;
}

macro_rules! labels {
    ($($T:ty = $zero:expr, $Difference:ty: $difference:expr);*) => {$(
        impl sealed::Sealed for $T {}
        impl Label for $T {
            const BACKGROUND: Self = $zero;
            type Difference = $Difference;

            #[inline(always)]
            fn difference(self, other: Self) -> $Difference {
                #[allow(clippy::redundant_closure_call, reason = "types have one each")]
                $difference(self ^ other)
            }
        }
    )*};
}
labels!(
    bool = false, bool: |bits| bits;
    u8 = 0, u8: |bits| bits;
    u16 = 0, u16: |bits| bits;
    u32 = 0, u32: |bits| bits;
    u64 = 0, u32: |bits: u64| (bits | bits >> 32) as u32;
    i8 = 0, i8: |bits| bits;
    i16 = 0, i16: |bits| bits;
    i32 = 0, i32: |bits| bits;
    i64 = 0, u32: |bits: i64| (bits | bits >> 32) as u32
);

/// A label that is an id: unsigned, and of at most 64 bits.
pub trait Id: Label + Ord + Into<u64> + TryFrom<u64> {}

impl Id for u8 {}
impl Id for u16 {}
impl Id for u32 {}
impl Id for u64 {}
