//! NEON, which every 64-bit ARM has.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block here is an instruction: the value at hand, or the caller of an unsafe maker, proves \
              that the CPU has it; pointers are the caller's promise (see `Vector`)"
)]

use super::Vector;
use core::arch::aarch64::*;

#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

impl Vector for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Neon(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Neon(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        debug_assert!(count <= 4);
        if count == 4 {
            return Neon(unsafe { vld1q_f32(from) });
        }
        let mut lanes = [0.0f32; 4];
        let mut i = 0;
        while i < count {
            lanes[i] = unsafe { *from.add(i) };
            i += 1;
        }
        Neon(unsafe { vld1q_f32(lanes.as_ptr()) })
    }
    #[inline(always)]
    fn unzip(self, behind: Self) -> [Self; 2] {
        unsafe {
            [
                Neon(vuzp1q_f32(self.0, behind.0)),
                Neon(vuzp2q_f32(self.0, behind.0)),
            ]
        }
    }
    #[inline(always)]
    fn zip(self, other: Self) -> [Self; 2] {
        unsafe {
            [
                Neon(vzip1q_f32(self.0, other.0)),
                Neon(vzip2q_f32(self.0, other.0)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        debug_assert!(count <= 4);
        unsafe {
            if count == 4 {
                return vst1q_f32(to, self.0);
            }
            let (mut rest, mut to) = (vget_low_f32(self.0), to);
            if count & 2 != 0 {
                vst1_f32(to, rest);
                rest = vget_high_f32(self.0);
                to = to.add(2);
            }
            if count & 1 != 0 {
                vst1_lane_f32::<0>(to, rest);
            }
        }
    }
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        Neon(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Neon(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Neon(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Neon(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Neon(unsafe { vfmaq_f32(addend.0, self.0, factor.0) })
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // The instruction gives NaN where either is.
        Neon(unsafe { vmaxq_f32(self.0, floor.0) })
    }
    #[inline(always)]
    fn gated(self, gate: Self) -> Self {
        unsafe {
            let shut = vcleq_f32(gate.0, vdupq_n_f32(0.0));
            Neon(vreinterpretq_f32_u32(vbicq_u32(
                vreinterpretq_u32_f32(self.0),
                shut,
            )))
        }
    }
    #[inline(always)]
    fn sums(vectors: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = vectors;
        unsafe {
            let sums = vpaddq_f32(vpaddq_f32(a.0, b.0), vpaddq_f32(c.0, d.0));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), sums);
            out
        }
    }
}
