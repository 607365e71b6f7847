//! Task vectors that need no decoding, as those that are computed while they are read: taken from where they lie.

use super::drop::Dropper;
use super::merge::Workspace;
use crate::counts::Counts;
use crate::kernels::consensus::merge_agreeing;
use crate::kernels::convert::{Element, native};
use crate::kernels::reduce::any_special;
use crate::kernels::select::Scan;

impl<R: Scan + Element> Workspace<'_, '_, R> {
    /// The task vectors of a block that begins at `start`; `None` where they have to be decoded.
    pub fn lying<'t>(&self, tiles: &[&'t [u8]], start: usize) -> Option<Vec<&'t [R]>> {
        let (inputs, recipe) = (&self.operation.tensor.inputs, &self.operation.recipe);
        if recipe.based {
            return None;
        }
        let of = |(tile, dtype): (&&'t [u8], _)| native::<R>(dtype, tile)?.get(start..start + self.len);
        tiles.iter().zip(inputs.iter().map(|input| input.dtype)).map(of).collect()
    }

    /// Merges a block from where it lies; false, with nothing done, where it has to be decoded first.
    pub fn merge_lying(&mut self, at: u64, tiles: &[&[u8]], start: usize) -> bool {
        let Some(deltas) = self.lying(tiles, start) else { return false };
        match deltas.len() {
            1 => self.merge_lying_of::<1>(at, &deltas),
            2 => self.merge_lying_of::<2>(at, &deltas),
            3 => self.merge_lying_of::<3>(at, &deltas),
            4 => self.merge_lying_of::<4>(at, &deltas),
            5 => self.merge_lying_of::<5>(at, &deltas),
            6 => self.merge_lying_of::<6>(at, &deltas),
            _ => false,
        }
    }

    fn merge_lying_of<const N: usize>(&mut self, at: u64, deltas: &[&[R]]) -> bool {
        let (operation, len) = (self.operation, self.len);
        let trims = operation.droppers.iter().all(|dropper| matches!(dropper, Dropper::Trim(_)));
        let Ok(deltas) = <[&[R]; N]>::try_from(deltas) else { return false };
        if !trims || deltas.iter().any(|x| any_special(operation.level, x)) {
            return false;
        }
        let Some((voters, zero, divides)) = self.voters::<N>(at) else { return false };
        (self.nan, self.counts) = (None, Counts::default());
        let (base, lambda) = (&self.base[..len], R::of(operation.recipe.lambda));
        let merged = &mut self.merged[..len];
        merge_agreeing::<R, N>(operation.level, deltas, voters, zero, divides, base, lambda, merged);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use crate::kernels::level::Level;
    use crate::run::arrays::merge;
    use crate::run::work::Settings;
    use crate::source::Memory;

    /// TIES of three task vectors that lie at this byte of their file.
    fn ties(data: &[u8], at: usize, elements: usize, lambda: f64) -> Vec<u8> {
        let input = |index: usize| {
            json!({"file": 0, "offset": at + index * elements * 4, "dtype": "F32", "index": index,
                "parameters": {"weight": index + 1, "density": 0.6}})
        };
        let options = json!({"normalize": false, "lambda": lambda, "rescale": "false", "trim_scope": "tensor",
            "kept_count": "floor", "at_threshold": "lowest_index", "vote": "weighted", "zero_vote": "plus",
            "aggregate": "weighted_mean"});
        let job = json!({"name": "w", "shape": [elements], "dtype": "F32", "shard": 0, "offset": 0,
            "method": {"name": "ties", "options": options}, "inputs": [input(0), input(1), input(2)]});
        let job = serde_json::from_value(job).unwrap();
        let mut out = vec![0; elements * 4];
        let settings = Settings { level: Level::detect(), seed: 0, tile: 1 << 16, max_listed: 1 << 20, max_held: 0 };
        merge(&job, vec![&Memory(data)], settings, 1, &mut out).unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_lies_aligned_is_merged_like_what_has_to_be_decoded(
            thirds in prop::collection::vec(prop::array::uniform3(prop_oneof![
                20 => -4.0f32..4.0, 1 => any::<f32>(), 1 => prop::sample::select(vec![-0.0, f32::NAN, f32::INFINITY]),
            ]), 1..3000),
            lambda in -2.0f64..2.0,
        ) {
            let elements = thirds.len();
            let bytes = (0..3).flat_map(|i| thirds.iter().flat_map(move |x| x[i].to_le_bytes()));
            let at = |first: usize| std::iter::repeat_n(0, first).chain(bytes.clone()).collect::<Vec<u8>>();
            // One of four neighbouring places is aligned, and three are not.
            let all: Vec<Vec<u8>> = (0..4).map(|first| ties(&at(first), first, elements, lambda)).collect();
            prop_assert!(all.iter().all(|one| one == &all[0]));
        }
    }
}
