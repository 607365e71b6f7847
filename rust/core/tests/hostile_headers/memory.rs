//! That a header cannot ask for memory out of proportion: each thread's allocations are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;

use carrick_core::source::{MAX_RANK, read_header};

use crate::prefixed;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call goes to the system's allocator as it came; the counters are plain cells without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's layout, under the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's pointer and layout, under the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("{i:x}"))
}

/// A header of as many empty tensors.
fn many(shape: &str, count: usize) -> String {
    let entry = |name| format!(r#""{name}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}"#);
    format!("{{{}}}", names(count).map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn memory_stays_in_proportion_to_the_header() {
    let metadata: Vec<_> = names(300_000).map(|name| format!(r#""{name}":"""#)).collect();
    let cases = [
        ("many tensors", many("0", 50_000)),
        ("many dimensions", many(&["0"; MAX_RANK].join(","), 10_000)),
        ("much metadata", format!(r#"{{"__metadata__":{{{}}}}}"#, metadata.join(","))),
        ("deep nesting", "{\"a\":".repeat(200_000)),
        ("long name", format!(r#"{{"{}":0}}"#, r"\u0001".repeat(300_000))),
    ];
    for (what, json) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        fs::write(&path, prefixed(json.as_bytes(), b"")).unwrap();
        let before = LIVE.get();
        PEAK.set(before);
        let result = read_header(&path);
        let peak = usize::try_from(PEAK.get() - before).unwrap();
        drop(result);
        assert!(peak >= json.len(), "{what}: {peak} bytes, less than the header itself, were counted");
        assert!(peak <= 6 * json.len(), "{what}: {peak} bytes for a header of {}", json.len());
    }
}

#[test]
fn nothing_is_allocated_for_a_header_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.safetensors");
    fs::write(&path, 99_000_000u64.to_le_bytes()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(99_000_008).unwrap();
    let before = LIVE.get();
    PEAK.set(before);
    assert!(read_header(&path).is_err());
    let peak = PEAK.get() - before;
    assert!(peak < 100_000, "{peak} bytes for a header of zeros");
}
