//! Plain Rust, for every CPU.

use super::Vector;

/// The compiler vectorises it as far as the target's baseline goes.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 8]);

macro_rules! lanewise {
    ($i:ident, $value:expr) => {{
        let mut out = [0.0f32; 8];
        let mut $i = 0;
        while $i < 8 {
            out[$i] = $value;
            $i += 1;
        }
        Plain(out)
    }};
}

impl Vector for Plain {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Plain([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises eight elements; `read_unaligned` takes any alignment.
        Plain(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: only elements below `count` are read.
        lanewise!(i, if i < count { unsafe { *from.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    fn unzip(self, behind: Self) -> [Self; 2] {
        let both = [self.0, behind.0];
        [
            lanewise!(i, both[i / 4][2 * (i % 4)]),
            lanewise!(i, both[i / 4][2 * (i % 4) + 1]),
        ]
    }
    #[inline(always)]
    fn zip(self, other: Self) -> [Self; 2] {
        let both = [self.0, other.0];
        [
            lanewise!(i, both[i % 2][i / 2]),
            lanewise!(i, both[i % 2][4 + i / 2]),
        ]
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises eight elements.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (i, &value) in self.0.iter().enumerate().take(count) {
            // SAFETY: only elements below `count` are written.
            unsafe { *to.add(i) = value };
        }
    }
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        Plain([value; 8])
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        lanewise!(i, self.0[i] + other.0[i])
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        lanewise!(i, self.0[i] - other.0[i])
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        lanewise!(i, self.0[i] * other.0[i])
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        // Not `mul_add`: without the instruction that is a call into the C library, a hundred times slower.
        lanewise!(i, self.0[i] * factor.0[i] + addend.0[i])
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        lanewise!(
            i,
            if self.0[i] < floor.0[i] {
                floor.0[i]
            } else {
                self.0[i]
            }
        )
    }
    #[inline(always)]
    fn gated(self, gate: Self) -> Self {
        lanewise!(i, if gate.0[i] <= 0.0 { 0.0 } else { self.0[i] })
    }
    #[inline(always)]
    fn sums(vectors: [Self; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        let mut i = 0;
        while i < 4 {
            let v = vectors[i].0;
            out[i] = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
            i += 1;
        }
        out
    }
}
