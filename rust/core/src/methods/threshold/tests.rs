use super::*;
use crate::kernels::select::{Found, SLACK, Scan};
use proptest::prelude::*;

struct Slices<'a, R> {
    x: &'a [R],
    tile: usize,
    visits: usize,
}

impl<R: Real> Entries<R> for Slices<'_, R> {
    fn visit(&mut self, tile: u64, each: &mut dyn FnMut(u64, &[R])) -> Result<()> {
        self.visits += 1;
        let start = tile as usize * self.tile;
        let end = (start + self.tile).min(self.x.len());
        for (i, piece) in self.x[start..end].chunks(7).enumerate() {
            each((start + 7 * i) as u64, piece);
        }
        Ok(())
    }
    fn tiles(&self) -> u64 {
        self.x.len().div_ceil(self.tile) as u64
    }
}

/// The mask of the `rank` largest, by sorting.
fn oracle<R: Real>(x: &[R], rank: usize, with_equals: bool) -> Vec<bool> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].key().cmp(&x[a].key()).then(a.cmp(&b)));
    let mut kept = vec![false; x.len()];
    order.iter().take(rank).for_each(|&i| kept[i] = true);
    if with_equals && rank > 0 {
        let last = x[order[rank.min(x.len()) - 1]].key();
        x.iter().zip(&mut kept).for_each(|(x, kept)| *kept = x.key() >= last);
    }
    kept
}

fn find<R: Scan>(
    x: &[R],
    rank: usize,
    with_equals: bool,
    tile: usize,
    sample: Option<&[R::Bits]>,
) -> (Threshold<R::Bits>, usize) {
    let mut entries = Slices { x, tile, visits: 0 };
    let finder = Finder::<R>::new(rank as u64, x.len() as u64, with_equals, entries.tiles(), 1 << 20);
    if finder.is_open() {
        finder.set_sample(sample, 8);
        for (i, piece) in x.chunks(tile).enumerate() {
            let mut keys = vec![R::Bits::ZERO; piece.len() + SLACK];
            let found: Found = R::scan(Level::detect(), piece, finder.bracket(), &mut keys);
            finder.add(i as u64, found, &keys[..found.within]);
        }
        finder.resolve(Level::detect(), &mut entries).unwrap();
    }
    (finder.threshold(), entries.visits)
}

fn check<R: Scan>(x: &[R], rank: usize, with_equals: bool, tile: usize, sample: Option<&[R::Bits]>) {
    let (threshold, _) = find(x, rank, with_equals, tile, sample);
    let expected = oracle(x, rank, with_equals);
    let mut kept = x.to_vec();
    keep_largest(Level::detect(), &mut kept, 0, threshold);
    for i in 0..x.len() {
        let want = if expected[i] { x[i].bits() } else { R::Bits::ZERO };
        // Zeros that are not kept become the zero without a sign.
        assert!(kept[i].bits() == want || x[i].key() == R::Bits::ZERO, "{i}: {:?} of {x:?}", kept[i]);
    }
}

/// Few distinct values, many distinct values, zeros of both signs, infinities and NaN.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        4 => (-20i32..20).prop_map(|v| v as f32 / 8.0),
        2 => any::<f32>(),
        1 => prop::sample::select(vec![0.0, -0.0, f32::NAN, -f32::NAN, f32::INFINITY, 1e-45, -1e-45]),
    ];
    prop::collection::vec(value, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_largest_are_kept(x in values(), share in 0.0..=1.0f64, with_equals: bool, tile in 1usize..90, step in 1usize..20) {
        let rank = (share * x.len() as f64).round() as usize;
        check(&x, rank, with_equals, tile, None);
        // A sample that may miss: the answer must not depend on it.
        let sample: Vec<u32> = x.iter().step_by(step).map(|x| x.key()).collect();
        check(&x, rank, with_equals, tile, Some(&sample));
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let sample: Vec<u64> = wide.iter().step_by(step).map(|x| x.key()).collect();
        check(&wide, rank, with_equals, tile, Some(&sample));
    }

    #[test]
    fn a_misleading_sample_is_found_out(x in values(), share in 0.0..=1.0f64, lie: u32) {
        let rank = (share * x.len() as f64).round() as usize;
        check(&x, rank, false, 16, Some(&[lie & 0x7FFF_FFFF; 40]));
    }

    #[test]
    fn a_window_is_what_one_keeps_and_the_other_does_not(x in values(), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
        let rank = |share: f64| (share * x.len() as f64).round() as usize;
        let (drop, keep) = (rank(a.min(b)), rank(a.max(b)));
        let mut kept = x.clone();
        let threshold = |rank| find(&x, rank, false, 32, None).0;
        keep_window(Level::detect(), &mut kept, 0, threshold(keep), threshold(drop));
        let (inner, outer) = (oracle(&x, drop, false), oracle(&x, keep, false));
        for i in 0..x.len() {
            let want = if outer[i] && !inner[i] { x[i].to_bits() } else { 0 };
            prop_assert!(kept[i].to_bits() == want || x[i] == 0.0);
        }
    }
}

/// A bracket from a fair sample holds the threshold, so that the data is not read again but to place the cut.
#[test]
fn a_fair_sample_spares_the_second_look() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        f64::from((state >> 33) as u32) / f64::from(1u32 << 31)
    };
    let fine: Vec<f32> = (0..1_000_000).map(|_| (next() - next() + next() - next()) as f32).collect();
    let coarse: Vec<f32> = fine.iter().map(|x| (x * 256.0).round() / 256.0).collect();
    for (x, most) in [(&fine, 2), (&coarse, 4)] {
        let sample: Vec<u32> = x.iter().step_by(61).map(|x| x.key()).collect();
        let (threshold, visits) = find(x, 500_000, false, 8192, Some(&sample));
        assert!(visits <= most, "{visits} tiles read again");
        let kept = oracle(x, 500_000, false);
        let mut trimmed = x.clone();
        keep_largest(Level::detect(), &mut trimmed, 0, threshold);
        assert!(trimmed.iter().zip(kept).zip(x).all(|((t, kept), x)| if kept { t == x } else { *t == 0.0 }));
    }
}

proptest! {
    #[test]
    fn parts_of_all_entries_share_the_runs_of_a_sample(
        lengths in prop::collection::vec(prop_oneof![Just(0u64), 1u64..5, 1u64..100_000, Just(1 << 40)], 1..20),
        runs in 1u64..3000,
    ) {
        let total: u64 = lengths.iter().sum();
        prop_assume!(total > 0);
        let spread = Spread { total, runs };
        let (mut start, mut next) = (0, 0);
        for length in lengths {
            let within = spread.runs_within(start..start + length);
            prop_assert_eq!(within.start, next);
            for run in [within.start, within.end.max(1) - 1].into_iter().filter(|run| within.contains(run)) {
                prop_assert!((start..start + length).contains(&spread.middle(run)));
            }
            (start, next) = (start + length, within.end);
        }
        prop_assert_eq!(next, runs);
    }
}
