use super::*;
use proptest::prelude::*;

fn check<R: Real>(row: &[R]) {
    let mut expected: Vec<u32> = (0..row.len() as u32).collect();
    let key = |place: &u32| row[*place as usize].key();
    expected.sort_by(|a, b| key(a).cmp(&key(b)).then(b.cmp(a)));
    for level in Level::available() {
        // Twice: what one row leaves behind does not show in the next.
        let mut order = Order::default();
        for _ in 0..2 {
            let sorted = order.sort(level, row);
            assert!(sorted.iter().all(|(key, place)| *key == row[*place as usize].key()));
            let places: Vec<u32> = sorted.iter().map(|entry| entry.1).collect();
            assert!(places == expected, "{level:?}, {} entries", row.len());
        }
    }
}

fn check_both(row: &[f32]) {
    check(row);
    check(&row.iter().map(|&x| f64::from(x) * 1.000_000_1).collect::<Vec<_>>());
}

/// Nearly normal: the sum of twelve numbers from [−1/2, 1/2).
fn bell(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum()).collect()
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..70, 70usize..3000, Just(4096), Just(MAX_ROW), Just(MAX_ROW + 1), Just(140_000)]
}

proptest! {
    #[test]
    fn any_row(
        row in prop::collection::vec(prop_oneof![any::<f32>(), Just(0.0), Just(-0.0), (-9i32..9).prop_map(|x| x as f32)], 0..200),
    ) {
        check_both(&row);
    }

    #[test]
    fn special_values(len in 0usize..600, seed: u64, special in prop::collection::vec((0usize..600, prop::sample::select(vec![
        f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45, f32::MIN_POSITIVE, f32::MAX, 0.0, -0.0,
    ])), 0..9)) {
        let mut row = bell(len, seed);
        special.iter().filter(|(at, _)| *at < len).for_each(|&(at, value)| row[at] = value);
        check_both(&row);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bells(len in lengths(), seed: u64, scale in prop::sample::select(vec![1.0f32, 1e-4, 1e-38, 1e-42, 1e30])) {
        check_both(&bell(len, seed).iter().map(|x| x * scale).collect::<Vec<_>>());
    }

    /// Differences of bfloat16: few values, each in masses.
    #[test]
    fn masses_of_equals(len in lengths(), seed: u64, step in 1e-3f32..1.0) {
        check_both(&bell(len, seed).iter().map(|x| (x / step).round() * step).collect::<Vec<_>>());
        let coarse = |x: f32| f32::from_bits(x.to_bits() & 0xFFFF_0000);
        check_both(&bell(len, seed).iter().map(|&x| coarse(0.3 + x * 0.01) - 0.3).collect::<Vec<_>>());
    }

    /// All others share a bucket: the digits' sort takes over.
    #[test]
    fn an_outlier(len in lengths(), seed: u64, outlier in prop::sample::select(vec![1e3f32, 1e9, 1e30, f32::MAX])) {
        let mut row = bell(len, seed);
        row.iter_mut().take(1).for_each(|x| *x = outlier);
        check_both(&row);
    }

    #[test]
    fn all_equal(len in lengths(), value in prop::sample::select(vec![0.0f32, -0.0, 1e-45, 0.37, -2.0, f32::MAX, f32::INFINITY, f32::NAN])) {
        check_both(&vec![value; len]);
    }
}

#[test]
fn rows_that_do_not_spread_go_to_the_digits() {
    let mut row = bell(4096, 7);
    let takes = |row: &[f32]| {
        let mut sorted = vec![(0, 0); row.len()];
        Buckets::default().sort(Level::SCALAR, row, &mut sorted)
    };
    assert!(takes(&row));
    row[9] = 1e9;
    assert!(!takes(&row));
    assert!(!takes(&[0.0; 9]));
    assert!(!takes(&[1.0, f32::NAN]));
}
