//! The vector instructions that the kernels are written in: one small trait, one implementation an instruction
//! set, chosen at run time. What the kernels compute does not live here.
//!
//! A kernel is a [`Job`]: generic over [`Vector`], inlined whole into a function that is compiled for the
//! instruction set in question. Everything below [`Job::run`] must therefore be `#[inline(always)]` and free of
//! closures, which are functions of their own and would be compiled without those instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peak;
mod plain;

pub(crate) use peak::measure as peak;
pub(crate) use plain::Plain;

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
    /// Number of vector registers: 16 or 32. Tells the inner loops how many sums they may hold.
    const REGISTERS: usize;
    /// Vectors of [`Vector::tile`], 0 where there is none.
    const TILE: usize = 0;
    /// Whether there is a [`Vector::dots`].
    const DOTS: bool = false;
    unsafe fn splat(value: f32) -> Self;
    /// `LANES` elements.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` elements (at most `LANES`), zero behind them.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// Of this vector's and then the other's elements every second one, from the first on and from the second on.
    fn unzip(self, behind: Self) -> [Self; 2];
    /// The elements of both in turn, in two vectors: what `unzip` takes apart.
    fn zip(self, other: Self) -> [Self; 2];
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
    /// Four rows × `TILE` vectors of a correlation (see `conv::kernel`), where it is written by hand; in place of the output, or
    /// added to it, as sums of several chains are where there are 16 registers.
    ///
    /// # Safety
    /// Readable: `TILE` vectors at each of `input + taps[t]`, `weights[..4 · taps.len()]`; writable: `TILE` vectors at
    /// each of `output + r · pitch`, r in 0..4.
    #[inline(always)]
    unsafe fn tile(
        _input: *const f32,
        _taps: &[usize],
        _weights: *const f32,
        _output: *mut f32,
        _pitch: usize,
        _add: bool,
    ) {
        unreachable!("TILE is 0")
    }
    /// Adds the dot products of six rows with four others, over the columns rounded up to whole vectors, to
    /// `to[4 · x + g]`, where `DOTS` says that it is written by hand.
    ///
    /// # Safety
    /// Readable: all rows; writable: 24 elements.
    #[inline(always)]
    unsafe fn dots(_x: [*const f32; 6], _g: [*const f32; 4], _columns: usize, _to: *mut f32) {
        unreachable!("DOTS is false")
    }
    /// The sum of the elements of each of four vectors.
    fn sums(vectors: [Self; 4]) -> [f32; 4];
}

/// A computation written for any instruction set.
pub(crate) trait Job {
    /// Does it. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn run<V: Vector>(self);
}

/// A plain loop that compilers turn into vector code. It has the same bits with any instruction set, since they neither
/// reorder its arithmetic nor round it less often.
pub(crate) trait Loop {
    /// Does it. Must be `#[inline(always)]`.
    fn run(self);
}

struct Compiled<L>(L);

impl<L: Loop> Job for Compiled<L> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        self.0.run();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// An instruction set that this CPU has; there is no other way to one than to ask the CPU.
///
/// The same instruction set gives the same bits on every machine; two of them round differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSet(Kind);

impl InstructionSet {
    /// The best that this CPU has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return if is_x86_feature_detected!("avx512f") {
                Self(Kind::Avx512)
            } else {
                Self(Kind::Avx2)
            };
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self(Kind::Neon);
        }
        Self(Kind::Plain)
    }

    /// All that this CPU has, from plain code to the best.
    pub fn available() -> Vec<Self> {
        let all = [
            Kind::Plain,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon,
        ];
        // Each has what those before it have.
        let best = Self::detect();
        let count = all.iter().position(|&kind| kind == best.0).map_or(1, |i| i + 1);
        all[..count].iter().map(|&kind| Self(kind)).collect()
    }

    /// `plain`, `avx2` (with FMA), `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
        }
    }

    /// Runs a loop compiled for this instruction set.
    pub(crate) fn run_loop<L: Loop>(self, l: L) {
        self.run(Compiled(l));
    }

    /// Runs a job compiled for this instruction set.
    pub(crate) fn run<J: Job>(self, job: J) {
        match self.0 {
            // SAFETY: `Plain` needs no instructions of its own.
            Kind::Plain => unsafe { job.run::<Plain>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `detect` and `available` make this kind, and they have asked the CPU.
            Kind::Avx2 => unsafe { run_avx2(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512 => unsafe { run_avx512(job) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kind::Neon => unsafe { run_neon(job) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<avx2::Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn run_avx512<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<avx512::Avx512>() }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<neon::Neon>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares every function of a vector with what it is, lane by lane.
    struct Functions;

    impl Job for Functions {
        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            let lanes = V::LANES;
            let a: [f32; 64] = std::array::from_fn(|i| i as f32 - 7.5);
            let b: [f32; 64] = std::array::from_fn(|i| 3.0 - (i % 5) as f32);
            let same = |found: &[f32], expected: &dyn Fn(usize) -> f32| {
                for (i, found) in found.iter().enumerate() {
                    let expected = expected(i);
                    let both_nan = found.is_nan() && expected.is_nan();
                    assert!(
                        both_nan || *found == expected,
                        "lane {i}: {found} instead of {expected}"
                    );
                }
            };
            // SAFETY: the arrays are longer than two of the longest vectors, and every offset keeps inside.
            unsafe {
                let (x, y) = (V::load(a.as_ptr()), V::load(b.as_ptr()));
                let nan = V::splat(f32::NAN);
                let behind = V::load(a.as_ptr().add(lanes));
                let ([even, odd], [low, high]) = (x.unzip(behind), x.zip(behind));
                let results: [(V, &dyn Fn(usize) -> f32); 12] = [
                    (x.add(y), &|i| a[i] + b[i]),
                    (x.sub(y), &|i| a[i] - b[i]),
                    (x.mul(y), &|i| a[i] * b[i]),
                    (x.fma(y, x.like(2.0)), &|i| a[i] * b[i] + 2.0),
                    (x.at_least(y), &|i| if a[i] < b[i] { b[i] } else { a[i] }),
                    (nan.at_least(x), &|_| f32::NAN),
                    (x.gated(y), &|i| if b[i] <= 0.0 { 0.0 } else { a[i] }),
                    (x.gated(nan), &|i| a[i]),
                    (even, &|i| a[2 * i]),
                    (odd, &|i| a[2 * i + 1]),
                    (low, &|i| a[i / 2 + i % 2 * lanes]),
                    (high, &|i| a[(i + lanes) / 2 + i % 2 * lanes]),
                ];
                let mut out = [-1.0f32; 64];
                for (v, expected) in results {
                    v.store(out.as_mut_ptr());
                    same(&out[..lanes], expected);
                }
                for count in 0..=lanes {
                    V::load_first(a.as_ptr(), count).store(out.as_mut_ptr());
                    same(&out[..lanes], &|i| if i < count { a[i] } else { 0.0 });
                    out = [-1.0; 64];
                    x.store_first(out.as_mut_ptr(), count);
                    same(&out, &|i| if i < count { a[i] } else { -1.0 });
                }
                let rows = [0, 1, 2, 3].map(|r| V::load(a.as_ptr().add(3 * r)));
                same(&V::sums(rows), &|r| a[3 * r..3 * r + lanes].iter().sum());
            }
        }
    }

    #[test]
    fn vectors_do_what_they_say() {
        InstructionSet::available()
            .into_iter()
            .for_each(|set| set.run(Functions));
    }

    #[test]
    fn the_peak_grows_with_the_vectors() {
        let time = std::time::Duration::from_millis(20);
        let rates = InstructionSet::available().into_iter().map(|set| peak(set, time));
        // No machine is slower than this, and none that we know is faster.
        rates.for_each(|rate| assert!((1e7..1e14).contains(&rate), "{rate}"));
    }
}
