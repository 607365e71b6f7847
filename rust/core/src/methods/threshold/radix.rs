//! The search that always works: sixteen bits of the key at a time, one look at all entries for each.

use super::Entries;
use crate::error::Result;
use crate::kernels::real::{Key, Real};

const BITS: u32 = 16;

/// The key of the `rank`-th largest entry, how many entries have it, and how many of those belong to the `rank` largest.
pub fn radix_search<R: Real>(rank: u64, entries: &mut dyn Entries<R>) -> Result<(R::Bits, u64, u64)> {
    let width = 8 * size_of::<R::Bits>() as u32;
    let (mut prefix, mut left, mut equals) = (0u64, rank, 0);
    let mut counts = vec![0u64; 1 << BITS];
    for shift in (0..width).step_by(BITS as usize).rev() {
        counts.fill(0);
        for tile in 0..entries.tiles() {
            entries.visit(tile, &mut |_, x| {
                for x in x {
                    let key = x.key().to_u64();
                    if shift + BITS == width || key >> (shift + BITS) == prefix {
                        counts[(key >> shift) as usize & ((1 << BITS) - 1)] += 1;
                    }
                }
            })?;
        }
        let mut digit = counts.len() - 1;
        while left > counts[digit] && digit > 0 {
            left -= counts[digit];
            digit -= 1;
        }
        equals = counts[digit];
        prefix = prefix << BITS | digit as u64;
    }
    Ok((R::Bits::of(prefix), equals, left))
}
