//! Sets of byte ranges.

use std::ops::Range;

/// Disjoint byte ranges in ascending order, neighbours joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds `range`; false, and nothing is added, where it meets bytes that are in the set already.
    #[must_use]
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let at = self.0.partition_point(|known| known.end <= range.start);
        if self.0.get(at).is_some_and(|next| next.start < range.end) {
            return false;
        }
        let joins_left = at > 0 && self.0[at - 1].end == range.start;
        let joins_right = self.0.get(at).is_some_and(|next| next.start == range.end);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].end = self.0[at].end;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].end = range.end,
            (false, true) => self.0[at].start = range.start,
            (false, false) => self.0.insert(at, range),
        }
        true
    }

    /// The parts of the set that lie in `window`.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.0.partition_point(|known| known.end <= window.start);
        self.0[first..]
            .iter()
            .take_while(move |known| known.start < window.end)
            .map(move |known| known.start.max(window.start)..known.end.min(window.end))
    }

    /// Bytes of `window` that are in the set.
    pub fn covered(&self, window: Range<u64>) -> u64 {
        self.within(window).map(|part| part.end - part.start).sum()
    }

    pub fn contains(&self, window: Range<u64>) -> bool {
        self.covered(window.clone()) == window.end.saturating_sub(window.start)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn joins_neighbours_and_refuses_overlap() {
        let mut set = Ranges::default();
        for (start, end, added) in
            [(10, 20, true), (30, 40, true), (20, 30, true), (15, 16, false), (0, 11, false), (5, 5, true)]
        {
            assert_eq!(set.insert(start..end), added, "{start}..{end}");
        }
        assert!(set.contains(10..40) && set.0.len() == 1);
        assert!(set.insert(0..10) && set.insert(50..60) && !set.insert(45..51));
        assert_eq!(set.0, [0..40, 50..60]);
        assert_eq!(set.within(35..55).collect::<Vec<_>>(), [35..40, 50..55]);
        assert_eq!(set.covered(35..55), 10);
        assert!(set.contains(3..40) && !set.contains(3..41) && set.contains(45..45));
    }
}
