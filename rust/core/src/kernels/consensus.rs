//! Sign election and disjoint merging.
//!
//! An elected sign is +1, −1 or 0, of the type of the arithmetic; an entry agrees with it when their product is
//! positive, so that zeros, NaN and places where nothing was elected never agree.

use super::level::multiversion;
use super::real::Real;
use super::select::Bracket;

multiversion! {
    /// votes ← votes + x.
    pub fn vote_by_sum<R: Real>(votes: &mut [R], x: &[R]) {
        for (vote, &x) in votes.iter_mut().zip(x) {
            *vote += x;
        }
    }
}

multiversion! {
    /// votes ← votes + sign(x).
    pub fn vote_by_sign<R: Real>(votes: &mut [R], x: &[R]) {
        for (vote, &x) in votes.iter_mut().zip(x) {
            *vote += x.signum_or_zero();
        }
    }
}

multiversion! {
    /// Turns votes into signs; a vote of exactly zero becomes `zero`.
    pub fn elect<R: Real>(votes: &mut [R], zero: R) {
        for vote in votes {
            let sign = if *vote < R::ZERO { -R::ONE } else { R::ONE };
            *vote = if *vote == R::ZERO { zero } else { sign };
        }
    }
}

multiversion! {
    /// For entries that agree with the elected sign: sum ← sum + factor·x, divisor ← divisor + share.
    pub fn gather<R: Real>(x: &[R], signs: &[R], factor: R, share: R, sums: &mut [R], divisors: &mut [R]) {
        for (((&x, &sign), sum), divisor) in x.iter().zip(signs).zip(sums).zip(divisors) {
            let agrees = x * sign > R::ZERO;
            *sum += if agrees { factor * x } else { R::ZERO };
            *divisor += if agrees { share } else { R::ZERO };
        }
    }
}

multiversion! {
    /// For entries that agree: largest ← factor·x where that is larger in magnitude; of equal ones the first stays.
    pub fn gather_largest<R: Real>(x: &[R], signs: &[R], factor: R, largest: &mut [R]) {
        for ((&x, &sign), largest) in x.iter().zip(signs).zip(largest) {
            let weighted = if x * sign > R::ZERO { factor * x } else { R::ZERO };
            *largest = if weighted.abs() > largest.abs() { weighted } else { *largest };
        }
    }
}

multiversion! {
    /// sum ← sum / divisor, a divisor of exactly zero counting as one.
    pub fn divide_by<R: Real>(sums: &mut [R], divisors: &[R]) {
        for (sum, &divisor) in sums.iter_mut().zip(divisors) {
            *sum = *sum / if divisor == R::ZERO { R::ONE } else { divisor };
        }
    }
}

/// What one model brings to [`merge_agreeing`].
#[derive(Clone, Copy, Debug)]
pub struct Voter<R: Real> {
    /// Entries with a smaller key are dropped.
    pub low: R::Bits,
    /// Factor before the vote.
    pub weight: R,
    /// Factor of what agreed.
    pub factor: R,
    /// What agreeing adds to the divisor.
    pub share: R,
}

multiversion! {
    /// All steps at once for N models: out ← base + λ·Σ{factor·x : x agrees} [/ Σ{share}], x = weight·trimmed delta.
    ///
    /// The same operations in the same order as [`vote_by_sum`], [`elect`], [`gather`] and [`divide_by`] one by one,
    /// so that both ways give the same bits; here nothing but the result goes back to memory.
    pub fn merge_agreeing<R: Real; const N>(
        deltas: [&[R]; N],
        voters: [Voter<R>; N],
        zero: R,
        divides: bool,
        base: &[R],
        lambda: R,
        out: &mut [R],
    ) {
        let len = out.len();
        let deltas = deltas.map(|x| &x[..len]);
        for (j, (out, &base)) in out.iter_mut().zip(&base[..len]).enumerate() {
            let mut x = [R::ZERO; N];
            let mut vote = R::ZERO;
            for i in 0..N {
                // SAFETY: `j` is a place in `out`, and all are as long. A check that stays in the loop takes its last
                // round out of registers.
                let delta = unsafe { *deltas[i].get_unchecked(j) };
                x[i] = if delta.key() >= voters[i].low { voters[i].weight * delta } else { R::ZERO };
                vote += x[i];
            }
            let sign = if vote < R::ZERO { -R::ONE } else { R::ONE };
            let sign = if vote == R::ZERO { zero } else { sign };
            let (mut sum, mut divisor) = (R::ZERO, R::ZERO);
            for i in 0..N {
                let agrees = x[i] * sign > R::ZERO;
                sum += if agrees { voters[i].factor * x[i] } else { R::ZERO };
                divisor += if agrees { voters[i].share } else { R::ZERO };
            }
            let divisor = if !divides | (divisor == R::ZERO) { R::ONE } else { divisor };
            *out = base + lambda * (sum / divisor);
        }
    }
}

multiversion! {
    /// Signs of votes by sum before the thresholds are known: entries from a bracket's `high` on stay, those below its
    /// `low` go, and those in between are still open, unless they are zero and add nothing.
    ///
    /// `signs` are those of the sums without open entries, and `changes` what an open entry adds to a sign if it stays;
    /// NaN, and no sign, where several are open. With one there are only two sums, and both are taken as [`vote_by_sum`]
    /// takes them.
    pub fn elect_early<R: Real; const N>(
        deltas: [&[R]; N],
        brackets: [Bracket<R::Bits>; N],
        signs: &mut [R],
        changes: &mut [R],
    ) {
        let len = signs.len();
        let deltas = deltas.map(|x| &x[..len]);
        for (j, (sign, change)) in signs.iter_mut().zip(&mut changes[..len]).enumerate() {
            let (mut least, mut most, mut open) = (R::ZERO, R::ZERO, R::ZERO);
            for i in 0..N {
                // SAFETY: `j` is a place in `signs`, and all are as long: see `merge_agreeing`.
                let delta = unsafe { *deltas[i].get_unchecked(j) };
                let key = delta.key();
                let (stays, may_stay) = (key >= brackets[i].high, key >= brackets[i].low);
                least += if stays { delta } else { R::ZERO };
                most += if may_stay { delta } else { R::ZERO };
                open += if may_stay & !stays & (delta != R::ZERO) { R::ONE } else { R::ZERO };
            }
            let sign_of = |sum: R| {
                let positive = if sum > R::ZERO { R::ONE } else { R::ZERO };
                if sum < R::ZERO { -R::ONE } else { positive }
            };
            let (without, with) = (sign_of(least), sign_of(most));
            let several = open > R::ONE;
            *sign = if several { R::ZERO } else { without };
            *change = if several { R::NAN } else { with - without };
        }
    }
}
