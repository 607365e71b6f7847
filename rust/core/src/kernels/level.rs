//! Which instructions may be used: found once at run time, so that one wheel serves every machine.
//!
//! The same source is compiled once per level (see [`multiversion!`]), and nothing in it depends on the width of a
//! register: every level gives the same bytes. `CARRICK_SIMD=scalar|avx2|avx512` lowers the level, for tests and for
//! finding out what an instruction set gains.

use std::sync::OnceLock;

/// An instruction set that this machine was found to have. There is no other way to obtain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub(super) Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// What every machine of the architecture has (SSE2 on x86-64).
    Scalar,
    Avx2,
    Avx512,
}

impl Level {
    /// The plain build, present everywhere.
    pub const SCALAR: Self = Self(Set::Scalar);

    /// Every level of this machine, the plainest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("fma")
            {
                levels.push(Self(Set::Avx2));
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    levels.push(Self(Set::Avx512));
                }
            }
        }
        levels
    }

    /// The best level, or the one that `CARRICK_SIMD` names if this machine has it.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let available = Self::available();
            let best = available.last().copied().unwrap_or(Self::SCALAR);
            std::env::var("CARRICK_SIMD")
                .ok()
                .and_then(|wanted| available.into_iter().find(|level| level.name() == wanted))
                .unwrap_or(best)
        })
    }

    pub const fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            Set::Avx2 => "avx2",
            Set::Avx512 => "avx512",
        }
    }
}

/// Defines a function whose body is compiled once for each level; the level to use becomes its first argument.
macro_rules! multiversion {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $(<$($generic:ident : $bound:path),+ $(; const $count:ident)?>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?
        $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name $(<$($generic: $bound),+ $(, const $count: usize)?>)? ($crate::kernels::level::Level(level): $crate::kernels::level::Level, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$($generic: $bound),+ $(, const $count: usize)?>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2 $(<$($generic: $bound),+ $(, const $count: usize)?>)? ($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,bmi1,bmi2,lzcnt,popcnt")]
            fn avx512 $(<$($generic: $bound),+ $(, const $count: usize)?>)? ($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            match level {
                // SAFETY: a `Level` exists only where the machine was found to have its instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::level::Set::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::level::Set::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}

pub(crate) use multiversion;
