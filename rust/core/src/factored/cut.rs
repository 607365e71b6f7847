//! Which singular values count, and whether the values at hand are good enough to say so.

use crate::linalg::Tolerance;

/// Where a spectrum is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub tolerance: Tolerance,
    pub rank: Option<usize>,
    pub energy: Option<f64>,
}

/// The outcome: `kept` of the `numerical` directions whose singular values are above `threshold`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    pub threshold: f64,
    pub numerical: usize,
    pub kept: usize,
}

/// What a Gram matrix tells apart, as a share of the largest singular value.
const GRAM_FLOOR: f64 = 3e-7;

/// How near the threshold a singular value must not lie.
const NEAR: f64 = 30.0;

impl Cut {
    /// `sigma` is descending; what is not above `noise` counts for nothing, whatever was asked for.
    pub fn select(&self, sigma: &[f64], noise: f64) -> Selection {
        let threshold = self.tolerance.cut(sigma).max(noise);
        let numerical = sigma.iter().take_while(|&&value| value > threshold).count();
        let kept = numerical.min(self.rank.unwrap_or(usize::MAX)).min(self.enough(sigma));
        Selection { threshold, numerical, kept }
    }

    /// The fewest directions that hold the energy.
    fn enough(&self, sigma: &[f64]) -> usize {
        let Some(energy) = self.energy else { return usize::MAX };
        // From the smallest up, so that the small ones count.
        let rest: Vec<f64> = sigma
            .iter()
            .rev()
            .scan(0.0, |sum, value| {
                *sum += value * value;
                Some(*sum)
            })
            .collect();
        let total = rest.last().copied().unwrap_or(0.0);
        // What is left out may be this much.
        let allowed = (1.0 - energy) * total;
        sigma.len() - rest.iter().take_while(|&&sum| sum <= allowed).count()
    }
}

impl Selection {
    /// Whether squares of singular values that are known up to `uncertainty` settle this selection, and to float32.
    pub fn is_settled(&self, sigma: &[f64], uncertainty: f64) -> bool {
        let square = |value: f64| value * value;
        let Some(&largest) = sigma.first() else { return true };
        let smallest = sigma[..self.kept].last().copied().unwrap_or(largest);
        if square(smallest) < 1e5 * uncertainty {
            return false;
        }
        if self.kept < self.numerical {
            return true;
        }
        let resolved = self.threshold >= GRAM_FLOOR * largest && square(self.threshold) >= 16.0 * uncertainty;
        let near = |value: f64| {
            let close = value > self.threshold / 3.0 && value < NEAR * self.threshold;
            close && square(value) < 1e7 * uncertainty
        };
        (self.kept == sigma.len() || resolved) && !sigma.iter().any(|&value| near(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rank: Option<usize>, energy: Option<f64>) -> Cut {
        Cut { tolerance: Tolerance::Relative(1e-6), rank, energy }
    }

    #[test]
    fn the_tolerance_counts() {
        let sigma = [2.0, 1.0, 2.1e-6, 2e-6, 0.0];
        let selection = cut(None, None).select(&sigma, 0.0);
        assert_eq!((selection.numerical, selection.kept), (3, 3));
        assert_eq!(cut(None, None).select(&sigma, 1e-5).kept, 2);
        assert_eq!(cut(Some(1), None).select(&sigma, 0.0), Selection { threshold: 2e-6, numerical: 3, kept: 1 });
        let absolute = Cut { tolerance: Tolerance::Absolute(1.0), rank: None, energy: None };
        assert_eq!(absolute.select(&sigma, 0.0).kept, 1);
        assert_eq!(cut(None, None).select(&[0.0, 0.0], 0.0).kept, 0);
        assert_eq!(cut(None, None).select(&[], 0.0).kept, 0);
    }

    #[test]
    fn the_energy_counts_squares() {
        // Shares 16/21, 4/21, 1/21.
        let sigma = [4.0, 2.0, 1.0];
        for (energy, kept) in [(0.5, 1), (0.76, 1), (0.77, 2), (0.95, 2), (0.96, 3), (1.0, 3)] {
            assert_eq!(cut(None, Some(energy)).select(&sigma, 0.0).kept, kept, "{energy}");
        }
        assert_eq!(cut(Some(1), Some(1.0)).select(&sigma, 0.0).kept, 1);
    }

    #[test]
    fn values_near_the_threshold_are_not_settled() {
        let settled = |sigma: &[f64], rank| cut(rank, None).select(sigma, 0.0).is_settled(sigma, 1e-15);
        assert!(settled(&[1.0, 0.5, 1e-8], None));
        assert!(settled(&[1.0, 0.5], None));
        for near in [4e-7, 1e-6, 2e-5] {
            assert!(!settled(&[1.0, 0.5, near], None), "{near}");
            // Another cut comes first.
            assert!(settled(&[1.0, 0.5, 2e-4, near * 100.0, near], Some(2)), "{near}");
        }
        let selection = Cut { tolerance: Tolerance::Relative(1e-7), rank: None, energy: None };
        assert!(!selection.select(&[1.0, 1e-9], 0.0).is_settled(&[1.0, 1e-9], 1e-15));
        assert!(selection.select(&[1.0, 0.1], 0.0).is_settled(&[1.0, 0.1], 1e-15));
        // Everything has cancelled.
        assert!(!settled(&[1e-8, 1e-9], None));
    }
}
