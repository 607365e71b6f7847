use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::read_header;
use super::*;

/// A file with one tensor of bytes that differ from one another in a long pattern; the data section is misaligned.
fn file_of(data_bytes: usize) -> (TempDir, FileRecord, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data: Vec<u8> = (0..data_bytes as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let mut json = format!(r#"{{"x":{{"dtype":"U8","shape":[{data_bytes}],"data_offsets":[0,{data_bytes}]}}}}"#);
    if json.len().is_multiple_of(2) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend_from_slice(&data);
    fs::write(&path, bytes).unwrap();
    let record = read_header(&path).unwrap().record();
    (folder, record, data)
}

fn reason_of_change(result: Result<InputFile>) -> String {
    match result {
        Err(Error::Changed { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the change was not seen"),
    }
}

fn set_mtime(record: &FileRecord, mtime_ns: i64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(mtime_ns as u64);
    OpenOptions::new().write(true).open(&record.path).unwrap().set_modified(time).unwrap();
}

#[test]
fn both_ways_read_the_same_bytes() {
    let (_folder, record, data) = file_of(300_007);
    let [pread, mmap] = [ReadMode::Pread, ReadMode::Mmap].map(|mode| InputFile::open(&record, mode).unwrap());
    assert_eq!((pread.data_bytes(), mmap.data_bytes()), (300_007, 300_007));
    proptest!(ProptestConfig::with_cases(500), |(a in 0..=data.len(), b in 0..=data.len())| {
        let (begin, len) = (a.min(b), a.abs_diff(b));
        let mut buffer = vec![7; len / 2];
        prop_assert_eq!(pread.read(begin as u64, len, &mut buffer).unwrap(), &data[begin..begin + len]);
        let mut untouched = Vec::new();
        prop_assert_eq!(mmap.read(begin as u64, len, &mut untouched).unwrap(), &data[begin..begin + len]);
        prop_assert_eq!(untouched.capacity(), 0);
        pread.release(begin as u64, len as u64);
        mmap.release(begin as u64, len as u64);
    });
}

#[test]
fn a_range_outside_the_data_is_refused() {
    let (_folder, record, data) = file_of(1000);
    for mode in [ReadMode::Pread, ReadMode::Mmap] {
        let file = InputFile::open(&record, mode).unwrap();
        let mut buffer = Vec::new();
        for (begin, len) in [(0, 1001), (1000, 1), (1001, 0), (u64::MAX, 1), (1, usize::MAX), (u64::MAX - 5, 20)] {
            let error = file.read(begin, len, &mut buffer).unwrap_err();
            assert!(matches!(error, Error::Plan { .. }), "{mode:?} {begin} {len}: {error}");
            file.release(begin, len as u64);
        }
        assert!(buffer.is_empty(), "nothing is allocated for what cannot be read");
        assert_eq!(file.read(1000, 0, &mut buffer).unwrap(), [0u8; 0]);
        assert_eq!(file.read(0, 1000, &mut buffer).unwrap(), data);
    }
}

#[test]
fn the_buffer_only_grows() {
    let (_folder, record, data) = file_of(1000);
    let file = InputFile::open(&record, ReadMode::Pread).unwrap();
    let mut buffer = Vec::new();
    assert_eq!(file.read(0, 900, &mut buffer).unwrap(), &data[..900]);
    let place = buffer.as_ptr();
    assert_eq!(file.read(500, 7, &mut buffer).unwrap(), &data[500..507]);
    assert_eq!((buffer.len(), buffer.as_ptr()), (900, place));
}

#[test]
fn a_file_that_shrinks_during_the_run_is_an_error() {
    let (_folder, record, _) = file_of(100_000);
    let file = InputFile::open(&record, ReadMode::Pread).unwrap();
    file.require_unchanged().unwrap();
    OpenOptions::new().write(true).open(&record.path).unwrap().set_len(record.data_start + 50_000).unwrap();
    let mut buffer = Vec::new();
    assert_eq!(file.read(0, 50_000, &mut buffer).unwrap().len(), 50_000);
    let error = file.read(40_000, 20_000, &mut buffer).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }) && error.to_string().contains("shrank"), "{error}");
    assert!(matches!(file.require_unchanged(), Err(Error::Changed { .. })));
}

#[test]
fn what_changed_since_the_plan_is_named() {
    for mode in [ReadMode::Pread, ReadMode::Mmap] {
        let (_folder, record, _) = file_of(1000);
        OpenOptions::new().append(true).open(&record.path).unwrap().write_all(b"more").unwrap();
        let reason = reason_of_change(InputFile::open(&record, mode));
        assert!(reason.contains(&record.size.to_string()) && reason.contains("bytes"), "{reason}");

        let (folder, record, _) = file_of(1000);
        let copy = folder.path().join("copy");
        fs::copy(&record.path, &copy).unwrap();
        fs::rename(&copy, &record.path).unwrap();
        set_mtime(&record, record.mtime_ns);
        let reason = reason_of_change(InputFile::open(&record, mode));
        assert!(reason.contains("inode"), "{reason}");

        let (_folder, record, _) = file_of(1000);
        set_mtime(&record, record.mtime_ns + 1_000_000_000);
        let reason = reason_of_change(InputFile::open(&record, mode));
        assert!(reason.contains("mtime"), "{reason}");

        // Same size and time, another name for the tensor.
        let (_folder, record, _) = file_of(1000);
        let mut bytes = fs::read(&record.path).unwrap();
        bytes[10] = b'y';
        fs::write(&record.path, bytes).unwrap();
        set_mtime(&record, record.mtime_ns);
        let reason = reason_of_change(InputFile::open(&record, mode));
        assert!(reason.contains("header"), "{reason}");
    }
}

#[test]
fn a_record_of_another_data_section_is_refused() {
    let (_folder, record, _) = file_of(1000);
    let record = FileRecord { data_start: record.data_start + 8, ..record };
    assert!(reason_of_change(InputFile::open(&record, ReadMode::Pread)).contains("header"));
}

#[test]
fn all_files_are_opened_in_order_or_none() {
    let ((_a, first, _), (_b, second, data)) = (file_of(10), file_of(2000));
    let files = open_all(&[first.clone(), second.clone()], ReadMode::Mmap).unwrap();
    assert_eq!(files[1].read(0, 2000, &mut Vec::new()).unwrap(), data);
    assert_eq!(files[0].path(), first.path);
    fs::remove_file(&first.path).unwrap();
    let gone = open_all(&[second, first], ReadMode::Pread).err().unwrap();
    assert!(matches!(gone, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
}

/// Bytes of a mapping that are in this process's memory.
#[cfg(target_os = "linux")]
fn resident(path: &Path) -> u64 {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let name = path.to_str().unwrap();
    let lines = text.lines().skip_while(|line| !line.ends_with(name));
    let line = lines.into_iter().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn released_pages_leave_the_process() {
    let (_folder, record, data) = file_of(32 << 20);
    let file = InputFile::open(&record, ReadMode::Mmap).unwrap();
    let tile = (256 << 10) + 100;
    let mut most = 0;
    for begin in (0..data.len()).step_by(tile) {
        let len = tile.min(data.len() - begin);
        assert!(file.read(begin as u64, len, &mut Vec::new()).unwrap() == &data[begin..begin + len]);
        file.release(begin as u64, len as u64);
        most = most.max(resident(&record.path));
    }
    // What a fault brings in around the last page of a tile.
    assert!(most <= 2 * FAULT_REACH as u64, "{most} bytes stay behind");
}
