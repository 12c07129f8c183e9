//! AVX-512: its foundation (F) alone, beside AVX2 and FMA.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block here is an instruction: the value at hand, or the caller of an unsafe maker, proves \
              that the CPU has it; pointers are the caller's promise (see `Vector`)"
)]

use super::Vector;
use core::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    ((1u32 << count) - 1) as __mmask16
}

/// By hand, as the tile of AVX2: 4 × 6 sums, 6 inputs and 2 factors are all 32 registers, and the compiler wants more.
#[target_feature(enable = "avx512f")]
unsafe fn tile(input: *const f32, taps: &[usize], weights: *const f32, output: *mut f32, pitch: usize) {
    unsafe {
        core::arch::asm!(
            "vpxord zmm0, zmm0, zmm0",
            "vpxord zmm1, zmm1, zmm1",
            "vpxord zmm2, zmm2, zmm2",
            "vpxord zmm3, zmm3, zmm3",
            "vpxord zmm4, zmm4, zmm4",
            "vpxord zmm5, zmm5, zmm5",
            "vpxord zmm6, zmm6, zmm6",
            "vpxord zmm7, zmm7, zmm7",
            "vpxord zmm8, zmm8, zmm8",
            "vpxord zmm9, zmm9, zmm9",
            "vpxord zmm10, zmm10, zmm10",
            "vpxord zmm11, zmm11, zmm11",
            "vpxord zmm12, zmm12, zmm12",
            "vpxord zmm13, zmm13, zmm13",
            "vpxord zmm14, zmm14, zmm14",
            "vpxord zmm15, zmm15, zmm15",
            "vpxord zmm16, zmm16, zmm16",
            "vpxord zmm17, zmm17, zmm17",
            "vpxord zmm18, zmm18, zmm18",
            "vpxord zmm19, zmm19, zmm19",
            "vpxord zmm20, zmm20, zmm20",
            "vpxord zmm21, zmm21, zmm21",
            "vpxord zmm22, zmm22, zmm22",
            "vpxord zmm23, zmm23, zmm23",
            "cmp {tap}, {end}",
            "je 3f",
            ".p2align 5",
            "2:",
            "mov {offset}, [{tap}]",
            "lea {offset}, [{x} + 4 * {offset}]",
            "vmovups zmm24, [{offset} + 0]",
            "vmovups zmm25, [{offset} + 64]",
            "vmovups zmm26, [{offset} + 128]",
            "vmovups zmm27, [{offset} + 192]",
            "vmovups zmm28, [{offset} + 256]",
            "vmovups zmm29, [{offset} + 320]",
            "vbroadcastss zmm30, [{w} + 0]",
            "vfmadd231ps zmm0, zmm30, zmm24",
            "vfmadd231ps zmm1, zmm30, zmm25",
            "vfmadd231ps zmm2, zmm30, zmm26",
            "vfmadd231ps zmm3, zmm30, zmm27",
            "vfmadd231ps zmm4, zmm30, zmm28",
            "vfmadd231ps zmm5, zmm30, zmm29",
            "vbroadcastss zmm31, [{w} + 4]",
            "vfmadd231ps zmm6, zmm31, zmm24",
            "vfmadd231ps zmm7, zmm31, zmm25",
            "vfmadd231ps zmm8, zmm31, zmm26",
            "vfmadd231ps zmm9, zmm31, zmm27",
            "vfmadd231ps zmm10, zmm31, zmm28",
            "vfmadd231ps zmm11, zmm31, zmm29",
            "vbroadcastss zmm30, [{w} + 8]",
            "vfmadd231ps zmm12, zmm30, zmm24",
            "vfmadd231ps zmm13, zmm30, zmm25",
            "vfmadd231ps zmm14, zmm30, zmm26",
            "vfmadd231ps zmm15, zmm30, zmm27",
            "vfmadd231ps zmm16, zmm30, zmm28",
            "vfmadd231ps zmm17, zmm30, zmm29",
            "vbroadcastss zmm31, [{w} + 12]",
            "vfmadd231ps zmm18, zmm31, zmm24",
            "vfmadd231ps zmm19, zmm31, zmm25",
            "vfmadd231ps zmm20, zmm31, zmm26",
            "vfmadd231ps zmm21, zmm31, zmm27",
            "vfmadd231ps zmm22, zmm31, zmm28",
            "vfmadd231ps zmm23, zmm31, zmm29",
            "add {w}, 16",
            "add {tap}, 8",
            "cmp {tap}, {end}",
            "jne 2b",
            "3:",
            "vmovups [{y} + 0], zmm0",
            "vmovups [{y} + 64], zmm1",
            "vmovups [{y} + 128], zmm2",
            "vmovups [{y} + 192], zmm3",
            "vmovups [{y} + 256], zmm4",
            "vmovups [{y} + 320], zmm5",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y} + 0], zmm6",
            "vmovups [{y} + 64], zmm7",
            "vmovups [{y} + 128], zmm8",
            "vmovups [{y} + 192], zmm9",
            "vmovups [{y} + 256], zmm10",
            "vmovups [{y} + 320], zmm11",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y} + 0], zmm12",
            "vmovups [{y} + 64], zmm13",
            "vmovups [{y} + 128], zmm14",
            "vmovups [{y} + 192], zmm15",
            "vmovups [{y} + 256], zmm16",
            "vmovups [{y} + 320], zmm17",
            "lea {y}, [{y} + 4 * {pitch}]",
            "vmovups [{y} + 0], zmm18",
            "vmovups [{y} + 64], zmm19",
            "vmovups [{y} + 128], zmm20",
            "vmovups [{y} + 192], zmm21",
            "vmovups [{y} + 256], zmm22",
            "vmovups [{y} + 320], zmm23",
            x = in(reg) input,
            w = inout(reg) weights => _,
            tap = inout(reg) taps.as_ptr() => _,
            end = in(reg) taps.as_ptr_range().end,
            y = inout(reg) output => _,
            pitch = in(reg) pitch,
            offset = out(reg) _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack),
        );
    }
}

/// By hand, because the compiler keeps half of the 24 sums in memory. `to[4 t + r]` gets the sum of tap t and
/// row r added. Columns are whole vectors.
#[target_feature(enable = "avx512f")]
unsafe fn dots(x: [*const f32; 6], g: [*const f32; 4], columns: usize, to: *mut f32) {
    unsafe {
        // From minus the columns up to 0, with all rows given by their ends: a register less.
        let columns = columns.next_multiple_of(16);
        let (x, g) = (ends(x, columns), ends(g, columns));
        let mut s = [_mm512_setzero_ps(); 24];
        core::arch::asm!(
            "vpxord zmm0, zmm0, zmm0",
            "vpxord zmm1, zmm1, zmm1",
            "vpxord zmm2, zmm2, zmm2",
            "vpxord zmm3, zmm3, zmm3",
            "vpxord zmm4, zmm4, zmm4",
            "vpxord zmm5, zmm5, zmm5",
            "vpxord zmm6, zmm6, zmm6",
            "vpxord zmm7, zmm7, zmm7",
            "vpxord zmm8, zmm8, zmm8",
            "vpxord zmm9, zmm9, zmm9",
            "vpxord zmm10, zmm10, zmm10",
            "vpxord zmm11, zmm11, zmm11",
            "vpxord zmm12, zmm12, zmm12",
            "vpxord zmm13, zmm13, zmm13",
            "vpxord zmm14, zmm14, zmm14",
            "vpxord zmm15, zmm15, zmm15",
            "vpxord zmm16, zmm16, zmm16",
            "vpxord zmm17, zmm17, zmm17",
            "vpxord zmm18, zmm18, zmm18",
            "vpxord zmm19, zmm19, zmm19",
            "vpxord zmm20, zmm20, zmm20",
            "vpxord zmm21, zmm21, zmm21",
            "vpxord zmm22, zmm22, zmm22",
            "vpxord zmm23, zmm23, zmm23",
            ".p2align 5",
            "2:",
            "vmovups zmm24, [{x0} + 4 * {n}]",
            "vmovups zmm25, [{x1} + 4 * {n}]",
            "vmovups zmm26, [{x2} + 4 * {n}]",
            "vmovups zmm27, [{x3} + 4 * {n}]",
            "vmovups zmm28, [{x4} + 4 * {n}]",
            "vmovups zmm29, [{x5} + 4 * {n}]",
            "vmovups zmm30, [{g0} + 4 * {n}]",
            "vfmadd231ps zmm0, zmm30, zmm24",
            "vfmadd231ps zmm4, zmm30, zmm25",
            "vfmadd231ps zmm8, zmm30, zmm26",
            "vfmadd231ps zmm12, zmm30, zmm27",
            "vfmadd231ps zmm16, zmm30, zmm28",
            "vfmadd231ps zmm20, zmm30, zmm29",
            "vmovups zmm31, [{g1} + 4 * {n}]",
            "vfmadd231ps zmm1, zmm31, zmm24",
            "vfmadd231ps zmm5, zmm31, zmm25",
            "vfmadd231ps zmm9, zmm31, zmm26",
            "vfmadd231ps zmm13, zmm31, zmm27",
            "vfmadd231ps zmm17, zmm31, zmm28",
            "vfmadd231ps zmm21, zmm31, zmm29",
            "vmovups zmm30, [{g2} + 4 * {n}]",
            "vfmadd231ps zmm2, zmm30, zmm24",
            "vfmadd231ps zmm6, zmm30, zmm25",
            "vfmadd231ps zmm10, zmm30, zmm26",
            "vfmadd231ps zmm14, zmm30, zmm27",
            "vfmadd231ps zmm18, zmm30, zmm28",
            "vfmadd231ps zmm22, zmm30, zmm29",
            "vmovups zmm31, [{g3} + 4 * {n}]",
            "vfmadd231ps zmm3, zmm31, zmm24",
            "vfmadd231ps zmm7, zmm31, zmm25",
            "vfmadd231ps zmm11, zmm31, zmm26",
            "vfmadd231ps zmm15, zmm31, zmm27",
            "vfmadd231ps zmm19, zmm31, zmm28",
            "vfmadd231ps zmm23, zmm31, zmm29",
            "add {n}, 16",
            "jne 2b",
            n = inout(reg) columns.wrapping_neg() => _,
            x0 = in(reg) x[0],
            x1 = in(reg) x[1],
            x2 = in(reg) x[2],
            x3 = in(reg) x[3],
            x4 = in(reg) x[4],
            x5 = in(reg) x[5],
            g0 = in(reg) g[0],
            g1 = in(reg) g[1],
            g2 = in(reg) g[2],
            g3 = in(reg) g[3],
            out("zmm0") s[0], out("zmm1") s[1], out("zmm2") s[2], out("zmm3") s[3],
            out("zmm4") s[4], out("zmm5") s[5], out("zmm6") s[6], out("zmm7") s[7],
            out("zmm8") s[8], out("zmm9") s[9], out("zmm10") s[10], out("zmm11") s[11],
            out("zmm12") s[12], out("zmm13") s[13], out("zmm14") s[14], out("zmm15") s[15],
            out("zmm16") s[16], out("zmm17") s[17], out("zmm18") s[18], out("zmm19") s[19],
            out("zmm20") s[20], out("zmm21") s[21], out("zmm22") s[22], out("zmm23") s[23],
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(nostack, readonly),
        );
        let four = lanes(
            lanes(quad(s[0], s[1], s[2], s[3]), quad(s[4], s[5], s[6], s[7])),
            lanes(quad(s[8], s[9], s[10], s[11]), quad(s[12], s[13], s[14], s[15])),
        );
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), four));
        let two = lanes(quad(s[16], s[17], s[18], s[19]), quad(s[20], s[21], s[22], s[23]));
        let two = _mm512_castps512_ps256(lanes(two, two));
        let to = to.add(16);
        _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), two));
    }
}

#[inline(always)]
fn ends<const N: usize>(starts: [*const f32; N], len: usize) -> [*const f32; N] {
    let mut ends = starts;
    let mut i = 0;
    while i < N {
        ends[i] = starts[i].wrapping_add(len);
        i += 1;
    }
    ends
}

/// In each quarter the sums of the four vectors' quarters.
#[inline(always)]
unsafe fn quad(a: __m512, b: __m512, c: __m512, d: __m512) -> __m512 {
    unsafe {
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
        let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)))
    }
}

/// The quarters summed in pairs: two of the first vector, then two of the second.
#[inline(always)]
unsafe fn lanes(a: __m512, b: __m512) -> __m512 {
    unsafe {
        _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
        )
    }
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const TILE: usize = 6;
    const DOTS: bool = true;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Avx512(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(count), from) })
    }
    #[inline(always)]
    fn unzip(self, behind: Self) -> [Self; 2] {
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            [
                Avx512(_mm512_permutex2var_ps(self.0, even, behind.0)),
                Avx512(_mm512_permutex2var_ps(self.0, odd, behind.0)),
            ]
        }
    }
    #[inline(always)]
    fn zip(self, other: Self) -> [Self; 2] {
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            [
                Avx512(_mm512_permutex2var_ps(self.0, low, other.0)),
                Avx512(_mm512_permutex2var_ps(self.0, high, other.0)),
            ]
        }
    }
    #[inline(always)]
    fn prefetch(address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }
    #[inline(always)]
    fn like(self, value: f32) -> Self {
        Avx512(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx512(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        Avx512(unsafe { _mm512_max_ps(floor.0, self.0) })
    }
    #[inline(always)]
    fn gated(self, gate: Self) -> Self {
        unsafe {
            let open = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(gate.0, _mm512_setzero_ps());
            Avx512(_mm512_maskz_mov_ps(open, self.0))
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
        debug_assert!(!add, "several chains have their totals in registers");
        unsafe { tile(input, taps, weights, output, pitch) }
    }
    #[inline(always)]
    unsafe fn dots(x: [*const f32; 6], g: [*const f32; 4], columns: usize, to: *mut f32) {
        unsafe { dots(x, g, columns, to) }
    }
    #[inline(always)]
    fn sums(vectors: [Self; 4]) -> [f32; 4] {
        unsafe {
            let [a, b, c, d] = vectors;
            let quads = quad(a.0, b.0, c.0, d.0);
            let pairs = lanes(quads, quads);
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(lanes(pairs, pairs)));
            out
        }
    }
}
