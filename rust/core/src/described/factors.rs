//! Right factors, unpacked once and kept while tiles of their product are read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::kernels::product::Panel;
use crate::plan::FactorKey;

/// A right factor (rank × columns) in panels: panel after panel, each with its rank rows of [`Panel::WIDTH`], the last
/// one filled up with zeros.
pub struct Packed<R> {
    panels: Vec<R>,
    rank: usize,
}

impl<R: Panel> Packed<R> {
    pub fn new(rank: usize, columns: usize) -> Self {
        Self { panels: vec![R::ZERO; columns.div_ceil(R::WIDTH) * rank * R::WIDTH], rank }
    }

    /// Puts elements of one row in place, `column` the first.
    pub fn put_row(&mut self, row: usize, column: usize, elements: &[R]) {
        let mut column = column;
        let mut rest = elements;
        while !rest.is_empty() {
            let (panel, within) = (column / R::WIDTH, column % R::WIDTH);
            let len = (R::WIDTH - within).min(rest.len());
            let begin = (panel * self.rank + row) * R::WIDTH + within;
            self.panels[begin..begin + len].copy_from_slice(&rest[..len]);
            (column, rest) = (column + len, &rest[len..]);
        }
    }

    pub fn panel(&self, panel: usize) -> &[R] {
        let len = self.rank * R::WIDTH;
        &self.panels[panel * len..(panel + 1) * len]
    }

    fn bytes(&self) -> usize {
        self.panels.len() * size_of::<R>()
    }
}

/// A place that is filled by the first thread that needs it, while the others wait.
type Slot<R> = Arc<Mutex<Option<Arc<Packed<R>>>>>;

/// Rows of a left factor on their way through a product.
pub struct Lefts<R> {
    pub stored: Vec<u8>,
    pub rows: Vec<R>,
    /// The same as a product takes them.
    pub packed: Vec<R>,
}

/// The factors that were used last, as many as fit.
pub struct Factors<R> {
    capacity: usize,
    /// Room for left factors that nobody uses: as much as threads have used at the same time.
    lefts: Mutex<Vec<Lefts<R>>>,
    /// The one used last comes last.
    slots: Mutex<Vec<(FactorKey, Slot<R>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread leaves is a slot that is still empty, or the list in order.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Panel> Factors<R> {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            lefts: Mutex::default(),
            slots: Mutex::default(),
        }
    }

    /// Room for rows of a left factor, whatever it holds.
    pub fn lefts(&self) -> Lefts<R> {
        lock(&self.lefts).pop().unwrap_or_else(|| Lefts { stored: Vec::new(), rows: Vec::new(), packed: Vec::new() })
    }

    pub fn give_back(&self, lefts: Lefts<R>) {
        lock(&self.lefts).push(lefts);
    }

    /// The factor, loaded if it is not here.
    pub fn get(&self, key: FactorKey, load: impl FnOnce() -> Result<Packed<R>>) -> Result<Arc<Packed<R>>> {
        let slot = self.slot(key);
        let mut held = lock(&slot);
        if let Some(packed) = &*held {
            return Ok(Arc::clone(packed));
        }
        let packed = Arc::new(load()?);
        *held = Some(Arc::clone(&packed));
        drop(held);
        self.make_room();
        Ok(packed)
    }

    fn slot(&self, key: FactorKey) -> Slot<R> {
        let mut slots = lock(&self.slots);
        let found = slots.iter().position(|(held, _)| *held == key);
        let entry = found.map_or_else(|| (key, Slot::default()), |place| slots.remove(place));
        let slot = Arc::clone(&entry.1);
        slots.push(entry);
        slot
    }

    /// Lets go of the factors whose last use is longest ago.
    fn make_room(&self) {
        let mut slots = lock(&self.slots);
        // A slot that is locked is being filled: its size is not known, and it is needed.
        let bytes = |slot: &Slot<R>| {
            slot.try_lock().ok().and_then(|held| held.as_ref().map(|packed| packed.bytes())).unwrap_or(0)
        };
        let mut room = self.capacity;
        let mut first = slots.len();
        while first > 0 {
            let size = bytes(&slots[first - 1].1);
            if size > room && first < slots.len() {
                break;
            }
            (room, first) = (room.saturating_sub(size), first - 1);
        }
        slots.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::plan::Place;

    fn key(file: usize) -> FactorKey {
        let place = Place { file, offset: 0, dtype: Dtype::F32 };
        FactorKey { place, rank: 1, columns: 32, transposed: false }
    }

    fn packed(rank: usize) -> Result<Packed<f32>> {
        Ok(Packed::new(rank, 32))
    }

    #[test]
    fn the_last_used_stay_and_the_oldest_go() {
        let factors = Factors::<f32>::new(3 * 32 * 4);
        for number in 0..3 {
            factors.get(key(number), || packed(1)).unwrap();
        }
        factors.get(key(0), || panic!("0 is here")).unwrap();
        factors.get(key(3), || packed(1)).unwrap();
        factors.get(key(0), || panic!("0 was used after 1")).unwrap();
        let mut loaded = false;
        factors
            .get(key(1), || {
                loaded = true;
                packed(1)
            })
            .unwrap();
        assert!(loaded);
        // One that is larger than everything allowed is still handed out.
        assert_eq!(factors.get(key(9), || packed(100)).unwrap().panel(0).len(), 3200);
    }

    #[test]
    fn rows_land_in_their_panels() {
        let mut packed = Packed::<f32>::new(2, 40);
        let row: Vec<f32> = (0..40u8).map(f32::from).collect();
        packed.put_row(1, 0, &row[..5]);
        packed.put_row(1, 5, &row[5..]);
        assert_eq!(packed.panel(0)[32..], row[..32]);
        assert_eq!(packed.panel(1)[32..40], row[32..]);
        assert!(packed.panel(1)[40..].iter().chain(&packed.panel(1)[..32]).all(|&x| x == 0.0));
    }
}
