//! The vector instructions that the kernels are written in: one small trait, one implementation an instruction
//! set, chosen at run time. What the kernels compute does not live here.
//!
//! A kernel is a [`Job`]: generic over [`Vector`], inlined whole into a function that is compiled for the
//! instruction set in question. Everything below [`Job::run`] must therefore be `#[inline(always)]` and free of
//! closures, which are functions of their own and would be compiled without those instructions.

/// A few `f32` side by side.
///
/// The functions that make a vector are unsafe, those that work on one are not: a value of the type is the proof
/// that the CPU has the instructions.
///
/// # Safety
/// The makers (`splat`, `load`, `load_first`) may only be called where the CPU has the instruction set; pointers
/// must be valid for the number of elements that is named, at any alignment.
pub(crate) trait Vector: Copy {
    /// Number of `f32`.
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self;
    /// `LANES` elements.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` elements (at most `LANES`), zero behind them.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// Every other one of `2 · LANES` elements, from the first on.
    unsafe fn load_even(from: *const f32) -> Self;
    /// Asks for the cache line at an address, which may be anywhere.
    #[inline(always)]
    fn prefetch(_address: *const f32) {}
    /// Writes `LANES` elements.
    unsafe fn store(self, to: *mut f32);
    /// Writes the first `count` elements (at most `LANES`).
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// `value` in every lane.
    fn like(self, value: f32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once where the instruction set can.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// At least `floor`; NaN stays NaN.
    fn at_least(self, floor: Self) -> Self;
    /// Zero where `gate` is at most zero (a NaN lets pass, as PyTorch's ReLU does).
    fn gated(self, gate: Self) -> Self;
    /// Four rows × three vectors of a correlation (see `conv::kernel`), where it is written by hand; `false` where it
    /// is not, with nothing done.
    ///
    /// # Safety
    /// Readable: three vectors at each of `input + taps[t]`, `weights[..4 · taps.len()]`; writable: three vectors at
    /// each of `output + r · pitch`, r in 0..4.
    #[inline(always)]
    unsafe fn tile(
        _input: *const f32,
        _taps: &[usize],
        _weights: *const f32,
        _output: *mut f32,
        _pitch: usize,
    ) -> bool {
        false
    }
    /// The sum of the elements of each of four vectors.
    fn sums(vectors: [Self; 4]) -> [f32; 4];
}

/// Plain Rust, for every CPU: the compiler vectorises it as far as the target's baseline goes.
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
    unsafe fn load_even(from: *const f32) -> Self {
        // SAFETY: the caller promises sixteen elements.
        lanewise!(i, unsafe { *from.add(2 * i) })
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

#[cfg(target_arch = "x86_64")]
mod x86 {
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
    unsafe fn tile(input: *const f32, taps: &[usize], weights: *const f32, output: *mut f32, pitch: usize) {
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
        unsafe fn load_even(from: *const f32) -> Self {
            unsafe {
                // Even elements of both halves, as pairs 0 2 | 8 10 | 4 6 | 12 14; then the pairs in order.
                let (low, high) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)));
                let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
                Avx2(_mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs)))
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
        ) -> bool {
            unsafe { tile(input, taps, weights, output, pitch) };
            true
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
}

/// A computation written for any instruction set.
pub(crate) trait Job {
    /// Does it. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn run<V: Vector>(self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstructionSet(Kind);

impl InstructionSet {
    /// The best that this CPU has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self(Kind::Avx2);
        }
        Self::plain()
    }

    /// No vector instructions beyond the target's baseline.
    pub(crate) fn plain() -> Self {
        Self(Kind::Plain)
    }

    /// Runs a job compiled for this instruction set.
    pub(crate) fn run<J: Job>(self, job: J) {
        match self.0 {
            // SAFETY: `Plain` needs no instructions of its own.
            Kind::Plain => unsafe { job.run::<Plain>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `detect` makes this kind, and it has asked the CPU.
            Kind::Avx2 => unsafe { run_avx2(job) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<x86::Avx2>() }
}
