//! AVX2 with FMA.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block here is an instruction: the value at hand, or the caller of an unsafe maker, proves \
              that the CPU has it; pointers are the caller's promise (see `Vector`)"
)]

use super::Vector;
use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// Eight ones and eight zeros: the mask of the first n lanes starts n elements before the zeros.
static EDGE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// By hand, because the compiler loads factors early: a register more than there are, so that it spills a sum,
/// and the loop takes twice as long.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile(
    input: *const f32,
    taps: &[usize],
    weights: *const f32,
    output: *mut f32,
    pitch: usize,
    add: bool,
) {
    unsafe {
        core::arch::asm!(
            "vxorps xmm0, xmm0, xmm0",
            "vxorps xmm1, xmm1, xmm1",
            "vxorps xmm2, xmm2, xmm2",
            "vxorps xmm3, xmm3, xmm3",
            "vxorps xmm4, xmm4, xmm4",
            "vxorps xmm5, xmm5, xmm5",
            "vxorps xmm6, xmm6, xmm6",
            "vxorps xmm7, xmm7, xmm7",
            "vxorps xmm8, xmm8, xmm8",
            "vxorps xmm9, xmm9, xmm9",
            "vxorps xmm10, xmm10, xmm10",
            "vxorps xmm11, xmm11, xmm11",
            "cmp {tap}, {end}",
            "je 3f",
            ".p2align 5",
            "2:",
            "mov {offset}, [{tap}]",
            "vmovups ymm12, [{x} + 4 * {offset}]",
            "vmovups ymm13, [{x} + 4 * {offset} + 32]",
            "vmovups ymm14, [{x} + 4 * {offset} + 64]",
            "vbroadcastss ymm15, [{w}]",
            "vfmadd231ps ymm0, ymm15, ymm12",
            "vfmadd231ps ymm1, ymm15, ymm13",
            "vfmadd231ps ymm2, ymm15, ymm14",
            "vbroadcastss ymm15, [{w} + 4]",
            "vfmadd231ps ymm3, ymm15, ymm12",
            "vfmadd231ps ymm4, ymm15, ymm13",
            "vfmadd231ps ymm5, ymm15, ymm14",
            "vbroadcastss ymm15, [{w} + 8]",
            "vfmadd231ps ymm6, ymm15, ymm12",
            "vfmadd231ps ymm7, ymm15, ymm13",
            "vfmadd231ps ymm8, ymm15, ymm14",
            "vbroadcastss ymm15, [{w} + 12]",
            "vfmadd231ps ymm9, ymm15, ymm12",
            "vfmadd231ps ymm10, ymm15, ymm13",
            "vfmadd231ps ymm11, ymm15, ymm14",
            "add {w}, 16",
            "add {tap}, 8",
            "cmp {tap}, {end}",
            "jne 2b",
            "3:",
            "test {add:e}, {add:e}",
            "jz 4f",
            "mov {offset}, {y}",
            "vaddps ymm0, ymm0, [{offset}]",
            "vaddps ymm1, ymm1, [{offset} + 32]",
            "vaddps ymm2, ymm2, [{offset} + 64]",
            "lea {offset}, [{offset} + 4 * {pitch}]",
            "vaddps ymm3, ymm3, [{offset}]",
            "vaddps ymm4, ymm4, [{offset} + 32]",
            "vaddps ymm5, ymm5, [{offset} + 64]",
            "lea {offset}, [{offset} + 4 * {pitch}]",
            "vaddps ymm6, ymm6, [{offset}]",
            "vaddps ymm7, ymm7, [{offset} + 32]",
            "vaddps ymm8, ymm8, [{offset} + 64]",
            "lea {offset}, [{offset} + 4 * {pitch}]",
            "vaddps ymm9, ymm9, [{offset}]",
            "vaddps ymm10, ymm10, [{offset} + 32]",
            "vaddps ymm11, ymm11, [{offset} + 64]",
            "4:",
            "vmovups [{y}], ymm0",
            "vmovups [{y} + 32], ymm1",
            "vmovups [{y} + 64], ymm2",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y}], ymm3",
            "vmovups [{y} + 32], ymm4",
            "vmovups [{y} + 64], ymm5",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y}], ymm6",
            "vmovups [{y} + 32], ymm7",
            "vmovups [{y} + 64], ymm8",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y}], ymm9",
            "vmovups [{y} + 32], ymm10",
            "vmovups [{y} + 64], ymm11",
            x = in(reg) input,
            w = inout(reg) weights => _,
            tap = inout(reg) taps.as_ptr() => _,
            end = in(reg) taps.as_ptr_range().end,
            y = inout(reg) output => _,
            pitch = in(reg) pitch,
            offset = out(reg) _,
            add = in(reg) u32::from(add),
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
            out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
            out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        );
    }
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const TILE: usize = 3;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Avx2(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx2(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        debug_assert!(count <= 8);
        unsafe {
            let mask = _mm256_loadu_si256(EDGE.as_ptr().add(8 - count).cast());
            Avx2(_mm256_maskload_ps(from, mask))
        }
    }
    #[inline(always)]
    fn unzip(self, behind: Self) -> [Self; 2] {
        unsafe {
            // Of both vectors as pairs 0 2 | 8 10 | 4 6 | 12 14, and 1 3 | 9 11 | …; then the pairs in order.
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(self.0, behind.0));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(self.0, behind.0));
            [
                Avx2(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(even))),
                Avx2(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(odd))),
            ]
        }
    }
    #[inline(always)]
    fn zip(self, other: Self) -> [Self; 2] {
        unsafe {
            let low = _mm256_unpacklo_ps(self.0, other.0);
            let high = _mm256_unpackhi_ps(self.0, other.0);
            [
                Avx2(_mm256_permute2f128_ps::<0x20>(low, high)),
                Avx2(_mm256_permute2f128_ps::<0x31>(low, high)),
            ]
        }
    }
    #[inline(always)]
    fn prefetch(address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // Masked stores are slow on several CPUs: write four, two, one.
        debug_assert!(count <= 8);
        unsafe {
            if count == 8 {
                return _mm256_storeu_ps(to, self.0);
            }
            let (mut rest, mut to) = (_mm256_castps256_ps128(self.0), to);
            if count & 4 != 0 {
                _mm_storeu_ps(to, rest);
                rest = _mm256_extractf128_ps::<1>(self.0);
                to = to.add(4);
            }
            if count & 2 != 0 {
                _mm_storel_pd(to.cast(), _mm_castps_pd(rest));
                rest = _mm_movehl_ps(rest, rest);
                to = to.add(2);
            }
            if count & 1 != 0 {
                _mm_store_ss(to, rest);
            }
        }
    }
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        Avx2(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx2(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx2(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx2(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Avx2(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        Avx2(unsafe { _mm256_max_ps(floor.0, self.0) })
    }
    #[inline(always)]
    fn gated(self, gate: Self) -> Self {
        unsafe {
            let open = _mm256_cmp_ps::<_CMP_NLE_UQ>(gate.0, _mm256_setzero_ps());
            Avx2(_mm256_and_ps(self.0, open))
        }
    }
    #[inline(always)]
    unsafe fn tile(
        input: *const f32,
        taps: &[usize],
        weights: *const f32,
        output: *mut f32,
        pitch: usize,
        add: bool,
    ) {
        unsafe { tile(input, taps, weights, output, pitch, add) }
    }
    #[inline(always)]
    fn sums(vectors: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = vectors;
        unsafe {
            let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a.0, b.0), _mm256_hadd_ps(c.0, d.0));
            let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }
}
